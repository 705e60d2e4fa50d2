"""A subject's key log: which further keys may see and stop what a patient granted, and her recovery code (DESIGN
section 5).

Every line is signed by a key that is in force already, and an added key signs it too, so that nobody can list a key
that is not his. A recovery code is a key that can be written down: from it comes one key for each (hospital,
recipient), so that it links no two of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, check_signing_key
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import KEY_CHANGE_ADD, KEY_CHANGE_UNSPECIFIED, KEY_ROLE_UNSPECIFIED

CODE_BYTES: Final = 20
RECOVERY_DELAY_S: Final = 24 * 3600
"""How long a device that only the recovery code vouches for waits, while the others are told and can stop it."""
_RECOVERY: Final = b"zhifu/v1 recovery\0"
_CHECK: Final = b"zhifu/v1 recovery check\0"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A line of the key log of ``subject``: ``key`` is added in ``role``, or revoked. ``issued_at`` is Unix s."""

    aud: str
    subject: bytes
    change: signed_pb2.KeyChange
    key: bytes
    role: signed_pb2.KeyRole
    issued_at: int

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed."""
        message = signed_pb2.SubjectKey(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)

    def sign(self, key: SigningKey) -> Envelope:
        return envelope.seal_one(envelope.SUBJECT_KEY, self.to_bytes(), key)


@dataclass(frozen=True, slots=True)
class SignedChange:
    """A line with its signatures: ``accepted`` is by the key that is added, None where one is revoked."""

    change: Envelope
    accepted: Envelope | None


def verify(signed: SignedChange, signer: bytes, aud: str) -> SubjectKey:
    """A line signed by ``signer``, and by the added key; whether the signer may is the caller's to ask.

    Raises `Malformed`, `NotAuthentic` (consent.signature, consent.weak_key), `Refused` (consent.wrong_audience).
    """
    try:
        envelope.verify(signed.change, signer)
    except NotAuthentic as error:
        raise NotAuthentic("consent.signature") from error
    found = _parse(signed.change, aud)
    check_signing_key(found.key)
    if (found.change == KEY_CHANGE_ADD) != (signed.accepted is not None):
        raise Malformed("malformed.field", "an added key signs its line too, and nothing else does")
    if signed.accepted is not None:
        if signed.accepted.payload != signed.change.payload:
            raise NotAuthentic("consent.signature", "the added key signed another line")
        try:
            envelope.verify(signed.accepted, found.key)
        except NotAuthentic as error:
            raise NotAuthentic("consent.signature", "the added key did not sign") from error
    return found


def _parse(signed: Envelope, aud: str) -> SubjectKey:
    message = strict.parse(signed_pb2.SubjectKey, signed.payload, signed.kind.cap)
    strict.exactly("subject", message.subject, 32)
    strict.exactly("key", message.key, 32)
    strict.positive("issued_at", message.issued_at)
    adds = message.change == KEY_CHANGE_ADD
    if message.change == KEY_CHANGE_UNSPECIFIED or adds == (message.role == KEY_ROLE_UNSPECIFIED):
        raise Malformed("malformed.field", "a key is added in a role, or revoked without one")
    if message.aud != aud:
        raise Refused("consent.wrong_audience")
    return SubjectKey(**{name: getattr(message, name) for name in SubjectKey.__slots__})


def draw_code() -> str:
    """A new recovery code: 160 random bits as base32 in eight groups of four and one that checks the others."""
    return _spell(os.urandom(CODE_BYTES))


def _spell(secret: bytes) -> str:
    check = base64.b32encode(hashlib.sha256(_CHECK + secret).digest())[:4]
    text = (base64.b32encode(secret) + check).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def recovery_key(code: str, hospital: bytes, recipient: bytes) -> SigningKey:
    """The key of a recovery code for one (hospital, recipient). Raises `Malformed` (usage.argument) for a slip."""
    text = "".join(code.upper().split()).replace("-", "").replace("0", "O").replace("1", "I").replace("8", "B")
    try:
        secret = base64.b32decode(text[:32])
    except binascii.Error:
        secret = b""
    if len(text) != 36 or _spell(secret).replace("-", "") != text:
        raise Malformed("usage.argument", "not a recovery code: look at each group again")
    expand = HKDFExpand(hashes.SHA256(), 32, _RECOVERY + hospital + recipient)
    return SigningKey(expand.derive(secret.ljust(32, b"\0")))
