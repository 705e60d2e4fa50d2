"""Stages and rows as frames of the stream, each with the log's proof."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Final, NamedTuple

from broker.audit import Commit, Log, stored_entry
from broker.core import Core
from broker.delivery import Leased
from broker.directory import Member
from broker.in_force import Grants
from broker.services.errors import refusal
from broker.stages import Outcome, Recorded, Refusal, Repeated
from broker.store import tables
from broker.store.interface import Reader
from broker.witnesses import Witnesses
from zhifu import manifest, presentation
from zhifu.errors import Error, Refused
from zhifu.receipt import Entry, Head, LogProof
from zhifu.v1 import exchange_pb2, signed_pb2

FRAME_BYTES: Final = 4 << 20
"""Of one frame's deliveries: half of what a receiver takes, since 64 long bills would be more."""
DIRECTORY_BYTES: Final = 1 << 20
"""Of one answer's key statements; of a mailbox's, a phone fetches them beside its frames."""
_REST_BYTES: Final = 8192
_AROUND_BYTES: Final = 8
"""What stands around an entry in a list of them."""
_log = logging.getLogger("broker.frames")


class Known:
    """The head that the other end has verified, as far as this stream proved it; it only grows."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def prove(self, log: Log, commit: Commit, begin: int, end: int) -> exchange_pb2.LogProof:
        """The proof of leaves [begin, end); the other end knows ``commit``'s head afterwards."""
        proof = log.proof(commit, begin, end, self.head)
        if commit.size > self.head.size:
            self.head = Head(commit.size, commit.root)
        return proof_message(proof)


def proof_message(proof: LogProof) -> exchange_pb2.LogProof:
    leaves = proof.leaves
    return exchange_pb2.LogProof(
        checkpoint=proof.note,
        range=exchange_pb2.LogRange(
            begin=leaves.begin,
            left=b"".join(leaves.left),
            leaves=b"".join(leaves.leaves),
            right=b"".join(leaves.right),
        ),
        known_size=proof.known_size,
        consistency=b"".join(proof.consistency),
    )


def checkpoint(witnesses: Witnesses, known: Known) -> exchange_pb2.CheckpointFrame:
    """The checkpoint that is to be cosigned; the other end knows its head afterwards."""
    shown, head = witnesses.shown, known.head
    consistency = b"".join(witnesses.consistency(head))
    if shown.commit.size > head.size:
        known.head = Head(shown.commit.size, shown.commit.root)
    return exchange_pb2.CheckpointFrame(checkpoint=shown.note, known_size=head.size, consistency=consistency)


def opening(entry: Entry) -> exchange_pb2.EntryOpening:
    return exchange_pb2.EntryOpening(
        index=entry.index,
        time_ms=entry.time_ms,
        meta_key=entry.meta_key,
        meta=entry.meta,
        detail_key=entry.detail_key,
        detail=entry.detail,
    )


class Told(NamedTuple):
    """A result as its sender is told, with the index of its entry; ``again`` if an earlier commit made it.

    Nothing of the record is in it: it may wait for a sender who reads slowly.
    """

    result: exchange_pb2.Result
    entry: int | None
    again: bool


def told(one: Outcome) -> Told:
    """What is kept of an outcome until it is sent."""
    return Told(_result(one), one.entry.index if one.entry is not None else None, isinstance(one, Repeated))


def results(found: Sequence[Told], commit: Commit, log: Log, known: Known) -> Iterator[exchange_pb2.ResultFrame]:
    """One frame for what this commit recorded, and one for each commit of before that retries ask for again."""
    fresh = [one for one in found if not one.again]
    if fresh:
        indices = [one.entry for one in fresh if one.entry is not None]
        proof = known.prove(log, commit, min(indices), max(indices) + 1) if indices else None
        yield exchange_pb2.ResultFrame(proof=proof, results=[one.result for one in fresh])
    again = [(one.entry, one.result) for one in found if one.again and one.entry is not None]
    again.sort(key=itemgetter(0))
    while again:
        older = log.commit_of(again[0][0])
        group = [one for one in again if one[0] < older.size]
        again = again[len(group) :]
        proof = known.prove(log, older, group[0][0], group[-1][0] + 1)
        yield exchange_pb2.ResultFrame(proof=proof, results=[result for _, result in group])


def _result(one: Outcome) -> exchange_pb2.Result:
    if isinstance(one, Refusal):
        entry = opening(one.entry) if one.entry is not None else None
        return exchange_pb2.Result(presentation_hash=one.hash, refusal=refusal(one.error), entry=entry)
    if isinstance(one, Recorded):
        digest = one.gated.consented.submission.hash
        return exchange_pb2.Result(presentation_hash=digest, entry=opening(one.entry), released=one.gated.released)
    return exchange_pb2.Result(presentation_hash=one.hash, entry=opening(one.entry), released=one.released)


