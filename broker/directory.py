"""Who takes part: participants, their TLS keys and their latest key statements (DESIGN 4.4).

The broker distributes statements and cannot make one: every node checks them against its own pins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from broker.audit import Sequence
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import envelope
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.receipt import Detail, Entry, Meta
from zhifu.standing import Standing
from zhifu.statement import KeyStatement, verify_key_statement, verify_stated
from zhifu.v1 import signed_pb2


@dataclass(frozen=True, slots=True)
class Member:
    """A participant as the broker knows it, with its latest verified statement."""

    id: bytes
    role: str
    name: str
    status: str
    statement: KeyStatement
    envelope: Envelope
    scope: bytes = b""


class Directory:
    """The members in memory, as last committed; small, and read for every exchange."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._members: dict[bytes, Member] = {}
        self._changed: dict[bytes, int] = {}
        self.version = 0
        """Rises with each `reload`."""
        self._spki: dict[bytes, bytes] = {}
        self.reload()

    def reload(self) -> None:
        """Read every member again, after a commit that changed one."""
        # In this order: whoever is found has a statement, also where a commit comes between the two scans.
        self.version += 1
        participants = list(self._reader.scan(tables.Participant))
        statements = {row.participant: row.envelope for row in self._reader.scan(tables.Statement)}
        for row in participants:
            known = self._members.get(row.id)
            if known is not None and known.envelope.to_bytes() == statements[row.id]:
                self._members[row.id] = replace(known, status=row.status)
                continue
            signed = envelope.from_bytes(envelope.KEY_STATEMENT, statements[row.id])
            # Whether it is still in time is asked when it is used; here it was accepted before.
            found = verify_stated(signed, row.id)
            self._changed[row.id] = self.version
            self._members[row.id] = Member(row.id, row.role, row.name, row.status, found, signed, row.scope)
        self._spki = {row.hash: row.participant for row in self._reader.scan(tables.Spki)}

    @property
    def members(self) -> list[Member]:
        return list(self._members.values())

    @property
    def witnesses(self) -> list[Member]:
        """Whose nodes are to witness the log. An auditor asks and is never attached: were it waited for, a few of
        them would keep a majority from being reached.
        """
        return [one for one in self.members if one.status == "active" and one.role != "auditor"]

    def changed_since(self, version: int, wanted: Collection[bytes]) -> list[Member]:
        """Members with a statement of a later version than ``version``; of ``wanted`` only, if there are any."""
        ids = self._changed if not wanted else [one for one in self._changed if one in wanted]
        return [self._members[one] for one in ids if self._changed[one] > version]

    def member(self, participant: bytes) -> Member:
        """Raises `Refused` (participant.unknown)."""
        found = self._members.get(participant)
        if found is None:
            raise Refused("participant.unknown")
        return found

    def standing(self, participant: bytes) -> tuple[str, str]:
        """(role, status) of a participant. Raises `Refused` (participant.unknown)."""
        found = self.member(participant)
        return found.role, found.status

    def check_active(self, participant: bytes) -> None:
        """Raises `Refused` (participant.unknown, participant.suspended)."""
        if self.member(participant).status != "active":
            raise Refused("participant.suspended")

    def peer(self, spki: bytes) -> Member:
        """The active participant that a TLS key belongs to. Raises `Refused` (participant.*), `NotAuthentic`
        (key.unknown).

        An expired statement may connect, to send the next one; it cannot sign anything else (`signing_key`).
        """
        if spki not in self._spki:
            # Someone who joined through another broker a moment ago; a certificate of ours came with it.
            self.reload()
        found = self.member(self._spki.get(spki, b""))
        self.check_active(found.id)
        if spki not in found.statement.tls_spki:
            raise NotAuthentic("key.unknown", "the TLS key is not in the current key statement")
        return found

    def signing_key(self, participant: bytes, now: int) -> bytes:
        """The key that signs frames. Raises `NotAuthentic` (key.expired), `Refused` (participant.unknown)."""
        found = self.member(participant).statement
        if now > found.not_after:
            raise NotAuthentic("key.expired")
        return found.signing_key

    def earlier(self, signed: Iterable[signed_pb2.Envelope], reader: Reader) -> list[Member]:
        """Whoever signed one of these with a key that it replaced since, with its last statement of that key."""
        current = {(one.statement.signing_key_id, one.id) for one in self.members}
        found = reader.find(tables.Signer, key_id=tuple({one.key_id for one in signed}))
        replaced = [row for row in found if (row.key_id, row.participant) not in current]
        return [self._as_stated(row) for row in replaced if row.participant in self._members]

    def _as_stated(self, row: tables.Signer) -> Member:
        signed = envelope.from_bytes(envelope.KEY_STATEMENT, row.envelope)
        return replace(
            self._members[row.participant], statement=verify_stated(signed, row.participant), envelope=signed
        )


def enrol(
    participant: bytes, role: str, name: str, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int,
    scope: bytes = b"",
) -> None:  # fmt: skip
    """A new participant with its first statement; ``scope`` is whose auditor it is, if of one participant only.

    Raises `Refused` (enrolment.exists), `NotAuthentic`, `Malformed`.
    """
    if state.get(tables.Participant, participant) is not None:
        raise Refused("enrolment.exists")
    state.insert(tables.Participant, [(participant, role, name, "active", now_ms, scope)])
    meta = Meta("participant.enrolled", sender=participant, recipient=scope)
    sequence.record(meta, Detail(documents=(name.encode(), role.encode())), now_ms)
    state_keys(participant, signed, state, sequence, now_ms)


def set_standing(one: Standing, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int) -> Entry:
    """Suspend a participant or let it take part again, by an operator's verified word; the entry that records it.

    Raises `Refused` (participant.unknown, participant.standing): a later word, or this one, stands already.
    """
    before = state.get(tables.Standing, one.participant)
    if state.get(tables.Participant, one.participant) is None:
        raise Refused("participant.unknown")
    if before is not None and one.issued_ms <= before.issued_ms:
        raise Refused("participant.standing")
    entry = sequence.record(Meta(one.event, sender=one.participant), Detail(documents=(signed.to_bytes(),)), now_ms)
    state.update(tables.Participant, {"status": "suspended" if one.suspended else "active"}, id=one.participant)
    state.delete(tables.Standing, participant=one.participant)
    state.insert(tables.Standing, [(one.participant, signed.to_bytes(), one.issued_ms)])
    return entry


def state_keys(participant: bytes, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int) -> None:
    """A newer key statement: stored, and published in the log as a plain entry. The serial only rises.

    Raises `NotAuthentic` (key.rollback, key.not_pinned, key.expired), `Malformed`.
    """
    found = verify_key_statement(signed, participant, now_ms // 1000)
    before = state.get(tables.Statement, participant)
    if before is not None and before.envelope == signed.to_bytes():
        return
    if before is not None and found.serial <= before.serial:
        raise NotAuthentic("key.rollback")
    state.delete(tables.Statement, participant=participant)
    state.insert(tables.Statement, [(participant, found.serial, signed.to_bytes())])
    state.delete(tables.Signer, key_id=found.signing_key_id, participant=participant)
    state.insert(tables.Signer, [(found.signing_key_id, participant, signed.to_bytes())])
    for spki in found.tls_spki:
        owner = state.get(tables.Spki, spki)
        if owner is not None and owner.participant != participant:
            raise NotAuthentic("key.unknown", "the TLS key belongs to another participant")
        if owner is None:
            state.insert(tables.Spki, [(spki, participant)])
    sequence.publish(signed, now_ms)
