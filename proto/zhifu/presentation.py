"""The presentation: the one thing a sender signs for each exchange, and it signs the record with it (DESIGN 4.2)."""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from zhifu import strict
from zhifu.envelope import PRESENTATION
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import SUITE, VERSION
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT, BASIS_KIND_STATUTE, BASIS_KIND_UNSPECIFIED

_REMEMBERED: Final = 2048
"""A broker reads each several times: accepted, answered, delivered."""
MAX_LIFETIME_S: Final = 24 * 3600
SKEW_S: Final = 300
PURPOSES: Final = ("public-settlement", "commercial-settlement", "statement")
STATUTORY_PURPOSES: Final = ("public-settlement",)
"""What may rest on statute (DESIGN section 5); for every other purpose the patient is asked."""
OFFER: Final = "claim-offer"
PROGRESS: Final = "claim-progress"
OWN_RECORDS: Final = (OFFER, PROGRESS)
"""A patient's own, shown to her by whom attested her key: the only things she is sent that answer nothing."""
PATIENT_ANSWERS: Final = ("statement", PROGRESS)
ANSWER_SCHEMAS: Final = ("decision", "settlement-notice", *PATIENT_ANSWERS)
BASIS_NAMES: Final = {BASIS_KIND_GRANT: "grant", BASIS_KIND_STATUTE: "statute", BASIS_KIND_ANSWER: "answer"}


@dataclass(frozen=True, slots=True)
class Presentation:
    """One exchange, as its sender signs it. Times are Unix s; ``ceilings`` is one byte a unit, 0xff absent."""

    aud: str
    sender: bytes
    recipient: bytes
    key_id: bytes
    basis_kind: signed_pb2.BasisKind
    basis: bytes
    purpose: str
    encounter: bytes
    manifest_hash: bytes
    ceilings: bytes
    capsule_hash: bytes
    gate_commitment: bytes
    epoch_id: bytes
    workflow: bytes
    correlation: bytes
    in_reply_to: bytes
    ticket_hash: bytes
    nonce: bytes
    issued_at: int
    not_after: int

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed."""
        message = signed_pb2.Presentation(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)

    def check_time(self, now: int) -> None:
        """Not from the future, not over, at most 24 h long. ``now`` in Unix s. Raises `Refused` (presentation.*)."""
        if self.not_after - self.issued_at > MAX_LIFETIME_S:
            raise Refused("presentation.lifetime")
        if self.issued_at > now + SKEW_S:
            raise Refused("presentation.future", f"dated {self.issued_at - now} s ahead of this clock")
        if now > self.not_after:
            raise Refused("presentation.expired", f"over for {now - self.not_after} s")


def hash_of(payload: bytes) -> bytes:
    """SHA-256 of a presentation's payload: the id of its exchange."""
    return hashlib.sha256(payload).digest()


def new_nonce(now_ms: int) -> bytes:
    """u48 ms || 80 random bits: unique for the sender, and time-ordered so that stores insert near the end."""
    return now_ms.to_bytes(6, "big") + os.urandom(10)


@lru_cache(_REMEMBERED)
def parse(payload: bytes) -> Presentation:
    """A verified payload as a `Presentation`, strictly; the last ones are remembered. Raises `Malformed`."""
    message = strict.parse(signed_pb2.Presentation, payload, PRESENTATION.cap)
    if message.basis_kind == BASIS_KIND_UNSPECIFIED:
        raise Malformed("malformed.field", "the basis is not named")
    if (message.basis_kind == BASIS_KIND_ANSWER) != bool(message.in_reply_to):
        raise Malformed("malformed.field", "an answer names what it answers, and nothing else does")
    if message.purpose not in PURPOSES:
        raise Malformed("malformed.field", "unknown purpose")
    strict.all_exactly(message, _HASHES, 32)
    strict.all_exactly(message, _IDS, 16)
    strict.optional("in_reply_to", message.in_reply_to, 32)
    strict.optional("ticket_hash", message.ticket_hash, 32)
    if not strict.positive("issued_at", message.issued_at) < strict.positive("not_after", message.not_after):
        raise Malformed("malformed.field", "not_after is not after issued_at")
    return Presentation(*_FIELDS(message))


_FIELDS: Final = operator.attrgetter(*Presentation.__slots__)
_HASHES: Final = strict.Fields(
    "sender", "recipient", "key_id", "basis", "manifest_hash", "capsule_hash", "gate_commitment"
)
_IDS: Final = strict.Fields("encounter", "epoch_id", "workflow", "correlation", "nonce")


def check_answer_schema(purpose: str, schema: str) -> None:
    """An answer carries an answer: no record of the patient travels without a basis of its own by calling itself one.

    A statement or a claim's progress is for the patient only, and she is sent nothing else.
    Raises `NotAuthentic` (answer.mismatch).
    """
    if schema not in ANSWER_SCHEMAS or (schema in PATIENT_ANSWERS) != (purpose == "statement"):
        raise NotAuthentic("answer.mismatch", f"a record of schema {schema} is not an answer for {purpose}")


def check_answers(answer: Presentation, asked: Presentation, asked_hash: bytes, subject: bytes | None) -> None:
    """An answer belongs to the exchange it names, which authorises it (DESIGN 4.3).

    A decision goes back to who asked; a statement goes from either party to ``subject``, the id of the patient's
    key in the grant that the exchange used (None where it used none). Raises `NotAuthentic` (answer.mismatch).
    """
    same_matter = (
        answer.in_reply_to == answer.basis == asked_hash
        and answer.workflow == asked.workflow
        and answer.encounter == asked.encounter
    )
    to_asker = answer.sender == asked.recipient and answer.recipient == asked.sender and answer.purpose == asked.purpose
    to_patient = (
        answer.purpose == "statement"
        and answer.sender in (asked.sender, asked.recipient)
        and answer.recipient == subject
    )
    if not (same_matter and (to_asker or to_patient)):
        raise NotAuthentic("answer.mismatch")
