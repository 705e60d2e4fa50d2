"""Whether an answer left anything out: the auditor reads the whole log itself and looks for what meets the search.

The broker proves each entry that it finds, and only says that it found all. Whoever may read the whole log need not
believe that: every entry is hashed into the tree that the log's key signed, so none can be missing here, and each is
read for what it says. It takes as long as reading the log takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from clients.auditor.entries import CheckpointLine, EntryLine, HeadLine, Published, parse
from clients.auditor.remote import Auditor
from zhifu import checkpoint, envelope, receipt, trail
from zhifu.checkpoint import VerifierKey
from zhifu.errors import NotAuthentic
from zhifu.merkle import Frontier
from zhifu.receipt import Entry, Head
from zhifu.statement import claimed_participant
from zhifu.trail import Query, Words

_BATCH: Final = 1024
_NAMED: Final = 20
"""Of what was left out, so many entries are named."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Of ``size`` entries that were read and proven, so many meet the search, and the answer had them all."""

    size: int
    found: int


async def check(auditor: Auditor, query: Query) -> Complete:
    """Ask the search, read the whole log, and compare.

    Raises `NotAuthentic` (log.omitted) naming entries that were left out, (log.*) where the log is not the one that was
    signed; `Refused` (policy.denied) for an auditor of one participant, (unavailable.*).
    """
    first = await auditor.search(query, limit=1)
    answered = {row.index async for page in auditor.export(query) for row in page.rows}
    scan = Scan(query, auditor.settings.log_key, auditor.head)
    await scan.read(auditor.mirror())
    # What came after the first answer may be in the index or not.
    left_out = sorted(index for index in scan.found if index < first.indexed_size and index not in answered)
    if left_out:
        named = ", ".join(map(str, left_out[:_NAMED]))
        raise NotAuthentic("log.omitted", f"{len(left_out)} entries meet the search and were left out: {named}")
    return Complete(scan.size, sum(index < first.indexed_size for index in scan.found))


class Scan:
    """Every entry of a log, for what meets ``query``; ``head`` is one that was verified before."""

    def __init__(self, query: Query, log_key: VerifierKey, head: Head) -> None:
        self._query = query
        self._log_key = log_key
        self._head = head
        self._frontier = Frontier()
        self._fresh: list[bytes] = []
        self._origins: dict[int, tuple[bytes, str]] = {}
        self.found: set[int] = set()

    @property
    def size(self) -> int:
        return self._frontier.size + len(self._fresh)

    async def read(self, lines: AsyncIterator[bytes]) -> None:
        """A whole log as it is exported. Raises `NotAuthentic` (log.*), `Malformed`."""
        stated, signed = Head(), Head()
        async for line in lines:
            found = parse(line)
            if isinstance(found, HeadLine):
                stated = Head(found.size, found.root)
            elif isinstance(found, CheckpointLine):
                if found.size == self.size:
                    note = checkpoint.verify(found.note, self._log_key)
                    signed = Head(note.size, note.root)
            elif isinstance(found, EntryLine):
                self._take(found)
        self._fold()
        if not stated == signed == Head(self._frontier.size, self._frontier.root()):
            raise NotAuthentic("log.corrupt", "the entries that were read are not the log that was signed")
        if self._frontier.size < self._head.size:
            raise NotAuthentic("log.inconsistent", "the log that was read is smaller than the one seen before")

    def _take(self, line: EntryLine) -> None:
        if line.index != self.size:
            raise NotAuthentic("log.corrupt", f"entry {self.size} is missing")
        if self._meets(line):
            self.found.add(line.index)
        self._fresh.append(line.leaf_hash)
        if len(self._fresh) == _BATCH or self.size == self._head.size:
            self._fold()

    def _fold(self) -> None:
        self._frontier, self._fresh = self._frontier.extend(self._fresh), []
        if self._frontier.size == self._head.size and self._frontier.root() != self._head.root:
            raise NotAuthentic("log.inconsistent", "the log that was read is not the one seen before")

    def _meets(self, line: EntryLine) -> bool:
        query = self._query
        said, names = self._words(line)
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
