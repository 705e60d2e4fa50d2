"""Keeps the audit index beside the log: reads what was committed, in small steps, while nothing else is to be done.

The index is derived, so nothing waits for it: an answer says how far it got.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from broker.audit import PLAIN, Log
from broker.store import tables
from broker.store.audit_index import AuditIndex, Line
from broker.store.interface import Reader
from zhifu import envelope, receipt, statement, trail
from zhifu.errors import Error
from zhifu.receipt import Detail
from zhifu.trail import Words

STEP: Final = 64
"""Entries of one step: some milliseconds."""
_IDLE_S: Final = 0.2
_ENDS: Final = ("exchange.expired", "exchange.withdrawn")
_log = logging.getLogger("broker.indexing")


class Indexer:
    """Follows the log of one broker. ``wait`` tells when not to: exchanges come first; nobody may be there to ask."""

    def __init__(self, index: AuditIndex, log: Log, reader: Reader, wait: Callable[[], bool] = lambda: False) -> None:
        self.index = index
        self._log = log
        self._reader = reader
        self._wait = wait
        self._fresh: dict[int, Sequence[Words]] = {}
        if index.size > log.size:
            # The database was restored, or is another one: what comes at these places is not what is indexed there.
            index.begin_anew()

    async def follow(self) -> None:
        """Until it is cancelled. What cannot be read is logged and tried again."""
        while True:
            try:
                did = not self._wait() and self.step()
            except Error as error:
                _log.error("indexing failed", extra={"reason": error.reason})
                did = False
            await asyncio.sleep(0 if did else _IDLE_S)

    def catch_up(self, budget_s: float) -> int:
        """Index what is new for at most ``budget_s``; up to where it got."""
        until = time.monotonic() + budget_s
        while self.step() and time.monotonic() < until:
            pass
        return self.index.size

    def step(self) -> bool:
        """The next `STEP` entries; False if there were none. Raises `Refused` (unavailable.store)."""
        done = self.index.size
        if done >= self._log.size:
            return False
        rows = self._reader.find(tables.Entry, after=done - 1, limit=STEP)
        lines: list[Line] = []
        self._fresh.clear()
        for row in rows:
            # A hole ends it here: what lies behind one has another index than its place.
            if row.index != done + len(lines) or row.index >= self._log.size:
                break
            lines.append(self._line(row))
            self._fresh[row.index] = lines[-1].words
        if lines:
            self.index.add(lines)
        return bool(lines)

    def _line(self, row: tables.Entry) -> Line:
        try:
            return _stated(row) if row.kind == PLAIN else self._entry(row)
        except Error:
            # Somebody changed the stored row. Its proof will not hold; here it only must not stop the others.
            return Line(row.index, row.time_ms, [Words("unreadable")], ())

    def _entry(self, row: tables.Entry) -> Line:
        meta = receipt.parse_meta(row.meta)
        detail = receipt.parse_detail(row.detail) if row.detail else None
        said = trail.words(meta, detail, self._origin)
        if meta.event == trail.ERASED and detail is not None:
            self.index.forget(trail.erased(detail))
        names = trail.names(meta, detail) if detail is not None else ()
        return Line(row.index, row.time_ms, said, names, meta.event == trail.ACCEPTED, self._ends(meta.event, detail))

    def _origin(self, entry: int) -> tuple[bytes, str] | None:
        said = self._fresh[entry] if entry in self._fresh else self.index.words_of(entry)
        return next(((one.actor, one.purpose) for one in said), None)

    def _ends(self, event: str, detail: Detail | None) -> list[int]:
        if detail is None:
            return []
        if event == trail.ACKNOWLEDGED:
            return [one.index for one in map(trail.acknowledged, detail.documents) if one is not None]
        if event in _ENDS:
            found = self._reader.find(tables.Exchange, hash=detail.exchange, limit=1)
            return [one.entry for one in found]
        return []


def _stated(row: tables.Entry) -> Line:
    signed = envelope.from_bytes(envelope.KEY_STATEMENT, row.detail)
    return Line(row.index, row.time_ms, [Words("key.stated", statement.claimed_participant(signed))], ())
