"""Group commit under faults that are real at the store's boundary: nothing acknowledged is lost, nothing is twice.

Long, since each fault is played to the same operations, and both are defined here once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from broker import commit, home
from broker.audit import Log
from broker.commit import Committer
from broker.serving import build
from broker.store import sqlite, tables
from broker.store.interface import Conflict, Reader, Store, Transaction
from tests.broker_rig import Clock, Rig, frame, fresh, present, reason, rig
from tests.formats import NOW, ORIGIN, claim, refused
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.receipt import Detail, Head, Meta

UNAVAILABLE = "unavailable.store"


class Faults:
    """What goes wrong next, once each: before or after COMMIT, in an insert into a table, in the read-back."""

    def __init__(self) -> None:
        self.before_commit = self.after_commit = self.flip = False
        self.insert: type[SQLModel] | None = None
        self.error: Callable[[], Exception] = lambda: Refused(UNAVAILABLE)
        self.commits = 0

    def spent(self, name: str) -> bool:
        found = bool(getattr(self, name))
        setattr(self, name, None if name == "insert" else False)
        return found


class FaultyTransaction:
    """The real transaction, with faults."""

    def __init__(self, state: Transaction, faults: Faults) -> None:
        self._state, self._faults = state, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def insert(self, table: type[SQLModel], rows: Sequence[Sequence[Any]]) -> None:
        # Half of the rows are there when it fails: nobody promises more.
        if self._faults.insert is table and self._faults.spent("insert"):
            self._state.insert(table, rows[: len(rows) // 2])
            raise self._faults.error()
        self._state.insert(table, rows)

    def row(self, level: int, first: int, most: int) -> list[bytes]:
        found = self._state.row(level, first, most)
        if self._faults.spent("flip"):
            found[-1] = bytes([found[-1][0] ^ 1]) + found[-1][1:]
        return found


class FaultyStore:
    """A real store that fails when it is told to."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self.faults = store, faults

    @property
    def reader(self) -> Reader:
        return self._store.reader

    async def turn(self) -> Transaction:
        return FaultyTransaction(await self._store.turn(), self.faults)

    def begin(self) -> Transaction:
        return FaultyTransaction(self._store.begin(), self.faults)

    def commit(self) -> None:
        if self.faults.spent("before_commit"):
            raise self.faults.error()
        self._store.commit()
        self.faults.commits += 1
        if self.faults.spent("after_commit"):
            raise self.faults.error()

    def rollback(self) -> None:
        self._store.rollback()

    def clock_ms(self) -> int:
        return self._store.clock_ms()

    def forget(self) -> None:
        self._store.forget()

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def faults() -> Faults:
    return Faults()


def note(text: str) -> Any:
    """An operation that appends one entry and writes one row beside it."""

    def apply(state: Transaction, sequence: Any, now_ms: int) -> int:
        entry = sequence.record(Meta("subject.enrolled"), Detail(documents=(text.encode(),)), now_ms)
        state.insert(tables.Spki, [(text.encode(), b"participant")])
        return int(entry.index)

    return apply


def noted(broker: Rig) -> list[str]:
    """What `note` left, which the rows beside the log must say too."""
    entries = [detail.documents[0].decode() for _, meta, detail in broker.entries() if meta.event == "subject.enrolled"]
    beside = {row.hash.decode() for row in broker.rows(tables.Spki) if row.participant == b"participant"}
    assert sorted(entries) == sorted(beside)
    return entries


async def failing(broker: Rig, *texts: str) -> list[str]:
    """Run `note` for each text in one batch; the reasons of those that failed."""
    answers = await asyncio.gather(*(broker.core.committer.run(note(text)) for text in texts), return_exceptions=True)
    for one in answers:
        if isinstance(one, BaseException) and not isinstance(one, Error):
            raise one
    return [one.reason if isinstance(one, Error) else "" for one in answers]


# One fault after another


