"""Whether this broker takes exchanges, and whether starting it anew would help: what is asked is tried, not assumed.

Waiting for witnesses is not unreadiness: who is kept away cannot witness. What is not accepted meanwhile is refused
with its reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from broker.audit import Sequence
from broker.core import Core
from broker.store import tables
from broker.store.interface import Reserve, Transaction
from zhifu.errors import Error, Refused

LOOK_S: Final = 1.0
_TRY_S: Final = 5.0
_TIMEOUT_S: Final = 5.0
_STUCK_S: Final = 60.0
"""PostgreSQL's own limits end a statement earlier: what takes longer does not come back."""
_log = logging.getLogger("broker.readiness")


@dataclass(slots=True)
class Readiness:
    """Looked at every second by `run`; ``say`` is told of every change. ``reasons`` are of the catalogue."""

    core: Core
    say: Callable[[bool], Awaitable[None]]
    reasons: tuple[str, ...] = ("unavailable.broker",)
    draining: bool = False
    reserve: Reserve | None = None
    """Room for what ends work."""
    _one: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def ready(self) -> bool:
        return not self.reasons and not self.draining

    @property
    def why_not(self) -> tuple[str, ...]:
        return ("unavailable.draining",) if self.draining else self.reasons

    @property
    def alive(self) -> bool:
        """Whoever reads this runs, so the loop does; a commit that never returns is what a new start may mend."""
        return self.core.committer.working_s < _STUCK_S

    @property
    def notes(self) -> tuple[str, ...]:
        """What delays or refuses exchanges although the broker is ready."""
        try:
            self.core.witnesses.check_age()
        except Error as error:
            return (error.reason,)
        return () if self.core.committer.started else ("unavailable.witnesses",)

    async def run(self) -> None:
        """Look for as long as the broker runs."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Work out the reasons anew."""
        async with self._one:
            await self._look()

    async def _look(self) -> None:
        before = self.ready, self.reasons
        # Room first: what is tried next needs it.
        found = (self._log(), await self._room(), await self._written())
        self.reasons = tuple(reason for reason in found if reason)
        if (self.ready, self.reasons) != before:
            level = logging.INFO if self.ready else logging.WARNING
            _log.log(level, "readiness", extra={"reason": " ".join(self.why_not) or "ready"})
            await self.say(self.ready)

    async def drain(self) -> None:
        """Not ready from here on, whatever is found."""
        self.draining = True
        await self.say(False)

    def _log(self) -> str:
        return self.core.committer.refusal.reason if self.core.committer.refusal else ""

    async def _room(self) -> str:
        committer = self.core.committer
        lacking, committer.lacking = committer.lacking, False
        low = await asyncio.to_thread(self.reserve.look, lacking) if self.reserve is not None else lacking
        committer.is_full = low or committer.lacking
        return "unavailable.space" if committer.is_full else ""

    async def _written(self) -> str:
        """Why the store is not written; empty if it is.

        A commit a moment ago is the best proof. Else, and after each that failed, a row is written and deleted again in
        one transaction, which no one ever sees and which has to reach the disk all the same.
        """
        committer = self.core.committer
        if committer.in_doubt or time.monotonic() - committer.committed_s >= _TRY_S:
            return await self._try() if committer.started and committer.refusal is None else ""
        return ""

    async def _try(self) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self.core.committer.run(_write_and_forget, weight=0, essential=True)
        except TimeoutError:
            return "unavailable.store"
        except Refused as error:
            return "" if error.reason in ("unavailable.overload", "unavailable.draining") else error.reason
        return ""


def _write_and_forget(state: Transaction, sequence: Sequence, now_ms: int) -> None:
    digest = os.urandom(32)
    state.insert(tables.Invite, [(digest, "", "", 0, b"", b"")])
    state.delete(tables.Invite, code_hash=digest)
