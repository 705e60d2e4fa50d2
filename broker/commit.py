"""Group commit: many operations share one transaction, one checkpoint and one sync (DESIGN section 6).

Operations run synchronously on the event loop in the order they came; only ``COMMIT`` runs in a thread, while the next
batch gathers. Nobody is answered before it returned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from broker.audit import Commit, Log, Sequence
from broker.counts import COUNTS
from broker.lanes import OWN, Lanes
from broker.store.interface import Conflict, Store, Transaction
from zhifu.errors import Error, Refused

T = TypeVar("T")
R = TypeVar("R", covariant=True)
MAX_WAITING: Final = 8192
DEFER_S: Final = 0.5
_MAX_BATCH: Final = 1024
_log = logging.getLogger("broker.commit")


class Apply(Protocol[R]):
    """What an operation does inside the transaction; if it raises, what it wrote is taken back."""

    def __call__(self, state: Transaction, sequence: Sequence, now_ms: int) -> R: ...


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """An operation's result and the commit that made it durable."""

    result: T
    commit: Commit


@dataclass(eq=False, slots=True)
class _Operation:
    apply: Apply[Any]
    weight: int
    future: asyncio.Future[Done[Any]]
    result: object = field(default=None)


class Committer:
    """Runs operations in batches. ``clock_ms`` gives Unix ms."""

    def __init__(self, store: Store, log: Log, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._clock_ms = clock_ms
        self._waiting: Lanes[_Operation] = Lanes()
        self._wake = asyncio.Event()
        self._deferred: dict[object, Apply[Any]] = {}
        self._deferral: asyncio.TimerHandle | None = None
        self._deferred_is_due = False
        self._thread = ThreadPoolExecutor(1, "commit")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.in_doubt = False
        """The last commit failed, and the head was not read since."""
        self._begun_s: float | None = None
        self.committed_s = float("-inf")
        """When the last commit returned (monotonic s)."""
        self.is_full = False
        """The disk is full: only what is essential is committed."""
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
        if self._deferral is None:
            self._deferral = asyncio.get_running_loop().call_later(DEFER_S, self._end_deferral)

    def _end_deferral(self) -> None:
        self._deferred_is_due = True
        self._wake.set()

    def _take_deferred(self) -> list[_Operation]:
        if self._deferral is not None:
            self._deferral.cancel()
            self._deferral = None
        self._deferred_is_due = False
        found = [_Operation(apply, 0, asyncio.get_running_loop().create_future()) for apply in self._deferred.values()]
        for one in found:
            # Nobody asks what became of it.
            one.future.add_done_callback(lambda done: done.exception())
        self._deferred.clear()
        return found

    def start(self) -> None:
        """Begin to commit; what was handed in before waits until then."""
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
        _fail([*self._waiting.clear(), *self._take_deferred()], error)

    async def run(
        self, apply: Apply[T], weight: int = 1, lane: bytes = OWN, *, bulk: bool = False, essential: bool = False
    ) -> Done[T]:
        """Apply and commit. ``weight`` is the number of exchanges in it, ``lane`` whose turn it takes; ``bulk`` waits
        until nothing else does (`broker.lanes`); ``essential`` ends work, and is taken while the disk is full.

        Raises what ``apply`` raises, and `Refused` (unavailable.overload, unavailable.draining, unavailable.store,
        unavailable.space).
        """
        if self._closing:
            raise Refused("unavailable.draining")
        if self.refusal is not None:
            raise self.refusal
        if self.is_full and not essential:
            raise Refused("unavailable.space")
        if self._waiting.weight + weight > MAX_WAITING:
            raise Refused("unavailable.overload")
        operation = _Operation(apply, weight, asyncio.get_running_loop().create_future())
        self._waiting.put(operation, lane, bulk=bulk)
        self._wake.set()
        return await operation.future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._deferred_is_due or (self._closing and self._deferred):
                await self._commit([*self._waiting.take(_MAX_BATCH), *self._take_deferred()])
                self._begun_s = None
            if self._closing:
                return

    async def _commit(self, batch: list[_Operation]) -> None:
        self._begun_s = begun = time.monotonic()
        try:
            self._look()
            state = await self._store.turn()
            sequence = self._log.begin(state)
            applied, commit = self._apply(batch, state, sequence)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.commit)
        except Exception as error:
            self._store.rollback()
            self.in_doubt = True
            COUNTS.commit_failures += 1
            reason = error.reason if isinstance(error, Error) else "internal"
            _log.error("commit failed", exc_info=error, extra={"reason": reason})
            _fail(batch, error if isinstance(error, Refused) else Refused("unavailable.store"))
        else:
            self._log.committed(sequence)
            self._measured(applied, begun)
            for operation in applied:
                if not operation.future.done():
                    operation.future.set_result(Done(operation.result, commit))

    def _measured(self, applied: list[_Operation], begun: float) -> None:
        self.committed_s = time.monotonic()
        COUNTS.commits.add(sum(operation.weight for operation in applied))
        COUNTS.commit_seconds.add(self.committed_s - begun)

    def _apply(
        self, batch: list[_Operation], state: Transaction, sequence: Sequence
    ) -> tuple[list[_Operation], Commit]:
        now_ms = self._clock_ms()
        applied = []
        for operation in batch:
            # A refused operation takes back its own rows and entries, and nobody else's.
            state.mark()
            entries = sequence.mark()
            try:
                operation.result = operation.apply(state, sequence, now_ms)
                applied.append(operation)
            except Exception as error:
                state.rewind()
                sequence.rewind(entries)
                _fail([operation], _told(error))
        return applied, sequence.seal(state, now_ms)

    def _look(self) -> None:
        """A commit that failed may have persisted all the same, so the head is read again, never assumed.

        Raises `Refused` (unavailable.store), `NotAuthentic` (log.corrupt): then nothing is taken until it can be read.
        """
        if self.in_doubt:
            self._log.reload()
            self.in_doubt = False


def _told(error: Exception) -> Error:
    """One operation's mistake is its own: what was not foreseen fails it alone, and its text stays here."""
    if isinstance(error, Error):
        return error
    if isinstance(error, Conflict):
        return Refused("unavailable.store")
    _log.error("operation failed", exc_info=error, extra={"reason": "internal"})
    return Refused("internal")


def _fail(operations: list[_Operation], error: Exception) -> None:
    for operation in operations:
        if not operation.future.done():
            operation.future.set_exception(error)
