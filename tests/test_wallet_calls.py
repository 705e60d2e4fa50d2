"""A wallet's calls where one answer does not hold all: every access is listed, everything that waits is fetched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from broker.services import frames
from broker.services import wallet as service
from clients import wire
from clients.patient import calls
from clients.patient.wallet import Contact, Pair, Wallet
from tests.broker_rig import Server, fresh, present, reason, serving
from tests.formats import HOSPITAL, INSURER, NOW, ORIGIN, Sent, claim, subject_key
from tests.test_receive import statement_to_patient
from zhifu import acknowledgement, presentation
from zhifu.receipt import Head


def hers(server: Server, path: Path) -> tuple[Wallet, Pair]:
    """The wallet of the patient of `claim`, as far as it is needed to call."""
    ca, key = server.home.read("ca.crt").decode(), server.core.log.vkey.encode()
    contact = Contact(f"127.0.0.1:{server.served.ports[1]}", "", ORIGIN, key, ca)
    pair = Pair(HOSPITAL.id.hex(), INSURER.id.hex(), bytes(subject_key()).hex(), bytes(32).hex(), enrolled=True)
    return Wallet(path / "wallet", contact), pair


async def claimed(server: Server, count: int) -> list[Sent]:
    """So many claims under one grant of hers."""
    one = claim()
    assert one.grant is not None
    one = replace(one, grant=replace(one.grant, max_uses=100))
    await server.grant(one)
    sent = [present(fresh(one)) for _ in range(count)]
    assert {reason(found) for found in await server.submit(*sent)} == {""}
    return sent


async def test_every_access_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_LISTED", 2)
    async with serving(tmp_path) as server:
        sent = await claimed(server, 4)
        wallet, pair = hers(server, tmp_path)
        found = await calls.accesses(wallet, pair)
        assert [one.presentation_hash for one in found.accesses] == [one.hash for one in sent]
        await server.submit(extra := present(fresh(sent[0].exchange)))
        found = await calls.accesses(wallet, pair)
        assert [one.presentation_hash for one in found.accesses] == [*(one.hash for one in sent), extra.hash]


async def test_a_mailbox_that_one_answer_does_not_hold_is_fetched_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 30_000)
    async with serving(tmp_path) as server:
        claims = await claimed(server, 5)
        told = [present(statement_to_patient(one, nonce=os.urandom(16))) for one in claims]
        assert {reason(found) for found in await server.submit(*told)} == {""}
        wallet, pair = hers(server, tmp_path)
        taken: list[bytes] = []
        while (box := await calls.mailbox(wallet, pair)).frames:
            assert sum(one.ByteSize() for one in box.frames) <= frames.FRAME_BYTES
            for frame in box.frames:
                proven = wire.prove(frame.proof, Head(), wallet.contact.vkey)
                said = []
                for one in frame.deliveries:
                    taken.append(presentation.hash_of(one.presentation.payload))
                    entry = wire.entry(one.entry)
                    word = acknowledgement.acknowledge(ORIGIN, pair.subject, taken[-1], entry, proven, "", NOW)
                    said.append(word.to_bytes())
                await calls.acknowledge(wallet, pair, said)
        assert taken == [one.hash for one in told]
