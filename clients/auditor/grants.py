"""Subject keys, grants and their end, as the log tells it: each by the key that the law of this protocol asks for
(DESIGN section 5).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from clients.auditor.participants import Participants, check_only
from clients.auditor.subject_keys import SubjectKeys
from zhifu import consent, envelope, statement, ticket
from zhifu.consent import Grant, Scopes
from zhifu.envelope import Envelope, Kind
from zhifu.errors import CATALOGUE, Malformed, NotAuthentic, Refused
from zhifu.keys import Alg, key_id, participant_id
from zhifu.presentation import Presentation
from zhifu.receipt import Detail, Meta
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

_MAX_ATTESTATIONS = 8


@dataclass(eq=False, slots=True)
class Registered:
    """A grant at one point of the log: the workflows that used it, and whether it was revoked.

    Of ``grant`` only what `zhifu.consent.check_use` asks is kept, and the number of uses.
    """

    grant: Grant
    workflows: tuple[bytes, ...] = ()
    revoked: bool = False


class Grants:
    """Enrolled subject keys and registered grants at one point of the log of ``origin``."""

    def __init__(self, origin: str, participants: Participants, hotline: Collection[bytes] = ()) -> None:
        self._origin = origin
        self._participants = participants
        self._subjects: dict[bytes, bytes] = {}
        self._attesters: dict[bytes, frozenset[bytes]] = {}
        self._standing: dict[bytes, Registered] = {}
        self._keys = SubjectKeys(origin, participants, hotline)
        self._tickets: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._nonces: set[bytes] = set()
        self._same_ids: dict[bytes, bytes] = {}
        self._same_scopes: dict[Scopes, Scopes] = {}

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
        keys = self._participants.signing_keys(now)
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
        self._attesters[subject] = frozenset(self._same_ids.setdefault(one.attester, one.attester) for one in found)
        self._keys.enrol(subject, key)

    def check_attested_by(self, subject: bytes, participant: bytes) -> None:
        """An organisation may show a record of her own to a patient whose key it attested.

        Raises `Refused` (consent.key_status, consent.not_attested).
        """
        if subject not in self._attesters or self._keys.is_revoked(self._subjects[subject]):
            raise Refused("consent.key_status", "the subject was not enrolled before this entry, or its key revoked")
        if participant not in self._attesters[subject]:
            raise Refused("consent.not_attested", "the sender did not attest the subject's key")

    def change_key(self, meta: Meta, detail: Detail, now_ms: int) -> None:
        """A line of a subject's key log. Raises `NotAuthentic`, `Refused`, `Malformed`."""
        check_only(meta, Meta(meta.event))
        self._keys.change(meta.event, detail, now_ms)

    def register(self, meta: Meta, detail: Detail, now: int) -> None:
        """A grant by an enrolled key, once. ``now`` is the entry's time, Unix s.

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
        if digest in self._standing:
            raise NotAuthentic("log.corrupt", "a grant was registered twice")
        self._standing[digest] = Registered(self._kept(grant))

    def revoke(self, meta: Meta, detail: Detail, now: int) -> bytes:
        """A grant ended, by whoever may stop it; its hash. ``now`` is the entry's time, Unix s.

        Raises `NotAuthentic` (consent.*), `Refused` (consent.unknown, consent.wrong_audience), `Malformed`.
        """
        standing = self.standing(detail.grant)
        if standing.grant.subject != detail.subject:
            raise Refused("consent.unknown", "a grant was revoked by another subject")
        if not self._keys.ends(detail):
            self._check_revocation(detail, standing.grant, now)
        check_only(meta, Meta(meta.event, sender=standing.grant.cnf))
        if detail != Detail(grant=detail.grant, subject=detail.subject, documents=detail.documents):
            raise NotAuthentic("log.corrupt", "the entry is about another grant than was revoked")
        standing.revoked = True
        return detail.grant

    def _check_revocation(self, detail: Detail, grant: Grant, now: int) -> None:
        signed = one_document(envelope.REVOCATION, detail)
        may = self._keys.stoppers(signed.key_id, detail.subject, grant.cnf, now)
        said = consent.verify_revocation(signed, next(iter(may.values())), self._origin)
        if said.by not in may:
            raise Refused("consent.not_yours", "a grant was stopped in another capacity than its signer has")
        if (said.grant_hash or detail.grant, said.subject or detail.subject) != (detail.grant, detail.subject):
            raise NotAuthentic("log.corrupt", "the entry is about another grant than was revoked")

    def refuse(self, meta: Meta, detail: Detail) -> None:
        """What was sent as a grant in a patient's name, and was none. Raises `NotAuthentic`, `Malformed`."""
        check_only(meta, Meta(meta.event, reason=meta.reason))
        if detail != Detail(grant=detail.grant, subject=detail.subject) or detail.subject not in self._subjects:
            raise Malformed("malformed.field", "not the entry of a grant that was refused")
        if meta.reason not in CATALOGUE:
            raise Malformed("malformed.field", "a refusal without a reason of the catalogue")

    def redeem(self, meta: Meta, detail: Detail, now: int) -> None:
        """A ticket was bound to a workflow, once, within its time. Raises `NotAuthentic`, `Refused` (ticket.*)."""
        standing = self.standing(detail.grant)
        grant = standing.grant
        check_only(meta, Meta(meta.event, sender=grant.cnf, recipient=grant.recipient, purpose=grant.purpose))
        if len(detail.documents) != 2 or len(detail.documents[1]) != 16 or detail.subject != grant.subject:
            raise Malformed("malformed.field", "not the entry of a ticket and its workflow")
        signed = envelope.from_bytes(envelope.TICKET, detail.documents[0])
        found = ticket.verify(signed, grant, detail.grant)
        ticket.check_window(found.issued_at, now)
        digest = consent.hash_of(signed.payload)
        if standing.revoked or digest in self._tickets or found.nonce in self._nonces:
            raise Refused("ticket.used", "a ticket was redeemed twice, or for a revoked grant")
        self._nonces.add(found.nonce)
        self._tickets[digest] = (detail.grant, detail.documents[1], now + ticket.REUSE_S)

    def _check_ticket(self, grant: Grant, shown: Presentation, now: int) -> None:
        if grant.mode != GRANT_MODE_DIRECT_PAY:
            if shown.ticket_hash:
                raise Refused("ticket.grant")
            return
        bound = self._tickets.get(shown.ticket_hash)
        if bound is None:
            raise Refused("ticket.missing", "a direct-pay grant was used without a redeemed ticket")
        if bound[:2] != (shown.basis, shown.workflow) or now > bound[2]:
            raise Refused("ticket.used", "a ticket was used beyond its workflow or its time")

    def use(self, shown: Presentation, schema_hash: bytes, now: int) -> Registered:
        """The grant that a presentation rests on, which allows it here; the use is counted: one use is one workflow.

        ``now`` is the entry's time, Unix s. Raises `Refused` (consent.*).
        """
        found = self.standing(shown.basis)
        if found.revoked:
            raise Refused("consent.revoked", "the grant was revoked before this exchange was accepted")
        consent.check_use(found.grant, shown, schema_hash, now)
        self._check_ticket(found.grant, shown, now)
        if shown.workflow not in found.workflows:
            found.workflows += (shown.workflow,)
        if len(found.workflows) > found.grant.max_uses:
            raise Refused("consent.used_up", "the grant was used for more workflows than it allows")
        return found

    def is_registered(self, grant_hash: bytes) -> bool:
        return grant_hash in self._standing

    def standing(self, grant_hash: bytes) -> Registered:
        """Raises `Refused` (consent.unknown)."""
        found = self._standing.get(grant_hash)
        if found is None:
            raise Refused("consent.unknown", "no such grant was registered before this entry")
        return found

    def _kept(self, grant: Grant) -> Grant:
        """Without what nobody asks again, ids and scopes that grants share kept once: there may be very many."""
        sender, recipient = (self._same_ids.setdefault(one, one) for one in (grant.sender, grant.recipient))
        scopes = self._same_scopes.setdefault(grant.scopes, grant.scopes)
        shared = replace(grant, aud=self._origin, sender=sender, recipient=recipient, cnf=sender, scopes=scopes)
        key = self._subjects[grant.subject]
        return replace(shared, grant_id=b"", subject_key=key, terms=b"", request_hash=b"", wallet_key=b"")

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
