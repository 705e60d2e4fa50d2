"""Erasure: two officers, a legal hold wins, the keys are gone from every file, every proof still holds, and what is
missing without an order is an alarm (DESIGN section 7).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from nacl.signing import SigningKey

from broker import tiles
from broker.audit import stored_leaf
from broker.export import lines
from broker.revocation import take_deletion
from broker.store import tables
from clients import durable
from clients.auditor import pins
from clients.auditor.pins import Pins
from clients.auditor.report import Report
from clients.auditor.verify import Verification
from clients.config import Pin
from policies import load
from tests import postgres
from tests.broker_rig import ROLES, Server, acknowledgements, epoch_of, fresh, present, reason, serving
from tests.formats import EVERYONE, HOSPITAL, INSURER, NOW, PAYER, RIVAL, claim, seed, subject_key
from tests.house import run, spawn
from tests.test_redemption import direct, hash_of, redeem
from tests.test_subject_keys import word
from zhifu import erasure, merkle, receipt
from zhifu.consent import Revocation
from zhifu.envelope import Envelope
from zhifu.erasure import Hold, Order
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.keys import participant_id
from zhifu.receipt import Detail, Meta
from zhifu.trail import Query
from zhifu.v1 import log_pb2, log_pb2_grpc

A, B, STRANGER = (SigningKey(seed(f"officer {name}")) for name in "abc")
OFFICERS = tuple(bytes(key.verify_key) for key in (A, B))
ORIGIN = "log.example/zhifu"


def order(entries: Sequence[int]) -> Order:
    return Order(ORIGIN, tuple(entries), "pipl-47", NOW)


def by(said: Order | Hold, *keys: SigningKey) -> list[Envelope]:
    return [said.sign(key) for key in keys]


# --- what officers sign ---------------------------------------------------------------------------------------------


def test_two_different_officers_order_in_the_same_words() -> None:
    said = order([3, 300, 70_000])
    assert erasure.verify_order(by(said, A, B), OFFICERS, ORIGIN, NOW) == said
    for signed, error in (
        (by(said, A), "erasure.orders"),
        (by(said, A, A), "erasure.orders"),
        (by(said, A, B, STRANGER), "erasure.orders"),
        ([*by(said, A), *by(order([3]), B)], "erasure.orders"),
        (by(said, A, STRANGER), "key.unknown"),
        ([by(said, A)[0], replace(by(said, B)[0], signature=bytes(64))], "signature.invalid"),
    ):
        with pytest.raises(Error) as refused:
            erasure.verify_order(signed, OFFICERS, ORIGIN, NOW)
        assert refused.value.reason == error
    for now in (NOW - erasure.SKEW_S - 1, NOW + erasure.LIFETIME_S + 1):
        with pytest.raises(Refused, match=r"erasure\.orders"):
            erasure.verify_order(by(said, A, B), OFFICERS, ORIGIN, now)
    with pytest.raises(Refused, match=r"presentation\.audience"):
        erasure.verify_order(by(said, A, B), OFFICERS, "another.example", NOW)


@pytest.mark.parametrize(
    "changed",
    [{"entries": ()}, {"entries": (4, 3)}, {"entries": (3, 3)}, {"basis": ""}, {"basis": "张三"}, {"issued_at": 0}],
)
def test_an_order_that_is_none_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        erasure.parse_order(replace(order([3]), **changed).to_bytes())


def test_one_officer_holds_and_two_lift() -> None:
    placed = Hold(ORIGIN, seed("subject"), False, "case-1", NOW)
    lifted = replace(placed, lifted=True)
    assert erasure.verify_hold(by(placed, A), OFFICERS, ORIGIN, NOW) == placed
    assert erasure.verify_hold(by(lifted, A, B), OFFICERS, ORIGIN, NOW) == lifted
    with pytest.raises(Refused, match=r"erasure\.orders"):
        erasure.verify_hold(by(lifted, A), OFFICERS, ORIGIN, NOW)
    with pytest.raises(NotAuthentic, match=r"key\.unknown"):
        erasure.verify_hold(by(placed, STRANGER), OFFICERS, ORIGIN, NOW)


# --- a broker -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """Where a broker's database is, and the files that hold it."""

    address: str
    folder: Path
    server: postgres.Server | None = None

    def files(self) -> bytes:
        """All bytes of the database as they lie on the disk."""
        if self.server is None:
            return b"".join(path.read_bytes() for path in self.folder.glob("broker/broker.db*"))
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            names = [row[0] for row in connection.execute(_FILES)]
        return b"".join(path.read_bytes() for name in names for path in (self.server.path / "data").glob(f"{name}*"))


