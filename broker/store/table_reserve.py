"""Room that is kept on PostgreSQL's disk (`broker.store.interface.Reserve`), by a table that holds nothing but room.

How much is free there no statement tells: that there is none is told by one that fails. Then the table is dropped, and
now and then it is tried whether there is room for both again. The table belongs to all brokers on the database. It is
unlogged: it is made without a word in PostgreSQL's own log, and a PostgreSQL that ended because that log found no room
empties the table by itself before it recovers, and so gets the room that recovering takes.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors

from broker.store.postgres import connect
from zhifu.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE: Final = "reserve"
_SIZE: Final = 64 << 20
"""Four segments of PostgreSQL's own log."""
_PAGE: Final = 8192
_FILLS_A_PAGE: Final = 8000
_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 60.0
_SETTINGS: Final = "-c statement_timeout=20s -c lock_timeout=2s"
_LOCK: Final = 8_820_414_002
# Not TRUNCATE: that makes the table's files anew, and takes a page where there is none.
_RELEASE: Final = f"DROP TABLE IF EXISTS {TABLE}"
_MAKE: Final = (
    _RELEASE,
    f"CREATE UNLOGGED TABLE {TABLE} (room bytea NOT NULL)",
    # As long as it is, in its place: not compressed, nor moved elsewhere.
    f"ALTER TABLE {TABLE} ALTER COLUMN room SET STORAGE PLAIN",
)
_FILL: Final = f"INSERT INTO {TABLE} SELECT decode(repeat('00', {_FILLS_A_PAGE}), 'hex') FROM generate_series(1, %s)"
_KEPT: Final = f"SELECT coalesce(pg_relation_size(to_regclass('{TABLE}')), -1)"
_log = logging.getLogger("broker.reserve")


@dataclass(slots=True)
class TableReserve:
    """The reserve in the database at ``url``, ``size`` bytes; ``low``: there is too little room. After a try that found
    no room the next one waits ``pause_s`` (s), and twice as long each time.
    """

    url: str
    size: int = _SIZE
    pause_s: float = _PAUSE_S
    low: bool = False
    _was_kept: bool = False
    _lacking: bool = False
    _again_s: float = 0.0
    _pause_s: float = 0.0
    _connection: psycopg.Connection[Any] | None = field(default=None, repr=False)

    def look(self, lacking: bool) -> bool:
        # Until it was done about: the database may be away just now.
        self._lacking |= lacking
        try:
            self._look()
        except (psycopg.Error, Refused) as error:
            if time.monotonic() >= self._again_s:
                # A try that failed for another reason than room, the right to make a table say: what is committed next
                # tells.
                self._say(low=False)
            self._delay()
            _log.warning("reserve", extra={"reason": type(error).__name__})
        return self.low

    def close(self) -> None:
        # What is kept is kept for the other brokers too.
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()

    def _look(self) -> None:
        size = self._size()
        kept = size >= self.size and not self._lacking
        if self._lacking:
            self._open().execute(_RELEASE.encode())
        if kept:
            self._say(low=False)
        elif self._lacking or (self._was_kept and size < 0):
            # Released, now or by another broker.
            self._lacking = False
            self._say(low=True)
            self._pause_s = 0.0
            self._delay()
        elif time.monotonic() >= self._again_s:
            kept = self._make()
        self._was_kept = kept

    def _size(self) -> int:
        """Bytes of the table; less than 0: there is none."""
        row = self._open().execute(_KEPT.encode()).fetchone()
        return int(row[0]) if row is not None else -1

    def _make(self) -> bool:
        """Make it, if there is room for it twice over and no other broker makes it now; whether it is there."""
        with self._alone() as is_mine:
            if not is_mine:
                return False
            try:
                self._fill(2 * self.size, keep=False)
                self._fill(self.size, keep=True)
            except errors.DiskFull:
                self._say(low=True)
                self._delay()
                return False
        self._say(low=False)
        self._pause_s = 0.0
        return True

    def _fill(self, size: int, *, keep: bool) -> None:
        with self._open().transaction() as made:
            for statement in _MAKE:
                self._open().execute(statement.encode())
            self._open().execute(_FILL.encode(), (-(-size // _PAGE),))
            if not keep:
                raise psycopg.Rollback(made)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        row = self._open().execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
        is_mine = bool(row and row[0])
        try:
            yield is_mine
        finally:
            if is_mine:
                self._open().execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self.url, _SETTINGS)
        return self._connection

    def _delay(self) -> None:
        self._pause_s = min(2 * self._pause_s or self.pause_s, _LONGEST_PAUSE_S)
        self._again_s = time.monotonic() + self._pause_s

    def _say(self, *, low: bool) -> None:
        if low != self.low:
            self.low = low
            level = logging.CRITICAL if low else logging.INFO
            _log.log(level, "alarm" if low else "reserve", extra={"reason": "unavailable.space"})
