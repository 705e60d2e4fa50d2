"""What a sender learns of its recipients: signed notices, forks between the two, renewals (DESIGN sections 6 and 7).

Long, since every notice uses the same node, peer and words.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients import session, wire
from clients.outcome import CURSOR
from clients.session import Session
from tests.node_peer import Member, Peer, Recorder, Running, Stream, Taken, opening, presented
from zhifu import acknowledgement, envelope, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import Envelope
from zhifu.errors import Exit, NotAuthentic, Refused
from zhifu.receipt import Detail, Meta
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1.signed_pb2 import OUTCOME_REFUSED

HOUR = 3600


class Clock:
    """Unix ms; a test moves it."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_s * 1000


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture
async def members(peer: Peer, tmp_path: Path) -> list[Member]:
    return peer.enrol(tmp_path, "hospital", "public-payer")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def hospital(peer: Peer, members: list[Member], clock: Clock) -> AsyncIterator[Running]:
    running = Running(peer, members[0], clock)
    yield running
    await running.close()


async def accepted(running: Running, stream: Stream, recipient: Member) -> Taken:
    """An exchange of the node's that the peer accepted, with its result sent."""
    presented(running.node, recipient.id)
    (taken,) = running.peer.accept(await running.peer.submissions(stream, running.member), running.member)
    stream.send(results=running.peer.results(stream, [taken]))
    return taken


def said_by(recipient: Member, taken: Taken, peer: Peer, reason: str = "") -> Acknowledgement:
    """What an honest recipient says about a delivery."""
    proof = peer.log.proof(taken.entry.index, taken.entry.index + 1, taken.size, peer.log.head(0))
    proven = wire.prove(proof, peer.log.head(0), peer.log.vkey)
    return acknowledgement.acknowledge(
        taken.shown.aud, recipient.id, taken.hash, taken.entry, proven, reason, int(time.time())
    )


def signed(said: Acknowledgement, by: Member) -> Envelope:
    return envelope.seal_one(envelope.ACKNOWLEDGEMENT, said.to_bytes(), by.keys.signing)


def notice(number: int, taken: Taken, state: str, word: Envelope) -> pb.Notice:
    return pb.Notice(id=number, presentation_hash=taken.hash, state=state, acknowledgement=word.to_proto())


def state_of(running: Running, taken: Taken) -> str:
    found = running.node.store.outgoing.get(taken.hash)
    assert found is not None
    return found.state


