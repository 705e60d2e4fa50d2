"""A broker's database as years leave it: a long log, its exchanges and grants, and a queue for someone who is away.

Rows have the shapes and sizes of real ones and random keys; contents are zeros, and leaves are random hashes, since
nothing here reads them. They are written past the store, which would take hours; head and tree are what the store's own
code would have written.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from broker import home
from broker.audit import Log
from broker.store.sqlite import SqliteStore
from zhifu import merkle
from zhifu.receipt import Head

PORTION: Final = 65_536
_COMMIT: Final = 64
_BETWEEN: Final = 2
"""One entry of so many accepted an exchange; one of five times as many registered a grant."""
_EMPTIED: Final = ("exchange", "delivery", "grant")
_AWAY: Final = b"a participant who is away" + bytes(7)
Tell = Callable[[str], None]
Row = tuple[Any, ...]


def fill(folder: Path, entries: int, queued: int, tell: Tell) -> None:
    """Grow the stopped broker in ``folder`` by ``entries``, and ``queued`` deliveries, for at most every second."""
    opened = home.open_home(folder)
    store = SqliteStore(opened.database)
    log = Log(opened.origin, opened.log_key, store.reader)
    first, frontier = log.size, log.frontier
    store.close()
    with closing(sqlite3.connect(opened.database, isolation_level=None)) as raw:
        # A crash would cost the database, which is thrown away anyway.
        raw.execute("PRAGMA journal_mode=OFF")
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute("BEGIN")
        indexes = _drop_indexes(raw)
        for begin in range(first, first + entries, PORTION):
            count = min(PORTION, first + entries - begin)
            leaves = _random(count, 32)
            frontier, nodes = merkle.grow(frontier, leaves)
            _insert(raw, "entry", _entries(begin, count))
            _insert(raw, "tree_node", nodes)
            _insert(raw, "checkpoint", _checkpoints(begin, count))
            _insert(raw, "exchange", _exchanges(begin, count))
            _insert(raw, "grant", _grants(begin, count))
            _insert(raw, "delivery", _deliveries(begin, count, first + entries - _BETWEEN * queued))
            tell(f"{begin + count - first} of {entries} entries")
        head = Head(frontier.size, frontier.root())
        raw.execute("DELETE FROM checkpoint WHERE size >= ?", (head.size,))
        _insert(raw, "checkpoint", [(head.size, head.root, log.sign(head), _now_ms())])
        raw.execute("UPDATE head SET size = ?, root = ?", (head.size, head.root))
        tell("indexes")
        for statement in indexes:
            raw.execute(statement)
        raw.execute("COMMIT")
        raw.execute("PRAGMA journal_mode=WAL")


def _now_ms() -> int:
    return time.time_ns() // 10**6


def _random(count: int, size: int) -> list[bytes]:
    drawn = os.urandom(count * size)
    return [drawn[at : at + size] for at in range(0, len(drawn), size)]


def _drop_indexes(raw: sqlite3.Connection) -> list[str]:
    """To be made again at the end: sorted, that takes a tenth of the time."""
    named = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN (?, ?, ?)"
    found = raw.execute(named, _EMPTIED).fetchall()
    for name, _ in found:
        raw.execute(f'DROP INDEX "{name}"')
    return [statement for _, statement in found]


def _insert(raw: sqlite3.Connection, table: str, rows: Sequence[Row]) -> None:
    if rows:
        raw.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(rows[0]))})', rows)


def _entries(begin: int, count: int) -> list[Row]:
    now_ms, key, meta, detail = _now_ms(), bytes(32), bytes(200), bytes(800)
    return [(index, 0, now_ms, key, meta, key, detail) for index in range(begin, begin + count)]


def _checkpoints(begin: int, count: int) -> list[Row]:
    now_ms, root, note = _now_ms(), bytes(32), bytes(250)
    return [(size, root, note, now_ms) for size in range(begin + _COMMIT, begin + count, _COMMIT)]


def _exchanges(begin: int, count: int) -> list[Row]:
    places = range(begin, begin + count, _BETWEEN)
    hashes, subjects, tails = (_random(len(places), size) for size in (32, 32, 10))
    stamp, sender, payload = _now_ms().to_bytes(6, "big"), bytes(31) + b"s", bytes(420)
    return [
        (entry, digest, sender, _AWAY, stamp + tail, "commercial-settlement", "answered", payload, bytes(32), bytes(27),
         subject, subject)
        for entry, digest, subject, tail in zip(places, hashes, subjects, tails, strict=True)
    ]  # fmt: skip


def _grants(begin: int, count: int) -> list[Row]:
    places = range(begin, begin + count, 5 * _BETWEEN)
    both = zip(places, _random(len(places), 32), _random(len(places), 32), strict=True)
    return [(digest, bytes(500), subject, bytes(32), 8, 1, 1 << 40, "active", entry) for entry, digest, subject in both]


def _deliveries(begin: int, count: int, since: int) -> list[Row]:
    envelope, manifest, leaves, capsule = bytes(620), bytes(1700), bytes(5366), bytes(1700)
    return [
        (entry, _AWAY, bytes(32), 1 << 40, envelope, manifest, bytes(27), leaves, capsule, bytes(32), b"")
        for entry in _queued(begin, count, since)
    ]


def _queued(begin: int, count: int, since: int) -> Iterator[int]:
    return (entry for entry in range(begin, begin + count, _BETWEEN) if entry >= since)
