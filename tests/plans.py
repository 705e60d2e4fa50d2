"""How a database finds what was asked for: whatever a test did, no statement looks through a table that grows.

Every statement that the stores of this process ran is noted as it was written, and explained once by whoever has a
SQLite database of its kind at hand. PostgreSQL is asked about a broker's (`check_postgres`): they are the same there.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg

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
_ORDER: Final = re.compile(r" ORDER BY [^()]*$")
_asked: dict[str, set[str]] = {"broker": set(), "node": set()}
_explained: dict[str, set[str]] = {"broker": set(), "node": set()}
_WORKS: Final = ("SELECT", "UPDATE", "DELETE")
_INDEXED: Final = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")


def begin(kind: str) -> None:
    """What was asked until now is nobody's: tests of a store ask for what no broker or node does."""
    _asked[kind].clear()


def anew(kind: str) -> None:
    """Nothing was explained yet: what counts is what is played from now on."""
    _explained[kind].clear()


def check(kind: str, path: Path) -> None:
    """Fails with the statements of the ``broker`` or a ``node`` that look through a large table of the database
    ``path`` for some of its rows; of those that were not explained before in this process.
    """
    found = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for statement in sorted(_asked[kind] - _explained[kind]):
            if _is_work(statement):
                found += [f"{plan}: {statement}" for plan in _scans(database, statement)]
    _explained[kind].update(_asked[kind])
    if found:
        raise AssertionError("\n".join(found))


def check_postgres(url: str) -> int:
    """How many statements PostgreSQL explained: what brokers on SQLite asked since `anew`. Fails as `check` does.

    Tables of a test are too small for any index to pay: whole scans are made as dear as can be, so that one is chosen
    only where no index serves, and an index that is walked from end to end counts as one.
    """
    asked = [one for one in sorted(_explained["broker"]) if _is_work(one) and "sqlite_master" not in one]
    found = []
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("SET enable_seqscan = off")
        for statement in asked:
            found += [f"{table}: {statement}" for table in _walked(database, statement)]
    if found:
        raise AssertionError("\n".join(found))
    return len(asked)


def _is_work(statement: str) -> bool:
    return statement.lstrip()[:6] in _WORKS


def _walked(database: psycopg.Connection[Any], statement: str) -> Collection[str]:
    if _ALL.search(statement):
        return ()
    numbers = count(1)
    # Without its order: in an empty table it is cheapest to walk in that order until enough was found.
    numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", _ORDER.sub("", statement))
    # Of whatever values: it is not known here which they were.
    row = database.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {numbered}".encode()).fetchone()
    assert row is not None
    return sorted(set(_unserved(row[0][0]["Plan"])) - FEW)


def _unserved(plan: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Tables that a plan looks through: by themselves, or by an index of which it skips nothing."""
    table = plan.get("Relation Name", table)
    kind = plan["Node Type"]
    if kind == "Seq Scan" or (kind in _INDEXED and "Index Cond" not in plan):
        yield table
    for part in plan.get("Plans", ()):
        yield from _unserved(part, table)


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
