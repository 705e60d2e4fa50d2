"""The broker as an auditor sees it: a server that is asked, and whose every answer is checked (DESIGN section 9).

Each answer's checkpoint must be signed by the pinned log key and extend what this auditor saw before; each entry must
stand in its tree. Which entries meet a search is the broker's word until a full check (`mirror`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

from clients import channel, config, wire
from clients.auditor import pins, rows
from clients.auditor.pins import Pins
from clients.auditor.rows import BROKEN, ERASED, MISSING, Proven, Row
from clients.config import NodeConfig, Pin
from clients.keystore import FileKeystore, participant_of
from clients.store import Evidence, Store
from zhifu import checkpoint, envelope, erasure, merkle, receipt, statement, trail, witness
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.errors import Error, Malformed, NotAuthentic
from zhifu.receipt import Head
from zhifu.statement import KeyStatement
from zhifu.trail import Query
from zhifu.v1 import audit_pb2, audit_pb2_grpc

CALL_S: Final = 30.0
LONG_S: Final = 3600.0
MOST: Final = 200
"""Entries of a page, at most."""
_LAST_HOUR: Final = 1 << 26
_MAX_LATENCY: Final = 48


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; ``total`` of all pages, None where it is not known. ``indexed_size`` < ``size``: partial."""

    rows: Sequence[Row]
    next_before: int
    total: int | None
    indexed_size: int
    size: int
    root: bytes

    @property
    def complete(self) -> bool:
        """Every entry of the log was searched; the entry that notes this very search is the newest."""
        return self.indexed_size >= self.size