_FILES = "SELECT pg_relation_filepath(oid) FROM pg_class WHERE pg_relation_filepath(oid) IS NOT NULL"


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "sqlite":
        return Kept("", tmp_path)
    server: postgres.Server = request.getfixturevalue("server")
    return Kept(server.database(), tmp_path, server)


def about(server: Server, subject: bytes) -> list[int]:
    rows = [row for row in server.rows(tables.Entry) if row.kind == 0 and row.detail]
    return [row.index for row in rows if receipt.parse_detail(row.detail).subject == subject]


def mentions(server: Server, subject: bytes) -> int:
    """How many entries the index finds by a subject."""
    return len(server.served.indexer.index.find(Query(about=(subject,)), b"", 1 << 40, 1000).entries)


async def settled(server: Server) -> bytes:
    """An exchange under a grant, acknowledged; its subject."""
    for party in (HOSPITAL, INSURER):
        said = Detail(documents=(epoch_of(party).epoch_id,))
        await server.run(lambda _, log, now, p=party, d=said: log.record(Meta("epoch.offered", sender=p.id), d, now))
    await server.grant(claim())
    insurer = await server.attach(INSURER)
    (result,) = await server.submit(present(claim()))
    assert reason(result) == ""
    await server.acknowledge(INSURER, acknowledgements(INSURER, await insurer.deliveries()))
    key = claim().subject
    assert key is not None
    return participant_id(bytes(key.verify_key))


class Office:
    """The officers' way to the broker."""

    def __init__(self, server: Server) -> None:
        self._stub: log_pb2_grpc.LogServiceAsyncStub = log_pb2_grpc.LogServiceStub(server.channel(None, public=True))

    async def erase(self, entries: Sequence[int], *keys: SigningKey) -> log_pb2.EraseResponse:
        orders = [one.to_proto() for one in by(order(entries), *keys)]
        return await self._stub.Erase(log_pb2.EraseRequest(orders=orders))

    async def hold(self, target: bytes, *keys: SigningKey, lifted: bool = False) -> None:
        orders = [one.to_proto() for one in by(Hold(ORIGIN, target, lifted, "case-1", NOW), *keys)]
        await self._stub.Hold(log_pb2.HoldRequest(orders=orders))


def audit(server: Server, *changes: Any) -> Report:
    found = [line.encode() for line in lines(server.core.store.reader)]
    pinned = {one.id: Pin(ROLES[one.id], one.name) for one in EVERYONE}
    trusted = Pins(ORIGIN, server.home.vkey, pinned, operators=frozenset(OFFICERS))
    return Verification(trusted, merkle.Frontier(), [load.load()]).run(found)


async def test_a_subject_is_erased_and_every_proof_still_holds(kept: Kept, tmp_path: Path) -> None:
    async with serving(tmp_path, operators=OFFICERS, store=kept.address) as server:
        server.check = lambda: None  # type: ignore[method-assign]  # it opens every entry
        subject, office = await settled(server), Office(server)
        entries, reader = about(server, subject), server.core.store.reader
        assert len(entries) >= 3
        before = [stored_leaf(index, reader) for index in range(server.core.log.size)]
        keys = [row.detail_key for row in server.rows(tables.Entry) if row.index in entries]
        index = server.served.indexer
        while index.step():
            pass
        assert mentions(server, subject) == len(entries)
        bundle = tiles.read(f"entries/000.p/{len(before)}", reader)[0]

        for signers in ((A,), (A, A), (A, STRANGER)):
            with pytest.raises(grpc.aio.AioRpcError):
                await office.erase(entries, *signers)
        await office.hold(subject, A)
        with pytest.raises(grpc.aio.AioRpcError, match="legal hold"):
            await office.erase(entries, A, B)
        assert [stored_leaf(index, reader) for index in range(len(before))] == before
        with pytest.raises(grpc.aio.AioRpcError):
            await office.hold(subject, A, lifted=True)
        await office.hold(subject, A, B, lifted=True)
        done = await office.erase(entries, A, B)
        assert (done.erased, done.complete_at > NOW) == (len(entries), True)

        assert [stored_leaf(index, reader) for index in range(len(before))] == before
        assert tiles.read(f"entries/000.p/{len(before)}", reader)[0] == bundle
        assert about(server, subject) == []
        assert mentions(server, subject) == 0
        for row in server.rows(tables.Exchange):
            assert row.subject != subject
        files = kept.files()
        assert not [key for key in keys if key in files]
        report = audit(server)
        assert report.first_bad is None
        assert report.entries["(erased)"] == len(entries)
        with pytest.raises(grpc.aio.AioRpcError, match="erased"):
            await office.erase(entries, A, B)