@pytest.mark.parametrize(
    "error", [lambda: Refused(UNAVAILABLE), lambda: OSError("the cable"), lambda: NotAuthentic("log.corrupt")]
)
async def test_a_commit_that_fails_before_it_is_durable_leaves_nothing(
    tmp_path: Path, faults: Faults, error: Callable[[], Exception]
) -> None:
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        before, faults.before_commit, faults.error = broker.core.log.frontier, True, error
        assert await failing(broker, "a", "b") == [UNAVAILABLE, UNAVAILABLE]
        assert await failing(broker, "c") == [""]
        assert noted(broker) == ["c"]
        assert broker.core.log.size == before.size + 1


async def test_a_commit_that_fails_after_it_is_durable_is_seen(tmp_path: Path, faults: Faults) -> None:
    """The broker does not know; it looks, and goes on behind what is there."""
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        before, faults.after_commit = broker.core.log.size, True
        assert await failing(broker, "a", "b") == [UNAVAILABLE, UNAVAILABLE]
        assert await failing(broker, "c") == [""]
        assert noted(broker) == ["a", "b", "c"]
        assert broker.core.log.size == before + 3


@pytest.mark.parametrize("table", [tables.Entry, tables.TreeNode, tables.Checkpoint])
async def test_an_insert_of_the_sequencer_that_fails_takes_the_batch_with_it(
    tmp_path: Path, faults: Faults, table: type[SQLModel]
) -> None:
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        faults.insert = table
        assert await failing(broker, "a", "b") == [UNAVAILABLE, UNAVAILABLE]
        assert await failing(broker, "c") == [""]
        assert noted(broker) == ["c"]


