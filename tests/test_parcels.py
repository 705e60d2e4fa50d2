"""Parcels where something goes wrong on their way: what is taken back is gone, and one holds up no other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker import enrolment
from broker.store import tables
from clients import durable, parcel_jobs
from clients.parcel_jobs import Kept
from clients.parcel_service import Fetching
from clients.patient import calls, parcels, reports
from clients.patient.parcels import Outgoing
from clients.patient.wallet import Pair, Party, Wallet
from clients.role import Transaction
from tests import formats
from tests.broker_rig import Server, serving
from tests.formats import HOSPITAL, INSURER, NOW, ORIGIN, further_key, known, subject_key
from tests.test_retention import Keeper, settings_of
from tests.test_retention import keeper as keeper  # a fixture
from tests.test_wallet_calls import hers
from zhifu import envelope, parcel
from zhifu.errors import Refused
from zhifu.keys import participant_id
from zhifu.parcel import Message
from zhifu.v1 import parcel_pb2

KEY = subject_key()
PUBLIC = bytes(KEY.verify_key)


# From the wallet


async def patient(server: Server, path: Path) -> tuple[Wallet, Pair]:
    """Enrolled with her insurer, which may be sent parcels."""
    said = [envelope.from_bytes(envelope.ATTESTATION, one.attests(PUBLIC)) for one in (HOSPITAL, INSURER)]
    await server.run(
        lambda state, log, now: enrolment.enrol_subject(
            PUBLIC, said, [further_key(KEY)], server.core.directory, ORIGIN, state, log, now
        )
    )
    wallet, pair = hers(server, path)
    wallet.parties = {INSURER.id.hex(): Party(INSURER.id.hex(), "insurer", "insurer")}
    return wallet, pair


async def made(wallet: Wallet, pair: Pair) -> Outgoing:
    """One that a report names."""
    found = await parcels.make(wallet, pair, "report", b"", Message({"note": os.urandom(8).hex()}), NOW)
    kept = wallet.path / "reports" / f"{found.hash.hex()}.json"
    durable.folder(kept.parent)
    durable.write(kept, json.dumps({"parcels": [{"hash": found.hash.hex()}]}).encode())
    return found


async def test_one_that_cannot_be_sent_holds_up_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        wallet, pair = await patient(server, tmp_path)
        over, good = await made(wallet, pair), await made(wallet, pair)
        os.utime(over.folder, (1, 1))
        await calls.leave_parcel(wallet, over.signed)
        await server.run(lambda state, _l, _n: state.update(tables.Parcel, {"state": "expired"}, hash=over.hash))
        with pytest.raises(Refused, match=r"exchange\.state"):
            await reports.resume(wallet, parcels.silent)
        assert {row.hash: row.state for row in server.rows(tables.Parcel)} == {
            over.hash: "expired", good.hash: "complete",
        }  # fmt: skip
        assert [one.hash for one in parcels.waiting(wallet)] == [over.hash]


async def test_what_never_arrived_or_is_gone_is_taken_back_like_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        wallet, pair = await patient(server, tmp_path)
        never, sent = await made(wallet, pair), await made(wallet, pair)
        await parcels.send(wallet, sent)
        for one in (never, sent, sent):
            assert not await parcels.withdraw(wallet, pair, one.hash, NOW)
        assert [(row.hash, row.state) for row in server.rows(tables.Parcel)] == [(sent.hash, "withdrawn")]
        assert parcels.waiting(wallet) == [], "and is not sent any more"


# At the insurer


@dataclass
class Broker:
    """Has one parcel; the patient takes it back while its last chunk is on the way."""

    keeper: Keeper
    one: Kept
    chunks: tuple[bytes, ...]

    async def FetchParcel(self, _: Any, timeout: float) -> parcel_pb2.FetchParcelResponse:
        attested = [envelope.from_bytes(envelope.ATTESTATION, one.attests(PUBLIC)) for one in (HOSPITAL, INSURER)]
        return parcel_pb2.FetchParcelResponse(
            parcel=self.one.signed.to_proto(), subject_key=PUBLIC, attestations=[one.to_proto() for one in attested]
        )

    async def FetchChunk(self, asked: parcel_pb2.FetchChunkRequest, timeout: float) -> parcel_pb2.FetchChunkResponse:
        if asked.place == len(self.chunks) - 1:
            with self.keeper.parts.store.transaction():
                parcel_jobs.erase(self.keeper.folder, self.keeper.parts.store, self.one, NOW * 1000)
        return parcel_pb2.FetchChunkResponse(chunk=self.chunks[asked.place])


class Taker:
    def on_parcel(self, one: Kept, message: Message, tx: Transaction) -> bytes:
        raise AssertionError("it was handed to the insurer")


@pytest.mark.parametrize("size", [100, parcel.CHUNK + 100])
async def test_what_is_taken_back_while_it_is_fetched_is_not_kept(keeper: Keeper, size: int) -> None:
    store, kem = keeper.parts.store, formats.INSURER.kem
    packed = parcel.pack(
        parcel.encode(Message({}, (parcel.Document("a", "b", bytes(size)),))), key=kem.public,
        subject=participant_id(PUBLIC), aud=ORIGIN, recipient=INSURER.id, claim=b"", kind="report", erase_at=NOW + 60,
        now=NOW,
    )  # fmt: skip
    signed = envelope.seal_one(parcel.PARCEL, packed.parcel.to_bytes(), KEY)
    one = Kept(parcel.hash_of(signed.payload), parcel_jobs.WAITING, signed.to_bytes())
    with store.transaction():
        parcel_jobs.put(store, one, NOW * 1000)
    keys: Any = formats.recipient(INSURER)
    fetching = Fetching(
        settings_of(keeper.folder), keys, store, lambda: pytest.fail("taken"), Taker(), known, lambda: NOW * 1000,
        lambda: True,
    )  # fmt: skip
    stub: Any = Broker(keeper, one, packed.chunks)
    with pytest.raises(Refused, match=r"exchange\.state"):
        await fetching._fetch(stub, one)
    found = parcel_jobs.get(store, one.hash)
    assert found is not None
    assert found.state == parcel_jobs.ERASED
    assert [path for path in (keeper.folder / "parcels").rglob("*") if path.is_file()] == []
