"""Group commit: many operations share one transaction, one checkpoint and one sync (DESIGN section 6).

Operations run synchronously on the event loop, those of a kind together (`broker.joint`); only ``COMMIT`` runs in a
thread, while the next batch gathers. Nobody is answered before it returned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from broker.audit import Commit, Log, Sequence
from broker.counts import COUNTS
from broker.joint import Apply, Joint, Operation, apply_again, apply_together, each, fail
from broker.lanes import OWN, Lanes
from broker.store.interface import Store
from zhifu.errors import Error, Refused

G = TypeVar("G")
T = TypeVar("T")
MAX_WAITING: Final = 8192
MAX_OF_ONE: Final = MAX_WAITING // 2
"""Of one participant, so that whatever it sends, by as many streams as it has, there is room for another."""
DEFER_S: Final = 0.5
GATHER_S: Final = 0.01
LOAD: Final = 4
"""Operations in a commit after which the next one waits `GATHER_S` for others."""
_MAX_BATCH: Final = 1024
_log = logging.getLogger("broker.commit")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """An operation's result and the commit that made it durable."""

    result: T
    commit: Commit


class Committer:
    """Runs operations in batches. ``clock_ms`` gives Unix ms."""

    def __init__(self, store: Store, log: Log, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._clock_ms = clock_ms
        self._waiting: Lanes[Operation] = Lanes()
        self._wake = asyncio.Event()
        self._deferred: dict[object, Apply[Any]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._thread = ThreadPoolExecutor(1, "commit")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._under_load = False
        self.in_doubt = False
        """The last commit failed, and the head was not read since."""
        self._begun_s: float | None = None
        self.committed_s = float("-inf")
        """When the last commit returned (monotonic s)."""
        self.is_full = False
        """The disk is full: only what is essential is committed."""
        self.lacking = False
        """Something could not be written for want of room, since somebody looked after it."""
        self.refusal: Refused | None = None
        """Why nothing is committed any more, where that is so."""

    @property
    def busy(self) -> bool:
        """Whether operations wait."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many exchanges wait, of `MAX_WAITING`."""
        return self._waiting.weight

    @property
    def started(self) -> bool:
        return self._task is not None

    @property
    def working_s(self) -> float:
        """How long the commit that is under way has taken, in seconds; 0 if none is."""
        return 0.0 if self._begun_s is None else time.monotonic() - self._begun_s

    def defer(self, key: object, apply: Apply[Any]) -> None:
        """Apply with the next commit, or after `DEFER_S` with one of its own: for what nobody waits for.

        A later one under the same ``key`` takes its place. It is lost with a commit that fails: then it must be
        harmless that it was never done. Nothing is done where nothing is committed any more.
        """
        if self._closing or self.refusal is not None:
            return
        self._deferred[key] = apply
        self._within(DEFER_S)

    def _within(self, seconds: float) -> None:
        """Commit what there is in at most so long; 0: as soon as can be."""
        if not seconds:
            self._fall_due()
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._fall_due)

    def _fall_due(self) -> None:
        self._is_due = True
        self._wake.set()

    def _take(self) -> list[Operation]:
        """The next batch. What does not fit is due at once."""
        batch = [*self._waiting.take(_MAX_BATCH), *self._take_deferred()]
        self._is_due = bool(self._waiting)
        return batch

    def _take_deferred(self) -> list[Operation]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        found = [
            Operation(each, apply, 0, asyncio.get_running_loop().create_future()) for apply in self._deferred.values()
        ]
        for one in found:
            # Nobody asks what became of it.
            one.future.add_done_callback(lambda done: done.exception())
        self._deferred.clear()
        return found

    def start(self) -> None:
        """Begin to commit, if that did not begin; what was handed in before waits until then."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="committer")

    async def close(self) -> None:
        """Refuse new operations, finish those that wait, stop."""
        self._closing = True
        self._wake.set()
        if self._task is None:
            self.refuse(Refused("unavailable.draining"))
        else:
            await self._task
        self._thread.shutdown()

    def refuse(self, error: Refused) -> None:
        """From now on nothing is committed: whoever waits, and whoever comes, gets ``error``."""
        self.refusal = error
        fail([*self._waiting.clear(), *self._take_deferred()], error)

    async def run(
        self, apply: Apply[T], weight: int = 1, lane: bytes = OWN, *, bulk: bool = False, essential: bool = False
    ) -> Done[T]:
        """Apply and commit, as `join` does: what is of no kind of which there are many."""
        return await self.join(each, apply, weight, lane, bulk=bulk, essential=essential)

    async def join(
        self, joint: Joint[G, T], given: G, weight: int = 1, lane: bytes = OWN, *, bulk: bool = False,
        essential: bool = False, within_s: float = 0.0, reports: bool = False,
    ) -> Done[T]:  # fmt: skip
        """Apply with others of its kind, and commit.

        ``weight`` is the number of exchanges in it, ``lane`` whose turn it takes; ``bulk`` waits until nothing else
        does (`broker.lanes`); ``essential`` ends work, and is taken while the disk is full; ``within_s`` (s) is how
        long it may wait for a commit that others make; ``reports`` as `broker.joint.Operation` says. Raises what
        ``joint`` raises, and `Refused` (unavailable.overload, unavailable.draining, unavailable.store,
        unavailable.space).
        """
        if self._closing:
            raise Refused("unavailable.draining")
        if self.refusal is not None:
            raise self.refusal
        if self.is_full and not essential:
            raise Refused("unavailable.space")
        if self._waiting.weight + weight > MAX_WAITING or self._waiting.weight_of(lane) + weight > MAX_OF_ONE:
            raise Refused("unavailable.overload")
        operation = Operation(joint, given, weight, asyncio.get_running_loop().create_future(), reports)
        self._waiting.put(operation, lane, bulk=bulk)
        self._within(within_s)
        done: Done[T] = await operation.future
        return done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._is_due or (self._closing and (self._waiting or self._deferred)):
                await self._gather()
                await self._commit(self._take())
                self._begun_s = None
            if self._closing:
                return

    async def _gather(self) -> None:
        """Under load, let what is on its way come first: a commit costs the same for many operations as for one."""
        if self._under_load and not self._closing:
            await asyncio.sleep(GATHER_S)

    async def _commit(self, batch: list[Operation]) -> None:
        self._begun_s = begun = time.monotonic()
        try:
            self._look()
            applied, sequence, commit = await self._apply(batch)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.commit)
        except Exception as error:
            self._store.rollback()
            self.in_doubt = True
            COUNTS.commit_failures += 1
            self._failed(error)
            reason = error.reason if isinstance(error, Error) else "internal"
            _log.error("commit failed", exc_info=error, extra={"reason": reason})
            fail(batch, error if isinstance(error, Refused) else Refused("unavailable.store"))
        else:
            self._log.committed(sequence)
            self._measured(applied, begun)
            for operation in applied:
                if not operation.future.done():
                    operation.future.set_result(Done(operation.result, commit))

    def _measured(self, applied: list[Operation], begun: float) -> None:
        self._under_load = len(applied) >= LOAD
        self.committed_s = time.monotonic()
        COUNTS.commits.add(sum(operation.weight for operation in applied))
        COUNTS.commit_seconds.add(self.committed_s - begun)

    async def _apply(self, batch: list[Operation]) -> tuple[list[Operation], Sequence, Commit]:
        """A transaction in which ``batch`` is applied and sealed: what of it was not refused."""
        state = await self._store.turn()
        sequence = self._log.begin(state)
        now_ms = sequence.time(self._clock_ms())
        applied = batch
        try:
            apply_together(batch, state, sequence, now_ms)
        except Exception as error:
            self._failed(error)
            # Somebody's fails: it alone must be taken back. What was remembered of this attempt never was.
            self._store.rollback()
            self._log.generation += 1
            state = await self._store.turn()
            sequence = self._log.begin(state)
            now_ms = sequence.time(self._clock_ms())
            applied = apply_again(batch, state, sequence, now_ms)
        return applied, sequence, sequence.seal(state, now_ms)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Refused) and error.reason == "unavailable.space":
            self.is_full = self.lacking = True

    def _look(self) -> None:
        """A commit that failed may have persisted all the same, so the head is read again, never assumed.

        Raises `Refused` (unavailable.store), `NotAuthentic` (log.corrupt): then nothing is taken until it can be read.
        """
        if self.in_doubt:
            self._log.reload()
            self.in_doubt = False
