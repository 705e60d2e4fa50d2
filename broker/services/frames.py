"""Stages and rows as frames of the stream, each with the log's proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.audit import Commit, Log, stored_entry
from broker.consent import Consent
from broker.directory import Member
from broker.gate import Gate
from broker.services.errors import refusal
from broker.stages import Outcome, Recorded, Refusal, Repeated
from broker.store import tables
from broker.store.interface import Reader
from zhifu import manifest, presentation
from zhifu.errors import NotAuthentic, Refused
from zhifu.receipt import Entry, Head, LogProof
from zhifu.v1 import exchange_pb2, signed_pb2


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


def opening(entry: Entry) -> exchange_pb2.EntryOpening:
    return exchange_pb2.EntryOpening(
        index=entry.index,
        time_ms=entry.time_ms,
        meta_key=entry.meta_key,
        meta=entry.meta,
        detail_key=entry.detail_key,
        detail=entry.detail,
    )


def results(outcomes: Sequence[Outcome], commit: Commit, log: Log, known: Known) -> Iterator[exchange_pb2.ResultFrame]:
    """One frame for what this commit recorded, and one for each older commit that a retry asked for again."""
    fresh = [one for one in outcomes if not isinstance(one, Repeated)]
    if fresh:
        indices = [one.entry.index for one in fresh if one.entry is not None]
        proof = known.prove(log, commit, min(indices), max(indices) + 1) if indices else None
        yield exchange_pb2.ResultFrame(proof=proof, results=[_result(one) for one in fresh])
    for one in outcomes:
        if isinstance(one, Repeated):
            older = commit_of(one.entry.index, log, log.reader)
            proof = known.prove(log, older, one.entry.index, one.entry.index + 1)
            yield exchange_pb2.ResultFrame(proof=proof, results=[_result(one)])


def _result(one: Outcome) -> exchange_pb2.Result:
    if isinstance(one, Refusal):
        entry = opening(one.entry) if one.entry is not None else None
        return exchange_pb2.Result(presentation_hash=one.hash, refusal=refusal(one.error), entry=entry)
    if isinstance(one, Recorded):
        digest = one.gated.consented.submission.hash
        return exchange_pb2.Result(presentation_hash=digest, entry=opening(one.entry), released=one.gated.released)
    return exchange_pb2.Result(presentation_hash=one.hash, entry=opening(one.entry), released=one.released)


def commit_of(entry: int, log: Log, reader: Reader) -> Commit:
    """The commit that accepted an entry: the smallest checkpoint above its index.

    Raises `NotAuthentic` (log.corrupt).
    """
    found = reader.find(tables.Checkpoint, after=entry, limit=1)
    if not found:
        raise NotAuthentic("log.corrupt", "an entry without a checkpoint")
    return Commit(0, found[0].size, found[0].root, found[0].note)


def deliveries(
    rows: Sequence[tables.Delivery], log: Log, known: Known, gate: Gate, reader: Reader, now: int
) -> Iterator[exchange_pb2.DeliveryFrame]:
    """Rows as frames, one for each accepting commit; ``now`` is Unix s.

    Grants are checked again here, and only then are shares derived.
    """
    left = list(rows)
    while left:
        commit = commit_of(left[0].entry, log, reader)
        group = [row for row in left if row.entry < commit.size]
        left = left[len(group) :]
        parcels = [one for one in (_delivery(row, gate, reader, now) for row in group) if one is not None]
        if parcels:
            proof = known.prove(log, commit, group[0].entry, group[-1].entry + 1)
            yield exchange_pb2.DeliveryFrame(proof=proof, deliveries=parcels)


def _delivery(row: tables.Delivery, gate: Gate, reader: Reader, now: int) -> exchange_pb2.Delivery | None:
    grant = None
    if row.grant_hash:
        stored = reader.get(tables.Grant, row.grant_hash)
        try:
            if stored is None:
                raise Refused("consent.unknown")
            Consent.check_status(stored, reader, now)
        except Refused:
            # Withheld: the revocation's own transaction, or the sweep, ends the exchange and tells the sender.
            return None
        grant = signed_pb2.Envelope.FromString(stored.envelope)
    envelope = signed_pb2.Envelope.FromString(row.envelope)
    shown = presentation.parse(envelope.payload)
    shares = gate.shares(shown, manifest.parse(row.manifest), row.released, reader)
    return exchange_pb2.Delivery(
        presentation=envelope,
        manifest=row.manifest,
        released=row.released,
        leaves=row.leaves,
        shares=shares,
        capsule=row.capsule,
        grant=grant,
        entry=opening(stored_entry(row.entry, reader)),
    )


def notices(
    rows: Sequence[tables.Notice], log: Log, known: Known, reader: Reader
) -> Iterator[exchange_pb2.NoticeFrame]:
    """Notices as frames; those that the broker recorded itself come with their entry's proof."""
    signed = [row for row in rows if row.entry < 0]
    if signed:
        yield exchange_pb2.NoticeFrame(notices=[_notice(row, None) for row in signed])
    for row in rows:
        if row.entry >= 0:
            proof = known.prove(log, commit_of(row.entry, log, reader), row.entry, row.entry + 1)
            entry = stored_entry(row.entry, reader)
            yield exchange_pb2.NoticeFrame(proof=proof, notices=[_notice(row, entry)])


def _notice(row: tables.Notice, entry: Entry | None) -> exchange_pb2.Notice:
    acknowledgement = signed_pb2.Envelope.FromString(row.acknowledgement) if row.acknowledgement else None
    return exchange_pb2.Notice(
        presentation_hash=row.exchange,
        state=row.state,
        acknowledgement=acknowledgement,
        entry=opening(entry) if entry is not None else None,
        id=row.id,
    )


def directory_entry(one: Member) -> exchange_pb2.DirectoryEntry:
    return exchange_pb2.DirectoryEntry(
        participant=one.id, role=one.role, name=one.name, key_statement=one.envelope.to_proto()
    )
