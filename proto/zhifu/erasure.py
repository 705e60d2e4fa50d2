"""Erasing the details of audit entries, and what forbids it: orders and legal holds, by officers (DESIGN section 7).

Two officers order an erasure in the same words. One places a hold, two lift it; while it stands it wins.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import ERASURE, HOLD, Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, Alg, key_id
from zhifu.v1 import signed_pb2

OFFICERS: Final = 2
MAX_ENTRIES: Final = 4096
LIFETIME_S: Final = 7 * 86_400
SKEW_S: Final = 300
_BASIS: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Order:
    """Erase the details of ``entries`` (ascending indexes) on a legal ``basis``; ``issued_at`` is Unix s."""

    aud: str
    entries: tuple[int, ...]
    basis: str
    issued_at: int

    def to_bytes(self) -> bytes:
        message = signed_pb2.ErasureOrder(
            version=VERSION, suite=SUITE, aud=self.aud, entries=self.entries, basis=self.basis, issued_at=self.issued_at
        )
        return message.SerializeToString(deterministic=True)

    def sign(self, officer: SigningKey) -> Envelope:
        """One officer's word; it takes another's over the same bytes."""
        return envelope.seal_one(ERASURE, self.to_bytes(), officer)


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing about ``target`` (subject, grant hash or exchange, 32 bytes) may be erased, until it is ``lifted``."""

    aud: str
    target: bytes
    lifted: bool
    basis: str
    issued_at: int

    def to_bytes(self) -> bytes:
        message = signed_pb2.LegalHold(
            version=VERSION, suite=SUITE, aud=self.aud, target=self.target, lifted=self.lifted, basis=self.basis,
            issued_at=self.issued_at,
        )  # fmt: skip
        return message.SerializeToString(deterministic=True)

    def sign(self, officer: SigningKey) -> Envelope:
        return envelope.seal_one(HOLD, self.to_bytes(), officer)


def verify_order(signed: Sequence[Envelope], officers: Collection[bytes], aud: str, now: int) -> Order:
    """The order that two different ``officers`` (Ed25519 keys) signed, byte for byte; ``now`` is Unix s.

    Raises `Refused` (erasure.orders, presentation.audience), `NotAuthentic` (key.unknown, signature.invalid),
    `Malformed`.
    """
    found = parse_order(_signed_by(signed, officers, OFFICERS))
    _check(found.aud, found.issued_at, aud, now)
    return found


def verify_hold(signed: Sequence[Envelope], officers: Collection[bytes], aud: str, now: int) -> Hold:
    """The hold that an officer placed, or that two lifted. Raises as `verify_order`."""
    found = parse_hold(_signed_by(signed, officers, 1))
    if found.lifted:
        _signed_by(signed, officers, OFFICERS)
    _check(found.aud, found.issued_at, aud, now)
    return found


def _signed_by(signed: Sequence[Envelope], officers: Collection[bytes], least: int) -> bytes:
    if not least <= len(signed) <= OFFICERS or len({one.key_id for one in signed}) != len(signed):
        raise Refused("erasure.orders", f"{least} different officers sign this")
    if len({one.payload for one in signed}) != 1:
        raise Refused("erasure.orders", "the officers signed different words")
    pinned = {key_id(Alg.ED25519, key): key for key in officers}
    for one in signed:
        if one.key_id not in pinned:
            raise NotAuthentic("key.unknown", "not an officer of this log")
        envelope.verify(one, pinned[one.key_id])
    return signed[0].payload


def _check(said_aud: str, issued_at: int, aud: str, now: int) -> None:
    if said_aud != aud:
        raise Refused("presentation.audience", "the order is for another log")
    if not issued_at - SKEW_S <= now <= issued_at + LIFETIME_S:
        raise Refused("erasure.orders", "an order is handed in within a week of being signed")


def parse_order(payload: bytes) -> Order:
    """An order out of verified bytes. Raises `Malformed`."""
    message = strict.parse(signed_pb2.ErasureOrder, payload, ERASURE.cap)
    entries = tuple(message.entries)
    if not 1 <= len(entries) <= MAX_ENTRIES or list(entries) != sorted(set(entries)) or entries[-1] >= 2**63:
        raise Malformed("malformed.field", f"an order names 1 to {MAX_ENTRIES} entries, ascending, each once")
    return Order(message.aud, entries, _basis(message.basis), strict.positive("issued_at", message.issued_at))


def parse_hold(payload: bytes) -> Hold:
    """A hold out of verified bytes. Raises `Malformed`."""
    message = strict.parse(signed_pb2.LegalHold, payload, HOLD.cap)
    target = strict.exactly("target", message.target, 32)
    issued_at = strict.positive("issued_at", message.issued_at)
    return Hold(message.aud, target, message.lifted, _basis(message.basis), issued_at)


def _basis(code: str) -> str:
    if not _BASIS.fullmatch(code):
        raise Malformed("malformed.field", "a basis is a short code of small letters, digits, dots and hyphens")
    return code
