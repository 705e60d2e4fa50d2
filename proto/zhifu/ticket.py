"""Tickets: uses of a direct-pay grant that the phone signs, even offline, and the code that carries them (DESIGN
section 5).

A code is one seed, one time and one hospital for all its tickets, and for each grant a hash and a signature. Each
ticket's nonce is made from the seed and its grant, so that two recipients' tickets have nothing in common.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.consent import Grant, hash_of
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, KemPrivate, KemPublic
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

BEFORE_S: Final = 120
AFTER_S: Final = 90
REUSE_S: Final = 15 * 60
MAX_TICKETS: Final = 8
PREFIX: Final = "ZHIFU1:"
"""What the text of a code's QR begins with."""
_HEAD: Final = 55
_EACH: Final = 96
_NONCE: Final = b"zhifu/v1 ticket nonce\0"
_ONLINE: Final = b"zhifu/v1 online code\0"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One use of a grant at one hospital. ``issued_at`` is Unix s by the phone's clock."""

    grant_hash: bytes
    nonce: bytes
    hospital: bytes
    issued_at: int

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed by the grant's subject key."""
        message = signed_pb2.Ticket(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)

    def sign(self, key: SigningKey) -> Envelope:
        return envelope.seal_one(envelope.TICKET, self.to_bytes(), key)


def verify(signed: Envelope, grant: Grant, grant_hash: bytes) -> Ticket:
    """A ticket by the subject key of ``grant``, for it and for its hospital. The time is `check_window`'s to judge.

    Raises `Malformed`, `NotAuthentic` (consent.signature), `Refused` (ticket.hospital, ticket.grant).
    """
    try:
        envelope.verify(signed, grant.subject_key)
    except NotAuthentic as error:
        raise NotAuthentic("consent.signature", "the ticket is not by the patient") from error
    message = strict.parse(signed_pb2.Ticket, signed.payload, signed.kind.cap)
    found = Ticket(
        strict.exactly("grant_hash", message.grant_hash, 32),
        strict.exactly("nonce", message.nonce, 16),
        strict.exactly("hospital", message.hospital, 32),
        strict.positive("issued_at", message.issued_at),
    )
    if not hmac.compare_digest(found.grant_hash, grant_hash) or grant.mode != GRANT_MODE_DIRECT_PAY:
        raise Refused("ticket.grant")
    if not hmac.compare_digest(found.hospital, grant.cnf):
        raise Refused("ticket.hospital")
    return found


def check_window(issued_at: int, now: int, reuse_s: int = 0) -> None:
    """A code is good from 120 s before to 90 s after its phone's time, and ``reuse_s`` longer for who redeemed it.

    Raises `Refused` (ticket.window) with the offset, so that a phone whose clock is wrong can be told.
    """
    age = now - issued_at
    if age < -BEFORE_S:
        raise Refused("ticket.window", f"the phone's clock is {-age} s ahead: set it, and show the code again")
    if age > AFTER_S + reuse_s:
        raise Refused(
            "ticket.window", f"the code is {age} s old, or the phone's clock is that much behind: show a new one"
        )


def check_presented(signed: Envelope | None, ticket_hash: bytes, grant: Grant, grant_hash: bytes, at: int) -> None:
    """A direct-pay grant is used with a ticket, and with the one that was signed into the presentation made at ``at``.

    Whoever receives a record asks this too: a hospital and a broker together cannot use such a grant without the
    patient. Raises `Refused` (ticket.*), `NotAuthentic` (consent.signature), `Malformed`.
    """
    if grant.mode != GRANT_MODE_DIRECT_PAY:
        if ticket_hash or signed is not None:
            raise Refused("ticket.grant")
        return
    if signed is None or not hmac.compare_digest(hash_of(signed.payload), ticket_hash):
        raise Refused("ticket.missing")
    check_window(verify(signed, grant, grant_hash).issued_at, at, REUSE_S)