async def test_a_delivery_is_believed_by_the_recipients_own_signature(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    word = signed(said_by(members[1], taken, hospital.peer), members[1])
    stream.send(notices=pb.NoticeFrame(notices=[notice(7, taken, "delivered", word)]))
    assert (await stream.expect("notices_read")).through == 7
    assert state_of(hospital, taken) == "delivered"
    (told,) = hospital.role.noticed
    assert (told.exchange, told.state) == (taken.hash, "delivered")
    receipt = hospital.node.store.receipts.get(taken.hash)
    assert receipt is not None
    assert receipt.acknowledgement == word.to_bytes(), "so that the recipient cannot deny it"


async def test_a_recipients_refusal_is_raised_with_its_reason(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    waiting = asyncio.create_task(hospital.node.answer_to(taken.hash))
    word = signed(said_by(members[1], taken, hospital.peer, "pseudonym.changed"), members[1])
    stream.send(notices=pb.NoticeFrame(notices=[notice(1, taken, "refused", word)]))
    with pytest.raises(Refused, match=r"pseudonym\.changed"):
        await waiting
    (told,) = hospital.role.refused
    assert (told.reason, told.by_recipient) == ("pseudonym.changed", True)
    assert (await hospital.node.result_of(taken.hash)).released == taken.shown.ceilings, "the broker had accepted"


async def test_notices_are_read_once_and_reported_again(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    word = signed(said_by(members[1], taken, hospital.peer), members[1])
    for _ in range(2):
        stream.send(notices=pb.NoticeFrame(notices=[notice(3, taken, "delivered", word)]))
        assert (await stream.expect("notices_read")).through == 3
    assert len(hospital.role.noticed) == 1
    stream.close()
    again = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    assert (await again.expect("hello")).notices_through == 3
    again.close()


async def test_notices_do_not_pile_up_while_the_broker_reads_nothing(hospital: Running) -> None:
    """The writer, which takes those that waited, waits then itself: the reader takes each frame's worth."""
    read = Session(hospital.node._parts, lambda: None)
    for number in range(1, 1001):
        read._take(pb.ConnectResponse(notices=pb.NoticeFrame(notices=[pb.Notice(id=number, state="delivered")])))
    assert hospital.node.store.trust.cursor(CURSOR) > 1000 - 64


async def test_a_notice_that_overtakes_its_result_waits_for_it(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    presented(hospital.node, members[1].id)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    word = signed(said_by(members[1], taken, hospital.peer), members[1])
    stream.send(notices=pb.NoticeFrame(notices=[notice(1, taken, "delivered", word)]))
    assert (await stream.expect("notices_read")).through == 1
    assert (hospital.role.noticed, state_of(hospital, taken)) == ([], "sent")
    stream.send(results=hospital.peer.results(stream, [taken]))
    await hospital.node.result_of(taken.hash)
    assert state_of(hospital, taken) == "delivered"
    assert len(hospital.role.noticed) == 1


@pytest.mark.parametrize(
    "forked", [{"root": bytes(32)}, {"leaf_hash": bytes(32)}, {"size": 2}, {"index": 1, "size": 2}]
)
async def test_two_parties_who_were_shown_different_logs_find_out(
    hospital: Running, members: list[Member], forked: dict[str, Any]
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    waiting = asyncio.create_task(hospital.node.answer_to(taken.hash))
    honest = said_by(members[1], taken, hospital.peer)
    word = signed(replace(honest, **forked), members[1])
    stream.send(notices=pb.NoticeFrame(notices=[notice(1, taken, "delivered", word)]))
    with pytest.raises(NotAuthentic, match=r"log\.fork") as found:
        await waiting
    assert found.value.exit == Exit.INTEGRITY
    (kept,) = hospital.node.store.receipts.evidence()
    assert kept.reason == "log.fork"
    assert hospital.role.noticed == []
    assert hospital.role.refused[0].reason == "log.fork"
    # Whoever lies, the recipient or the broker, other exchanges go on.
    other = await accepted(hospital, stream, members[1])
    assert (await hospital.node.result_of(other.hash)).exchange == other.hash


@pytest.mark.parametrize("kind", ["forged", "stranger", "other exchange", "other outcome", "none"])
async def test_a_word_that_is_not_the_recipients_settles_nothing(
    hospital: Running, members: list[Member], kind: str
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    honest = said_by(members[1], taken, hospital.peer)
    word = signed(honest, members[1])
    if kind == "forged":
        word = replace(word, signature=bytes(64))
    elif kind == "stranger":
        word = signed(honest, members[0])
    elif kind == "other exchange":
        word = signed(replace(honest, presentation_hash=bytes(32)), members[1])
    elif kind == "other outcome":
        word = signed(replace(honest, outcome=OUTCOME_REFUSED, reason="leaf.open"), members[1])
    told = notice(1, taken, "delivered", word)
    if kind == "none":
        told.ClearField("acknowledgement")
    stream.send(notices=pb.NoticeFrame(notices=[told]))
    assert (await stream.expect("notices_read")).through == 1
    assert state_of(hospital, taken) == "accepted"
    assert (hospital.role.noticed, hospital.role.refused) == ([], [])
    assert len(hospital.node.store.receipts.evidence()) == 1


def ended(peer: Peer, stream: Stream, taken: Taken, state: str, number: int = 1) -> pb.NoticeFrame:
    entry = peer.log.append(Meta(f"exchange.{state}"), Detail(taken.hash))
    told = pb.Notice(id=number, presentation_hash=taken.hash, state=state, entry=opening(entry))
    return pb.NoticeFrame(proof=peer.prove(stream, [entry], len(peer.log.leaves)), notices=[told])


async def test_a_withdrawn_exchange_ends_as_revoked(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    await hospital.node.result_of(taken.hash)
    stream.send(notices=ended(hospital.peer, stream, taken, "withdrawn"))
    with pytest.raises(Refused, match=r"consent\.revoked"):
        await hospital.node.answer_to(taken.hash)
    (told,) = hospital.role.noticed
    assert told.state == "withdrawn"


@pytest.mark.parametrize("kind", ["unproven", "other exchange", "other event"])
async def test_an_end_that_is_not_in_the_log_stops_the_node(
    hospital: Running, members: list[Member], kind: str
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    await hospital.node.result_of(taken.hash)
    frame = ended(hospital.peer, stream, replace(taken, size=0), "withdrawn")
    if kind == "unproven":
        frame.ClearField("proof")
    elif kind == "other event":
        frame.notices[0].state = "expired"
    else:
        entry = hospital.peer.log.append(Meta("exchange.withdrawn"), Detail(bytes(32)))
        frame.notices[0].entry.CopyFrom(opening(entry))
        frame.proof.CopyFrom(
            hospital.peer.log.proof(entry.index, entry.index + 1, entry.index + 1, hospital.peer.log.head(1))
        )
    stream.send(notices=frame)
    error = await hospital.ends()
    assert error.exit == Exit.INTEGRITY
    assert state_of(hospital, taken) == "accepted"
    assert len(hospital.node.store.receipts.evidence()) == 1


@pytest.mark.parametrize("ahead_s", [0, 25 * HOUR])
async def test_what_expired_undelivered_is_presented_anew_at_once(
    hospital: Running, members: list[Member], clock: Clock, ahead_s: int
) -> None:
    """Also before its time, as after a restore: what was queued under a lost gate key cannot be delivered."""
    stream = await hospital.attach()
    await hospital.node.attached()
    taken = await accepted(hospital, stream, members[1])
    await hospital.node.result_of(taken.hash)
    clock.ahead_s = ahead_s
    stream.send(notices=ended(hospital.peer, stream, taken, "expired"))
    again = (await hospital.peer.submissions(stream, members[0])).submissions[0]
    before, after = taken.shown, presentation.parse(again.presentation)
    assert (after.manifest_hash, after.workflow) == (before.manifest_hash, before.workflow)
    assert after.nonce != before.nonce
    assert again.leaves == taken.parcel.leaves
    assert hospital.role.noticed == [], "a role hears of the end only"
    found = hospital.node.store.outgoing.latest(taken.hash)
    assert found is not None
    assert (found.first, found.attempt) == (taken.hash, 2)


async def test_what_was_dated_by_a_clock_ahead_is_not_lost(
    hospital: Running, members: list[Member], clock: Clock
) -> None:
    """A confirmation, say: sent again while the clock is wrong, and presented anew once it is right."""
    stream = await hospital.attach()
    await hospital.node.attached()
    clock.ahead_s = HOUR
    exchange = presented(hospital.node, members[1].id)
    said = pb.Result(presentation_hash=exchange, refusal=pb.Refusal(reason="presentation.future"))
    outcomes = Session(hospital.node._parts, lambda: None)._outcomes
    assert outcomes.results(pb.ResultFrame(results=[said])) == [exchange], "to be sent again"
    clock.ahead_s = 0
    assert outcomes.results(pb.ResultFrame(results=[said])) == []
    found = hospital.node.store.outgoing.latest(exchange)
    assert found is not None
    assert (found.first, found.attempt, found.is_final) == (exchange, 2, False)
    assert found.presentation.issued_at <= time.time()
    assert hospital.role.refused == []
    await hospital.peer.submissions(stream, members[0])


async def test_an_end_that_overtakes_its_result_stands(hospital: Running, members: list[Member]) -> None:
    """A broker that died after its commit tells the end first, and of the acceptance when it is asked again."""
    stream = await hospital.attach()
    await hospital.node.attached()
    presented(hospital.node, members[1].id)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    told, result = ended(hospital.peer, stream, taken, "expired"), hospital.peer.results(stream, [taken])
    outcomes = Session(hospital.node._parts, lambda: None)._outcomes
    outcomes.notices(told)
    outcomes.results(result)
    assert list(outcomes.renew_overdue()) == [1]
    found = hospital.node.store.outgoing.latest(taken.hash)
    assert found is not None
    assert (found.attempt, found.state, state_of(hospital, taken)) == (2, "waiting", "expired")


STATES = {"delivered": ("delivered", 1, 1), "refused": ("refused", 1, 1), "withdrawn": ("withdrawn", 1, 1)} | {
    "expired": ("waiting", 2, 0)
}
"""By how an exchange ends: state and number of its newest presentation, and what its role was told."""


@pytest.mark.parametrize("end", STATES)
async def test_whatever_the_order_of_what_is_told_the_end_is_the_same(
    hospital: Running, members: list[Member], end: str
) -> None:
    """The result and the end, each of them twice, in every order; presented anew in between or only afterwards."""
    stream = await hospital.attach()
    await hospital.node.attached()
    parts, peer = hospital.node._parts, hospital.peer
    numbers, state, attempt, told = itertools.count(1), *STATES[end]
    orders = sorted(set(itertools.permutations(("result", "result", "end", "end"))))
    for order, at_once in itertools.product(orders, (False, True)):
        outcomes = Session(parts, lambda: None)._outcomes
        (taken,) = await taken_of(hospital, stream, presented(hospital.node, members[1].id))
        before = len(hospital.role.noticed) + len(hospital.role.refused)
        for event in order:
            if event == "result":
                outcomes.results(peer.results(stream, [taken]))
            elif end in ("expired", "withdrawn"):
                frame = ended(peer, stream, taken, end)
                frame.notices[0].id = next(numbers)
                outcomes.notices(frame)
            else:
                word = signed(said_by(members[1], taken, peer, "" if end == "delivered" else "leaf.open"), members[1])
                outcomes.notices(pb.NoticeFrame(notices=[notice(next(numbers), taken, end, word)]))
            if at_once:
                list(outcomes.renew_overdue())
        list(outcomes.renew_overdue())
        found = hospital.node.store.outgoing.latest(taken.hash)
        assert found is not None
        shown = found.state if found.state != "sent" else "waiting"
        heard = len(hospital.role.noticed) + len(hospital.role.refused) - before
        assert (shown, found.attempt, heard) == (state, attempt, told), (order, at_once)


async def taken_of(running: Running, stream: Stream, exchange: bytes) -> list[Taken]:
    """An exchange as the peer took it, among whatever else was presented."""
    while True:
        frame = await running.peer.submissions(stream, running.member)
        if found := [one for one in running.peer.accept(frame, running.member) if one.hash == exchange]:
            return found


async def test_what_may_not_be_presented_any_more_ends_as_expired(
    hospital: Running, members: list[Member], clock: Clock
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    presented(hospital.node, members[1].id, lifetime_s=60, until=int(time.time()) + 60)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    stream.send(results=hospital.peer.results(stream, [taken]))
    await hospital.node.result_of(taken.hash)
    clock.ahead_s = 61
    stream.send(notices=ended(hospital.peer, stream, taken, "expired"))
    with pytest.raises(Refused, match=r"exchange\.expired"):
        await hospital.node.answer_to(taken.hash)
    assert [one.state for one in hospital.role.noticed] == ["expired"]


async def test_what_expired_without_a_result_waits_for_its_notice_first(
    hospital: Running, members: list[Member], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have arrived: presented anew at once, it would be there twice."""
    monkeypatch.setattr("clients.session.SETTLED_S", 0.0)
    monkeypatch.setattr("clients.session.TICK_S", 0.01)
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    await hospital.peer.submissions(stream, members[0])
    said = pb.Result(presentation_hash=exchange, refusal=pb.Refusal(reason="presentation.expired"))
    stream.send(results=pb.ResultFrame(results=[said]))
    stream.send(notices=pb.NoticeFrame(notices=[pb.Notice(id=5, presentation_hash=bytes(32), state="delivered")]))
    assert (await stream.expect("notices_read")).through == 5
    latest = hospital.node.store.outgoing.latest(exchange)
    assert latest is not None
    assert (latest.exchange, latest.attempt) == (exchange, 1)
    clock.ahead_s = 121
    again = (await hospital.peer.submissions(stream, members[0])).submissions[0]
    assert presentation.hash_of(again.presentation) != exchange
    assert isinstance(hospital.role, Recorder)


async def test_a_result_is_not_late_because_this_end_was_busy(
    hospital: Running, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream stays: what the node's own work kept it from reading counts as nobody's silence."""
    worked, clock = 0.0, session._time

    def work(*_: object) -> None:
        nonlocal worked
        worked += session.RESULT_S

    monkeypatch.setattr(session, "_time", lambda: clock() + worked)
    monkeypatch.setattr(Recorder, "on_notice", work)
    stream = await hospital.attach()
    await hospital.node.attached()
    before = [await accepted(hospital, stream, members[1]) for _ in range(3)]
    for one in before:
        await hospital.node.result_of(one.hash)
    second = presented(hospital.node, members[1].id)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    for number, one in enumerate(before, start=1):
        # What ended is taken at once; that something was delivered could wait until after the result.
        stream.send(notices=ended(hospital.peer, stream, one, "withdrawn", number))
    # Said by the writer, which has then looked for what is late.
    while (await stream.expect("notices_read")).through < len(before):
        pass
    assert worked == len(before) * session.RESULT_S
    stream.send(results=hospital.peer.results(stream, [taken]))
    assert (await hospital.node.result_of(second)).exchange == taken.hash
    assert hospital.node.is_attached


async def test_thousands_that_ended_are_presented_anew_in_slices(
    hospital: Running, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are looked at together go on at once; whoever reads meanwhile gets its turn between two slices."""
    monkeypatch.setattr("clients.outbox.MOST_OVERDUE", 6)
    monkeypatch.setattr("clients.outcome.MOST_OVERDUE", 6)
    monkeypatch.setattr("clients.outcome.SLICE", 2)
    stream, commits = await hospital.attach(), list[int]()
    await hospital.node.attached()
    taken = [await accepted(hospital, stream, members[1]) for _ in range(20)]
    for one in taken:
        await hospital.node.result_of(one.hash)
    latest = hospital.node.store.outgoing.latest

    def renewed(_: frozenset[bytes]) -> None:
        every = [latest(one.hash) for one in taken]
        commits.append(sum(one is not None and one.attempt == 2 for one in every))

    hospital.node.store.on_commit(renewed)
    entries = [hospital.peer.log.append(Meta("exchange.expired"), Detail(one.hash)) for one in taken]
    told = [
        pb.Notice(id=number, presentation_hash=one.hash, state="expired", entry=opening(entry))
        for number, (one, entry) in enumerate(zip(taken, entries, strict=True), start=1)
    ]
    proof = hospital.peer.prove(stream, entries, len(hospital.peer.log.leaves))
    stream.send(notices=pb.NoticeFrame(proof=proof, notices=told))
    anew = 0
    while anew < len(taken):
        anew += len((await hospital.peer.submissions(stream, members[0])).submissions)
    steps = [after - before for before, after in itertools.pairwise([0, *commits])]
    assert (max(steps), sum(steps)) == (2, 20)
