"""What an insurer's node does beside the stream: it sends what was decided, and asks the core system."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from clients.insurer import answering, progress, promise, review
from clients.insurer.core_system import CoreSystem, Later
from clients.insurer.review import Item, Verdict
from clients.role import Transaction
from clients.store import Store
from zhifu.errors import Error, Malformed

LOOK_S: Final = 0.25
FORGET_S: Final = 3600.0
AGAIN_S: Final = 1.0
LATEST_S: Final = 300.0
AT_ONCE: Final = 8
_log = logging.getLogger("zhifu.insurer")


class Reviewing:
    """``transaction`` is the node's; decisions may be written down by another process, so the store is looked at."""

    def __init__(
        self, store: Store, transaction: Callable[[], AbstractContextManager[Transaction]], core: CoreSystem | None
    ) -> None:
        self._store = store
        self._transaction = transaction
        self._core = core
        # When a claim may be asked about next, how long to wait after that, and who is asked now.
        self._again: dict[bytes, float] = {}
        self._pause: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        forget_at = 0.0
        try:
            while True:
                if time.monotonic() >= forget_at:
                    review.forget_erased(self._store, int(time.time()))
                    forget_at = time.monotonic() + FORGET_S
                if self._core is not None:
                    self._ask(self._core)
                self.send()
                self.tell()
                await asyncio.sleep(LOOK_S)
        finally:
            for task in self._asking.values():
                task.cancel()
            await asyncio.gather(*self._asking.values(), return_exceptions=True)
            if self._core is not None:
                await self._core.close()

    def send(self) -> None:
        """Answer every claim that was decided, each in a transaction of its own."""
        for item in review.find(self._store, review.DECIDED):
            try:
                with self._transaction() as tx:
                    answering.answer(item, tx)
            except Error as error:
                _log.error("review.failed", extra={"about": {"claim": item.claim, "reason": error.reason}})
                if isinstance(error, Malformed):
                    # No answer holds it, and none ever will: it is to be decided in other words.
                    with self._store.transaction():
                        review.put(self._store, replace(item, state=review.OPEN, verdict=None), int(time.time()))

    def tell(self) -> None:
        """Tell patients what another process of this node wrote down, each in a transaction of its own."""
        for job, claim, state, documents in progress.written(self._store):
            try:
                with self._transaction() as tx:
                    clock = promise.find(tx.store, claim)
                    if clock is not None:
                        progress.tell(tx, claim, state, clock, documents=documents)
                    progress.told(tx.store, job)
            except Error as error:
                # One that cannot be told must not keep the others, or decisions, from being sent.
                _log.error("progress.failed", extra={"about": {"claim": claim, "reason": error.reason}})
                if not error.retryable:
                    with self._store.transaction():
                        progress.told(self._store, job)

    def _ask(self, core: CoreSystem) -> None:
        """Ask about what is due, some at a time: a core system that is slow must not keep decisions from being sent."""
        self._asking = {claim: task for claim, task in self._asking.items() if not task.done()}
        now = time.monotonic()
        # Thousands wait while a core system is down: only those that are asked about are read.
        for claim, state in review.waiting(self._store):
            if len(self._asking) >= AT_ONCE:
                return
            first = 0.0 if state == review.OPEN else math.inf
            if self._again.get(claim, first) <= now and claim not in self._asking:
                item = review.current(self._store, review.get(self._store, claim), int(time.time()))
                self._asking[claim] = asyncio.create_task(self._ask_one(core, item))

    def _later(self, claim: bytes) -> None:
        """After a failure: ever later, up to `LATEST_S`."""
        pause = self._pause.get(claim, AGAIN_S)
        self._again[claim] = time.monotonic() + pause
        self._pause[claim] = min(2 * pause, LATEST_S)

    async def _ask_one(self, core: CoreSystem, item: Item) -> None:
        now = int(time.time())
        try:
            said = await core.ask(item)
            if isinstance(said, Later):
                review.mark_asked(self._store, item, now)
                self._again[item.claim] = math.inf if said.again_s is None else time.monotonic() + said.again_s
            else:
                self._decided(item, said)
                self._again.pop(item.claim, None)
                self._pause.pop(item.claim, None)
        except Error as error:
            self._later(item.claim)
            _log.warning("core.failed", extra={"about": {"claim": item.claim, "reason": error.reason}})

    def _decided(self, asked: Item, said: Verdict) -> None:
        """By what was proposed when it was asked; of that, what others have not used of the policy year since."""
        now = int(time.time())
        with self._store.transaction():
            most = review.current(self._store, review.get(self._store, asked.claim), now).proposed
            fits = replace(said, pay=min(said.pay, most)) if said.pay <= asked.proposed else said
            review.decide(self._store, asked.claim, fits, now)
