"""Keys of subjects at one point of the log, and who may stop a grant by the law of this protocol (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from clients.auditor.participants import Participants
from zhifu import envelope, subject_key
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import Alg, key_id
from zhifu.receipt import Detail
from zhifu.subject_key import RECOVERY_DELAY_S, SignedChange, SubjectKey
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import (
    KEY_CHANGE_ADD,
    KEY_ROLE_DEVICE,
    KEY_ROLE_GUARDIAN,
    KEY_ROLE_RECOVERY,
    REVOKER_GUARDIAN,
    REVOKER_HOSPITAL,
    REVOKER_HOTLINE,
    REVOKER_RECOVERY,
    REVOKER_UNSPECIFIED,
)

OWN: Final = 0
ADDED: Final = "subject.key_added"
REVOKED: Final = "subject.key_revoked"
_BY: Final[Mapping[int, signed_pb2.Revoker]] = {
    OWN: REVOKER_UNSPECIFIED,
    KEY_ROLE_DEVICE: REVOKER_UNSPECIFIED,
    KEY_ROLE_GUARDIAN: REVOKER_GUARDIAN,
    KEY_ROLE_RECOVERY: REVOKER_RECOVERY,
}


@dataclass(slots=True)
class _Key:
    subject: bytes
    public: bytes
    role: int
    active_ms: int
    revoked: bool = False


class SubjectKeys:
    """Every key that acts for a subject. ``hotline`` are the operators' public keys that this auditor pinned."""

    def __init__(self, origin: str, participants: Participants, hotline: Collection[bytes]) -> None:
        self._origin = origin
        self._participants = participants
        self._hotline = {key_id(Alg.ED25519, key): key for key in hotline}
        self._keys: dict[bytes, _Key] = {}
        self._ended: set[tuple[bytes, bytes]] = set()

    def enrol(self, subject: bytes, key: bytes) -> None:
        """A subject's own key, which two organisations attested."""
        self._keys[key_id(Alg.ED25519, key)] = _Key(subject, key, OWN, 0)

    def change(self, event: str, detail: Detail, now_ms: int) -> None:
        """A line by a key that is in force, and by the added key. Raises `NotAuthentic`, `Refused`, `Malformed`."""
        if not 1 <= len(detail.documents) <= 2 or detail != Detail(subject=detail.subject, documents=detail.documents):
            raise Malformed("malformed.field", "not the entry of a key log's line")
        documents = [envelope.from_bytes(envelope.SUBJECT_KEY, one) for one in detail.documents]
        signed = SignedChange(documents[0], documents[1] if len(documents) == 2 else None)
        signer = self._in_force(signed.change.key_id, now_ms)
        said = subject_key.verify(signed, signer.public, self._origin)
        if said.subject != detail.subject or said.subject != signer.subject:
            raise Refused("consent.not_yours", "a key log was changed by another subject's key")
        if (said.change == KEY_CHANGE_ADD) != (event == ADDED):
            raise NotAuthentic("log.corrupt", "the entry says another change than was signed")
        (self._add if event == ADDED else self._revoke)(said, signer, detail, now_ms)

    def _in_force(self, signer: bytes, now_ms: int) -> _Key:
        found = self._keys.get(signer)
        if found is None or found.revoked or now_ms < found.active_ms:
            raise NotAuthentic("consent.key_status", "signed by a key that is not in force for any subject")
        return found

    def _add(self, said: SubjectKey, signer: _Key, _: Detail, now_ms: int) -> None:
        name = key_id(Alg.ED25519, said.key)
        may = signer.role in (OWN, KEY_ROLE_DEVICE) or (signer.role, said.role) == (KEY_ROLE_RECOVERY, KEY_ROLE_DEVICE)
        if name in self._keys or not may:
            raise Refused("consent.not_yours", "a key was added by one that may not, or twice")
        delay = 1000 * RECOVERY_DELAY_S if signer.role == KEY_ROLE_RECOVERY else 0
        self._keys[name] = _Key(said.subject, said.key, said.role, now_ms + delay)

    def _revoke(self, said: SubjectKey, signer: _Key, detail: Detail, now_ms: int) -> None:
        found = self._keys.get(key_id(Alg.ED25519, said.key))
        if found is None or found.subject != said.subject:
            raise Refused("consent.not_yours", "a key of another subject was revoked")
        if signer.role == KEY_ROLE_GUARDIAN and found.role != OWN and now_ms >= found.active_ms:
            raise Refused("consent.not_yours", "a guardian revoked a device")
        found.revoked = True
        if found.role == OWN:
            self._ended.add((said.subject, detail.documents[0]))

    def is_revoked(self, key: bytes) -> bool:
        """Whether a public key that was enrolled is over."""
        return self._keys[key_id(Alg.ED25519, key)].revoked

    def ends(self, detail: Detail) -> bool:
        """Whether the document of a revoked grant is the line that revoked its subject's own key."""
        return len(detail.documents) == 1 and (detail.subject, detail.documents[0]) in self._ended

    def stoppers(self, signer: bytes, subject: bytes, cnf: bytes, now: int) -> Mapping[int, bytes]:
        """The key with this id, by every capacity in which it may stop a grant of ``subject`` that ``cnf`` holds.

        Raises `NotAuthentic` (consent.key_status), `Refused` (consent.unknown) where there is none.
        """
        found: dict[int, bytes] = {}
        if signer in self._hotline:
            found[REVOKER_HOTLINE] = self._hotline[signer]
        hospital = self._participants.signing_keys(now).get(cnf)
        if hospital is not None and key_id(Alg.ED25519, hospital) == signer:
            found[REVOKER_HOSPITAL] = hospital
        # A hospital may state a key that is a patient's: that takes nothing from her.
        if signer in self._keys or not found:
            own = self._in_force(signer, 1000 * now + 999)
            if own.subject == subject:
                found[_BY[own.role]] = own.public
        if not found:
            raise Refused("consent.unknown", "a grant was revoked by another subject")
        return found
