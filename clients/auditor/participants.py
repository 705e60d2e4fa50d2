"""Who took part, under which keys, as the log tells it: every key statement by the identity key of a pinned participant
(DESIGN 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clients.auditor.pins import Pins
from clients.config import Pin
from zhifu import envelope, standing
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.receipt import Detail, Meta
from zhifu.statement import SKEW_S, KeyStatement, verify_key_statement
from zhifu.trail import MAX_QUERY

_EPOCH_BYTES = 16


@dataclass(eq=False, slots=True)
class Standing:
    """A participant that enrolled: the statement in force at this point of the log, and the epochs it offered."""

    pin: Pin
    statement: KeyStatement | None = None
    epochs: set[bytes] = field(default_factory=set)
    suspended: bool = False
    said_ms: int = 0


class Participants:
    """The participants at one point of the log."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins.participants
        self._origin, self._operators = pins.origin, pins.operators
        self._standing: dict[bytes, Standing] = {}
        self._spki: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._standing)

    def enrol(self, meta: Meta, detail: Detail) -> None:
        """A participant joined, under the role and name that are pinned. Raises `NotAuthentic`, `Malformed`."""
        pin = self._pins.get(meta.sender)
        if pin is None:
            raise NotAuthentic("key.not_pinned", "a participant that is not pinned was enrolled")
        if meta.sender in self._standing:
            raise NotAuthentic("log.corrupt", "a participant was enrolled twice")
        check_only(meta, Meta(meta.event, sender=meta.sender, recipient=self._audited(pin, meta)))
        if detail != Detail(documents=(pin.name.encode(), pin.role.encode())):
            raise NotAuthentic(
                "key.not_pinned", "the participant was enrolled under another role or name than is pinned"
            )
        self._standing[meta.sender] = Standing(pin)

    def _audited(self, pin: Pin, meta: Meta) -> bytes:
        """Whose auditor it is, if of one participant only; nobody else has a second party here."""
        return meta.recipient if pin.role == "auditor" and meta.recipient in self._standing else b""

    def note_reading(self, meta: Meta, detail: Detail) -> None:
        """Somebody searched or exported, and the entry tells for what. Raises `NotAuthentic`, `Malformed`."""
        self.standing(meta.sender)
        scope = meta.recipient if meta.recipient in self._standing else b""
        check_only(meta, Meta(meta.event, sender=meta.sender, recipient=scope))
        (query,) = detail.documents if len(detail.documents) == 1 else (b"",)
        if not 0 < len(query) <= MAX_QUERY or detail != Detail(documents=(query,)):
            raise Malformed("malformed.field", "not the entry of one search")

    def state_keys(self, signed: Envelope, participant: bytes, now: int) -> None:
        """The key statement that claims to be ``participant``'s, in force from here on. ``now`` is the entry's time.

        Raises `Malformed`, `NotAuthentic` (key.not_pinned, key.expired, key.rollback, key.unknown, signature.invalid).
        """
        if participant not in self._pins:
            raise NotAuthentic("key.not_pinned", "a key statement by a participant that is not pinned")
        found, standing = verify_key_statement(signed, participant, now), self.standing(participant)
        if standing.statement is not None and found.serial <= standing.statement.serial:
            raise NotAuthentic("key.rollback", "the key statement's serial does not rise")
        for spki in found.tls_spki:
            if self._spki.setdefault(spki, participant) != participant:
                raise NotAuthentic("key.unknown", "the key statement lists a TLS key of another participant")
        standing.statement = found

    def set_standing(self, meta: Meta, detail: Detail, now_ms: int) -> None:
        """A pinned operator suspended a participant or let it take part again, later than the word before.

        Raises `NotAuthentic` (key.unknown, signature.invalid, log.corrupt), `Refused` (participant.*), `Malformed`.
        """
        if len(detail.documents) != 1 or detail != Detail(documents=detail.documents):
            raise Malformed("malformed.field", "not the entry of one operator's word")
        signed = envelope.from_bytes(envelope.STANDING, detail.documents[0])
        said = standing.verify(signed, self._operators, self._origin, now_ms)
        found = self.standing(said.participant)
        check_only(meta, Meta(said.event, sender=said.participant))
        if said.issued_ms <= found.said_ms:
            raise Refused("participant.standing", "an earlier word was taken after a later one")
        found.suspended, found.said_ms = said.suspended, said.issued_ms

    def check_active(self, participant: bytes) -> None:
        """Raises `Refused` (participant.unknown, participant.suspended)."""
        if self.standing(participant).suspended:
            raise Refused("participant.suspended", "a suspended participant took part")

    def offer_epoch(self, meta: Meta, detail: Detail) -> None:
        """A node offered an epoch secret; of it the log holds the id only. Raises `NotAuthentic`, `Malformed`."""
        check_only(meta, Meta(meta.event, sender=meta.sender))
        epochs = self.standing(meta.sender).epochs
        (epoch_id,) = detail.documents if len(detail.documents) == 1 else (b"",)
        if len(epoch_id) != _EPOCH_BYTES or detail != Detail(documents=(epoch_id,)):
            raise Malformed("malformed.field", "not the offer of one epoch")
        if any(epoch_id in standing.epochs for standing in self._standing.values()):
            raise NotAuthentic("gate.epoch", "an epoch was offered twice")
        epochs.add(epoch_id)

    def standing(self, participant: bytes) -> Standing:
        """Raises `Refused` (participant.unknown)."""
        found = self._standing.get(participant)
        if found is None:
            raise Refused("participant.unknown", "the participant is not enrolled at this entry")
        return found

    def is_enrolled(self, participant: bytes) -> bool:
        return participant in self._standing

    def role(self, participant: bytes) -> str:
        """Raises `Refused` (participant.unknown)."""
        return self.standing(participant).pin.role

    def signing_key(self, participant: bytes, now: int) -> bytes:
        """The key that signs for a participant at this entry, whose time is ``now`` (Unix s).

        Raises `Refused` (participant.unknown), `NotAuthentic` (key.unknown, key.expired).
        """
        found = self.standing(participant).statement
        if found is None:
            raise NotAuthentic("key.unknown", "the participant stated no keys before this entry")
        # The broker looks before it commits; a commit takes a moment.
        if now > found.not_after + SKEW_S:
            raise NotAuthentic("key.expired", "the key statement in force at this entry has expired")
        return found.signing_key

    def signing_keys(self, now: int) -> dict[bytes, bytes]:
        """The signing keys in force at this entry, by participant; ``now`` is its time, Unix s."""
        stated = ((id_, one.statement) for id_, one in self._standing.items())
        return {id_: found.signing_key for id_, found in stated if found is not None and now <= found.not_after}


def check_only(meta: Meta, expected: Meta) -> None:
    """The meta says what the signed documents say, and nothing else. Raises `NotAuthentic` (log.corrupt)."""
    for name in Meta.__slots__:
        if getattr(meta, name) != getattr(expected, name):
            raise NotAuthentic("log.corrupt", f"{meta.event}: {name} is not what was signed")
