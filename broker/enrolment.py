"""Enrolment of participants by one-time invite, and of subject keys by two attestations (DESIGN 4.4, section 5)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence as Seq
from typing import Final

from broker import directory, subject_keys
from broker.audit import Sequence
from broker.directory import Directory
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import statement
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.keys import Alg, check_signing_key, key_id, participant_id
from zhifu.receipt import Detail, Entry, Meta
from zhifu.subject_key import SignedChange

ROLES: Final = ("hospital", "public-payer", "insurer", "auditor")
INVITE_LIFETIME_MS: Final = 7 * 86_400_000


def code_hash(code: str) -> bytes:
    """What is stored of an invite's code: 128 random bits need no slow hash."""
    return hashlib.sha256(b"zhifu/v1 invite\0" + code.encode()).digest()


def invite(role: str, name: str, state: Transaction, now_ms: int, scope: bytes = b"") -> str:
    """A new one-time code for a participant with this role and legal name.

    An auditor may be one of a single participant, ``scope``. Raises `Refused` (usage.argument, participant.unknown).
    """
    if role not in ROLES or not 1 <= len(name) <= 128:
        raise Refused("usage.argument", f"a role is one of {', '.join(ROLES)}; a name has 1 to 128 characters")
    if scope and role != "auditor":
        raise Refused("usage.argument", "only an auditor is invited for one participant")
    if scope and state.get(tables.Participant, scope) is None:
        raise Refused("participant.unknown")
    code = secrets.token_urlsafe(16)
    state.insert(tables.Invite, [(code_hash(code), role, name, now_ms + INVITE_LIFETIME_MS, b"", scope)])
    return code


def redeem(code: str, spki: bytes, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int) -> bytes:
    """Enrol the participant whose identity key signed ``signed``, with the invite's role and name; its id.

    The statement lists the TLS key of the certificate request (``spki``, its SHA-256).
    Raises `Refused` (enrolment.*), `NotAuthentic`, `Malformed`.
    """
    row = state.get(tables.Invite, code_hash(code))
    if row is None or row.used_by or now_ms > row.expires_ms:
        raise Refused("enrolment.invite")
    participant = statement.claimed_participant(signed)
    found = statement.verify_key_statement(signed, participant, now_ms // 1000)
    if spki not in found.tls_spki:
        raise Refused("enrolment.csr", "the key statement does not list the TLS key")
    directory.enrol(participant, row.role, row.name, signed, state, sequence, now_ms, row.scope)
    state.update(tables.Invite, {"used_by": participant}, code_hash=row.code_hash)
    return participant


def enrol_subject(
    key: bytes,
    attestations: Seq[Envelope],
    further: Seq[SignedChange],
    known: Directory,
    origin: str,
    state: Transaction,
    sequence: Sequence,
    now_ms: int,
) -> Entry:
    """A patient's key for one (hospital, recipient) pair: attested by two organisations, with a way back if it is lost.

    Raises `Refused` (consent.not_attested, consent.one_key), `NotAuthentic` (consent.weak_key, key.*), `Malformed`.
    """
    if not further:
        raise Refused("consent.one_key")
    check_signing_key(key)
    now = now_ms // 1000
    attesters = [one for one in known.members if one.status == "active" and now <= one.statement.not_after]
    keys = {one.id: one.statement.signing_key for one in attesters}
    found = [statement.verify_attestation(one, keys, now) for one in attestations]
    if any(one.subject_key != key for one in found) or len({one.attester for one in found}) < 2:
        raise Refused("consent.not_attested")
    if state.get(tables.Subject, participant_id(key)) is not None:
        raise Refused("enrolment.exists", "the subject key is enrolled already")
    subject = participant_id(key)
    state.insert(tables.Subject, [(subject, key_id(Alg.ED25519, key), key, "active", now_ms)])
    documents = tuple(one.to_bytes() for one in attestations)
    entry = sequence.record(Meta("subject.enrolled"), Detail(subject=subject, documents=documents), now_ms)
    state.insert(tables.Attested, [(subject, place, document) for place, document in enumerate(documents)])
    for one in further:
        subject_keys.change(one, origin, state, sequence, now_ms)
    return entry


def subject_of(signer: bytes, state: Reader) -> tables.Subject:
    """The active subject whose own key has this key id: what only she may do. Raises `NotAuthentic`
    (consent.key_status).
    """
    found = state.find(tables.Subject, key_id=signer)
    if not found or found[0].status != "active":
        raise NotAuthentic("consent.key_status")
    return found[0]
