"""The whole tree anew, from the entries as they are stored, by several processes side by side (RFC 9162 section 2.1).

An operator's own check, of a copy that was restored for example: it holds the stored hashes to one another and to the
head, and judges no signature. An auditor, who trusts none of this, runs ``zhifu audit verify``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, cast

from broker.audit import COMMITTED, stored_leaf
from broker.store import opening, tables
from broker.store.interface import Reader
from zhifu import merkle, receipt
from zhifu.errors import NotAuthentic

LEVEL: Final = 14
"""A process takes complete subtrees of this level at a time; what lies above them is computed at the end."""
_PAGE: Final = 1024
"""Entries that a process holds at once."""
Tell = Callable[[int, int], None]
"""Called with (entries done, entries in all)."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Entries [begin, end) of a database: a complete subtree of ``level``, or at the end what there is of one."""

    database: Path
    address: str
    level: int
    begin: int
    end: int


def verify(
    database: Path,
    address: str,
    jobs: int | None = None,
    tell: Tell = lambda done, size: None,
    level: int = LEVEL,
) -> int:
    """How many entries there are: each leaf and each node of the tree is what the entries give, up to the head.

    ``address`` is of a PostgreSQL database, empty for the file; ``jobs`` is how many processes, one a core by default,
    each with subtrees of ``level``. Raises `NotAuthentic` (log.corrupt) naming the first bad entry, `Refused`
    (unavailable.store, usage.file).
    """
    with closing(opening.open_read_only(database, address)) as reader:
        head = reader.get(tables.Head, 1)
        size, root = (head.size, head.root) if head else (0, merkle.EMPTY)
        step = 1 << level
        parts = [_Part(database, address, level, at, min(at + step, size)) for at in range(0, size, step)]
        frontier = merkle.Frontier()
        for part, nodes in zip(parts, _each(parts, jobs), strict=True):
            frontier = _join(reader, frontier, part, nodes)
            tell(part.end, size)
        if frontier.root() != root:
            raise NotAuthentic("log.corrupt", f"the head of {size} entries is not the tree's")
        if _lies_beyond(reader, size):
            raise NotAuthentic("log.corrupt", f"entry {size}: it lies beyond the head")
    return size


def _lies_beyond(reader: Reader, size: int) -> bool:
    if reader.find(tables.Entry, after=size - 1, limit=1):
        return True
    return bool(reader.find(tables.TreeNode, level=0, after=size - 1, limit=1))


def _each(parts: list[_Part], jobs: int | None) -> Iterator[tuple[bytes, ...]]:
    """The complete subtrees of each part, in order."""
    workers = min(jobs or len(os.sched_getaffinity(0)), len(parts))
    if workers < 2:
        yield from map(_check, parts)
        return
    # Forked, since nothing here runs a thread: they begin at once, and open databases of their own.
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        yield from pool.map(_check, parts)


def _check(part: _Part) -> tuple[bytes, ...]:
    """The nodes that make up a part, once every one below them was found as it must be."""
    with closing(opening.open_read_only(part.database, part.address)) as reader:
        row, level, kept = _leaves(reader, part), 0, list[bytes]()
        while row:
            _compare(reader, level, part.begin >> level, row)
            kept += row[len(row) & ~1 :]
            row = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]
            level += 1
    return tuple(reversed(kept))


def _leaves(reader: Reader, part: _Part) -> list[bytes]:
    """Leaf hashes of a part, a page of entries at a time: what is held in memory at once is slow to look through."""
    found = list[bytes]()
    while (begin := part.begin + len(found)) < part.end:
        rows = reader.find(tables.Entry, after=begin - 1, limit=min(_PAGE, part.end - begin))
        present = [row.index for row in rows]
        if present != [*range(begin, begin + len(rows))] or not rows:
            missing = next(index for index, here in enumerate([*present, -1], begin) if index != here)
            raise NotAuthentic("log.corrupt", f"entry {missing} is missing")
        found += _leaf_hashes(reader, cast(list[tuple[Any, ...]], rows))
    return found


def _leaf_hashes(reader: Reader, rows: list[tuple[Any, ...]]) -> list[bytes]:
    return [
        receipt.leaf_hash(index, time_ms, meta_key, meta, detail_key, detail)
        if kind == COMMITTED and detail_key
        else merkle.leaf_hash(stored_leaf(index, reader))
        for index, kind, time_ms, meta_key, meta, detail_key, detail in rows
    ]


def _compare(reader: Reader, level: int, first: int, row: list[bytes]) -> None:
    stored = reader.row(level, first, len(row))
    if stored == row:
        return
    if len(stored) < len(row):
        raise NotAuthentic("log.corrupt", f"entry {first << level}: nodes of level {level} of the tree are missing")
    wrong = next(at for at, (one, expected) in enumerate(zip(stored, row, strict=True), first) if one != expected)
    raise NotAuthentic("log.corrupt", f"entry {wrong << level}: node {level}/{wrong} of the tree is not what it gives")


def _join(reader: Reader, frontier: merkle.Frontier, part: _Part, nodes: tuple[bytes, ...]) -> merkle.Frontier:
    """The frontier after a part; the nodes that it completes above the part are compared too."""
    if part.end - part.begin < 1 << part.level:
        return merkle.Frontier(part.end, (*frontier.nodes, *nodes))
    (carried,), kept, level, index = nodes, list(frontier.nodes), part.level, part.begin >> part.level
    while index & 1:
        carried, level, index = merkle.node_hash(kept.pop(), carried), level + 1, index >> 1
        _compare(reader, level, index, [carried])
    return merkle.Frontier(part.end, (*kept, carried))
