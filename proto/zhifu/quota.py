"""A recipient's quota of pseudonyms: how many persons its book may have, by the word of two operators (DESIGN 4.5).

Without it an insurer could evaluate every number there is and so hold a table of everybody, not of its own book.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import QUOTA, Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, Alg, key_id
from zhifu.pseudonym import MAX_EPOCH
from zhifu.v1 import signed_pb2

OPERATORS: Final = 2
LIFETIME_S: Final = 7 * 86_400
"""How long a quota may be handed in after it was signed; once it is, it stands until a later one."""
SKEW_S: Final = 300
MAX_ALLOWED: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Quota:
    """``allowed`` evaluations in all for ``recipient`` (participant id) under ``epoch``; ``issued_at`` is Unix s."""

    aud: str
    recipient: bytes
    epoch: int
    allowed: int
    issued_at: int

    def to_bytes(self) -> bytes:
        message = signed_pb2.PseudonymQuota(
            version=VERSION,
            suite=SUITE,
            aud=self.aud,
            recipient=self.recipient,
            epoch=self.epoch,
            allowed=self.allowed,
            issued_at=self.issued_at,
        )
        return message.SerializeToString(deterministic=True)

    def sign(self, operator: SigningKey) -> Envelope:
        """One operator's word; it takes another's over the same bytes."""
        return envelope.seal_one(QUOTA, self.to_bytes(), operator)


def verify(signed: Sequence[Envelope], operators: Collection[bytes], aud: str, now: int) -> Quota:
    """The quota that two different pinned ``operators`` (Ed25519 keys) signed, byte for byte; ``now`` is Unix s.

    Raises `Refused` (pseudonym.quota, presentation.audience), `NotAuthentic` (key.unknown, signature.invalid),
    `Malformed`.
    """
    if len(signed) != OPERATORS or len({one.key_id for one in signed}) != OPERATORS:
        raise Refused("pseudonym.quota", "two operators sign a quota")
    if len({one.payload for one in signed}) != 1:
        raise Refused("pseudonym.quota", "the two operators signed different quotas")
    pinned = {key_id(Alg.ED25519, key): key for key in operators}
    for one in signed:
        if one.key_id not in pinned:
            raise NotAuthentic("key.unknown", "not an operator of this service")
        envelope.verify(one, pinned[one.key_id])
    found = parse(signed[0].payload)
    if found.aud != aud:
        raise Refused("presentation.audience", "the quota is for another service")
    if not found.issued_at - SKEW_S <= now <= found.issued_at + LIFETIME_S:
        raise Refused("pseudonym.quota", "a quota is handed in within a week of being signed")
    return found


def parse(payload: bytes) -> Quota:
    """A quota out of verified bytes. Raises `Malformed`."""
    message = strict.parse(signed_pb2.PseudonymQuota, payload, QUOTA.cap)
    if not message.aud:
        raise Malformed("malformed.field", "a quota is for one service")
    return Quota(
        aud=message.aud,
        recipient=strict.exactly("recipient", message.recipient, 32),
        epoch=strict.positive("epoch", message.epoch, MAX_EPOCH),
        allowed=strict.positive("allowed", message.allowed, MAX_ALLOWED),
        issued_at=strict.positive("issued_at", message.issued_at),
    )
