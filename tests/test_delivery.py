"""Lease, acknowledge, redeliver: "delivered" is what a recipient signed, never what was pulled (DESIGN section 6).

Long, since it is the whole life of a delivery.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker import delivery
from broker.audit import stored_entry
from broker.delivery import Leased, Mailroom, Outgoing
from broker.services import frames
from broker.services.frames import Known
from broker.store import tables
from clients import wire
from tests.broker_rig import Rig, acknowledgements, epoch_of, fresh, present, reason, rig
from tests.formats import HOSPITAL, INSURER, NOW, PAYER, Party, Sent, answer, claim
from tests.soak.order import DECIDED
from zhifu import acknowledgement, envelope, receipt
from zhifu.receipt import Head, Proven
from zhifu.v1 import exchange_pb2 as pb

Handed = list[tuple[pb.Delivery, Proven]]


def handed_out(broker: Rig, to: Party, outgoing: Outgoing | None = None, now: float = 0.0) -> Handed:
    """What would be written to a node at ``now`` (s)."""
    core = broker.core
    leased = (outgoing or Outgoing(to.id, core.store.reader)).take(now)
    found: Handed = []
    head = Head()
    known = Known(head)
    for frame in frames.deliveries(leased, core, known):
        proven = wire.prove(frame.proof, head, core.log.vkey)
        head = proven.head_after(head)
        for one in frame.deliveries:
            proven.check_entry(wire.entry(one.entry))
            found.append((one, proven))
    return found


async def sent(broker: Rig, count: int, **changed: Any) -> list[Sent]:
    """Accepted claims to the public payer."""
    made = [present(broker.statute(), **changed) for _ in range(count)]
    for start in range(0, count, 64):
        assert {reason(one) for one in await broker.submit(*made[start : start + 64])} == {""}
    return made


def states(broker: Rig) -> dict[bytes, str]:
    return {row.hash: row.state for row in broker.rows(tables.Exchange)}


def notices(broker: Rig, node: Party = HOSPITAL) -> list[tuple[bytes, str]]:
    return [(row.exchange, row.state) for row in broker.rows(tables.Notice) if row.node == node.id]


# Leases


async def test_what_is_leased_is_not_handed_out_again_before_its_lease_ends(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        made = await sent(broker, 3)
        outgoing = Outgoing(PAYER.id, broker.core.store.reader, lease_s=30)
        first = outgoing.take(100.0)
        assert [one.attempt for one in first] == [1, 1, 1]
        assert outgoing.take(129.9) == []
        assert outgoing.next_lease(120.0) == 10.0
        more = await sent(broker, 1)
        assert [one.row.entry for one in outgoing.take(129.9)] == [first[-1].row.entry + 1]
        again = outgoing.take(130.0)
        assert [(one.row.entry, one.attempt) for one in again] == [(one.row.entry, 2) for one in first]
        assert outgoing.take(159.9) != []
        assert len(made) + len(more) == len(broker.rows(tables.Delivery))


async def test_another_stream_of_the_node_has_its_own_leases(tmp_path: Path) -> None:
    """A node that lost its stream and connects again need not wait for the old lease."""
    async with rig(tmp_path) as broker:
        await sent(broker, 2)
        reader = broker.core.store.reader
        assert len(Outgoing(PAYER.id, reader).take(0.0)) == len(Outgoing(PAYER.id, reader).take(0.0)) == 2
        assert Outgoing(INSURER.id, reader).take(0.0) == []


async def test_a_long_queue_is_handed_out_in_order_and_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await sent(broker, 300)
        outgoing = Outgoing(PAYER.id, broker.core.store.reader, lease_s=30)
        taken: list[int] = []
        while rows := outgoing.take(0.0):
            assert len(rows) <= delivery.MAX_FRAME
            taken += [one.row.entry for one in rows]
        assert taken == [row.entry for row in broker.rows(tables.Delivery)]
        # Whatever was settled meanwhile is not handed out when its lease ends.
        await broker.run(lambda state, _s, _n: state.delete_through(tables.Delivery, taken[99]))
        again: list[int] = []
        while rows := outgoing.take(30.0):
            again += [one.row.entry for one in rows]
        assert again == taken[100:]


async def test_a_long_queue_costs_what_is_handed_out_not_what_waits(tmp_path: Path) -> None:
    """Rows hold whole records: reading every leased one again for each frame would be quadratic."""
    async with rig(tmp_path) as broker:
        await sent(broker, 640)
        read = Counting(broker.core.store.reader)
        outgoing = Outgoing(PAYER.id, read)  # type: ignore[arg-type]
        while outgoing.take(0.0):
            pass
        assert read.rows <= 640


class Counting:
    """The store's reader, and how many rows it gave."""

    def __init__(self, reader: Any) -> None:
        self._reader, self.rows = reader, 0

    def find(self, *given: Any, **named: Any) -> list[Any]:
        found: list[Any] = self._reader.find(*given, **named)
        self.rows += len(found)
        return found

    def keys(self, *given: Any, **named: Any) -> list[Any]:
        found: list[Any] = self._reader.keys(*given, **named)
        return found

    def get(self, *given: Any) -> Any:
        self.rows += 1
        return self._reader.get(*given)


