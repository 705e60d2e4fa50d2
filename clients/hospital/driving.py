"""Each settlement is driven in a task of its own, from wherever it stands, until the desk or a payer must speak."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Final

from clients.clock import Clock
from clients.hospital import afterwards
from clients.hospital import case as cases
from clients.hospital.case import Case
from clients.hospital.settlement import Settlements
from clients.steady import steady
from clients.store import Store
from zhifu.errors import Error, Refused

RETRY_S: Final = 1.0
SWEEP_S: Final = 2.0
_log = logging.getLogger("zhifu.api")


class Driving:
    """The tasks of one process. What they do is on disk: another process takes it up with `resume`."""

    def __init__(self, settlements: Settlements, store: Store, clock_ms: Clock) -> None:
        self._settlements = settlements
        self._store = store
        self._clock_ms = clock_ms
        self._tasks: dict[bytes, asyncio.Task[None]] = {}

    def resume(self) -> None:
        """Take up what an earlier process of this node left unfinished."""
        for found in cases.unfinished(self._store):
            self.drive(found.id)

    def drive(self, case_id: bytes) -> None:
        """Go on with a settlement, unless somebody does."""
        task = self._tasks.get(case_id)
        if task is None or task.done():
            task = asyncio.create_task(steady(partial(self._run, case_id), "settlement"))
            self._tasks[case_id] = task
            task.add_done_callback(partial(self._forget, case_id))

    def _forget(self, case_id: bytes, task: asyncio.Task[None]) -> None:
        if self._tasks.get(case_id) is task:
            del self._tasks[case_id]

    async def wish(self, case_id: bytes, said: str) -> Case:
        """The desk confirms, cancels or takes back, and with a settlement the claims after it.

        Raises `Refused` (exchange.unknown, exchange.state).
        """
        with self._store.transaction():
            case = cases.wish(self._store, case_id, said, self._clock_ms())
            after = afterwards.take_back(self._store, case, self._clock_ms()) if said == "reverse" else {}
        for one, word in {case_id: said, **after}.items():
            await self._heed(one, word)
        return case

    async def _heed(self, case_id: bytes, said: str) -> None:
        task = self._tasks.get(case_id)
        if said == "cancel" and task is not None:
            # It may wait for a payer or a reviewer: what it did so far is on disk.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif task is not None:
            await asyncio.wait([task])
        self.drive(case_id)

    async def sweep(self) -> None:
        """Until cancelled: a split that nobody confirmed in time has expired at the payers, and does here."""
        while True:
            for case in cases.lapsed_splits(self._store, self._clock_ms() // 1000):
                with suppress(Refused):
                    # Not by a clock that was set since: patients stand at the desk for it.
                    self._clock_ms.check()
                    await self.wish(case.id, "cancel")
                    _log.info("settlement.expired", extra={"about": {"settlement": case.id}})
            await asyncio.sleep(SWEEP_S)

    async def wait(self, case_id: bytes, seconds: float) -> None:
        """Until it stands still, or for so long."""
        task = self._tasks.get(case_id)
        if task is not None:
            await asyncio.wait([task], timeout=seconds)

    async def close(self) -> None:
        """Stop driving; the cases stay as they are on disk."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, case_id: bytes) -> None:
        while True:
            try:
                await self._settlements.run(case_id)
                return
            except Error as error:
                about = {"settlement": case_id, "reason": error.reason}
                if not error.retryable:
                    # Not even its end could be told: as it stands it waits for the desk, or for this node's next start.
                    _log.error("settlement.stuck", extra={"about": about})
                    return
                _log.warning("settlement.waits", extra={"about": about})
                await asyncio.sleep(RETRY_S)
