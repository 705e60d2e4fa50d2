"""Parcels that patients leave for insurers: sealed chunks, kept until they are taken, withdrawn or over (DESIGN 5).

The subject's signature over recipient and digests is the consent; the broker checks each chunk against its digest and
can open none. What is left, taken and withdrawn stands in the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker import delivery
from broker.audit import Sequence
from broker.directory import Directory
from broker.enrolment import subject_of
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import consent, envelope, parcel
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.parcel import Parcel
from zhifu.receipt import Detail, Entry, Meta
from zhifu.v1 import signed_pb2

KEPT_MS: Final = 30 * 86_400_000
"""How long a parcel waits for its chunks, or for its recipient."""
MOST_OPEN: Final = 16
MOST_CHUNKS: Final = 2 * parcel.MAX_CHUNKS
"""Of one subject at a time: some 128 MiB."""
NOTICE: Final = "parcel"
_WAITING: Final = ("open", "complete")


@dataclass(frozen=True, slots=True)
class Left:
    """Where a parcel stands, and the places of the chunks that have not come."""

    state: str
    missing: tuple[int, ...]


def leave(signed: Envelope, origin: str, known: Directory, state: Transaction, now_ms: int) -> Left:
    """Take a parcel's signed word; again, it says what is missing.

    Raises `NotAuthentic` (consent.key_status, signature.invalid), `Malformed`, `Refused` (consent.wrong_audience,
    consent.not_attested, participant.*, unavailable.overload).
    """
    subject = subject_of(signed.key_id, state)
    shown = parcel.verify(signed, subject.public_key)
    digest = parcel.hash_of(signed.payload)
    row = state.get(tables.Parcel, digest)
    if row is not None:
        return Left(row.state, missing(row, state))
    if shown.aud != origin:
        raise Refused("consent.wrong_audience")
    _check_recipient(shown.recipient, subject, known, state)
    waiting = [one for one in state.find(tables.Parcel, subject=subject.id) if one.state in _WAITING]
    if len(waiting) >= MOST_OPEN or sum(one.chunks for one in waiting) + len(shown.digests) > MOST_CHUNKS:
        raise Refused("unavailable.overload", "too much waits for its recipients: try again later")
    until = min(now_ms + KEPT_MS, shown.erase_at * 1000)
    count = len(shown.digests)
    state.insert(
        tables.Parcel, [(digest, subject.id, shown.recipient, signed.to_bytes(), count, "open", until, -1)]
    )  # fmt: skip
    return Left("open", tuple(range(count)))


def _check_recipient(recipient: bytes, subject: tables.Subject, known: Directory, state: Reader) -> None:
    """An insurer that attested her key: nobody else is sent parcels by strangers."""
    known.check_active(recipient)
    documents = [row.document for row in state.find(tables.Attested, subject=subject.id)]
    signed = [envelope.from_bytes(envelope.ATTESTATION, one) for one in documents]
    attesters = {signed_pb2.Attestation.FromString(one.payload).attester for one in signed}
    if known.standing(recipient)[0] != "insurer" or recipient not in attesters:
        raise Refused("consent.not_attested", "a parcel goes to an insurer that attested the key it is signed with")


def missing(row: tables.Parcel, state: Reader) -> tuple[int, ...]:
    """Places without a chunk; none once it is complete."""
    if row.state != "open":
        return ()
    return tuple(place for place in range(row.chunks) if state.get(tables.Chunk, row.hash, place) is None)


def put(
    digest: bytes, place: int, chunk: bytes, state: Transaction, sequence: Sequence, now_ms: int
) -> tuple[int, bytes]:
    """Keep a chunk; how many are missing, and the node that has a notice now, empty unless this was the last.

    Raises `Refused` (exchange.unknown, exchange.state), `NotAuthentic` (leaf.digest), `Malformed` (malformed.size).
    """
    row = _row(digest, state)
    if row.state in ("complete", "taken"):
        return 0, b""
    if row.state != "open":
        raise Refused("exchange.state", f"the parcel is {row.state}")
    parcel.check_chunk(_shown(row), place, chunk)
    if state.get(tables.Chunk, digest, place) is None:
        state.insert(tables.Chunk, [(digest, place, chunk)])
    left = len(missing(row, state))
    if left:
        return left, b""
    document = (row.envelope,)
    detail = Detail(exchange=digest, subject=row.subject, documents=document)
    entry = sequence.record(Meta("parcel.left", recipient=row.recipient), detail, now_ms)
    state.update(tables.Parcel, {"state": "complete", "entry": entry.index}, hash=digest)
    delivery.notify(state, row.recipient, digest, NOTICE, entry=entry.index)
    return 0, row.recipient


def fetch(digest: bytes, recipient: bytes, state: Reader) -> tables.Parcel:
    """A complete parcel, for its recipient alone. Raises `Refused` (exchange.unknown, exchange.state)."""
    row = state.get(tables.Parcel, digest)
    if row is None or row.recipient != recipient:
        raise Refused("exchange.unknown")
    if row.state not in ("complete", "taken"):
        raise Refused("exchange.state", f"the parcel is {row.state}")
    return row


def take(digest: bytes, recipient: bytes, state: Transaction, sequence: Sequence, now_ms: int) -> None:
    """The recipient has every chunk: they are deleted here; again, it changes nothing. Raises as `fetch`."""
    row = fetch(digest, recipient, state)
    if row.state == "complete":
        sequence.record(Meta("parcel.taken", sender=recipient), Detail(exchange=digest, subject=row.subject), now_ms)
        _end(row, "taken", state)


def withdraw(
    signed: Envelope, origin: str, state: Transaction, sequence: Sequence, now_ms: int
) -> tuple[Entry, bool, bytes]:
    """The subject takes a parcel back: (the entry, whether it had been taken, the recipient, who is told to erase it).

    Raises `NotAuthentic` (consent.*), `Refused` (consent.unknown, exchange.state), `Malformed`.
    """
    subject = subject_of(signed.key_id, state)
    said = consent.verify_revocation(signed, subject.public_key, origin)
    row = state.get(tables.Parcel, said.grant_hash) if said.grant_hash else None
    if row is None or row.subject != subject.id:
        raise Refused("consent.unknown")
    if row.state in ("withdrawn", "expired"):
        raise Refused("exchange.state", f"the parcel is {row.state}")
    taken = row.state == "taken"
    detail = Detail(exchange=row.hash, subject=subject.id, documents=(signed.to_bytes(),))
    entry = sequence.record(Meta("parcel.withdrawn", recipient=row.recipient), detail, now_ms)
    if row.entry >= 0:
        state.insert(tables.Deletion, [(row.hash, row.recipient, b"", -1)])
        delivery.notify(state, row.recipient, row.hash, "delete", entry=entry.index)
    _end(row, "withdrawn", state)
    return entry, taken, row.recipient


def overdue(state: Reader, now_ms: int) -> list[tables.Parcel]:
    """Parcels that nobody completed or took in time."""
    waiting = (row for word in _WAITING for row in state.find(tables.Parcel, state=word))
    return [row for row in waiting if row.until_ms < now_ms]


def lapse(state: Transaction, now_ms: int) -> None:
    """End what is overdue: its chunks go."""
    for row in overdue(state, now_ms):
        _end(row, "expired", state)


def _end(row: tables.Parcel, outcome: str, state: Transaction) -> None:
    state.delete(tables.Chunk, parcel=row.hash)
    state.update(tables.Parcel, {"state": outcome}, hash=row.hash)


def _row(digest: bytes, state: Reader) -> tables.Parcel:
    row = state.get(tables.Parcel, digest)
    if row is None:
        raise Refused("exchange.unknown")
    return row


def _shown(row: tables.Parcel) -> Parcel:
    return parcel.parse(envelope.from_bytes(parcel.PARCEL, row.envelope).payload)