async def test_a_flipped_bit_in_what_was_written_is_never_signed(tmp_path: Path, faults: Faults) -> None:
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        checkpoints, faults.flip = len(broker.rows(tables.Checkpoint)), True
        assert await failing(broker, "a") == [UNAVAILABLE]
        assert len(broker.rows(tables.Checkpoint)) == checkpoints
        assert await failing(broker, "b") == [""]
        assert noted(broker) == ["b"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_signature_that_fails_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The key is asked and does not answer, or it signed and the answer is lost: what was signed is never shown, and
    the next head of that size is signed as well, for it was nobody's.
    """
    async with rig(tmp_path) as broker:
        log, before, shown = broker.core.log, broker.core.log.size, len(broker.rows(tables.Checkpoint))
        real, left = log.sign, [1]

        def sign(head: Head) -> bytes:
            note = real(head) if after else b""
            if left.pop() if left else 0:
                raise OSError("the key does not answer")
            return note or real(head)

        monkeypatch.setattr(log, "sign", sign)
        assert await failing(broker, "a", "b") == [UNAVAILABLE, UNAVAILABLE]
        assert (broker.core.log.size, len(broker.rows(tables.Checkpoint))) == (before, shown)
        assert await failing(broker, "c") == [""]
        assert noted(broker) == ["c"]
        assert broker.core.log.size == before + 1


@pytest.mark.parametrize("persisted", [False, True])
async def test_a_checkpoint_that_cannot_be_told_is_told_again(tmp_path: Path, persisted: bool) -> None:
    """The answer is lost before or after the client has it: asking again with the same bytes gives the same entry."""
    async with rig(tmp_path) as broker:
        sent, (first,) = frame(one := present(broker.statute())), await broker.submit(one)
        broker.known.clear()  # what the stream had proved is gone with it
        size = broker.core.log.size
        again = [(await broker.submit(sent))[0] for _ in range(1 + persisted)]
        assert {one.entry.index for one in again} == {first.entry.index}
        assert (broker.core.log.size, reason(again[0])) == (size, "")


async def test_nothing_is_taken_while_the_head_cannot_be_read(tmp_path: Path, faults: Faults) -> None:
    """A broker that does not know its head refuses; it neither hangs nor guesses, and it recovers by itself."""
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        log, real = broker.core.log, broker.core.log.reader
        faults.after_commit = True
        assert await failing(broker, "a") == [UNAVAILABLE]
        log.reader = Unreadable()
        async with asyncio.timeout(10):
            assert await failing(broker, "b", "c") == [UNAVAILABLE, UNAVAILABLE]
            assert await failing(broker, "d") == [UNAVAILABLE]
            log.reader = real
            assert await failing(broker, "e") == [""]
        assert noted(broker) == ["a", "e"]


class Unreadable:
    """A disk that is gone."""

    def __getattr__(self, name: str) -> Any:
        raise Refused(UNAVAILABLE)


# Operations of one batch


async def test_a_refused_operation_takes_back_its_own_rows_only(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:

        def refusing(error: Exception) -> Any:
            def apply(state: Transaction, sequence: Any, now_ms: int) -> None:
                note("taken back")(state, sequence, now_ms)
                state.update(tables.Participant, {"status": "gone"}, role="hospital")
                raise error

            return apply

        errors = [Refused("consent.unknown"), Conflict("key"), KeyError("a name that nobody may read")]
        answers = await asyncio.gather(
            broker.core.committer.run(note("a")),
            *(broker.core.committer.run(refusing(error)) for error in errors),
            broker.core.committer.run(note("b")),
            return_exceptions=True,
        )
        told = [str(one) for one in answers if isinstance(one, Exception)]
        assert [text.split(":")[0] for text in told] == ["consent.unknown", UNAVAILABLE, "internal"]
        assert "nobody" not in " ".join(told)
        assert noted(broker) == ["a", "b"]
        assert {row.status for row in broker.rows(tables.Participant)} == {"active"}
        first, last = answers[0], answers[-1]
        assert isinstance(first, commit.Done)
        assert isinstance(last, commit.Done)
        assert (first.commit, first.result + 1) == (last.commit, last.result)


async def test_a_batch_is_one_commit(tmp_path: Path, faults: Faults) -> None:
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        before = faults.commits
        assert await failing(broker, *map(str, range(100))) == [""] * 100
        assert faults.commits - before <= 2
        assert len(noted(broker)) == 100


async def test_nobody_is_answered_before_it_is_durable(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        done = await asyncio.gather(*(broker.core.committer.run(note(str(number))) for number in range(50)))
        with Durable(broker) as reader:
            for one in done:
                assert reader.get(tables.Entry, one.result) is not None
                signed = reader.get(tables.Checkpoint, one.commit.size)
                assert signed is not None
                assert signed.note == one.commit.note


class Durable:
    """A connection of its own: it sees what is durable."""

    def __init__(self, broker: Rig) -> None:
        self._store = sqlite.SqliteStore(broker.home.database)

    def __enter__(self) -> Reader:
        return self._store.reader

    def __exit__(self, *_: object) -> None:
        self._store.close()


async def test_an_operation_whose_caller_left_is_done_all_the_same(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        leaving = asyncio.create_task(broker.core.committer.run(note("a")))
        staying = asyncio.create_task(broker.core.committer.run(note("b")))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        assert noted(broker) == ["a", "b"]


# Refusing to grow, and stopping


async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        most = commit.MAX_WAITING // 64
        # All are asked for before the committer gets to run.
        held = [committer.run(note(str(n)), weight=64, lane=b"%d" % (n % 4), bulk=n % 3 == 0) for n in range(most + 1)]
        answers = await asyncio.gather(*held, return_exceptions=True)
        refusals = [one.reason for one in answers if isinstance(one, Error)]
        assert refusals == ["unavailable.overload"]
        assert isinstance(answers[-1], Error)
        assert await failing(broker, "later") == [""]
        assert len(noted(broker)) == most + 1


async def test_closing_finishes_what_waits_and_refuses_the_rest(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        waiting = [asyncio.create_task(broker.core.committer.run(note(str(number)))) for number in range(40)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(broker.core.committer.close())
        await asyncio.sleep(0)
        assert await failing(broker, "late") == ["unavailable.draining"]
        await asyncio.gather(closing, *waiting)
        assert len(noted(broker)) == 40


# What nobody waits for


async def test_what_is_deferred_goes_with_the_next_commit(tmp_path: Path, faults: Faults) -> None:
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        before = faults.commits
        for key, text in ((1, "a"), (2, "b"), (1, "c")):
            broker.core.committer.defer(key, note(text))
        assert await failing(broker, "d") == [""]
        # The later one under a key stands for both.
        assert noted(broker) == ["d", "c", "b"]
        assert faults.commits - before == 1


async def test_what_is_deferred_is_committed_by_itself_before_long(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        done = asyncio.Event()

        def apply(state: Transaction, sequence: Any, now_ms: int) -> None:
            note("a")(state, sequence, now_ms)
            done.set()

        broker.core.committer.defer("key", apply)
        await asyncio.wait_for(done.wait(), 30)
        assert await failing(broker, "b") == [""]
        assert noted(broker) == ["a", "b"]


async def test_a_deferred_mistake_harms_nobody(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        broker.core.committer.defer("key", impossible)
        assert await failing(broker, "a") == [""]
        assert noted(broker) == ["a"]


def impossible(state: Transaction, sequence: Any, now_ms: int) -> None:
    raise Refused(UNAVAILABLE)


async def test_nothing_deferred_is_done_where_nothing_is_committed_any_more(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        committer.defer("before", note("a"))
        committer.refuse(Refused("unavailable.log"))
        committer.defer("after", note("b"))
        await committer.close()
        assert noted(broker) == []


async def test_closing_does_what_was_deferred(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        broker.core.committer.defer("key", note("a"))
        await broker.core.committer.close()
        assert noted(broker) == ["a"]


# Two sequencers


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Committer, Committer, Any]]:
    """Two brokers over one database."""
    opened = home.create(tmp_path / "broker", ORIGIN, NOW)
    cores = [build(opened, None, Clock()) for _ in range(2)]
    yield cores[0].committer, cores[1].committer, cores[0]
    for one in cores:
        one.store.close()


async def test_a_second_sequencer_goes_on_where_the_first_stopped(two: Any) -> None:
    first, second, core = two
    for one in (first, second):
        one.start()
    for number, one in enumerate((first, second, second, first, first, second)):
        assert (await one.run(note(str(number)))).result == number
    for one in (first, second):
        await one.close()
    found = Rig(None, core, Clock())  # type: ignore[arg-type]
    assert noted(found) == list("012345")
    assert [row.size for row in found.rows(tables.Checkpoint)] == [1, 2, 3, 4, 5, 6]


async def test_a_log_that_became_shorter_is_not_continued(tmp_path: Path) -> None:
    """An old copy of the database under a running broker: it would sign another history of what it signed before."""
    async with rig(tmp_path) as broker:
        assert await failing(broker, "a", "b") == ["", ""]
        head = broker.rows(tables.Head)[0]
        state = broker.core.store.begin()
        early = broker.rows(tables.Checkpoint)[0]
        state.update(tables.Head, {"size": early.size, "root": early.root}, id=1)
        broker.core.store.commit()
        assert early.size < head.size
        for _ in range(3):
            assert await failing(broker, "c") == [UNAVAILABLE]
        state = broker.core.store.begin()
        state.update(tables.Head, {"size": head.size, "root": head.root}, id=1)
        broker.core.store.commit()
        assert await failing(broker, "d") == [""]
        assert noted(broker) == ["a", "b", "d"]


async def test_the_head_is_swapped_only_from_the_value_it_was_read_with(tmp_path: Path) -> None:
    """Also where no other row stands in the way: the head alone was moved."""
    async with rig(tmp_path) as broker:
        head = broker.rows(tables.Head)[0]
        state = broker.core.store.begin()
        state.update(tables.Head, {"root": bytes(32)}, id=1)
        broker.core.store.commit()
        assert await failing(broker, "a") == [UNAVAILABLE]
        # Now it cannot even be read: our own note did not sign it.
        assert await failing(broker, "b") == [UNAVAILABLE]
        state = broker.core.store.begin()
        state.update(tables.Head, {"root": head.root}, id=1)
        broker.core.store.commit()
        assert await failing(broker, "c") == [""]
        assert noted(broker) == ["c"]


# What a broker finds when it starts


async def test_a_restarted_broker_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await failing(broker, "a", "b")
        size = broker.core.log.size
    core = build(home.open_home(tmp_path / "broker"), None, Clock())
    assert core.log.size == size
    core.committer.start()
    assert (await core.committer.run(note("c"))).result == size
    await core.committer.close()
    core.store.close()


@pytest.mark.parametrize("damage", ["root", "note", "node", "size", "checkpoint"])
async def test_a_damaged_head_is_not_built_upon(tmp_path: Path, damage: str) -> None:
    async with rig(tmp_path) as broker:
        await failing(broker, "a", "b", "c")
        note_before = broker.rows(tables.Checkpoint)[-2].note
    opened = home.open_home(tmp_path / "broker")
    store = sqlite.SqliteStore(opened.database)
    head = store.reader.find(tables.Head)[0]
    state = store.begin()
    if damage == "root":
        state.update(tables.Head, {"root": bytes(32)}, id=1)
    elif damage == "size":
        state.update(tables.Head, {"size": head.size - 1}, id=1)
    elif damage == "note":
        state.update(tables.Checkpoint, {"note": note_before}, size=head.size)
    elif damage == "checkpoint":
        state.delete(tables.Checkpoint, size=head.size)
    else:
        state.update(tables.TreeNode, {"hash": bytes(32)}, level=0, index=head.size - 1)
        state.update(tables.TreeNode, {"hash": bytes(32)}, level=1, index=head.size // 2 - 1)
    store.commit()
    refused("log.corrupt", Log, ORIGIN, opened.log_key, store.reader)
    refused("log.corrupt", build, opened, None)
    store.close()


# The same under exchanges


async def test_a_retry_gets_the_stored_result(tmp_path: Path, faults: Faults) -> None:
    """The answer was lost, not the exchange: same nonce and bytes, same entry, one use."""
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        await broker.grant(claim())
        sent = present(claim())
        faults.after_commit = True
        (lost,) = await broker.submit(sent)
        assert (reason(lost), lost.refusal.retryable, lost.HasField("entry")) == (UNAVAILABLE, True, False)
        (found,) = await broker.submit(sent)
        assert reason(found) == ""
        assert (await broker.submit(sent)) == [found]
        assert broker.events(sent.hash) == [("exchange.accepted", "")]
        assert [row.uses for row in broker.rows(tables.Grant)] == [1]


async def test_no_acknowledged_exchange_is_lost_whatever_fails(tmp_path: Path, faults: Faults) -> None:
    """Random faults under concurrent frames, and senders that try again, as nodes do, until they are answered."""
    chance = random.Random(20_260_921)
    sent = [present(fresh(replace(claim(), grant=replace(claim().grant, max_uses=200)))) for _ in range(64)]  # type: ignore[type-var]
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        await broker.grant(sent[0].exchange)
        answered: dict[bytes, int] = {}

        async def send(one: Any) -> None:
            while one.hash not in answered:
                if chance.random() < 0.4:
                    kind = chance.choice(["before_commit", "after_commit", "flip", "insert"])
                    chosen = chance.choice([tables.Entry, tables.TreeNode, tables.Exchange, tables.Delivery])
                    setattr(faults, kind, chosen if kind == "insert" else True)
                (found,) = await broker.submit(one)
                assert reason(found) in ("", UNAVAILABLE)
                if not reason(found):
                    answered[one.hash] = found.entry.index

        # In rows of eight, so that faults hit batches of several and of one.
        for start in range(0, len(sent), 8):
            await asyncio.gather(*(send(one) for one in sent[start : start + 8]))
        stored = {row.hash: row.entry for row in broker.rows(tables.Exchange)}
        assert stored == answered
        assert len({row.entry for row in broker.rows(tables.Delivery)}) == len(sent)
        assert [row.uses for row in broker.rows(tables.Grant)] == [len(sent)]


@pytest.mark.parametrize(("back_s", "said"), [(200, 0), (3600, 1)])
async def test_a_clock_that_is_put_right_leaves_the_log_in_order(tmp_path: Path, back_s: int, said: int) -> None:
    """A little is passed over; more is told in the log, so that it does not look as if it was written in later."""
    async with rig(tmp_path) as broker:
        broker.clock.advance(back_s)
        await broker.submit(present(broker.statute()))
        before = broker.entries()[-1][0].time_ms
        broker.clock.advance(-back_s)
        for _ in range(2):
            await broker.submit(present(broker.statute()))
        found = [(one.time_ms, meta.event) for one, meta, _ in broker.entries()]
        assert [event for _, event in found].count("clock.set") == said
        assert {at for at, _ in found[-(2 + said) :]} == {before - said * 1000 * back_s}
