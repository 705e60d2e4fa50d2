"""Subject keys, grants and their end, as the log tells it: each by the key that the law of this protocol asks for
(DESIGN section 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clients.auditor.participants import Participants, check_only
from zhifu import consent, envelope, statement
from zhifu.consent import Grant
from zhifu.envelope import Envelope, Kind
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import Alg, key_id, participant_id
from zhifu.presentation import Presentation
from zhifu.receipt import Detail, Meta

_MAX_ATTESTATIONS = 8


@dataclass(eq=False, slots=True)
class Registered:
    """A grant at one point of the log: the workflows that used it, and whether it was revoked.

    ``waiting`` are the exchanges under it (their hashes) that were neither acknowledged nor ended.
    """

    grant: Grant
    workflows: set[bytes] = field(default_factory=set)
    waiting: set[bytes] = field(default_factory=set)
    revoked: bool = False


class Grants:
    """Enrolled subject keys and registered grants at one point of the log of ``origin``."""

    def __init__(self, origin: str, participants: Participants) -> None:
        self._origin = origin
        self._participants = participants
        self._subjects: dict[bytes, bytes] = {}
        self._standing: dict[bytes, Registered] = {}

    def subject_key(self, subject: bytes) -> bytes | None:
        """The enrolled key with this id."""
        return self._subjects.get(subject)

    def enrol_subject(self, meta: Meta, detail: Detail, now: int) -> None:
        """Two participants attested one key. ``now`` is the entry's time, Unix s.

        Raises `Refused` (consent.not_attested), `NotAuthentic`, `Malformed`.
        """
        check_only(meta, Meta(meta.event))
        if not 2 <= len(detail.documents) <= _MAX_ATTESTATIONS:
            raise Refused("consent.not_attested", "a subject key without two attestations")
        keys = self._participants.signing_keys()
        signed = [envelope.from_bytes(envelope.ATTESTATION, one) for one in detail.documents]
        found = [statement.verify_attestation(one, keys, now) for one in signed]
        key = found[0].subject_key
        if {one.subject_key for one in found} != {key} or len({one.attester for one in found}) < 2:
            raise Refused("consent.not_attested", "two attestations are not by two participants about one key")
        subject = participant_id(key)
        if detail != Detail(subject=subject, documents=detail.documents):
            raise NotAuthentic("log.corrupt", "the attested key is not the subject that was enrolled")
        if subject in self._subjects:
            raise NotAuthentic("log.corrupt", "a subject key was enrolled twice")
        self._subjects[subject] = key

    def register(self, meta: Meta, detail: Detail, now: int) -> None:
        """A grant by an enrolled key; the same grant again changes nothing, and revives nothing.

        Raises `NotAuthentic` (consent.*), `Refused` (consent.*, participant.unknown), `Malformed`.
        """
        signed = one_document(envelope.GRANT, detail)
        grant = consent.verify_grant(signed, self._enrolled(detail.subject, signed))
        check_only(meta, Meta(meta.event, sender=grant.sender, recipient=grant.recipient, purpose=grant.purpose))
        digest = consent.hash_of(signed.payload)
        if detail != Detail(grant=digest, subject=grant.subject, documents=detail.documents):
            raise NotAuthentic("log.corrupt", "the entry is about another grant than was signed")
        if grant.aud != self._origin:
            raise Refused("consent.wrong_audience")
        if now > grant.expiry:
            raise Refused("consent.expired", "the grant had expired when it was registered")
        if grant.cnf != grant.sender:
            raise Refused("consent.wrong_sender", "the grant may be presented by another than its sender")
        for party in (grant.sender, grant.recipient):
            self._participants.standing(party)
        self._standing.setdefault(digest, Registered(grant))

    def revoke(self, meta: Meta, detail: Detail) -> set[bytes]:
        """A grant ended, by its subject key; the exchanges under it that now must be withdrawn.

        Raises `NotAuthentic` (consent.*), `Refused` (consent.unknown, consent.wrong_audience), `Malformed`.
        """
        signed = one_document(envelope.REVOCATION, detail)
        said = consent.verify_revocation(signed, self._enrolled(detail.subject, signed), self._origin)
        standing = self.standing(said.grant_hash)
        if standing.grant.subject != detail.subject:
            raise Refused("consent.unknown", "a grant was revoked by another subject")
        check_only(meta, Meta(meta.event, sender=standing.grant.cnf))
        if detail != Detail(grant=said.grant_hash, subject=detail.subject, documents=detail.documents):
            raise NotAuthentic("log.corrupt", "the entry is about another grant than was revoked")
        standing.revoked = True
        return set(standing.waiting)

    def use(self, shown: Presentation, schema_hash: bytes, now: int) -> Registered:
        """The grant that a presentation rests on, which allows it here; the use is counted: one use is one workflow.

        ``now`` is the entry's time, Unix s. Raises `Refused` (consent.*).
        """
        found = self.standing(shown.basis)
        if found.revoked:
            raise Refused("consent.revoked", "the grant was revoked before this exchange was accepted")
        consent.check_use(found.grant, shown, schema_hash, now)
        found.workflows.add(shown.workflow)
        if len(found.workflows) > found.grant.max_uses:
            raise Refused("consent.used_up", "the grant was used for more workflows than it allows")
        return found

    def standing(self, grant_hash: bytes) -> Registered:
        """Raises `Refused` (consent.unknown)."""
        found = self._standing.get(grant_hash)
        if found is None:
            raise Refused("consent.unknown", "no such grant was registered before this entry")
        return found

    def _enrolled(self, subject: bytes, signed: Envelope) -> bytes:
        key = self._subjects.get(subject)
        if key is None or signed.key_id != key_id(Alg.ED25519, key):
            raise NotAuthentic("consent.key_status", "signed by a key that is not enrolled for this subject")
        return key


def one_document(kind: Kind, detail: Detail) -> Envelope:
    """The one signed document of an entry. Raises `Malformed`."""
    if len(detail.documents) != 1:
        raise Malformed("malformed.field", f"{len(detail.documents)} signed documents where one belongs")
    return envelope.from_bytes(kind, detail.documents[0])
