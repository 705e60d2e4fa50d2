"""Whether an answer left anything out: the auditor reads the whole log itself and looks for what meets the search.

The broker proves each entry that it finds, and only says that it found all. Whoever may read the whole log need not
believe that: every entry is hashed into the tree that the log's key signed, so none can be missing here, and each is
read for what it says. It takes as long as reading the log takes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from clients.auditor.entries import CheckpointLine, EntryLine, HeadLine, Published, parse
from clients.auditor.remote import Auditor
from clients.auditor.rows import Row
from zhifu import checkpoint, envelope, receipt, trail
from zhifu.checkpoint import VerifierKey
from zhifu.errors import NotAuthentic, Refused
from zhifu.merkle import Frontier
from zhifu.receipt import Entry, Head
from zhifu.statement import claimed_participant
from zhifu.trail import Query, Words

_BATCH: Final = 1024
_LINES: Final = 256
"""So many are read in one go, off the event loop, so that whatever else is asked meanwhile is answered."""
_NAMED: Final = 20
"""Of what was left out, so many entries are named in a line."""
_KEPT: Final = 1000
"""And so many are kept."""
Told = Callable[[int, int], None]
"""Is told how many entries of how many were read."""
Seen = Callable[[Row], None]
"""Is shown each entry of the answer, newest first."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry that meets the search and was not in the answer, as it was read: its time (Unix ms) and event."""

    index: int
    time_ms: int
    event: str


@dataclass(frozen=True, slots=True)
class Complete:
    """Of the ``size`` entries below ``root`` (hex), which the log's key signed, ``found`` meet the search.

    ``missing`` of them were not in the answer, or not as they stand in the log; ``left_out`` are the first of those.
    What came while it was answered may be in the answer or not: only the entries below ``searched`` count.
    """

    size: int
    root: str
    found: int
    searched: int
    missing: int = 0
    left_out: tuple[LeftOut, ...] = ()

    def demand(self) -> None:
        """Raises `NotAuthentic` (log.omitted) naming entries that were left out."""
        if self.missing:
            named = ", ".join(str(one.index) for one in self.left_out[:_NAMED])
            raise NotAuthentic("log.omitted", f"{self.missing} entries meet the search and were left out: {named}")


async def check(
    auditor: Auditor, query: Query, told: Told = lambda read, size: None, seen: Seen = lambda row: None
) -> Complete:
    """Ask the search, read the whole log, and compare; an answer that left something out is kept as evidence.

    Raises `NotAuthentic` (log.*) where the log is not the one that was signed; `Refused` (policy.denied) for an auditor
    of one participant, (unavailable.overload) where the broker says that it has not searched all that the auditor saw
    before, (unavailable.*).
    """
    before = auditor.head.size
    first = await auditor.search(query, limit=1)
    if first.indexed_size < before:
        # Else a broker that leaves something out would only have to say that it did not get so far.
        searched = f"{first.indexed_size} of {before} entries are searched"
        raise Refused("unavailable.overload", f"{searched}: ask again once the broker has caught up")
    told(0, first.size)
    answered = set()
    async for page in auditor.export(query):
        for row in page.rows:
            seen(row)
            if not row.fault:
                answered.add(row.index)
    # What came after the first answer may be in the index or not.
    scan = Scan(query, auditor.settings.log_key, auditor.head, answered, first.indexed_size)
    async for size in scan.read(auditor.mirror()):
        told(size, max(size, first.size))
    read = scan.result()
    if read.missing:
        # Without the size, which grows: the same omission is kept once.
        left_out = [asdict(one) for one in read.left_out]
        said = json.dumps({"query": query.to_bytes().hex(), "left_out": left_out}).encode()
        auditor.keep_evidence(NotAuthentic("log.omitted"), said)
    return read


