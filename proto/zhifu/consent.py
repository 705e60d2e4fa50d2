"""Consent: requests that a hospital signs, grants that a patient signs, and their revocation (DESIGN section 5)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, Alg, check_signing_key, key_id, participant_id
from zhifu.presentation import PURPOSES, Presentation
from zhifu.schema import by_hash, within
from zhifu.v1 import signed_pb2

MAX_USES: Final = 1000
MAX_LIFETIME_S: Final = 400 * 86_400
MAX_REASON: Final = 64
_REMEMBERED: Final = 1024

Scopes = tuple[tuple[bytes, bytes], ...]
"""(schema hash, finest level of each unit), ascending by schema hash."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A patient's consent to one recipient for one purpose and encounter. Times are Unix s."""

    grant_id: bytes
    subject_key: bytes
    aud: str
    purpose: str
    sender: bytes
    recipient: bytes
    encounter: bytes
    scopes: Scopes
    max_uses: int
    not_before: int
    expiry: int
    issued_at: int
    mode: signed_pb2.GrantMode
    cnf: bytes
    data_erase_at: int
    terms: bytes
    request_hash: bytes
    wallet_key: bytes

    @property
    def subject(self) -> bytes:
        """The id of the subject key: the patient's name on the wire, one for each (hospital, recipient) pair."""
        return participant_id(self.subject_key)

    def levels(self, schema_hash: bytes) -> bytes | None:
        """The finest level of each unit that the patient allows for records of this schema; None if none."""
        for scope_hash, levels in self.scopes:
            if hmac.compare_digest(scope_hash, schema_hash):
                return levels
        return None

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed by the subject key."""
        message = signed_pb2.Grant(version=VERSION, suite=SUITE, scopes=_scopes_to_proto(self.scopes))
        for name in self.__slots__:
            if name != "scopes":
                setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)

    def sign(self, key: SigningKey) -> Envelope:
        """The grant in an envelope signed by its subject key."""
        return envelope.seal_one(envelope.GRANT, self.to_bytes(), key)


_PLAIN: Final = tuple(name for name in Grant.__slots__ if name != "scopes")
_IDS: Final = ("subject_key", "sender", "recipient", "cnf", "terms", "request_hash", "wallet_key")


def hash_of(payload: bytes) -> bytes:
    """SHA-256 of a grant's (or request's) payload: how everything else names it."""
    return hashlib.sha256(payload).digest()


def short_code(payload: bytes) -> str:
    """Six digits of a request's hash, on the cashier's screen and the phone's: nobody slips in another request."""
    number = int.from_bytes(hash_of(payload)[:8], "big") % 10**6
    return f"{number // 1000:03d} {number % 1000:03d}"


@lru_cache(_REMEMBERED)
def verify_grant(signed: Envelope, known_key: bytes | None = None) -> Grant:
    """The grant in ``signed``, by ``known_key`` where the verifier has the subject key enrolled.

    What its bytes say does not change, so the last ones that held are remembered; whether it stands is asked elsewhere.
    Order: size cap, key id, signature, strict parse, inner key equal (DESIGN section 5). A ``known_key`` was checked
    when it was enrolled; without one the key is read from the payload, so the caller must still find it attested.
    Raises `Malformed`, `NotAuthentic` (consent.signature, consent.weak_key).
    """
    if len(signed.payload) > signed.kind.cap:
        raise Malformed("malformed.size", "the grant is too large")
    key = known_key or _peek_subject_key(signed.payload)
    if known_key is None:
        check_signing_key(key)
    try:
        envelope.verify(signed, key)
    except NotAuthentic as error:
        raise NotAuthentic("consent.signature") from error
    message = strict.parse(signed_pb2.Grant, signed.payload, signed.kind.cap)
    if not hmac.compare_digest(key_id(Alg.ED25519, message.subject_key), signed.key_id):
        raise NotAuthentic("consent.signature", "the grant names another subject key")
    return _read_grant(message)


