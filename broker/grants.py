"""Grants as state: registered once, revoked for good, in the same transaction as what depends on them (DESIGN
section 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker import delivery
from broker.audit import Sequence
from broker.directory import Directory
from broker.enrolment import subject_of
from broker.store import tables
from broker.store.interface import Transaction
from zhifu import consent
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.receipt import Detail, Entry, Meta


@dataclass(frozen=True, slots=True)
class Registered:
    """A stored grant and its audit entry."""

    grant_hash: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation's entry, and honestly what it came too late for."""

    entry: Entry
    delivered: int
    senders: tuple[bytes, ...]


def register(
    signed: Envelope, origin: str, known: Directory, state: Transaction, sequence: Sequence, now_ms: int
) -> Registered:
    """Store a grant by an enrolled subject key; the same grant again changes nothing.

    Raises `NotAuthentic` (consent.signature, consent.key_status), `Malformed`, `Refused` (consent.*,
    participant.unknown).
    """
    subject = subject_of(signed.key_id, state)
    grant = consent.verify_grant(signed, subject.public_key)
    digest = consent.hash_of(signed.payload)
    if grant.aud != origin:
        raise Refused("consent.wrong_audience")
    if now_ms // 1000 > grant.expiry:
        raise Refused("consent.expired")
    if grant.cnf != grant.sender:
        raise Refused("consent.wrong_sender")
    for party in (grant.sender, grant.recipient):
        known.check_active(party)
    stored = state.get(tables.Grant, digest)
    if stored is not None and stored.status != "active":
        raise Refused("consent.revoked")
    if stored is not None:
        return Registered(digest, sequence.entry(stored.entry, state))
    detail = Detail(grant=digest, subject=subject.id, documents=(signed.to_bytes(),))
    meta = Meta("grant.registered", sender=grant.sender, recipient=grant.recipient, purpose=grant.purpose)
    entry = sequence.record(meta, detail, now_ms)
    row = (digest, signed.to_bytes(), subject.id, grant.cnf, grant.max_uses, 0, grant.expiry, "active", entry.index)
    state.insert(tables.Grant, [row])
    return Registered(digest, entry)


def revoke(signed: Envelope, origin: str, state: Transaction, sequence: Sequence, now_ms: int) -> Revoked:
    """End a grant: no use from here on, and what is queued under it is withdrawn (DESIGN 4.3).

    Raises `NotAuthentic` (consent.signature, consent.key_status), `Refused` (consent.unknown), `Malformed`.
    """
    subject = subject_of(signed.key_id, state)
    said = consent.verify_revocation(signed, subject.public_key, origin)
    row = state.get(tables.Grant, said.grant_hash)
    if row is None or row.subject != subject.id:
        raise Refused("consent.unknown")
    if row.status == "active":
        entry, senders = _end(row, signed, subject.id, state, sequence, now_ms)
    else:
        entry, senders = sequence.entry(row.entry, state), ()
    exchanges = state.find(tables.Exchange, subject=subject.id)
    delivered = sum(one.grant_hash == row.hash and one.state in ("delivered", "answered") for one in exchanges)
    return Revoked(entry, delivered, senders)


def _end(
    row: tables.Grant, signed: Envelope, subject: bytes, state: Transaction, sequence: Sequence, now_ms: int
) -> tuple[Entry, tuple[bytes, ...]]:
    detail = Detail(grant=row.hash, subject=subject, documents=(signed.to_bytes(),))
    entry = sequence.record(Meta("grant.revoked", sender=row.cnf), detail, now_ms)
    state.update(tables.Grant, {"status": "revoked", "entry": entry.index}, hash=row.hash)
    return entry, tuple(delivery.withdraw(row.hash, state, sequence, now_ms))
