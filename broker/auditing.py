"""What an auditor may see, and the record of its having looked (DESIGN section 1).

A search is an entry of the log before it is answered: whoever watches is watched. An auditor of one participant, and a
participant itself, sees the entries of that participant's exchanges, and of those only what concerns it.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from broker.audit import PLAIN, Sequence
from broker.directory import Member
from broker.indexing import Indexer
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import trail
from zhifu.errors import Refused
from zhifu.receipt import Detail, Entry, Meta
from zhifu.trail import Query

CATCH_UP_S = 0.1
MAX_PAGE = 200
SEARCHED, EXPORTED = trail.READS


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry and how much of it the caller gets: ``withheld`` details concern others too; no ``row``: it is gone."""

    index: int
    row: tables.Entry | None
    withheld: bool
    erasure: tables.Erasure | None = None

    @property
    def is_plain(self) -> bool:
        return self.row is not None and self.row.kind == PLAIN

    @property
    def entry(self) -> Entry:
        """What is stored; only the index where the row is gone, which the caller will see."""
        row = self.row
        if row is None:
            return Entry(self.index, 0, b"", b"", b"", b"")
        return Entry(row.index, row.time_ms, row.meta_key, row.meta, row.detail_key, row.detail)


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, descending. ``next_before`` is 0 at the end; ``total`` None where it is not known."""

    entries: Seq[Opened]
    next_before: int
    total: int | None
    indexed_size: int


def scope_of(caller: Member) -> bytes:
    """The participant whose exchanges the caller may see; empty for all of them."""
    return caller.scope if caller.role == "auditor" else caller.id


def check_whole(caller: Member) -> None:
    """Raises `Refused` (policy.denied) unless the caller audits the broker as a whole."""
    if scope_of(caller):
        raise Refused("policy.denied", "only an auditor of the broker reads the whole log")


def note(event: str, query: bytes, caller: Member, state: Transaction, sequence: Sequence, now_ms: int) -> int:
    """Record that the caller looked, and for what; the entry's index. The caller of this commits before it answers."""
    meta = Meta(event, sender=caller.id, recipient=caller.scope)
    return sequence.record(meta, Detail(documents=(query,)), now_ms).index


def search(indexer: Indexer, reader: Reader, query: Query, scope: bytes, before: int, limit: int) -> Page:
    """One page below index ``before``. Raises `Refused` (unavailable.store)."""
    indexed = indexer.catch_up(CATCH_UP_S)
    found = indexer.index.find(query, scope, before, limit)
    opened = [_open(index, indexer, reader, scope) for index in found.entries]
    after = found.entries[-1] if found.more else 0
    return Page(opened, after, found.total, indexed)


def _open(index: int, indexer: Indexer, reader: Reader, scope: bytes) -> Opened:
    row = reader.get(tables.Entry, index)
    # Acknowledgements by one recipient share an entry, whoever sent what they are about.
    withheld = bool(scope) and not all(one.is_about(scope) for one in indexer.index.words_of(index))
    erasure = reader.get(tables.Erasure, index) if row is not None and not row.detail else None
    return Opened(index, row, withheld, erasure)