def _peek_subject_key(payload: bytes) -> bytes:
    message = signed_pb2.Grant()
    try:
        message.ParseFromString(payload)
    except Exception as error:  # upb's DecodeError
        raise Malformed("malformed.encoding", "not a grant") from error
    return strict.exactly("subject_key", message.subject_key, 32)


def _read_grant(message: signed_pb2.Grant) -> Grant:
    fields = {name: getattr(message, name) for name in _PLAIN}
    if fields["purpose"] not in PURPOSES or fields["mode"] == signed_pb2.GRANT_MODE_UNSPECIFIED:
        raise Malformed("malformed.field", "unknown purpose or mode")
    for name in _IDS:
        strict.exactly(name, fields[name], 32)
    for name in ("grant_id", "encounter"):
        strict.exactly(name, fields[name], 16)
    for name in ("not_before", "expiry", "issued_at", "data_erase_at"):
        strict.positive(name, fields[name])
    strict.positive("max_uses", fields["max_uses"], MAX_USES)
    if not fields["not_before"] < fields["expiry"] <= fields["not_before"] + MAX_LIFETIME_S:
        raise Malformed("malformed.field", "the grant's period is not usable")
    return Grant(**fields, scopes=_read_scopes(message.scopes))


def _scopes_to_proto(scopes: Scopes) -> list[signed_pb2.Scope]:
    return [signed_pb2.Scope(schema_hash=schema_hash, levels=levels) for schema_hash, levels in scopes]


def _read_scopes(messages: Sequence[signed_pb2.Scope]) -> Scopes:
    found = tuple((strict.exactly("schema_hash", m.schema_hash, 32), m.levels) for m in messages)
    hashes = [schema_hash for schema_hash, _ in found]
    if not hashes or hashes != sorted(set(hashes)) or len(hashes) > 16:
        raise Malformed("malformed.field", "scopes are missing, repeated or out of order")
    for schema_hash, levels in found:
        by_hash(schema_hash).check_levels(levels)
    return found


def check_use(grant: Grant, presentation: Presentation, schema_hash: bytes, now: int) -> None:
    """Whether ``presentation`` stays within ``grant`` at ``now`` (Unix s); broker and recipient both ask.

    Order: time and audience, sender is ``cnf``, recipient, purpose, encounter, units. Raises `Refused` (consent.*).
    Key status and the number of uses are state, which only the broker has.
    """
    _check_period(grant, now)
    if grant.aud != presentation.aud:
        raise Refused("consent.wrong_audience")
    if presentation.sender not in (grant.cnf,) or grant.sender != presentation.sender:
        raise Refused("consent.wrong_sender")
    if grant.recipient != presentation.recipient:
        raise Refused("consent.wrong_recipient")
    if grant.purpose != presentation.purpose:
        raise Refused("consent.wrong_purpose")
    if grant.encounter != presentation.encounter:
        raise Refused("consent.wrong_encounter")
    allowed = grant.levels(schema_hash)
    if allowed is None or not within(presentation.ceilings, allowed):
        raise Refused("consent.exceeded")