async def test_what_stands_beside_the_log_goes_with_it(kept: Kept, tmp_path: Path) -> None:
    """A direct payment, a second device, the revocation, and the recipient's word on what it erased."""
    async with serving(tmp_path, operators=OFFICERS, store=kept.address) as server:
        server.check = lambda: None  # type: ignore[method-assign]  # it opens every entry
        for party in (HOSPITAL, INSURER):
            said = Detail(documents=(epoch_of(party).epoch_id,))
            await server.run(
                lambda _, log, now, p=party, d=said: log.record(Meta("epoch.offered", sender=p.id), d, now)
            )
        exchange, ticket = direct()
        await server.grant(exchange)
        await redeem(server, ticket)
        sent = present(exchange, ticket_hash=hash_of(ticket))
        insurer = await server.attach(INSURER)
        assert [reason(one) for one in await server.submit(sent)] == [""]
        await server.acknowledge(INSURER, acknowledgements(INSURER, await insurer.deliveries()))
        await server.revoke(exchange)
        signing = bytes(INSURER.signing.verify_key)
        await server.run(
            lambda state, log, now: take_deletion(word(sent.hash), INSURER.id, signing, ORIGIN, state, log, now)
        )
        key = exchange.subject
        assert key is not None
        entries = about(server, participant_id(bytes(key.verify_key)))
        events = {meta.event for index, meta, _ in server.entries() if index.index in entries}
        assert {"ticket.redeemed", "exchange.deleted", "grant.revoked", "subject.key_added"} <= events
        assert audit(server).first_bad is None

        done = await Office(server).erase(entries, A, B)
        assert done.erased == len(entries)
        assert audit(server).first_bad is None
        files = kept.files()
        further = [row.public_key for row in server.rows(tables.SubjectKey)]
        for gone in (bytes(key.verify_key), ticket.payload):
            assert gone not in files
        assert (set(further), [row.document for row in server.rows(tables.Attested)]) == ({b""}, [])
        assert [row.subject for row in server.rows(tables.SubjectKey)] == [b""]
        # It can be neither used nor enrolled again.
        (again,) = await server.submit(present(fresh(exchange), ticket_hash=hash_of(ticket)))
        assert reason(again).startswith("consent.")
        with pytest.raises(Error):
            await server.attest(key)


async def test_whoever_was_not_told_of_what_is_erased_takes_part_all_the_same(tmp_path: Path) -> None:
    """The hospital was away: what waits for it names an entry that cannot be opened any more."""
    async with serving(tmp_path, operators=OFFICERS) as server:
        server.check = lambda: None  # type: ignore[method-assign]  # it opens every entry
        subject = await settled(server)
        waiting = [row.id for row in server.rows(tables.Notice) if row.node == HOSPITAL.id and row.entry >= 0]
        assert waiting
        await Office(server).erase(about(server, subject), A, B)
        other = claim(RIVAL)
        await server.grant(other)
        hospital = await server.attach(HOSPITAL)
        told = [one for _ in range(2) for one in (await hospital.next("notices")).notices]
        assert {one.state for one in told} == {"delivered", "granted"}
        assert not {one.id for one in told} & set(waiting)


