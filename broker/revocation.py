"""The end of grants: who may stop one, what is withdrawn with it, and who is told to erase what it got (DESIGN section
5).

All in the transaction that also counts uses: no use comes after a revocation in the log, whatever was under way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broker import delivery, subject_keys
from broker.audit import Sequence
from broker.directory import Directory
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import consent, deletion, envelope, presentation
from zhifu.consent import Revocation
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.keys import Alg, key_id
from zhifu.receipt import Detail, Entry, Meta
from zhifu.subject_key import SignedChange
from zhifu.v1.signed_pb2 import (
    KEY_ROLE_DEVICE,
    KEY_ROLE_GUARDIAN,
    KEY_ROLE_RECOVERY,
    REVOKER_GUARDIAN,
    REVOKER_HOSPITAL,
    REVOKER_HOTLINE,
    REVOKER_RECOVERY,
    REVOKER_UNSPECIFIED,
)

_DONE = ("delivered", "answered")
_AS = {
    subject_keys.OWN: REVOKER_UNSPECIFIED,
    KEY_ROLE_DEVICE: REVOKER_UNSPECIFIED,
    KEY_ROLE_GUARDIAN: REVOKER_GUARDIAN,
    KEY_ROLE_RECOVERY: REVOKER_RECOVERY,
}


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation's last entry, and honestly what it came too late for. ``told`` are nodes with a notice now."""

    entry: Entry
    grants: tuple[bytes, ...]
    delivered: int
    withheld: int
    told: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Capacity:
    """As what a key may stop grants, and which: those whose columns have the values of ``may``."""

    by: int
    public_key: bytes
    may: Mapping[str, bytes]


class Revoker:
    """Whoever may stop a grant. ``operators`` are the public keys of the hotline's."""

    def __init__(self, origin: str, known: Directory, operators: Collection[bytes]) -> None:
        self._origin = origin
        self._known = known
        self._operators = {key_id(Alg.ED25519, key): key for key in operators}

    def revoke(self, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int) -> Revoked:
        """End a grant, or every grant of a subject; again, it changes nothing.

        Raises `NotAuthentic` (consent.signature, consent.key_status), `Refused` (consent.unknown, consent.not_yours),
        `Malformed`.
        """
        rows = self._asked(signed, state, now_ms)
        if not rows:
            raise Refused("consent.unknown")
        return self._end(rows, signed, state, sequence, now_ms)

    def change_key(
        self, signed: SignedChange, state: Transaction, sequence: Sequence, now_ms: int
    ) -> tuple[subject_keys.Changed, tuple[bytes, ...]]:
        """A line of a key log; revoking a subject's own key ends its grants. With it, nodes that have a notice now.

        Raises as `subject_keys.change`.
        """
        done = subject_keys.change(signed, self._origin, state, sequence, now_ms)
        rows = state.find(tables.Grant, subject=done.own_revoked, status="active") if done.own_revoked else []
        told = self._end(rows, signed.change, state, sequence, now_ms).told if rows else ()
        return done, told

    def _asked(self, signed: Envelope, state: Reader, now_ms: int) -> list[tables.Grant]:
        """The rows that are to be stopped and that the signer may stop."""
        capacities = self._capacities(signed.key_id, state, now_ms)
        said = consent.verify_revocation(signed, capacities[0].public_key, self._origin)
        found = [one for one in capacities if one.by == said.by]
        if not found:
            raise Refused("consent.not_yours", "signed in another capacity than the signer has")
        return [row for one in found for row in _rows(said, state, **one.may)]

    def _capacities(self, signer: bytes, state: Reader, now_ms: int) -> list[_Capacity]:
        """All that the key with this id may act as: whoever states a key that is another's takes nothing from it.

        Raises `NotAuthentic` (consent.key_status) where it is nobody's.
        """
        stated = [one for one in self._known.members if one.statement.signing_key_id == signer]
        found = [_Capacity(REVOKER_HOSPITAL, one.statement.signing_key, {"cnf": one.id}) for one in stated]
        if signer in self._operators:
            found.append(_Capacity(REVOKER_HOTLINE, self._operators[signer], {}))
        try:
            acting = subject_keys.acting(signer, state, now_ms)
        except NotAuthentic:
            if not found:
                raise
        else:
            found.append(_Capacity(_AS[acting.role], acting.public_key, {"subject": acting.subject.id}))
        return found

    def _end(
        self, rows: list[tables.Grant], signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int
    ) -> Revoked:
        told: set[bytes] = set()
        withheld, delivered, recorded = 0, 0, rows[-1].entry
        for row in rows:
            if row.status == "active":
                entry = _record(row, signed, state, sequence, now_ms)
                senders = delivery.withdraw(row, state, sequence, now_ms)
                withheld += len(senders)
                told |= {*senders, *_tell_recipients(row, entry, state)}
                recorded = entry.index
            delivered += len(_delivered(row, state))
        # Only one is read: of those that ended before the entries may be erased.
        entry = sequence.entry(recorded, state)
        return Revoked(entry, tuple(row.hash for row in rows), delivered, withheld, tuple(told))


