"""What an insurer's node does beside the stream: it sends what was decided, and asks the core system."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from clients.insurer import progress, promise, review
from clients.insurer.core_system import CoreSystem
from clients.insurer.review import Item
from clients.role import Transaction
from clients.store import Store
from zhifu.errors import Error

LOOK_S: Final = 0.25
AGAIN_S: Final = 30.0
_log = logging.getLogger("zhifu.insurer")


class Reviewing:
    """``transaction`` is the node's; decisions may be written down by another process, so the store is looked at."""

    def __init__(
        self, store: Store, transaction: Callable[[], AbstractContextManager[Transaction]], core: CoreSystem | None
    ) -> None:
        self._store = store
        self._transaction = transaction
        self._core = core
        self._again: dict[bytes, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                if self._core is not None:
                    await self._ask(self._core)
                self.send()
                self.tell()
                await asyncio.sleep(LOOK_S)
        finally:
            if self._core is not None:
                await self._core.close()

    def send(self) -> None:
        """Answer every claim that was decided, each in a transaction of its own."""
        for item in review.find(self._store, review.DECIDED):
            try:
                with self._transaction() as tx:
                    review.answer(item, tx)
            except Error as error:
                _log.error("review.failed", extra={"about": {"claim": item.claim, "reason": error.reason}})

    def tell(self) -> None:
        """Tell patients what another process of this node wrote down, each in a transaction of its own."""
        for job, claim, state, documents in progress.written(self._store):
            with self._transaction() as tx:
                clock = promise.find(tx.store, claim)
                if clock is not None:
                    progress.tell(tx, claim, state, clock, documents=documents)
                progress.told(tx.store, job)

    async def _ask(self, core: CoreSystem) -> None:
        now = time.monotonic()
        for item in review.find(self._store, review.OPEN):
            if self._again.get(item.claim, 0.0) <= now:
                self._again[item.claim] = now + AGAIN_S
                await self._ask_one(core, item)

    async def _ask_one(self, core: CoreSystem, item: Item) -> None:
        now = int(time.time())
        try:
            verdict = await core.ask(item)
            if verdict is None:
                review.mark_asked(self._store, item, now)
            else:
                review.decide(self._store, item.claim, verdict, now)
        except Error as error:
            _log.warning("core.failed", extra={"about": {"claim": item.claim, "reason": error.reason}})