async def test_what_a_recipient_was_not_told_to_erase_is_not_erased_here(tmp_path: Path) -> None:
    async with serving(tmp_path, operators=OFFICERS) as server:
        server.check = lambda: None  # type: ignore[method-assign]
        subject = await settled(server)
        await server.revoke(claim())
        (sent,) = [row.exchange for row in server.rows(tables.Deletion)]
        with pytest.raises(grpc.aio.AioRpcError, match="past that state"):
            await Office(server).erase(about(server, subject), A, B)
        signing = bytes(INSURER.signing.verify_key)
        await server.run(
            lambda state, log, now: take_deletion(word(sent), INSURER.id, signing, ORIGIN, state, log, now)
        )
        await Office(server).erase(about(server, subject), A, B)
        assert about(server, subject) == []


async def test_all_grants_are_stopped_though_an_earlier_stop_is_erased(tmp_path: Path) -> None:
    async with serving(tmp_path, operators=OFFICERS) as server:
        server.check = lambda: None  # type: ignore[method-assign]
        first = claim()
        assert first.grant is not None
        await server.grant(first)
        await server.grant(replace(first, grant=replace(first.grant, grant_id=seed("second")[:16])))
        await server.revoke(first)
        (stopped,) = [entry.index for entry, meta, _ in server.entries() if meta.event == "grant.revoked"]
        await Office(server).erase([stopped], A, B)
        key = subject_key()
        said = Revocation(ORIGIN, b"", NOW, subject=participant_id(bytes(key.verify_key))).sign(key)
        await server.run(lambda state, log, now: server.core.revoker.revoke(said, state, log, now))
        assert {row.status for row in server.rows(tables.Grant)} == {"revoked"}


async def test_what_may_not_be_erased_is_refused_whole(kept: Kept, tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, INSURER, operators=OFFICERS, store=kept.address) as server:
        office = Office(server)
        (result,) = await server.submit(present(server.statute()))
        waiting, size = result.entry.index, server.core.log.size
        for entries in ([0], [1], [waiting], [size + 5]):  # an enrolment, a key statement, undelivered, not there
            with pytest.raises(grpc.aio.AioRpcError):
                await office.erase(entries, A, B)
        assert server.core.log.size == size
        assert server.rows(tables.Erasure) == []


async def test_a_detail_that_is_missing_without_an_order_is_found(kept: Kept, tmp_path: Path) -> None:
    async with serving(tmp_path, operators=OFFICERS, store=kept.address) as server:
        server.check = lambda: None  # type: ignore[method-assign]
        subject = await settled(server)
        victim = about(server, subject)[-1]

        def hide(state: Any, sequence: Any, now_ms: int) -> None:
            one = sequence.entry(victim, state)
            state.insert(tables.Erasure, [(victim, receipt.erased(one).detail_commitment, 0)])
            state.update(tables.Entry, {"detail_key": b"", "detail": b""}, index=victim)

        assert audit(server).first_bad is None
        await server.run(hide)
        bad = audit(server).first_bad
        assert bad is not None
        assert (bad.index, bad.reason) == (victim, "log.erased")


async def test_the_commands_of_two_officers(tmp_path: Path) -> None:
    async with serving(tmp_path, operators=OFFICERS) as server:
        server.check = lambda: None  # type: ignore[method-assign]
        subject = await settled(server)
        entries = about(server, subject)
        pins.write(tmp_path / "auditor", Pins(ORIGIN, server.home.vkey, {}, operators=frozenset(OFFICERS)))
        contact = {
            "public_address": f"127.0.0.1:{server.served.ports[1]}", "log_key": server.home.vkey.encode(),
            "ca": server.home.read("ca.crt").decode(),
        }  # fmt: skip
        durable.write(tmp_path / "contact.json", json.dumps(contact).encode())
        for name, key in (("a", A), ("b", B)):
            durable.write(tmp_path / name, key.encode().hex().encode())
        said = ("audit", "erase", tmp_path, "--order", tmp_path / "order", "--officer")
        first = run(*said, tmp_path / "a", "--entries", ",".join(map(str, entries)), "--basis", "pipl-47").ok().json
        assert first == {"entries": entries, "signatures": 1}
        again = run(*said, tmp_path / "a").ok().json
        assert again["signatures"] == 1
        server.clock.ms = time.time_ns() // 1_000_000  # the commands' own clock
        done = await asyncio.to_thread(spawn, *said, tmp_path / "b", "--contact", tmp_path / "contact.json")
        assert done.code == 0, done.err
        assert (done.json["erased"], done.json["signatures"]) == (len(entries), 2)