def _rows(said: Revocation, state: Reader, **may: bytes) -> list[tables.Grant]:
    if said.subject:
        found = state.find(tables.Grant, subject=said.subject)
    else:
        row = state.get(tables.Grant, said.grant_hash)
        found = [] if row is None else [row]
    return [row for row in found if all(getattr(row, name) == value for name, value in may.items())]


def _record(row: tables.Grant, signed: Envelope, state: Transaction, sequence: Sequence, now_ms: int) -> Entry:
    detail = Detail(grant=row.hash, subject=row.subject, documents=(signed.to_bytes(),))
    entry = sequence.record(Meta("grant.revoked", sender=row.cnf), detail, now_ms)
    state.update(tables.Grant, {"status": "revoked", "entry": entry.index}, hash=row.hash)
    state.insert(tables.GrantEnd, [(row.hash, signed.to_bytes())])
    return entry


def _delivered(row: tables.Grant, state: Reader) -> list[tables.Exchange]:
    found = state.find(tables.Exchange, subject=row.subject)
    return [one for one in found if one.grant_hash == row.hash and one.state in _DONE and one.recipient != row.subject]


def _tell_recipients(row: tables.Grant, entry: Entry, state: Transaction) -> set[bytes]:
    """Each recipient of the patient's data is told to erase it; what its sender got in answer is the sender's own."""
    # What was withdrawn may have been on its way: whoever has it erases it, whoever has not says so.
    queued = state.find(tables.Exchange, subject=row.subject)
    under_way = [one for one in queued if one.grant_hash == row.hash and one.state == "withdrawn"]
    every = (*_delivered(row, state), *under_way)
    # An answer under the same grant (a confirmation, a statement) is not the patient's record.
    due = [one for one in every if presentation.parse(one.payload).basis == row.hash]
    for one in due:
        state.insert(tables.Deletion, [(one.hash, one.recipient, b"", -1)])
        delivery.notify(state, one.recipient, one.hash, "delete", entry=entry.index)
    return {one.recipient for one in due}


def take_deletion(
    signed: Envelope,
    recipient: bytes,
    signing_key: bytes,
    origin: str,
    state: Transaction,
    sequence: Sequence,
    now_ms: int,
) -> bytes:
    """A recipient's word on what it erased, recorded once; the node that has a notice now.

    Raises `Malformed`, `NotAuthentic`, `Refused` (exchange.unknown).
    """
    said = deletion.parse(envelope.verify(signed, signing_key))
    row = state.get(tables.Deletion, said.presentation_hash)
    if (said.recipient, said.aud) != (recipient, origin):
        raise NotAuthentic("presentation.recipient", "an deletion in another's name")
    if row is None or row.recipient != recipient:
        raise Refused("exchange.unknown")
    if not row.envelope:
        found = state.find(tables.Exchange, hash=said.presentation_hash)
        parcel = state.get(tables.Parcel, said.presentation_hash)
        grant, subject = (found[0].grant_hash, found[0].subject) if found else (b"", parcel.subject if parcel else b"")
        detail = Detail(said.presentation_hash, grant, subject, (signed.to_bytes(),))
        entry = sequence.record(Meta("exchange.deleted", sender=recipient), detail, now_ms)
        state.update(tables.Deletion, {"envelope": signed.to_bytes(), "entry": entry.index}, exchange=row.exchange)
        delivery.notify(state, recipient, row.exchange, "deleted", entry=entry.index)
    return recipient
