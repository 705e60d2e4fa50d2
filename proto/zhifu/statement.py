"""Key statements and the other things a participant says about keys.

Attestations and policy statements (DESIGN 4.4).
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, ristretto, strict
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import (
    SUITE,
    VERSION,
    Alg,
    KemPublic,
    check_kem_public,
    check_signing_key,
    key_id,
    participant_id,
    strongest,
)
from zhifu.pseudonym import MAX_EPOCH, MAX_EPOCHS
from zhifu.v1 import signed_pb2

MAX_LIFETIME_S: Final = 8 * 86_400
SKEW_S: Final = 300
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True, order=True)
class PseudonymKey:
    """The public key of the pseudonym service for one recipient (participant id) and epoch (DESIGN 4.5)."""

    recipient: bytes
    epoch: int
    public_key: bytes


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """A participant's current keys. ``serial`` only rises; ``not_after`` (Unix s) is at most 8 days after issue."""

    participant: bytes
    serial: int
    issued_at: int
    not_after: int
    identity_key: bytes
    signing_key: bytes
    cosigning_key: bytes
    kem_keys: tuple[KemPublic, ...]
    tls_spki: tuple[bytes, ...]
    pseudonym_keys: tuple[PseudonymKey, ...] = ()

    @property
    def signing_key_id(self) -> bytes:
        return key_id(Alg.ED25519, self.signing_key)

    @property
    def kem(self) -> KemPublic:
        """What senders use: the strongest KEM listed."""
        return strongest(self.kem_keys)

    def kem_by_id(self, wanted: bytes) -> KemPublic:
        """The listed KEM key with this id. Raises `NotAuthentic` (key.unknown)."""
        for key in self.kem_keys:
            if hmac.compare_digest(key.id, wanted):
                return key
        raise NotAuthentic("key.unknown", "not a KEM key of this statement")

    def sign(self, identity: SigningKey) -> Envelope:
        """The statement in an envelope signed by the identity key."""
        message = signed_pb2.KeyStatement(
            version=VERSION,
            suite=SUITE,
            participant=self.participant,
            serial=self.serial,
            issued_at=self.issued_at,
            not_after=self.not_after,
            identity_key=self.identity_key,
            signing_key=self.signing_key,
            cosigning_key=self.cosigning_key,
            kem_keys=[signed_pb2.KemKey(alg=k.alg, public_key=k.raw) for k in self.kem_keys],
            tls_spki=self.tls_spki,
            pseudonym_keys=[
                signed_pb2.PseudonymKey(recipient=k.recipient, epoch=k.epoch, public_key=k.public_key)
                for k in self.pseudonym_keys
            ],
        )
        return envelope.seal_one(envelope.KEY_STATEMENT, message.SerializeToString(deterministic=True), identity)


def verify_key_statement(signed: Envelope, participant: bytes, now: int) -> KeyStatement:
    """The key statement of ``participant`` (its pinned id), valid at ``now`` (Unix s).

    1. The identity key in it hashes to the pinned id. 2. That key signed it. 3. It is not expired, not from the
    future, and
    lives at most 8 days. Raises `Malformed`, `NotAuthentic` (key.not_pinned, key.expired, signature.invalid).
    The caller compares ``serial`` with the last one it saw.
    """
    found = verify_stated(signed, participant)
    if not found.issued_at - SKEW_S <= now <= found.not_after:
        raise NotAuthentic("key.expired")
    return found


def verify_stated(signed: Envelope, participant: bytes) -> KeyStatement:
    """What ``participant`` (its pinned id) stated, for the time that the statement itself gives.

    As `verify_key_statement` without what is asked of the time: for whom it was in force when it was of use.
    """
    # The identity key is inside what it signs; nothing of the parse is believed before both checks below.
    message = strict.parse(signed_pb2.KeyStatement, signed.payload, signed.kind.cap)
    identity = strict.exactly("identity_key", message.identity_key, 32)
    if not hmac.compare_digest(participant_id(identity), participant):
        raise NotAuthentic("key.not_pinned")
    envelope.verify(signed, identity)
    found = _read(message)
    if found.participant != participant:
        raise NotAuthentic("key.not_pinned", "the statement names another participant")
    return found


def claimed_participant(signed: Envelope) -> bytes:
    """The id that a statement claims for itself, to be verified next. Raises `Malformed`."""
    message = strict.parse(signed_pb2.KeyStatement, signed.payload, signed.kind.cap)
    return participant_id(strict.exactly("identity_key", message.identity_key, 32))


