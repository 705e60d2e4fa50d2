"""A wallet's calls where the first one is not enough: cut off, refused for one key, or more than an answer holds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from broker.services import frames
from broker.services import wallet as service
from broker.store import tables
from clients import wire
from clients.patient import calls, consent, keys, stop
from clients.patient.wallet import Contact, Given, Pair, Wallet
from tests.broker_rig import Server, fresh, present, reason, serving
from tests.formats import DAY, HOSPITAL, INSURER, NOW, ORIGIN, Exchange, Sent, claim, seed, subject_key
from tests.test_receive import statement_to_patient
from zhifu import acknowledgement, presentation
from zhifu.consent import hash_of
from zhifu.errors import Refused
from zhifu.receipt import Head


def hers(server: Server, path: Path) -> tuple[Wallet, Pair]:
    """The wallet of the patient of `claim`, as far as it is needed to call."""
    ca, key = server.home.read("ca.crt").decode(), server.core.log.vkey.encode()
    contact = Contact(f"127.0.0.1:{server.served.ports[1]}", "", ORIGIN, key, ca)
    pair = Pair(HOSPITAL.id.hex(), INSURER.id.hex(), bytes(subject_key()).hex(), bytes(32).hex(), enrolled=True)
    (path / "wallet").mkdir()
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


def given(one: Exchange) -> Given:
    """Signed and kept, and no more is known of it."""
    assert one.grant_envelope is not None
    return Given(one.grant_envelope.to_bytes().hex(), "", {})


async def test_what_was_given_when_the_line_was_cut_is_handed_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.attest(subject_key())
        wallet, pair = hers(server, tmp_path)
        grant = claim().grant
        assert grant is not None
        over = replace(grant, not_before=NOW - 2 * DAY, issued_at=NOW - 2 * DAY, expiry=NOW - DAY)
        pair.grants = [given(replace(claim(), grant=over)), given(claim())]
        for _ in range(2):
            await consent.hand_in(wallet, pair, NOW)
        (row,) = server.rows(tables.Grant)
        assert row.envelope.hex() == pair.grants[1].grant
        assert [bool(one.receipt) for one in pair.grants] == [False, True]
        assert "grant.refused" not in {meta.event for _, meta, _ in server.entries()}, "nothing is tried in vain"


async def test_a_grant_that_is_over_for_the_broker_is_not_handed_in_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.grant(claim())
        await server.revoke(claim())
        wallet, pair = hers(server, tmp_path)
        pair.grants = [given(claim())]
        await consent.hand_in(wallet, pair, NOW)
        assert (pair.grants[0].revoked, pair.grants[0].receipt) == (True, "")


@pytest.mark.parametrize("every", [True, False])
async def test_what_was_stopped_before_it_was_handed_in_is_not(tmp_path: Path, every: bool) -> None:
    async with serving(tmp_path) as server:
        await server.attest(subject_key())
        wallet, pair = hers(server, tmp_path)
        pair.grants, wallet.pairs = [given(claim())], [pair]
        if every:
            assert await stop.every(wallet, NOW) == []
        else:
            with pytest.raises(Refused, match=r"consent\.unknown"):
                await stop.one(wallet, hash_of(consent.grant_of(pair.grants[0]).payload), NOW)
        await consent.hand_in(wallet, pair, NOW)
        assert server.rows(tables.Grant) == []


async def test_all_is_stopped_though_there_is_nothing_to_stop_under_one_key(tmp_path: Path) -> None:
    """Of one key nothing was ever registered, another was struck with all its grants; the third has one."""
    async with serving(tmp_path) as server:
        wallet, last = hers(server, tmp_path)
        never, struck = (SigningKey(seed(name)) for name in ("never used", "struck"))
        await server.grant(claim())
        for key in (never, struck):
            await server.attest(key)
        pairs = [replace(last, seed=bytes(key).hex(), grants=[given(claim())]) for key in (never, struck)]
        await keys.strike(wallet, pairs[1], pairs[1].public, NOW)
        wallet.pairs = [*pairs, replace(last, grants=[given(claim())])]
        (done,) = await stop.every(wallet, NOW)
        assert len(done.grants) == 1
        assert {row.status for row in server.rows(tables.Grant)} == {"revoked"}


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
