"""Grants as state: registered once, in the same transaction as what depends on them (DESIGN section 5)."""

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
    """A stored grant and its audit entry; ``told`` is the node that has a notice of it now, if it is new."""

    grant_hash: bytes
    entry: Entry
    told: tuple[bytes, ...] = ()


def refuse(signed: Envelope, reason: str, state: Transaction, sequence: Sequence, now_ms: int) -> None:
    """Record that what was sent in the name of an enrolled key is no grant. Raises `NotAuthentic`
    (consent.key_status): it is in nobody's name.
    """
    detail = Detail(grant=consent.hash_of(signed.payload), subject=subject_of(signed.key_id, state).id)
    sequence.record(Meta("grant.refused", reason=reason), detail, now_ms)


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
    # Whoever may present it need not be handed it: a patient at home answers a request that reached her wallet.
    delivery.notify(state, grant.cnf, digest, "granted", entry=entry.index)
    return Registered(digest, entry, (grant.cnf,))