class Scan:
    """Every entry of a log, for what meets ``query`` and is not in ``answered``, though below ``indexed_size``.

    ``head`` is one that was verified before.
    """

    def __init__(
        self, query: Query, log_key: VerifierKey, head: Head, answered: Collection[int], indexed_size: int
    ) -> None:
        self._query = query
        self._log_key = log_key
        self._head = head
        self._answered = answered
        self._indexed_size = indexed_size
        self._frontier = Frontier()
        self._fresh: list[bytes] = []
        self._origins: dict[int, tuple[bytes, str]] = {}
        self._stated, self._signed = Head(), Head()
        self._found = self._missing = 0
        self._left_out: list[LeftOut] = []

    @property
    def size(self) -> int:
        return self._frontier.size + len(self._fresh)

    async def read(self, lines: AsyncIterator[bytes]) -> AsyncIterator[int]:
        """A whole log as it is exported; gives how many entries were read so far. Raises `NotAuthentic` (log.*),
        `Malformed`.
        """
        batch: list[bytes] = []
        async for line in lines:
            batch.append(line)
            if len(batch) == _LINES:
                await asyncio.to_thread(self._take_all, batch)
                batch = []
                yield self.size
        await asyncio.to_thread(self._take_all, batch)
        self._end()
        yield self.size

    def result(self) -> Complete:
        """Of a log that was read to its end."""
        root = self._frontier.root().hex()
        searched = min(self._indexed_size, self._frontier.size)
        return Complete(self._frontier.size, root, self._found, searched, self._missing, tuple(self._left_out))

    def _take_all(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            found = parse(line)
            if isinstance(found, HeadLine):
                self._stated = Head(found.size, found.root)
            elif isinstance(found, CheckpointLine):
                if found.size == self.size:
                    note = checkpoint.verify(found.note, self._log_key)
                    self._signed = Head(note.size, note.root)
            elif isinstance(found, EntryLine):
                self._take(found)

    def _end(self) -> None:
        self._fold()
        if not self._stated == self._signed == Head(self._frontier.size, self._frontier.root()):
            raise NotAuthentic("log.corrupt", "the entries that were read are not the log that was signed")
        if self._frontier.size < self._head.size:
            raise NotAuthentic("log.inconsistent", "the log that was read is smaller than the one seen before")

    def _take(self, line: EntryLine) -> None:
        if line.index != self.size:
            raise NotAuthentic("log.corrupt", f"entry {self.size} is missing")
        if line.index < self._indexed_size:
            self._compare(line)
        self._fresh.append(line.leaf_hash)
        if len(self._fresh) == _BATCH or self.size == self._head.size:
            self._fold()

    def _compare(self, line: EntryLine) -> None:
        said, names = self._words(line)
        if not self._meets(line, said, names):
            return
        self._found += 1
        if line.index in self._answered:
            return
        self._missing += 1
        if len(self._left_out) < _KEPT:
            self._left_out.append(LeftOut(line.index, line.time_ms, said[0].event))

    def _fold(self) -> None:
        self._frontier, self._fresh = self._frontier.extend(self._fresh), []
        if self._frontier.size == self._head.size and self._frontier.root() != self._head.root:
            raise NotAuthentic("log.inconsistent", "the log that was read is not the one seen before")

    def _meets(self, line: EntryLine, said: Sequence[Words], names: Collection[bytes]) -> bool:
        query = self._query
        return (
            query.in_time(line.time_ms)
            and (not query.entries or line.index in query.entries)
            and set(query.about) <= set(names)
            and any(query.met_by(one) for one in said)
        )

    def _words(self, line: EntryLine) -> tuple[list[Words], tuple[bytes, ...]]:
        if isinstance(line, Published):
            stated = envelope.from_bytes(envelope.KEY_STATEMENT, line.document)
            return [Words("key.stated", claimed_participant(stated))], ()
        meta = receipt.parse_meta(line.meta)
        if meta.event == trail.ACCEPTED:
            self._origins[line.index] = (meta.sender, meta.purpose)
        detail = receipt.parse_detail(line.detail) if isinstance(line, Entry) else None
        return trail.words(meta, detail, self._origins.get), trail.names(meta, detail) if detail is not None else ()