@dataclass(frozen=True, slots=True)
class Code:
    """What a phone shows: ``signed`` are grant hashes with the signatures of their tickets."""

    hospital: bytes
    issued_at: int
    seed: bytes
    signed: tuple[tuple[bytes, bytes], ...]

    def ticket(self, grant_hash: bytes) -> Ticket:
        """The ticket for one grant, without its signature."""
        return make(grant_hash, self.hospital, self.seed, self.issued_at)

    def envelope(self, grant_hash: bytes, grant: Grant) -> Envelope:
        """The ticket for one grant, signature verified. Raises `Refused` (ticket.grant), `NotAuthentic`."""
        signature = dict(self.signed).get(grant_hash)
        if signature is None:
            raise Refused("ticket.grant")
        payload = self.ticket(grant_hash).to_bytes()
        try:
            return envelope.signed_elsewhere(envelope.TICKET, payload, grant.subject_key, signature)
        except NotAuthentic as error:
            raise NotAuthentic("consent.signature", "the ticket is not by the patient") from error

    def to_bytes(self) -> bytes:
        """Version, suite, u40 time, seed, hospital; then hash and signature of each: 343 bytes for three payers."""
        head = bytes([VERSION, SUITE]) + self.issued_at.to_bytes(5, "big") + self.seed + self.hospital
        return head + b"".join(digest + signature for digest, signature in self.signed)

    def text(self) -> str:
        """For a QR code: `PREFIX` and base32 (RFC 4648, section 6) without padding, all in QR's alphanumeric set."""
        return PREFIX + base64.b32encode(self.to_bytes()).decode().rstrip("=")


def make(grant_hash: bytes, hospital: bytes, seed: bytes, issued_at: int) -> Ticket:
    """The ticket of a code with this ``seed`` (16 random bytes) for one grant."""
    nonce = hashlib.sha256(_NONCE + seed + grant_hash).digest()[:16]
    return Ticket(grant_hash, nonce, hospital, issued_at)


def parse(data: bytes) -> Code:
    """A code's bytes. Raises `Malformed`."""
    count, rest = divmod(len(data) - _HEAD, _EACH)
    if rest or not 1 <= count <= MAX_TICKETS:
        raise Malformed("malformed.size", f"a code holds 1 to {MAX_TICKETS} tickets")
    if data[0] != VERSION or data[1] != SUITE:
        raise Malformed("malformed.version")
    parts = [data[at : at + _EACH] for at in range(_HEAD, len(data), _EACH)]
    signed = tuple((part[:32], part[32:]) for part in parts)
    hashes = [digest for digest, _ in signed]
    if hashes != sorted(set(hashes)):
        raise Malformed("malformed.field", "tickets are repeated or out of order")
    return Code(data[23:55], strict.positive("issued_at", int.from_bytes(data[2:7], "big")), data[7:23], signed)


def parse_text(text: str) -> Code:
    """What a scanner read. Raises `Malformed`."""
    body = text.removeprefix(PREFIX)
    if body == text or len(body) > 2048:
        raise Malformed("malformed.encoding", "not a direct-pay code")
    try:
        found = base64.b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError) as error:
        raise Malformed("malformed.encoding", "not a direct-pay code") from error
    code = parse(found)
    if code.text() != text:  # unused bits at the end would be a second spelling
        raise Malformed("malformed.encoding", "not the canonical code")
    return code


def assemble(tickets: Sequence[tuple[Ticket, bytes]], seed: bytes) -> Code:
    """A code of tickets that were made with one seed for one hospital at one time, each with its signature."""
    (hospital,) = {one.hospital for one, _ in tickets}
    (issued_at,) = {one.issued_at for one, _ in tickets}
    return Code(hospital, issued_at, seed, tuple(sorted((one.grant_hash, signature) for one, signature in tickets)))


def seal_online(code: Code, key: KemPublic) -> bytes:
    """The code for its hospital's eyes: what the broker keeps for an 18-digit handle says nothing to the broker."""
    return key.seal(code.to_bytes(), _info(code.hospital))


def open_online(sealed: bytes, key: KemPrivate, hospital: bytes) -> Code:
    """The inverse of `seal_online`. Raises `NotAuthentic` (capsule.open), `Malformed`, `Refused` (ticket.hospital)."""
    found = parse(key.open(sealed, _info(hospital)))
    if not hmac.compare_digest(found.hospital, hospital):
        raise Refused("ticket.hospital")
    return found


def _info(hospital: bytes) -> bytes:
    return _ONLINE + bytes([SUITE]) + hospital


def check_digits(code: str) -> str:
    """An 18-digit code without spaces, its last digit right (Luhn). Raises `Malformed` (malformed.field)."""
    digits = code.replace(" ", "").replace("-", "")
    if len(digits) != 18 or not (digits.isascii() and digits.isdigit()) or luhn(digits[:-1]) != digits[-1]:
        raise Malformed("malformed.field", "a code has 18 digits; one of these is wrong")
    return digits


def luhn(digits: str) -> str:
    """The check digit (ISO/IEC 7812-1, annex B): a mistyped digit is found before anybody counts it as a guess."""
    doubled = (int(one) * (2 - at % 2) for at, one in enumerate(reversed(digits)))
    return str(-sum(one - 9 if one > 9 else one for one in doubled) % 10)
