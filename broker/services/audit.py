"""`AuditService`: decode, note that somebody looks, search, prove, encode. Callers are participants (mTLS)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Any, Final

import grpc

from broker import auditing, export
from broker.audit import Commit
from broker.auditing import Opened, Page
from broker.core import Core
from broker.directory import Member
from broker.indexing import Indexer
from broker.services import frames
from broker.services.errors import refusing
from broker.services.frames import opening
from broker.services.identity import caller
from broker.store import tables
from broker.store.interface import Reader
from zhifu import checkpoint, merkle, receipt
from zhifu.errors import Malformed
from zhifu.receipt import Head
from zhifu.trail import Query
from zhifu.v1 import audit_pb2, audit_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
DEFAULT_PAGE: Final = 50
PAGE_BYTES: Final = 2 << 20
_MIRROR_LINES: Final = 256
_NEWEST: Final = 1 << 62


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """On the node port. ``snapshot`` opens all committed rows as of one moment."""

    def __init__(self, core: Core, indexer: Indexer, snapshot: Callable[[], Reader]) -> None:
        self._core = core
        self._indexer = indexer
        self._snapshot = snapshot

    async def Search(self, request: audit_pb2.SearchRequest, context: Context) -> audit_pb2.SearchResponse:
        async with refusing(context):
            who, query = caller(context, self._core.directory, self._core.now()), query_of(request.query)
            head = _head(request.head_size, request.head_root)
            await self._note(auditing.SEARCHED, query, who)
            limit = min(request.limit or DEFAULT_PAGE, auditing.MAX_PAGE)
            page = self._page(query, auditing.scope_of(who), request.before or _NEWEST, limit)
            return self._answer(page, self._commit(), head)
        raise AssertionError  # the context manager ended the call

    async def Export(
        self, request: audit_pb2.ExportRequest, context: Context
    ) -> AsyncIterator[audit_pb2.ExportResponse]:
        async with refusing(context):
            who, query = caller(context, self._core.directory, self._core.now()), query_of(request.query)
            head, before = _head(request.head_size, request.head_root), _NEWEST
            await self._note(auditing.EXPORTED, query, who)
            while before:
                page, commit = self._page(query, auditing.scope_of(who), before, auditing.MAX_PAGE), self._commit()
                answer = self._answer(page, commit, head)
                yield audit_pb2.ExportResponse(page=answer)
                head, before = Head(commit.size, commit.root), answer.next_before

    async def Count(self, request: audit_pb2.CountRequest, context: Context) -> audit_pb2.CountResponse:
        async with refusing(context):
            who, query = caller(context, self._core.directory, self._core.now()), query_of(request.query)
            indexed, scope = self._indexer.catch_up(auditing.CATCH_UP_S), auditing.scope_of(who)
            rows, complete = self._indexer.index.hours(query, scope)
            names = ("hour", "actor", "event", "outcome", "purpose", "latency", "count")
            hours = [audit_pb2.HourCount(**dict(zip(names, row, strict=True))) for row in rows]
            waiting = self._indexer.index.waiting(scope)
            return audit_pb2.CountResponse(hours=hours, waiting=waiting, indexed_size=indexed, complete=complete)
        raise AssertionError

    async def Status(self, request: audit_pb2.StatusRequest, context: Context) -> audit_pb2.StatusResponse:
        async with refusing(context):
            who, head = (
                caller(context, self._core.directory, self._core.now()),
                _head(request.head_size, request.head_root),
            )
            commit = self._commit()
            known, consistency = self._consistency(head, commit)
            members = sorted(self._core.directory.members, key=lambda one: one.id)
            parts = frames.directory(one for one in members if one.id > request.directory_after)
            entries, more = next(parts, []), next(parts, None) is not None
            return audit_pb2.StatusResponse(
                checkpoint=commit.note,
                known_size=known,
                consistency=consistency,
                cosigned=self._cosigned(commit),
                indexed_size=self._indexer.index.size,
                clock_ms=self._core.clock_ms(),
                directory=entries,
                directory_next=entries[-1].participant if more else b"",
                scope=auditing.scope_of(who),
            )
        raise AssertionError

    async def Mirror(
        self, request: audit_pb2.MirrorRequest, context: Context
    ) -> AsyncIterator[audit_pb2.MirrorResponse]:
        async with refusing(context):
            who = caller(context, self._core.directory, self._core.now())
            auditing.check_whole(who)
            await self._note(auditing.EXPORTED, Query(), who)
            lines = export.lines(self._snapshot())
            while some := [one.encode() for one in islice(lines, _MIRROR_LINES)]:
                yield audit_pb2.MirrorResponse(lines=some)
                # Exchanges come first: a full check may take its time.
                await asyncio.sleep(0)

    async def _note(self, event: str, query: Query, who: Member) -> None:
        content = query.to_bytes()
        await self._core.committer.run(
            lambda state, sequence, now_ms: auditing.note(event, content, who, state, sequence, now_ms),
            bulk=True,
        )

    def _cosigned(self, commit: Commit) -> list[audit_pb2.CosignedCheckpoint]:
        """Of each witness the newest checkpoint that it cosigned, with its line."""
        reader, found = self._core.store.reader, []
        for seen in reader.find(tables.Witness):
            row = reader.get(tables.Cosignature, seen.size, seen.witness)
            if row is None or not 0 < seen.size <= commit.size:
                continue
            note = checkpoint.with_cosignatures(self._core.log.commit_at(seen.size).note, [row.line])
            path = merkle.consistency_proof(seen.size, commit.size, self._core.log.fetch)
            found.append(audit_pb2.CosignedCheckpoint(checkpoint=note, consistency=b"".join(path)))
        return found

    def _page(self, query: Query, scope: bytes, before: int, limit: int) -> Page:
        return auditing.search(self._indexer, self._core.store.reader, query, scope, before, limit)

    def _commit(self) -> Commit:
        """The newest, whichever of the brokers on this database made it."""
        head = self._core.store.reader.get(tables.Head, 1)
        return self._core.log.commit_at(head.size) if head is not None and head.size else self._core.log.no_commit

    def _answer(self, page: Page, commit: Commit, head: Head) -> audit_pb2.SearchResponse:
        known, consistency = self._consistency(head, commit)
        answer = audit_pb2.SearchResponse(
            checkpoint=commit.note,
            known_size=known,
            consistency=consistency,
            next_before=page.next_before,
            total=page.total or 0,
            total_known=page.total is not None,
            indexed_size=page.indexed_size,
        )
        room, fetch = PAGE_BYTES, _remembering(self._core.log.fetch)
        for one in page.entries:
            found = self._found(one, commit.size, fetch)
            room -= found.ByteSize()
            if room < 0 and answer.entries:
                answer.next_before = answer.entries[-1].entry.index
                break
            answer.entries.append(found)
        return answer

    @staticmethod
    def _found(one: Opened, size: int, fetch: merkle.Fetch) -> audit_pb2.FoundEntry:
        path = merkle.inclusion_proof(one.entry.index, size, fetch)
        found = audit_pb2.FoundEntry(
            entry=opening(one.entry), plain=one.is_plain, inclusion=b"".join(path), withheld=one.withheld
        )
        if one.erasure is not None:
            found.detail_commitment, found.erased_by = one.erasure.commitment, one.erasure.recorded
        elif one.withheld:
            found.detail_commitment = receipt.detail_commitment(one.entry)
            found.entry.ClearField("detail_key")
            found.entry.ClearField("detail")
        return found

    def _consistency(self, head: Head, commit: Commit) -> tuple[int, bytes]:
        """From the caller's head, as far as there is such a one here."""
        if not 0 < head.size <= commit.size:
            return head.size, b""
        return head.size, b"".join(merkle.consistency_proof(head.size, commit.size, self._core.log.fetch))


def _remembering(fetch: merkle.Fetch) -> merkle.Fetch:
    """The paths of one page share most of their nodes: each is read once."""
    known: dict[merkle.Node, bytes] = {}

    def answer(nodes: Sequence[merkle.Node]) -> list[bytes]:
        missing = [node for node in nodes if node not in known]
        if missing:
            known.update(zip(missing, fetch(missing), strict=True))
        return [known[node] for node in nodes]

    return answer


def query_of(message: audit_pb2.AuditQuery) -> Query:
    """Raises `Malformed`."""
    return Query(
        message.since_ms, message.until_ms, tuple(message.events), message.party, message.actor, message.counterparty,
        tuple(message.purposes), tuple(message.outcomes), tuple(message.reasons), message.policy, message.unit,
        tuple(message.about), tuple(message.entries),
    )  # fmt: skip


def _head(size: int, root: bytes) -> Head:
    if len(root) not in (0, 32) or size > merkle.MAX_SIZE:
        raise Malformed("malformed.field", "not a tree head")
    return Head(size, root or Head().root)
