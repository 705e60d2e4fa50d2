"""Keys of a subject beside her own: who may see and stop what she granted, line by line in the log (DESIGN section 5).

Stopping is at once for everybody who may stop. Gaining is not: a device that only the recovery code vouches for waits
a day, and any other key of the subject can strike it in the meantime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.audit import Sequence
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import subject_key
from zhifu.errors import NotAuthentic, Refused
from zhifu.keys import Alg, key_id
from zhifu.receipt import Detail, Entry, Meta
from zhifu.subject_key import RECOVERY_DELAY_S, SignedChange, SubjectKey
from zhifu.v1.signed_pb2 import KEY_CHANGE_ADD, KEY_ROLE_DEVICE, KEY_ROLE_GUARDIAN, KEY_ROLE_RECOVERY

OWN: Final = 0
"""The role of the subject key itself; others have a `KeyRole`."""
MAX_KEYS: Final = 16
_MAY_ADD: Final = {
    OWN: (KEY_ROLE_DEVICE, KEY_ROLE_GUARDIAN, KEY_ROLE_RECOVERY),
    KEY_ROLE_DEVICE: (KEY_ROLE_DEVICE, KEY_ROLE_GUARDIAN, KEY_ROLE_RECOVERY),
    KEY_ROLE_RECOVERY: (KEY_ROLE_DEVICE,),
    KEY_ROLE_GUARDIAN: (),
}


@dataclass(frozen=True, slots=True)
class Acting:
    """A key that may act for a subject now, and as what: `OWN` or a `KeyRole`."""

    subject: tables.Subject
    public_key: bytes
    role: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A line of the key log: its entry, from when the key counts (Unix ms), and whose own key it revoked."""

    entry: Entry
    active_ms: int
    own_revoked: bytes = b""


def acting(signer: bytes, state: Reader, now_ms: int) -> Acting:
    """Whose key this is, if it is in force. Raises `NotAuthentic` (consent.key_status)."""
    for subject in state.find(tables.Subject, key_id=signer):
        if subject.status == "active":
            return Acting(subject, subject.public_key, OWN)
    further = state.get(tables.SubjectKey, signer)
    if further is None or further.status != "active" or now_ms < further.active_ms:
        raise NotAuthentic("consent.key_status")
    # Further keys outlive the subject's own: after a loss they are what is left to look and to stop with.
    found = state.get(tables.Subject, further.subject)
    if found is None:
        raise NotAuthentic("consent.key_status")
    return Acting(found, further.public_key, further.role)


def change(signed: SignedChange, aud: str, state: Transaction, sequence: Sequence, now_ms: int) -> Changed:
    """Add or revoke a key; the same line again changes nothing.

    Raises `NotAuthentic` (consent.*), `Refused` (consent.not_yours, consent.wrong_audience, enrolment.exists),
    `Malformed`.
    """
    signer = acting(signed.change.key_id, state, now_ms)
    said = subject_key.verify(signed, signer.public_key, aud)
    if said.subject != signer.subject.id:
        raise Refused("consent.not_yours")
    if said.change == KEY_CHANGE_ADD:
        return _add(said, signed, signer, state, sequence, now_ms)
    return _revoke(said, signed, signer, state, sequence, now_ms)


def _add(
    said: SubjectKey, signed: SignedChange, signer: Acting, state: Transaction, sequence: Sequence, now_ms: int
) -> Changed:
    if said.role not in _MAY_ADD[signer.role]:
        raise Refused("consent.not_yours")
    key = key_id(Alg.ED25519, said.key)
    stored = state.get(tables.SubjectKey, key)
    if stored is not None and stored.change == signed.change.to_bytes() and stored.status == "active":
        return Changed(sequence.entry(stored.entry, state), stored.active_ms)
    if stored is not None or state.find(tables.Subject, key_id=key):
        # A key that was revoked never comes back, and no key belongs to two subjects: it would link them.
        raise Refused("enrolment.exists", "this key is or was listed already")
    if len(state.find(tables.SubjectKey, subject=said.subject)) >= MAX_KEYS:
        raise Refused("unavailable.overload", f"a subject has at most {MAX_KEYS} further keys")
    active_ms = now_ms + (1000 * RECOVERY_DELAY_S if signer.role == KEY_ROLE_RECOVERY else 0)
    entry = sequence.record(Meta("subject.key_added"), _detail(said, signed), now_ms)
    state.insert(
        tables.SubjectKey,
        [
            (
                key, said.subject, said.key, int(said.role), "active", active_ms, signed.change.to_bytes(),
                signer.public_key, entry.index,
            )
        ],
    )  # fmt: skip
    return Changed(entry, active_ms)


def _revoke(
    said: SubjectKey, signed: SignedChange, signer: Acting, state: Transaction, sequence: Sequence, now_ms: int
) -> Changed:
    own = said.key == signer.subject.public_key
    stored = state.get(tables.SubjectKey, key_id(Alg.ED25519, said.key))
    if not own and (stored is None or stored.subject != said.subject):
        raise Refused("consent.not_yours")
    if signer.role == KEY_ROLE_GUARDIAN and not own and not _is_pending(stored, now_ms):
        # A guardian stops what was granted and a stranger's recovery, and does not lock the patient out.
        raise Refused("consent.not_yours")
    if stored is not None and stored.status != "active":
        return Changed(sequence.entry(stored.entry, state), now_ms)
    entry = sequence.record(Meta("subject.key_revoked"), _detail(said, signed), now_ms)
    if own:
        state.update(tables.Subject, {"status": "revoked"}, id=said.subject)
        return Changed(entry, now_ms, said.subject)
    changes = {
        "status": "revoked",
        "change": signed.change.to_bytes(),
        "signer": signer.public_key,
        "entry": entry.index,
    }
    state.update(tables.SubjectKey, changes, key_id=key_id(Alg.ED25519, said.key))
    return Changed(entry, now_ms)


def _is_pending(row: tables.SubjectKey | None, now_ms: int) -> bool:
    return row is not None and now_ms < row.active_ms


def _detail(said: SubjectKey, signed: SignedChange) -> Detail:
    accepted = (signed.accepted.to_bytes(),) if signed.accepted is not None else ()
    return Detail(subject=said.subject, documents=(signed.change.to_bytes(), *accepted))


def of(subject: bytes, state: Reader) -> list[tables.SubjectKey]:
    """Every further key that a subject has or had."""
    return state.find(tables.SubjectKey, subject=subject)