def _read(message: signed_pb2.KeyStatement) -> KeyStatement:
    kem_keys = tuple(check_kem_public(key.alg, key.public_key) for key in message.kem_keys)
    if not kem_keys or [k.alg for k in kem_keys] != sorted({k.alg for k in kem_keys}):
        raise Malformed("malformed.field", "KEM keys are missing, repeated or out of order")
    if len(set(message.tls_spki)) != len(message.tls_spki):
        raise Malformed("malformed.field", "a TLS key is listed twice")
    for key in (message.identity_key, message.signing_key, message.cosigning_key):
        check_signing_key(key)
    issued, not_after = strict.positive("issued_at", message.issued_at), strict.positive("not_after", message.not_after)
    if not issued < not_after <= issued + MAX_LIFETIME_S:
        raise Malformed("malformed.field", "a key statement lives at most 8 days")
    return KeyStatement(
        participant=strict.exactly("participant", message.participant, 32),
        serial=strict.positive("serial", message.serial, 2**63 - 1),
        issued_at=issued,
        not_after=not_after,
        identity_key=message.identity_key,
        signing_key=message.signing_key,
        cosigning_key=message.cosigning_key,
        kem_keys=kem_keys,
        tls_spki=tuple(strict.exactly("tls_spki", spki, 32) for spki in message.tls_spki),
        pseudonym_keys=_pseudonym_keys(message),
    )


def _pseudonym_keys(message: signed_pb2.KeyStatement) -> tuple[PseudonymKey, ...]:
    """One key for each recipient and epoch, at most two epochs a recipient, ascending: no choice, no tagging."""
    found = tuple(
        PseudonymKey(
            strict.exactly("recipient", key.recipient, 32),
            strict.positive("epoch", key.epoch, MAX_EPOCH),
            ristretto.check_element(key.public_key),
        )
        for key in message.pseudonym_keys
    )
    places = [(key.recipient, key.epoch) for key in found]
    if places != sorted(set(places)):
        raise Malformed("malformed.field", "pseudonym keys are repeated or out of order")
    if any(count > MAX_EPOCHS for count in Counter(key.recipient for key in found).values()):
        raise Malformed("malformed.field", f"a recipient has at most {MAX_EPOCHS} pseudonym keys")
    return found


@dataclass(frozen=True, slots=True)
class Attestation:
    """A participant's word that a subject key belongs to the person it knows (DESIGN section 5)."""

    subject_key: bytes
    attester: bytes
    role: str
    not_after: int

    def sign(self, key: SigningKey) -> Envelope:
        message = signed_pb2.Attestation(
            version=VERSION,
            suite=SUITE,
            subject_key=self.subject_key,
            attester=self.attester,
            role=self.role,
            not_after=self.not_after,
        )
        return envelope.seal_one(envelope.ATTESTATION, message.SerializeToString(deterministic=True), key)


def verify_attestation(signed: Envelope, signing_keys: Mapping[bytes, bytes], now: int) -> Attestation:
    """An attestation by one of the participants in ``signing_keys`` (id -> its Ed25519 signing key).

    Raises `Malformed`, `NotAuthentic` (key.not_pinned, key.expired, signature.invalid).
    """
    # Anybody can state a key that is another's: an id names the key, and its bytes whose word it is.
    may = {one: key for one, key in signing_keys.items() if key_id(Alg.ED25519, key) == signed.key_id}
    if not may:
        raise NotAuthentic("key.not_pinned", "the attester is not pinned here")
    found = _attested(signed, next(iter(may.values())))
    if found.attester not in may:
        raise NotAuthentic("key.not_pinned", "the attestation names another attester than signed it")
    if now > found.not_after:
        raise NotAuthentic("key.expired", "the attestation has expired")
    return found


@lru_cache(_REMEMBERED)
def _attested(signed: Envelope, key: bytes) -> Attestation:
    # What its bytes say does not change; a claim's records carry the same ones.
    envelope.verify(signed, key)
    message = strict.parse(signed_pb2.Attestation, signed.payload, signed.kind.cap)
    subject_key = strict.exactly("subject_key", message.subject_key, 32)
    return Attestation(subject_key, message.attester, message.role, message.not_after)


@dataclass(frozen=True, slots=True)
class PolicyStatement:
    """A registrar's word that a policy bundle is in force until ``not_after`` (Unix s)."""

    registrar: bytes
    policy_hash: bytes
    issued_at: int
    not_after: int

    def sign(self, key: SigningKey) -> Envelope:
        message = signed_pb2.PolicyStatement(
            version=VERSION,
            suite=SUITE,
            registrar=self.registrar,
            policy_hash=self.policy_hash,
            issued_at=self.issued_at,
            not_after=self.not_after,
        )
        return envelope.seal_one(envelope.POLICY, message.SerializeToString(deterministic=True), key)


def verify_policy(signed: Envelope, registrar_key: bytes, policy_hash: bytes, now: int) -> PolicyStatement:
    """The pinned registrar's statement about this very bundle. Raises `Malformed`, `NotAuthentic`."""
    envelope.verify(signed, registrar_key)
    message = strict.parse(signed_pb2.PolicyStatement, signed.payload, signed.kind.cap)
    if not hmac.compare_digest(message.policy_hash, policy_hash):
        raise NotAuthentic("policy.invalid", "the registrar signed another policy bundle")
    if message.registrar != participant_id(registrar_key):
        raise NotAuthentic("key.not_pinned", "the statement names another registrar")
    if not message.issued_at - SKEW_S <= now <= message.not_after:
        raise NotAuthentic("key.expired", "the policy statement has expired")
    return PolicyStatement(message.registrar, message.policy_hash, message.issued_at, message.not_after)
