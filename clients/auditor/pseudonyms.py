"""The pseudonym service as the log tells it: whose pseudonyms were asked for, by whom, how many (DESIGN 4.5).

Its keys stand in statements by the log's own key. A key that was stated for a recipient and epoch never changes:
another under the same name would mark those whose pseudonyms it makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clients.auditor.participants import Participants, check_only
from clients.auditor.pins import Pins
from zhifu import cbor, envelope, quota
from zhifu.envelope import Envelope
from zhifu.errors import CATALOGUE, Malformed, NotAuthentic, Refused
from zhifu.receipt import Detail, Meta
from zhifu.statement import KeyStatement, verify_key_statement

_CALLED: Final = ("insurer",)
_ASKING: Final = ("hospital",)
_MAX_QUESTION: Final = 64
_MAX_NUMBER: Final = 2**32


@dataclass(eq=False, slots=True)
class _Quota:
    """Evaluations that a recipient may ask for itself under one epoch, and asked."""

    allowed: int
    issued_at: int
    used: int = 0


class Pseudonyms:
    """The service at one point of the log."""

    def __init__(self, pins: Pins, participants: Participants) -> None:
        self._origin = pins.origin
        self._operators = pins.operators
        self._participants = participants
        self._statement: KeyStatement | None = None
        self._keys: dict[tuple[bytes, int], bytes] = {}
        self._quotas: dict[tuple[bytes, int], _Quota] = {}

    def state_keys(self, signed: Envelope, service: bytes, now: int) -> None:
        """A statement by the log key, whose id is ``service``. Raises `NotAuthentic` (key.*), `Malformed`."""
        found, before = verify_key_statement(signed, service, now), self._statement
        if before is not None and found.serial <= before.serial:
            raise NotAuthentic("key.rollback", "the serial of the service's key statement does not rise")
        for key in found.pseudonym_keys:
            if self._keys.setdefault((key.recipient, key.epoch), key.public_key) != key.public_key:
                raise NotAuthentic("key.rollback", "a pseudonym key was replaced under the name of another")
        self._statement = found

    def evaluate(self, meta: Meta, detail: Detail) -> None:
        """A recipient asked for itself, within its quota, or a hospital for one patient.

        Raises `Refused` (policy.denied, pseudonym.quota, participant.unknown), `NotAuthentic`, `Malformed`.
        """
        check_only(meta, Meta(meta.event, sender=meta.sender, recipient=meta.recipient))
        epoch, count = _question(detail)
        if self._participants.role(meta.recipient) not in _CALLED:
            raise Refused("policy.denied", "pseudonyms were made for a recipient that calls nobody by them")
        if meta.sender == meta.recipient:
            self._draw(meta.recipient, epoch, count)
        elif self._participants.role(meta.sender) not in _ASKING or count != 1:
            raise Refused(
                "policy.denied", "only a hospital asks for another's pseudonyms, and for one patient at a time"
            )

    def deny(self, meta: Meta, detail: Detail) -> None:
        """A refusal. Raises `Refused` (participant.unknown), `NotAuthentic`, `Malformed`."""
        check_only(meta, Meta(meta.event, sender=meta.sender, recipient=meta.recipient, reason=meta.reason))
        self._participants.standing(meta.sender)
        _question(detail)
        if meta.reason not in CATALOGUE:
            raise Malformed("malformed.field", "a refusal without a reason of the catalogue")

    def raise_quota(self, meta: Meta, detail: Detail, now: int) -> None:
        """Two pinned operators allowed a recipient more. ``now`` is the entry's time, Unix s.

        Raises `Refused` (pseudonym.quota, presentation.audience, participant.unknown), `NotAuthentic`, `Malformed`.
        """
        signed = [envelope.from_bytes(envelope.QUOTA, one) for one in detail.documents]
        found = quota.verify(signed, self._operators, self._origin, now)
        check_only(meta, Meta(meta.event, sender=meta.sender, recipient=found.recipient))
        self._participants.standing(meta.sender)
        if detail != Detail(documents=detail.documents):
            raise NotAuthentic("log.corrupt", "the entry of a quota names an exchange")
        before = self._quotas.get((found.recipient, found.epoch), _Quota(0, 0))
        if found.issued_at <= before.issued_at:
            raise Refused("pseudonym.quota", "an older quota took the place of a newer one")
        self._quotas[found.recipient, found.epoch] = _Quota(found.allowed, found.issued_at, before.used)

    def _draw(self, recipient: bytes, epoch: int, count: int) -> None:
        found = self._quotas.get((recipient, epoch), _Quota(0, 0))
        found.used += count
        if found.used > found.allowed:
            raise Refused("pseudonym.quota", "a recipient had more evaluated than two operators allowed")


def _question(detail: Detail) -> tuple[int, int]:
    """(epoch, number of elements) that the entry is about. Raises `Malformed`."""
    if len(detail.documents) != 1 or detail != Detail(documents=detail.documents):
        raise Malformed("malformed.field", "not the entry of one question")
    version, epoch, count = cbor.array(detail.documents[0], _MAX_QUESTION, 3)
    if any(type(one) is not int for one in (version, epoch, count)) or version != 1:
        raise Malformed("malformed.field", "not a question of this version")
    if not 0 <= epoch < _MAX_NUMBER or not 0 <= count < _MAX_NUMBER:
        raise Malformed("malformed.field", "an epoch or a number of elements that cannot be")
    return epoch, count