def _check_period(grant: Grant, now: int) -> None:
    if now < grant.not_before:
        raise Refused("consent.not_yet")
    if now > grant.expiry:
        raise Refused("consent.expired")


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What a hospital asks a patient for; ``terms`` is strict CBOR ``[1, cap in fen or null, language, notice]``."""

    request_id: bytes
    aud: str
    purpose: str
    sender: bytes
    recipient: bytes
    encounter: bytes
    scopes: Scopes
    max_uses: int
    issued_at: int
    expiry: int
    data_erase_at: int
    terms_salt: bytes
    terms: bytes
    subject_key: bytes
    mode: signed_pb2.GrantMode = signed_pb2.GRANT_MODE_UNSPECIFIED

    @property
    def grant_mode(self) -> signed_pb2.GrantMode:
        """The mode of the grant that is asked for: a request that says nothing asks for one of mode REQUEST."""
        return self.mode or signed_pb2.GRANT_MODE_REQUEST

    def sign(self, key: SigningKey) -> Envelope:
        message = signed_pb2.ConsentRequest(version=VERSION, suite=SUITE, scopes=_scopes_to_proto(self.scopes))
        for name in self.__slots__:
            if name != "scopes":
                setattr(message, name, getattr(self, name))
        return envelope.seal_one(envelope.REQUEST, message.SerializeToString(deterministic=True), key)


def verify_request(signed: Envelope, signing_key: bytes) -> ConsentRequest:
    """A request by the participant whose statement lists ``signing_key``. Raises `Malformed`, `NotAuthentic`."""
    envelope.verify(signed, signing_key)
    message = strict.parse(signed_pb2.ConsentRequest, signed.payload, signed.kind.cap)
    for name in ("sender", "recipient", "terms_salt", "subject_key"):
        strict.exactly(name, getattr(message, name), 32)
    for name in ("request_id", "encounter"):
        strict.exactly(name, getattr(message, name), 16)
    for name in ("issued_at", "expiry", "data_erase_at"):
        strict.positive(name, getattr(message, name))
    strict.positive("max_uses", message.max_uses, MAX_USES)
    if message.purpose not in PURPOSES or message.mode == signed_pb2.GRANT_MODE_REQUEST:
        raise Malformed("malformed.field", "unknown purpose, or a mode that goes without saying")
    fields = {name: getattr(message, name) for name in ConsentRequest.__slots__ if name != "scopes"}
    return ConsentRequest(**fields, scopes=_read_scopes(message.scopes))


def narrow(requested: Scopes, wanted: Scopes) -> Scopes:
    """``wanted`` if it only narrows ``requested``.

    Raises `Refused` (consent.exceeded): a patient is never made to widen.
    """
    allowed = dict(requested)
    for schema_hash, levels in wanted:
        if schema_hash not in allowed or not within(levels, allowed[schema_hash]):
            raise Refused("consent.exceeded", "a grant may only narrow what was asked")
    return wanted


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a grant, or of every grant of a subject; final. ``issued_at`` is Unix s.

    ``by`` says in which capacity the signer stops it, ``reason`` why, where an operator does.
    """

    aud: str
    grant_hash: bytes
    issued_at: int
    subject: bytes = b""
    by: signed_pb2.Revoker = signed_pb2.REVOKER_UNSPECIFIED
    reason: str = ""

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed."""
        message = signed_pb2.Revocation(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)

    def sign(self, key: SigningKey) -> Envelope:
        return envelope.seal_one(envelope.REVOCATION, self.to_bytes(), key)


def verify_revocation(signed: Envelope, key: bytes, aud: str) -> Revocation:
    """A revocation for the log ``aud``, signed by ``key``; whether its holder may stop the grant is the caller's to
    ask.

    Raises `Malformed`, `NotAuthentic` (consent.signature), `Refused` (consent.wrong_audience).
    """
    try:
        envelope.verify(signed, key)
    except NotAuthentic as error:
        raise NotAuthentic("consent.signature") from error
    found = parse_revocation(signed.payload)
    if found.aud != aud:
        raise Refused("consent.wrong_audience")
    return found


def parse_revocation(payload: bytes) -> Revocation:
    """A verified payload, strictly. Raises `Malformed`."""
    message = strict.parse(signed_pb2.Revocation, payload, envelope.REVOCATION.cap)
    if bool(message.subject) == bool(message.grant_hash):
        raise Malformed("malformed.field", "a revocation names either a grant or a subject")
    strict.optional("grant_hash", message.grant_hash, 32)
    strict.optional("subject", message.subject, 32)
    if (message.by == signed_pb2.REVOKER_HOTLINE) != bool(message.reason) or len(message.reason) > MAX_REASON:
        raise Malformed("malformed.field", "an operator says why, in at most 64 characters, and nobody else does")
    return Revocation(**{name: getattr(message, name) for name in Revocation.__slots__})
