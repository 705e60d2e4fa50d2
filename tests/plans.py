"""How SQLite finds what was asked for: whatever a test did, no statement looks through a table that grows.

Every statement that the stores of this process ran is noted as it was written, and explained once by whoever has a
database of its kind at hand.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from broker.store import sqlite
from broker.store.rows import Answer
from clients.store.database import Database

FEW: Final = frozenset(
    "participant statement spki witness cosignature pseudonym_key pseudonym_quota epoch head cursor wrong_codes"
    " sqlite_master".split()
)
"""Tables that stay small: one row for a participant, or for a participant and a day."""
_PARTS: Final = ("outgoing_open", "outgoing_due", "incoming_kept")
"""Indexes of a part only: what has no result yet, and the periods of what is kept."""
_ALL: Final = re.compile(r"WHERE (true|\w+ IS NOT NULL)( ORDER| LIMIT|$)|^(?!.*WHERE)", re.DOTALL)
"""All of it is wanted, a page at a time."""
_SCAN: Final = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")
_asked: dict[str, set[str]] = {"broker": set(), "node": set()}
_explained: set[str] = set()


def begin(kind: str) -> None:
    """What was asked until now is nobody's: tests of a store ask for what no broker or node does."""
    _asked[kind].clear()


def check(kind: str, path: Path) -> None:
    """Fails with the statements of the ``broker`` or a ``node`` that look through a large table of the database
    ``path`` for some of its rows; of those that were not explained before in this process.
    """
    found = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for statement in sorted(_asked[kind] - _explained):
            if statement.lstrip()[:6] in ("SELECT", "UPDATE", "DELETE"):
                found += [f"{plan}: {statement}" for plan in _scans(database, statement)]
    _explained.update(_asked[kind])
    if found:
        raise AssertionError("\n".join(found))


def _scans(database: sqlite3.Connection, statement: str) -> Collection[str]:
    if _ALL.search(statement):
        return ()
    rows = database.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * statement.count("?"))
    found = {match[1]: match[2] for row in rows if (match := _SCAN.match(row[3]))}
    return sorted(table for table, index in found.items() if table not in FEW and index not in _PARTS)


def _note_broker(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    def noted(self: sqlite.Driver, sql: str, values: Sequence[Any] = ()) -> Answer:
        _asked["broker"].add(sql)
        return ask(self, sql, values)

    return noted


def _note_node(execute: Callable[..., sqlite3.Cursor]) -> Callable[..., sqlite3.Cursor]:
    def noted(self: Database, statement: str, *values: object) -> sqlite3.Cursor:
        _asked["node"].add(statement)
        return execute(self, statement, *values)

    return noted


sqlite.Driver.ask = _note_broker(sqlite.Driver.ask)  # type: ignore[method-assign]
Database._execute = _note_node(Database._execute)  # type: ignore[method-assign]
