"""Whether a participant takes part: an operator suspends it, or lets it take part again (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import STANDING, Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION, Alg, key_id
from zhifu.v1 import signed_pb2

LIFETIME_MS: Final = 86_400_000
SKEW_MS: Final = 300_000
MAX_REASON: Final = 64
_MAX_MS: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Standing:
    """``participant`` (id, 32 bytes) is ``suspended`` or takes part, for a ``reason`` of 1 to 64 characters.

    ``issued_ms`` is Unix ms; of one participant only a later word counts.
    """

    aud: str
    participant: bytes
    suspended: bool
    reason: str
    issued_ms: int

    @property
    def event(self) -> str:
        """What the log calls it."""
        return "participant.suspended" if self.suspended else "participant.resumed"

    def to_bytes(self) -> bytes:
        message = signed_pb2.Standing(
            version=VERSION, suite=SUITE, aud=self.aud, participant=self.participant, suspended=self.suspended,
            reason=self.reason, issued_ms=self.issued_ms,
        )  # fmt: skip
        return message.SerializeToString(deterministic=True)

    def sign(self, operator: SigningKey) -> Envelope:
        return envelope.seal_one(STANDING, self.to_bytes(), operator)


def parse(payload: bytes) -> Standing:
    """A standing out of verified bytes. Raises `Malformed`."""
    message = strict.parse(signed_pb2.Standing, payload, STANDING.cap)
    if not 1 <= len(message.reason) <= MAX_REASON:
        raise Malformed("malformed.field", f"a reason has 1 to {MAX_REASON} characters")
    participant = strict.exactly("participant", message.participant, 32)
    issued_ms = strict.positive("issued_ms", message.issued_ms, _MAX_MS)
    return Standing(message.aud, participant, message.suspended, message.reason, issued_ms)


def verify(signed: Envelope, operators: Collection[bytes], aud: str, now_ms: int) -> Standing:
    """What one of the ``operators`` (Ed25519 keys) signed for this log, at most a day before ``now_ms`` (Unix ms).

    Raises `NotAuthentic` (key.unknown, signature.invalid), `Refused` (presentation.audience, participant.standing),
    `Malformed`.
    """
    known = {key_id(Alg.ED25519, key): key for key in operators}
    if signed.key_id not in known:
        raise NotAuthentic("key.unknown", "not an operator of this log")
    found = parse(envelope.verify(signed, known[signed.key_id]))
    if found.aud != aud:
        raise Refused("presentation.audience", "the word is for another log")
    if not found.issued_ms - SKEW_MS <= now_ms <= found.issued_ms + LIFETIME_MS:
        raise Refused("participant.standing", "a word is handed in within a day of being signed")
    return found