async def test_a_frame_fits_what_a_node_receives(tmp_path: Path) -> None:
    """Sixty-four of the longest bills would be 13 MB: no node could ever take them, and its queue would be stuck."""
    async with rig(tmp_path) as broker:
        await sent(broker, 8)
        core = broker.core
        leased = Outgoing(PAYER.id, core.store.reader).take(0.0)
        longer = [with_leaves(one, bytes(1 << 20)) for one in leased]
        made = list(frames.deliveries(longer, core, Known(Head())))
        assert [len(one.deliveries) for one in made] == [3, 3, 2]
        assert max(one.ByteSize() for one in made) < 8 << 20
        longest = [with_leaves(one, bytes(7 << 20)) for one in leased]
        made = list(frames.deliveries(longest, core, Known(Head())))
        assert [len(one.deliveries) for one in made] == [1] * 8
        entries = [one.entry.index for frame in made for one in frame.deliveries]
        assert entries == [one.row.entry for one in leased]


def with_leaves(one: Leased, leaves: bytes) -> Leased:
    same = {name: getattr(one.row, name) for name in tables.Delivery.model_fields}
    return replace(one, row=tables.Delivery.model_construct(**same | {"leaves": leaves}))


# Acknowledgements


async def test_an_acknowledgement_settles_a_delivery(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        first, second = await sent(broker, 2)
        found = handed_out(broker, PAYER)
        entries = await broker.acknowledge(PAYER, acknowledgements(PAYER, found[:1]))
        assert entries == (found[0][0].entry.index,)
        assert await broker.acknowledge(PAYER, acknowledgements(PAYER, found[1:], "leaf.grammar")) != ()
        assert states(broker) == {first.hash: "delivered", second.hash: "refused"}
        assert notices(broker) == [(first.hash, "delivered"), (second.hash, "refused")]
        assert broker.rows(tables.Delivery) == []
        for row, one in zip(broker.rows(tables.Notice), (first, second), strict=True):
            signed = envelope.from_bytes(envelope.ACKNOWLEDGEMENT, row.acknowledgement)
            said = acknowledgement.parse(envelope.verify(signed, bytes(PAYER.signing.verify_key)))
            assert said.presentation_hash == one.hash


async def test_acknowledgements_of_one_frame_are_one_entry(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await sent(broker, 64)
        before = broker.core.log.size
        await broker.acknowledge(PAYER, acknowledgements(PAYER, handed_out(broker, PAYER)))
        assert broker.core.log.size == before + 1
        meta, detail = broker.entries()[-1][1:]
        assert (meta.event, meta.sender, len(detail.documents)) == ("exchange.acknowledged", PAYER.id, 64)
        assert len(detail.to_bytes()) < receipt.MAX_DETAIL


async def test_a_second_acknowledgement_changes_nothing(tmp_path: Path) -> None:
    """Neither the same word again nor another one, neither later nor in the same frame."""
    async with rig(tmp_path) as broker:
        (one,) = await sent(broker, 1)
        found = handed_out(broker, PAYER)
        twice = acknowledgements(PAYER, found)
        other = acknowledgements(PAYER, found, "leaf.open")
        payloads = [*twice.acknowledgements, *other.acknowledgements]
        signature, signed = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, payloads, PAYER.signing)
        both = pb.AcknowledgementFrame(key_id=signed[0].key_id, signature=signature, acknowledgements=payloads)
        assert len(await broker.acknowledge(PAYER, both)) == 1
        size = broker.core.log.size
        assert await broker.acknowledge(PAYER, other) == await broker.acknowledge(PAYER, twice) == ()
        assert broker.core.log.size == size
        assert notices(broker) == [(one.hash, "delivered")]
        assert states(broker) == {one.hash: "delivered"}


FOREIGN: dict[str, dict[str, Any]] = {
    "an entry of nobody": {"index": 2, "size": 3},
    "an entry that is none yet": {"index": 10_000, "size": 10_001},
    "the largest entry": {"index": 2**63 - 1, "size": 2**63},
    "another presentation": {"presentation_hash": bytes(32)},
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_an_acknowledgement_about_nothing_is_ignored(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as broker:
        (one,) = await sent(broker, 1)
        size = broker.core.log.size
        said = acknowledgements(PAYER, handed_out(broker, PAYER), **FOREIGN[name])
        assert await broker.acknowledge(PAYER, said) == ()
        assert (states(broker), broker.core.log.size) == ({one.hash: "accepted"}, size)


async def test_an_entry_number_that_no_store_can_hold_harms_its_sender_alone(tmp_path: Path) -> None:
    """It comes from the wire: whoever sends it must not take the whole batch with it."""
    async with rig(tmp_path) as broker:
        await sent(broker, 1)
        said = acknowledgements(PAYER, handed_out(broker, PAYER), index=2**64 - 2, size=2**64 - 1)
        beside = broker.submit(present(broker.statute()))
        with pytest.raises(Exception, match=r"malformed\.field"):
            await broker.acknowledge(PAYER, said)
        assert [reason(one) for one in await beside] == [""]


async def test_another_node_cannot_acknowledge(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        (one,) = await sent(broker, 1)
        found = handed_out(broker, PAYER)
        # In its own name: it is not the recipient. In the recipient's: it does not have the key, or the stream.
        assert await broker.acknowledge(INSURER, acknowledgements(INSURER, found)) == ()
        signed = acknowledgements(replace(INSURER, identity=PAYER.identity), found)
        with pytest.raises(Exception, match=r"signature\.invalid"):
            await broker.acknowledge(PAYER, signed)
        with pytest.raises(Exception, match=r"presentation\.recipient"):
            await broker.acknowledge(INSURER, signed)
        with pytest.raises(Exception, match=r"presentation\.recipient"):
            await broker.acknowledge(PAYER, acknowledgements(PAYER, found, aud="log.example/other"))
        assert states(broker) == {one.hash: "accepted"}


async def test_an_answer_may_come_before_its_acknowledgement(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        (one,) = await sent(broker, 1)
        found = handed_out(broker, PAYER)
        decision = present(answer(one, {"outcome": "paid"}))
        assert [reason(got) for got in await broker.submit(decision, sender=PAYER)] == [""]
        await broker.acknowledge(PAYER, acknowledgements(PAYER, found))
        assert states(broker)[one.hash] == "answered"
        assert notices(broker) == [(one.hash, "delivered")]


# The end of what nobody took


async def test_what_outlives_its_presentation_is_ended_and_told(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        (late,) = await sent(broker, 1)
        (early,) = await sent(broker, 1, not_after=NOW + 10)
        broker.clock.advance(10)
        assert list(await broker.run(delivery.expire)) == []
        broker.clock.advance(1)
        assert list(await broker.run(delivery.expire)) == [HOSPITAL.id]
        assert states(broker) == {late.hash: "accepted", early.hash: "expired"}
        assert notices(broker) == [(early.hash, "expired")]
        assert broker.events(early.hash) == [("exchange.accepted", ""), ("exchange.expired", "")]
        (notice,) = broker.rows(tables.Notice)
        made = list(frames.notices([notice], broker.core.log, Known(Head()), broker.core.store.reader))
        proven = wire.prove(made[0].proof, Head(), broker.core.log.vkey)
        entry = wire.proven_entry(made[0].notices[0].entry, proven)
        assert receipt.parse_meta(entry.meta).event == "exchange.expired"
        # Nobody acknowledges what is over.
        assert list(await broker.run(delivery.expire)) == []


async def test_what_a_lost_gate_key_would_open_ends_a_slice_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SLICE", 3)
    async with rig(tmp_path) as broker:
        made = await sent(broker, 7)
        other = await broker.run(partial(delivery.strand, {b"another"}, -1))
        assert (len(notices(broker)), other[1]) == (0, [])
        places: list[int | None] = [-1]
        while (after := places[-1]) is not None:
            place, told = await broker.run(partial(delivery.strand, {epoch_of(HOSPITAL).epoch_id}, after))
            places.append(place)
            assert set(told) == {HOSPITAL.id}
        assert len(places) == 4
        assert notices(broker) == [(one.hash, "expired") for one in made]
        assert broker.events(made[6].hash)[-1] == ("exchange.expired", "gate.epoch")


async def test_a_revocation_withdraws_what_waits_and_counts_what_did_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = claim()
        await broker.grant(exchange)
        workflow = exchange.workflow
        taken, waiting = present(exchange), present(replace(fresh(exchange), workflow=workflow))
        await broker.submit(taken)
        await broker.acknowledge(INSURER, acknowledgements(INSURER, handed_out(broker, INSURER)))
        await broker.submit(waiting)
        statute = await sent(broker, 1)
        done = await broker.revoke(exchange)
        assert (done.delivered, done.withheld) == (1, 1)
        assert set(done.told) == {HOSPITAL.id, INSURER.id}
        assert states(broker) == {taken.hash: "delivered", waiting.hash: "withdrawn", statute[0].hash: "accepted"}
        assert (waiting.hash, "withdrawn") in notices(broker)
        events = [meta.event for _, meta, _ in broker.entries()]
        assert events.index("grant.revoked") < events.index("exchange.withdrawn")
        assert broker.events(waiting.hash)[-1] == ("exchange.withdrawn", "")
        again = await broker.revoke(exchange)
        assert (again.delivered, again.told) == (1, ())


async def test_what_a_recipient_had_acknowledged_before_a_revocation_was_delivered(tmp_path: Path) -> None:
    """Also where its word still waits for a commit when she revokes: she is told the truth, and the word is kept."""
    async with rig(tmp_path) as broker:
        exchange = claim()
        await broker.grant(exchange)
        taken = present(exchange)
        await broker.submit(taken)
        said = acknowledgements(INSURER, handed_out(broker, INSURER))
        acknowledging = asyncio.create_task(broker.acknowledge(INSURER, said))
        await asyncio.sleep(0)
        done = await broker.revoke(exchange)
        assert len(await acknowledging) == 1
        assert (done.delivered, done.withheld) == (1, 0)
        assert states(broker) == {taken.hash: "delivered"}


async def test_a_revocation_withdraws_what_is_answered_and_not_acknowledged(tmp_path: Path) -> None:
    """Until the recipient's word it waits, and would go out again: nothing goes under a grant that is over."""
    async with rig(tmp_path) as broker:
        exchange = claim()
        await broker.grant(exchange)
        taken = present(exchange)
        await broker.submit(taken)
        decision = present(answer(taken, DECIDED))
        assert [reason(got) for got in await broker.submit(decision, sender=INSURER)] == [""]
        assert states(broker)[taken.hash] == "answered"
        assert (await broker.revoke(exchange)).withheld == 1
        assert [row.entry for row in broker.rows(tables.Delivery) if row.recipient == INSURER.id] == []
        assert (taken.hash, "withdrawn") in notices(broker)


# Notices


async def test_notices_come_in_order_and_until_they_are_read(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        made = await sent(broker, 150)
        for start in range(0, 150, 64):
            found = handed_out(broker, PAYER)[: 150 - start]
            await broker.acknowledge(PAYER, acknowledgements(PAYER, found))
        reader = broker.core.store.reader
        outgoing, other = Outgoing(HOSPITAL.id, reader), Outgoing(HOSPITAL.id, reader)
        told: list[tables.Notice] = []
        while rows := outgoing.take_notices():
            told += rows
        assert [row.exchange for row in told] == [one.hash for one in made]
        assert [row.id for row in told] == sorted({row.id for row in told})
        # Another stream starts behind what its node says it stored, and nobody else's notices are told.
        other.read_through(told[99].id)
        assert [row.id for row in other.take_notices()] == [row.id for row in told[100:]]
        assert Outgoing(PAYER.id, reader).take_notices() == []


# Proofs


@pytest.mark.parametrize("seed", range(3))
async def test_every_proof_holds_whatever_was_proved_before(tmp_path: Path, seed: int) -> None:
    """Streams that know different heads, from frames of different commits, in any order."""
    chance = random.Random(seed)
    async with rig(tmp_path) as broker:
        core = broker.core
        streams = [(Known(Head()), Head()) for _ in range(3)]
        for _ in range(25):
            await sent(broker, chance.randint(1, 5))
            at = chance.randrange(len(streams))
            known, head = streams[at]
            rows = broker.rows(tables.Exchange)
            for row in chance.sample(rows, min(len(rows), 4)):
                commit = core.log.commit_of(row.entry)
                message = known.prove(core.log, commit, row.entry, chance.randint(row.entry + 1, commit.size))
                proven = wire.prove(message, head, core.log.vkey)
                proven.check_entry(stored_entry(row.entry, core.store.reader))
                head = proven.head_after(head)
            streams[at] = known, head


async def test_proofs_hold_between_a_commit_and_the_word_of_it(tmp_path: Path) -> None:
    """The rows are visible as soon as they are durable, a moment before the log in memory has grown."""
    async with rig(tmp_path) as broker:
        (one,) = await sent(broker, 1)
        core, known = broker.core, Known(Head())
        before = core.log.frontier
        first = known.prove(core.log, core.log.commit_of(before.size - 1), 0, 1)
        head = wire.prove(first, Head(), core.log.vkey).head_after(Head())
        await sent(broker, 3)
        core.log.frontier = before
        core.log._nodes.clear()
        for entry in range(before.size, before.size + 3):
            commit = core.log.commit_of(entry)
            proven = wire.prove(known.prove(core.log, commit, entry, entry + 1), head, core.log.vkey)
            head = proven.head_after(head)
        assert head.size == before.size + 3
        core.log.reload()
        assert one.hash in states(broker)


# Who is attached


def test_waking_a_node_wakes_each_of_its_streams_and_nobody_elses() -> None:
    room, streams = Mailroom(), [Outgoing(node, Silent()) for node in (b"a", b"a", b"b")]  # type: ignore[arg-type]
    for one, node in zip(streams, (b"a", b"a", b"b"), strict=True):
        room.attach(node, one)
        one.wake.clear()
    room.wake([b"a", b"nobody"])
    assert [one.wake.is_set() for one in streams] == [True, True, False]
    room.detach(b"a", streams[0])
    streams[0].wake.clear()
    room.wake([b"a", b"b"])
    assert [one.wake.is_set() for one in streams] == [False, True, True]


async def test_notices_that_all_is_well_go_together_and_soon() -> None:
    room, one = Mailroom(), Outgoing(b"a", Silent())  # type: ignore[arg-type]
    room.attach(b"a", one)
    one.wake.clear()
    one.mail = one.news = False
    room.told([b"a", b"nobody"])
    assert (one.news, one.mail, one.wake.is_set()) == (False, False, False)
    await one.wake.wait(30)
    assert (one.news, one.mail) == (True, False)
    one.wake.clear()
    one.news = False
    room.told([b"a"])
    await one.wake.wait(30)
    assert one.news


class Silent:
    """A store that nobody asks."""


def test_notices_of_both_kinds_go_in_the_order_of_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node stores how far it read: what came behind a larger id would be lost to it. Commits here end at 9 and 12."""
    monkeypatch.setattr(frames, "stored_entry", lambda *_: None)
    ends: Any = lambda entry: SimpleNamespace(size=9 if entry < 9 else 12)  # noqa: E731
    log: Any = SimpleNamespace(prove=lambda *_: None, commit_of=ends)
    recorded = (7, -1, -1, 8, -1, 7, 8, 7, 11, 9, 8)
    rows = [
        tables.Notice(id=place, node=b"", exchange=b"", state="x", acknowledgement=b"", entry=entry)
        for place, entry in enumerate(recorded, start=1)
    ]
    made = list(frames.notices(rows, log, log, log))
    assert [[one.id for one in frame.notices] for frame in made] == [[1], [2, 3], [4], [5], [6, 7, 8], [9], [10], [11]]


async def test_what_one_commit_ended_is_told_and_proven_together(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        made = await sent(broker, 70, not_after=NOW + 10)
        broker.clock.advance(11)
        assert len(list(await broker.run(delivery.expire))) == 70
        known, head, told = Known(Head()), Head(), []
        outgoing = Outgoing(HOSPITAL.id, broker.core.store.reader)
        while rows := outgoing.take_notices():
            (frame,) = frames.notices(rows, broker.core.log, known, broker.core.store.reader)
            proven = wire.prove(frame.proof, head, broker.core.log.vkey)
            head = proven.head_after(head)
            for notice in frame.notices:
                entry = wire.proven_entry(notice.entry, proven)
                assert receipt.parse_detail(entry.detail).exchange == notice.presentation_hash
                told.append(notice.presentation_hash)
        assert told == [one.hash for one in made]