@dataclass(frozen=True, slots=True)
class Standing:
    """What the log and its witnesses are at this moment. Times are Unix ms, ``witnessed`` Unix s by participant.

    ``others`` is the same of the witnesses that the auditor's own ``witnesses.policy`` names. ``final`` entries are
    cosigned by a quorum of participants and by whom that policy asks for; ``refused`` are statements that do not
    verify against the pins.
    """

    head: Checkpoint
    final: int
    witnessed: Mapping[bytes, tuple[int, int]]
    others: Mapping[str, tuple[int, int]]
    quorum: int
    indexed_size: int
    clock_ms: int
    scope: bytes
    members: Mapping[bytes, Pin]
    statements: Mapping[bytes, KeyStatement]
    refused: Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Hour by hour; ``waiting`` are accepted entries that nothing ended."""

    hours: Sequence[audit_pb2.HourCount]
    waiting: Sequence[int]
    complete: bool


async def status(
    ask: Callable[[audit_pb2.StatusRequest], Awaitable[audit_pb2.StatusResponse]], head: Head
) -> audit_pb2.StatusResponse:
    """What ``ask`` answers, with the whole directory, in as many answers as it takes.

    Raises `Malformed` (malformed.field) where the directory has no end.
    """
    asked = audit_pb2.StatusRequest(head_size=head.size, head_root=head.root)
    answer = await ask(asked)
    after = answer.directory_next
    while after:
        asked.directory_after = after
        more = await ask(asked)
        answer.directory.extend(more.directory)
        if more.directory_next and more.directory_next <= after:
            raise Malformed("malformed.field", "a directory without an end")
        after = more.directory_next
    return answer


class Auditor:
    """One auditor's folder (`zhifu node enrol` made it) and its way to the broker. Used on one event loop."""

    def __init__(self, settings: NodeConfig, keystore: FileKeystore, store: Store, stub: Any) -> None:
        self.settings = settings
        self.id = participant_of(keystore)
        self._store = store
        self._stub = stub
        self._shown = Head()
        self.final = 0

    @property
    def pins(self) -> Pins:
        """Who may be in the log, for a full check: all whom this auditor pinned, and itself. Raises `Malformed`."""
        settings = self.settings
        known = {**settings.pins, self.id: Pin(settings.role, settings.name)}
        found = Pins(settings.origin, settings.log_key, known, settings.registrar)
        if (settings.directory / pins.FILE).exists():
            kept = pins.load(settings.directory)
            return replace(found, policies=kept.policies, operators=kept.operators, hotline=kept.hotline)
        return found

    def name(self, participant: bytes) -> str:
        """The name that this auditor's own operator pinned; a short id for a stranger, empty for nobody."""
        if participant == self.id:
            return self.settings.name
        pin = self.settings.pins.get(participant)
        return pin.name if pin else participant.hex()[:12]

    @property
    def head(self) -> Head:
        """The largest that was verified, here or in the folder."""
        return max(self._store.trust.head(), self._shown, key=lambda head: head.size)

    def evidence(self) -> list[Evidence]:
        """What was kept of answers that did not verify."""
        return self._store.receipts.evidence()

    async def search(self, query: Query, before: int = 0, limit: int = 50) -> Page:
        """One page. Raises `NotAuthentic` (log.*) where the log is not the one seen before, `Refused`."""
        answer, page = await self._asked(query, before, limit)
        return await self._explained(answer, page)

    async def _asked(self, query: Query, before: int, limit: int) -> tuple[audit_pb2.SearchResponse, Page]:
        head = self.head
        request = audit_pb2.SearchRequest(
            query=message(query), before=before, limit=limit, head_size=head.size, head_root=head.root
        )
        answer = await self._call(self._stub.Search, request)
        page = self._page(answer, query, head, before)
        _check_noted(page, head)
        if len(page.rows) > limit:
            raise NotAuthentic("receipt.invalid", "a page has more entries than were asked for")
        return answer, page

    async def _explained(self, answer: audit_pb2.SearchResponse, page: Page) -> Page:
        """Rows whose details are gone, with the proven entries that say on which basis."""
        erased = {one.entry.index: one.erased_by for one in answer.entries if one.erased_by}
        if not erased:
            return page
        wanted = tuple(sorted(set(erased.values())))
        _, found = await self._asked(Query(entries=wanted), 0, MOST)
        orders, officers = {one.index: one for one in found.rows}, self.pins.operators
        return replace(page, rows=[self._erased(row, orders.get(erased.get(row.index, -1)), officers)
                                   for row in page.rows])  # fmt: skip

    def _erased(self, row: Row, order: Row | None, officers: Collection[bytes]) -> Row:
        """A row without its detail, if the entry that says so proves and covers it, and two of the ``officers`` that
        are pinned, if any are, signed it; as it was otherwise.
        """
        if row.state != MISSING or order is None or order.fault or order.detail is None:
            return row
        try:
            if order.words.event != trail.ERASED or row.index not in trail.erased(order.detail):
                return row
            if officers:
                signed = [envelope.from_bytes(envelope.ERASURE, one) for one in order.detail.documents[1:]]
                erasure.verify_order(signed, officers, self.settings.origin, order.time_ms // 1000)
        except Error as error:
            return replace(row, fault=f"its erasure, entry {order.index}, is nobody's order: {error}")
        return replace(row, state=ERASED, fault="", basis=order.words.reason)

    async def export(self, query: Query) -> AsyncGenerator[Page, None]:
        """Every page. Raises as `search`."""
        head, before, ended = self.head, 0, False
        request = audit_pb2.ExportRequest(query=message(query), head_size=head.size, head_root=head.root)
        async for answer in self._stream(self._stub.Export, request):
            page = self._page(answer.page, query, head, before)
            if not before:
                _check_noted(page, head)
            head, before = Head(page.size, page.root), page.next_before
            if ended:
                raise NotAuthentic("receipt.invalid", "an export goes on behind its last page")
            ended = not before
            yield await self._explained(answer.page, page)
        if not ended:
            raise NotAuthentic("receipt.invalid", "an export ends before its last page")

    async def count(self, query: Query) -> Counts:
        """How many entries meet the query, hour by hour. The broker's word: counts have no proof.

        Raises `Refused`, `NotAuthentic` (receipt.invalid) for what nobody can have counted.
        """
        answer = await self._call(self._stub.Count, audit_pb2.CountRequest(query=message(query)))
        if any(one.hour > _LAST_HOUR or one.latency > _MAX_LATENCY for one in answer.hours):
            raise NotAuthentic("receipt.invalid", "counts of hours that no calendar has")
        return Counts(list(answer.hours), list(answer.waiting), answer.complete)

    async def mirror(self) -> AsyncIterator[bytes]:
        """The lines of the whole log, for `clients.auditor.verify`. Raises `Refused` (policy.denied, unavailable.*)."""
        async for answer in self._stream(self._stub.Mirror, audit_pb2.MirrorRequest()):
            for line in answer.lines:
                yield line

    async def standing(self) -> Standing:
        """The newest head and its witnesses. Raises as `search`."""
        head = self.head
        answer = await status(partial(self._call, self._stub.Status), head)
        signed = self._extend(answer.checkpoint, answer.known_size, answer.consistency, head)
        statements, refused = self._statements(answer)
        asked = self.settings.witnesses
        named = {one.key: name for name, one in asked.witnesses.items()}
        keys = {witness.key_of(one): who for who, one in statements.items()}
        seen = self._witnessed(answer.cosigned, {*keys, *named}, signed)
        witnessed = {keys[key]: when for key, when in seen.items() if key in keys}
        reached = asked.reached({key.name: size for key, (size, _) in seen.items()})
        quorum = witness.majority(sum(pin.role != "auditor" for pin in self.settings.pins.values()))
        self.final = max(self.final, min(reached, _final(witnessed, quorum)))
        members = {one.participant: Pin(one.role, one.name) for one in answer.directory}
        return Standing(
            signed, self.final, witnessed, {named[key]: when for key, when in seen.items() if key in named}, quorum,
            answer.indexed_size, answer.clock_ms, answer.scope, members,
            statements, refused,
        )  # fmt: skip

    def _statements(self, answer: audit_pb2.StatusResponse) -> tuple[dict[bytes, KeyStatement], dict[bytes, str]]:
        """Each against the pinned id; one in our own name must list our keys."""
        found: dict[bytes, KeyStatement] = {}
        refused: dict[bytes, str] = {}
        for one in answer.directory:
            try:
                signed = envelope.from_proto(envelope.KEY_STATEMENT, one.key_statement)
                if one.participant in self.settings.pins:
                    found[one.participant] = statement.verify_key_statement(signed, one.participant, int(time.time()))
                elif one.participant == self.id and not self._is_ours(signed.to_bytes()):
                    raise NotAuthentic("key.foreign")
            except Error as error:
                refused[one.participant] = error.reason
        return found, refused

    def _is_ours(self, signed: bytes) -> bool:
        return any(ours == signed for _, ours in self._store.trust.statements(self.id))

    def _witnessed(
        self, shown: Sequence[audit_pb2.CosignedCheckpoint], keys: Collection[VerifierKey], head: Checkpoint
    ) -> dict[VerifierKey, tuple[int, int]]:
        """Of each key (size, Unix s) of its newest cosignature, of a tree that is a part of ours. Raises
        `NotAuthentic` (log.*, signature.invalid).
        """
        found: dict[VerifierKey, tuple[int, int]] = {}
        for one in shown:
            signed = checkpoint.verify(one.checkpoint, self.settings.log_key)
            path = wire.hashes(one.consistency)
            merkle.verify_consistency(signed.size, head.size, signed.root, head.root, path)
            for key, at in checkpoint.verify_cosignatures(one.checkpoint, keys).items():
                found[key] = max(found.get(key, (0, 0)), (signed.size, at))
        return found

    def _page(self, answer: audit_pb2.SearchResponse, query: Query, head: Head, before: int) -> Page:
        signed = self._extend(answer.checkpoint, answer.known_size, answer.consistency, head)
        found = [self._row(one, answer.checkpoint, signed, query) for one in answer.entries]
        places = [one.index for one in found]
        if places != sorted(set(places), reverse=True) or (before and places[:1] >= [before]):
            raise NotAuthentic("receipt.invalid", "the entries of a page are not in order")
        # Else who follows the pages would never come to their end.
        if answer.next_before and answer.next_before != min(places, default=0):
            raise NotAuthentic("receipt.invalid", "the next page does not go on where this one ends")
        total = answer.total if answer.total_known else None
        return Page(found, answer.next_before, total, answer.indexed_size, signed.size, signed.root)

    def _row(self, found: audit_pb2.FoundEntry, note: bytes, signed: Checkpoint, query: Query) -> Row:
        one, commitments = wire.entry(found.entry), (found.meta_commitment, found.detail_commitment)
        leaf = rows.leaf_hash(one, found.plain, *commitments)
        proven = Proven(leaf, wire.hashes(found.inclusion), note, signed)
        row = rows.read(one, found.plain, proven, commitments, withheld=found.withheld, final=self.final)
        try:
            rows.check_meets(row, query)
        except NotAuthentic as error:
            row = replace(row, state=BROKEN, fault=str(error))
        if row.fault and not found.erased_by:
            self._keep(NotAuthentic("receipt.invalid", row.fault), self.head, found.SerializeToString())
        return row

    def _extend(self, note: bytes, known_size: int, consistency: bytes, head: Head) -> Checkpoint:
        """The checkpoint, once it is signed and extends our head, which then moves. Raises `NotAuthentic` (log.*)."""
        if not note and not head.size:
            return Checkpoint(self.settings.origin, 0, Head().root)
        try:
            signed = checkpoint.verify(note, self.settings.log_key)
            found = Head(signed.size, signed.root)
            receipt.check_consistency(head, found, known_size, wire.hashes(consistency))
        except Error as error:
            self._keep(error, head, note)
            raise
        if signed.size < head.size:
            # Signed, and no fork: so it is no evidence.
            raise NotAuthentic("log.inconsistent", "an older checkpoint than was seen before")
        self._shown = found
        # A hospital's or a payer's head is its running node's, whose stream proves from where it stands: were it moved
        # here, the next checkpoint would look like another log's.
        if self.settings.role == "auditor":
            with self._store.transaction():
                self._store.trust.move_head(found, note)
        return signed

    def keep_evidence(self, error: Error, content: bytes) -> None:
        """Keep what shows that an answer was wrong; an alert says so."""
        self._keep(error, self.head, content)

    def _keep(self, error: Error, head: Head, content: bytes) -> None:
        with self._store.transaction():
            self._store.receipts.keep_evidence(time.time_ns() // 1_000_000, error.reason, head, content)

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error

    async def _stream(self, method: Any, request: Any) -> AsyncGenerator[Any, None]:
        try:
            async for answer in method(request, timeout=LONG_S):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error


@asynccontextmanager
async def connect(folder: Path) -> AsyncIterator[Auditor]:
    """The auditor of a folder, with its channel open. Raises `Malformed`, `Refused` (usage.file, unavailable.store)."""
    settings = config.load(folder)
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    try:
        async with channel.node_channel(settings, keystore) as opened:
            yield Auditor(settings, keystore, store, audit_pb2_grpc.AuditServiceStub(opened))
    finally:
        store.close()


def _check_noted(page: Page, head: Head) -> None:
    """A search is an entry of the log before it is answered; else what came since the ``head`` could be missing from
    what is called complete. Raises `NotAuthentic` (log.inconsistent).
    """
    if page.size <= head.size:
        raise NotAuthentic("log.inconsistent", "an older checkpoint than was seen before: the search is not in it")


def message(query: Query) -> audit_pb2.AuditQuery:
    """A query as it is sent."""
    return audit_pb2.AuditQuery(**{name: getattr(query, name) for name in Query.__slots__})


def _final(witnessed: Mapping[bytes, tuple[int, int]], quorum: int) -> int:
    """The largest size that a quorum cosigned."""
    sizes = sorted((size for size, _ in witnessed.values()), reverse=True)
    return sizes[quorum - 1] if quorum and len(sizes) >= quorum else 0
