"""A recipient's signed word on what it did with a delivery after the grant was revoked (DESIGN section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from zhifu import envelope, strict
from zhifu.errors import Malformed
from zhifu.keys import SUITE, VERSION
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import DELETION_OUTCOME_DELETED, DELETION_OUTCOME_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Deletion:
    """Erased, or kept for ``reason`` until ``until``; times are Unix s."""

    aud: str
    recipient: bytes
    presentation_hash: bytes
    outcome: signed_pb2.DeletionOutcome
    reason: str
    until: int
    issued_at: int

    @property
    def deleted(self) -> bool:
        return self.outcome == DELETION_OUTCOME_DELETED

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed by the recipient."""
        message = signed_pb2.Deletion(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)


def parse(payload: bytes) -> Deletion:
    """A verified payload, strictly. Raises `Malformed`."""
    message = strict.parse(signed_pb2.Deletion, payload, envelope.DELETION.cap)
    strict.exactly("recipient", message.recipient, 32)
    strict.exactly("presentation_hash", message.presentation_hash, 32)
    strict.positive("issued_at", message.issued_at)
    if message.outcome == DELETION_OUTCOME_UNSPECIFIED:
        raise Malformed("malformed.field", "neither erased nor kept")
    deleted = message.outcome == DELETION_OUTCOME_DELETED
    if deleted != (not message.reason and not message.until):
        raise Malformed("malformed.field", "what is kept has a reason and an end, what is erased has none")
    return Deletion(**{name: getattr(message, name) for name in Deletion.__slots__})
