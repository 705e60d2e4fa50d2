"""Whether the answer to a search left anything out, read beside all other pages: one reading of the log at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from clients.auditor import completeness
from clients.auditor.console.memory import Memory
from clients.auditor.remote import Auditor
from zhifu.errors import CATALOGUE, Error
from zhifu.trail import Query

_log = logging.getLogger("zhifu.console")


@dataclass(slots=True)
class Reading:
    """The log is being read for a ``view``: ``read`` entries of ``size``, which are 0 until the broker answers."""

    view: str
    read: int = 0
    size: int = 0

    def tell(self, read: int, size: int) -> None:
        self.read, self.size = read, size


class Omissions:
    """What was found is kept in the auditor's folder, by the view it was asked for."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._reading = Reading("")

    @property
    def reading(self) -> Reading | None:
        """What is being read now."""
        return None if self._task is None or self._task.done() else self._reading

    def found(self, view: str) -> dict[str, Any] | None:
        """The last result for a view: ``at`` (Unix s), ``reason`` and ``detail`` where it could not be told, or what
        `completeness.Complete` has.
        """
        return next((one for one in self._memory.readings() if one["view"] == view), None)

    def begin(self, auditor: Auditor, query: Query, view: str) -> None:
        """Read the log for this search, unless it is being read already."""
        if self.reading is None:
            self._reading = Reading(view)
            self._task = asyncio.create_task(self._run(auditor, query, self._reading))

    def stop(self) -> None:
        """Nothing is kept of a reading that was stopped."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, auditor: Auditor, query: Query, reading: Reading) -> None:
        try:
            await auditor.standing()
            result = asdict(await completeness.check(auditor, query, reading.tell))
        except Error as error:
            result = {"reason": error.reason, "detail": error.detail, "retryable": error.retryable}
        except Exception:
            # Whoever waits for the answer is told that there is none; the place stands in the log.
            _log.exception("omissions.failed")
            result = {"reason": "internal", "detail": CATALOGUE["internal"].meaning, "retryable": False}
        self._memory.keep_reading({**result, "view": reading.view, "at": int(time.time())})
