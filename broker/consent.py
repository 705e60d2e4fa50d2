"""Consent as the broker checks it: the basis of an exchange, grants and their uses (DESIGN section 5).

Facts that cannot change (a grant's bytes, verified once) are cached. That a grant stands is remembered only until the
log may say otherwise (`Log.generation`); uses are counted in the store each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from broker import redemption
from broker.audit import Sequence
from broker.stages import Asked, Consented, Submission
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import consent, envelope, presentation, schema
from zhifu.consent import Grant
from zhifu.errors import Error, Refused
from zhifu.presentation import OWN_RECORDS, Presentation
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT

_CACHED: Final = 16_384


class _Use(NamedTuple):
    """All that `zhifu.consent.check_use` and the status of a grant depend on, but for the time."""

    basis: bytes
    aud: str
    sender: bytes
    recipient: bytes
    purpose: str
    encounter: bytes
    ceilings: bytes
    schema_hash: bytes


class _Standing(NamedTuple):
    """A use that was allowed, of a grant that stood; not before and until when (Unix s) it is."""

    grant: Grant
    subject: bytes
    not_before: int
    expiry: int


class Consent:
    """The step from `Submission` to `Consented`."""

    def __init__(self, policy_hash: bytes) -> None:
        self._policy_hash = policy_hash
        self._grants: OrderedDict[bytes, Grant] = OrderedDict()
        self._allowed: dict[_Use, _Standing] = {}
        self._generation = -1

    def check(
        self, one: Submission, asked: Mapping[bytes, tables.Exchange], state: Transaction, sequence: Sequence, now: int
    ) -> Consented:
        """What the exchange rests on.

        ``asked`` are stored exchanges by their hash, ``now`` is Unix s.
        Raises `Refused` (consent.*, policy.denied, exchange.unknown).
        """
        if one.presentation.basis_kind == BASIS_KIND_GRANT:
            return self._by_grant(one, state, sequence.generation, now)
        if one.presentation.basis_kind == BASIS_KIND_ANSWER:
            return self._by_answer(one, asked.get(one.presentation.in_reply_to))
        if one.presentation.basis != self._policy_hash:
            raise Refused("policy.denied", "the statute named is not in the policy bundle in force")
        subject = self._offered(one, state) if one.schema.name in OWN_RECORDS else b""
        return Consented(one, None, b"", subject, None)

    @staticmethod
    def _offered(one: Submission, state: Transaction) -> bytes:
        """The subject that an offer is for: enrolled, and attested by this very hospital, so that no other reaches her.

        Raises `Refused` (consent.key_status, consent.not_attested): the same for a key that nobody enrolled.
        """
        subject = state.get(tables.Subject, one.presentation.recipient)
        if subject is None or subject.status != "active":
            raise Refused("consent.key_status")
        documents = [row.document for row in state.find(tables.Attested, subject=subject.id)]
        signed = [envelope.from_bytes(envelope.ATTESTATION, one_) for one_ in documents]
        attesters = {signed_pb2.Attestation.FromString(found.payload).attester for found in signed}
        if one.presentation.sender not in attesters:
            raise Refused("consent.not_attested")
        return subject.id

    def _by_grant(self, one: Submission, state: Transaction, generation: int, now: int) -> Consented:
        if generation != self._generation or len(self._allowed) >= _CACHED:
            self._allowed.clear()
            self._generation = generation
        shown = one.presentation
        use = _Use(
            shown.basis, shown.aud, shown.sender, shown.recipient, shown.purpose, shown.encounter, shown.ceilings,
            one.schema.hash,
        )  # fmt: skip
        found = self._allowed.get(use)
        if found is None or not found.not_before <= now <= found.expiry:
            found = self._allowed[use] = self._ask(one, state, now)
        return Consented(one, found.grant, shown.basis, found.subject, None)

    def _ask(self, one: Submission, state: Transaction, now: int) -> _Standing:
        """The same from the store. Raises `Refused` (consent.*): refusals are never remembered."""
        row = state.get(tables.Grant, one.presentation.basis)
        if row is None:
            raise Refused("consent.unknown")
        subject = self.check_status(row, state, now)
        grant = self.grant(row, subject)
        consent.check_use(grant, one.presentation, one.schema.hash, now)
        return _Standing(grant, row.subject, grant.not_before, min(grant.expiry, row.expiry))

    @staticmethod
    def check_status(row: tables.Grant, state: Reader, now: int) -> tables.Subject:
        """The subject key and the grant are active at ``now`` (Unix s); the subject.

        Raises `Refused` (consent.key_status, consent.revoked, consent.expired).
        """
        subject = state.get(tables.Subject, row.subject)
        if subject is None or subject.status != "active":
            raise Refused("consent.key_status")
        if row.status != "active":
            raise Refused("consent.revoked")
        if now > row.expiry:
            raise Refused("consent.expired")
        return subject

    def grant(self, row: tables.Grant, subject: tables.Subject) -> Grant:
        """The grant of a stored row, verified once more by the key that was enrolled for its subject."""
        found = self._grants.get(row.hash)
        if found is None:
            found = consent.verify_grant(envelope.from_bytes(envelope.GRANT, row.envelope), subject.public_key)
            self._grants[row.hash] = found
            if len(self._grants) > _CACHED:
                self._grants.popitem(last=False)
        return found

    @staticmethod
    def _by_answer(one: Submission, asked: tables.Exchange | None) -> Consented:
        if asked is None:
            raise Refused("exchange.unknown")
        presentation.check_answers(
            one.presentation, presentation.parse(asked.payload), asked.hash, asked.subject or None
        )
        # Where a claim stands is told beside its decision, and decides nothing.
        decided = one.presentation.sender == asked.recipient and one.presentation.purpose == asked.purpose
        about = Asked(asked.entry, asked.purpose, schema.by_hash(asked.schema_hash), decided)
        return Consented(one, None, asked.grant_hash, asked.subject, about)

    @staticmethod
    def consume(one: Consented, state: Transaction, now_ms: int) -> None:
        """Count the use, in the transaction that records it: one use is one workflow.

        Raises `Refused` (consent.used_up, ticket.*).
        """
        if one.grant is None:
            return
        shown = one.submission.presentation
        redemption.check(one.grant, shown, state, now_ms)
        workflow = shown.workflow
        if state.get(tables.GrantUse, one.grant_hash, workflow) is not None:
            return
        if not state.use(one.grant_hash):
            raise Refused("consent.used_up")
        state.insert(tables.GrantUse, [(one.grant_hash, workflow)])


def told(error: Error, shown: Presentation | None, state: Reader) -> Error:
    """What the sender is told.

    Details of a grant only to its ``cnf`` holder, so that nobody probes with grant hashes.
    """
    if not error.reason.startswith(("consent.", "ticket.")) or shown is None or shown.basis_kind != BASIS_KIND_GRANT:
        return error
    row = state.get(tables.Grant, shown.basis)
    return error if row is not None and row.cnf == shown.sender else Refused("consent.not_usable")