def deliveries(leased: Sequence[Leased], core: Core, known: Known) -> Iterator[exchange_pb2.DeliveryFrame]:
    """Rows as frames, each of one accepting commit and of `FRAME_BYTES` or one row.

    Grants are checked again here, and only then are shares derived.
    """
    left, now = list(leased), core.now()
    while left:
        commit = core.log.commit_of(left[0].row.entry)
        group = _fitting([one for one in left if one.row.entry < commit.size])
        left = left[len(group) :]
        grants = core.in_force.now(now)
        parcels = [parcel for parcel in (_delivery(one, core, grants) for one in group) if parcel is not None]
        if parcels:
            proof = known.prove(core.log, commit, group[0].row.entry, group[-1].row.entry + 1)
            yield exchange_pb2.DeliveryFrame(proof=proof, deliveries=parcels)


def _fitting(group: Sequence[Leased]) -> Sequence[Leased]:
    """The first of ``group`` that a receiver's cap has room for, and the first one whatever its size."""
    room = FRAME_BYTES
    for count, one in enumerate(group):
        room -= len(one.row.leaves) + len(one.row.capsule) + _REST_BYTES
        if room < 0 and count:
            return group[:count]
    return group


def _delivery(leased: Leased, core: Core, grants: Grants) -> exchange_pb2.Delivery | None:
    """None: withheld. The revocation's own transaction, or the sweep, ends the exchange and tells the sender."""
    row, grant, reader = leased.row, None, core.store.reader
    try:
        if row.grant_hash:
            grant = grants(row.grant_hash)
        bound = reader.get(tables.Ticket, row.ticket_hash) if row.ticket_hash else None
        envelope = signed_pb2.Envelope.FromString(row.envelope)
        shown = presentation.parse(envelope.payload)
        shares = core.gate.shares(shown, manifest.parse(row.manifest), row.released, reader)
    except Error as error:
        if error.retryable or error.reason == "log.corrupt":
            raise
        # One that cannot go must not keep the others from going.
        _log.warning("delivery withheld", extra={"reason": error.reason})
        return None
    return exchange_pb2.Delivery(
        presentation=envelope,
        manifest=row.manifest,
        released=row.released,
        leaves=row.leaves,
        shares=shares,
        capsule=row.capsule,
        grant=grant,
        entry=opening(leased.opening or stored_entry(row.entry, reader)),
        attempt=leased.attempt,
        ticket=signed_pb2.Envelope.FromString(bound.envelope) if bound is not None else None,
    )


def notices(
    rows: Sequence[tables.Notice], log: Log, known: Known, reader: Reader
) -> Iterator[exchange_pb2.NoticeFrame]:
    """Notices as frames, in the order of their ids, since a node's cursor passes over what comes after a larger one.

    Those that the broker recorded itself come with their entries' proof, as many together as one commit recorded. One
    whose entry was erased since is passed over: nobody could open it, and it must not keep the others from going.
    """
    for is_signed, run in groupby(rows, lambda row: row.entry < 0):
        if is_signed:
            yield exchange_pb2.NoticeFrame(notices=[_notice(row, None) for row in run])
            continue
        left = list(run)
        while left:
            commit = log.commit_of(left[0].entry)
            group = _recorded_by(commit, left)
            left = left[len(group) :]
            told = [notice for row in group if (notice := _proven(row, reader)) is not None]
            if told:
                proof = known.prove(log, commit, group[0].entry, max(row.entry for row in group) + 1)
                yield exchange_pb2.NoticeFrame(proof=proof, notices=told)


def _proven(row: tables.Notice, reader: Reader) -> exchange_pb2.Notice | None:
    """With its entry; None where that was erased."""
    try:
        return _notice(row, stored_entry(row.entry, reader))
    except Refused as error:
        if error.reason != "erasure.erased":
            raise
        return None


def _recorded_by(commit: Commit, rows: Sequence[tables.Notice]) -> Sequence[tables.Notice]:
    """The first of ``rows`` whose entries stand in ``commit`` from the first one's on."""
    first = rows[0].entry
    return list(takewhile(lambda row: first <= row.entry < commit.size, rows))


def _notice(row: tables.Notice, entry: Entry | None) -> exchange_pb2.Notice:
    acknowledgement = signed_pb2.Envelope.FromString(row.acknowledgement) if row.acknowledgement else None
    return exchange_pb2.Notice(
        presentation_hash=row.exchange,
        state=row.state,
        acknowledgement=acknowledgement,
        entry=opening(entry) if entry is not None else None,
        id=row.id,
    )


def directory(members: Iterable[Member]) -> Iterator[list[exchange_pb2.DirectoryEntry]]:
    """Members as a receiver takes them: in parts of at most `DIRECTORY_BYTES`. A statement has about 2.5 KB."""
    part, size = list[exchange_pb2.DirectoryEntry](), 0
    for one in map(directory_entry, members):
        size += one.ByteSize() + _AROUND_BYTES
        if part and size > DIRECTORY_BYTES:
            yield part
            part, size = [], one.ByteSize() + _AROUND_BYTES
        part.append(one)
    if part:
        yield part


def directory_entry(one: Member) -> exchange_pb2.DirectoryEntry:
    return exchange_pb2.DirectoryEntry(
        participant=one.id, role=one.role, name=one.name, key_statement=one.envelope.to_proto()
    )
