"""Exchanges as the log tells it: what was accepted or denied, on which basis, and what became of it (DESIGN 4.2, 6).

The schema of a record is named by its manifest, which is not in the log: here it is checked against grant, levels and
policy, and the recipient's acknowledgement, which signs the entry's leaf, confirms it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Final

from clients.auditor.erasures import Erasures
from clients.auditor.grants import Grants, one_document
from clients.auditor.participants import Participants, check_only
from clients.auditor.policy import Policies
from clients.auditor.signatures import Signatures
from policies.bundle import Request
from zhifu import envelope, presentation, schema
from zhifu.errors import CATALOGUE, Error, Malformed, NotAuthentic, Refused
from zhifu.presentation import BASIS_NAMES, SKEW_S, Presentation
from zhifu.receipt import Detail, Meta
from zhifu.schema import Schema, within
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT

ACCEPTED: Final = "exchange.accepted"
_FRAME_REASONS: Final = ("signature.invalid", "malformed.size")
"""Why a whole frame is refused: then nothing in it is authentic, and nothing of it may be told."""


@dataclass(eq=False, slots=True)
class Exchange:
    """What later entries need of an accepted exchange; ``waiting`` until it is acknowledged, expired or withdrawn."""

    index: int
    sender: bytes
    recipient: bytes
    purpose: str
    workflow: bytes
    encounter: bytes
    not_after: int
    schema: Schema
    grant: bytes
    subject: bytes
    by_grant: bool
    waiting: bool = True


@dataclass(frozen=True, slots=True)
class _Basis:
    """What an exchange rests on: hash of the grant and its subject, if any, and the exchange that it answers."""

    grant: bytes = b""
    subject: bytes = b""
    asked: Exchange | None = None


class Exchanges:
    """The exchanges that were accepted up to one point of the log of ``origin``."""

    def __init__(
        self, origin: str, participants: Participants, grants: Grants, policies: Policies, signatures: Signatures,
        erasures: Erasures,
    ) -> None:  # fmt: skip
        self._erasures = erasures
        self._origin = origin
        self._signatures = signatures
        self._participants = participants
        self._grants = grants
        self._policies = policies
        self._by_hash: dict[bytes, Exchange] = {}
        self._nonces: dict[bytes, set[bytes]] = {}
        self._under: dict[bytes, set[bytes]] = {}
        self._same: dict[bytes, bytes] = {}

    def accept(self, index: int, meta: Meta, detail: Detail, now: int) -> None:
        """An exchange that its sender signed, on a basis that allows it. ``now`` is the entry's time, Unix s.

        Raises `NotAuthentic`, `Refused` or `Malformed` with the reason for which it should have been refused.
        """
        shown = self._signed_by_sender(meta, detail, now)
        released, found = meta.released, schema.by_hash(meta.schema_hash)
        check_only(meta, _meta(shown, found.hash, ceilings=shown.ceilings, released=released, policy=meta.policy_hash))
        self._check_presentation(shown, now)
        self._participants.check_active(shown.sender)
        if self._participants.is_enrolled(shown.recipient):
            self._participants.check_active(shown.recipient)
        _check_levels(found, shown.ceilings, released)
        basis = self._basis(shown, found, meta, detail, now)
        if (detail.grant, detail.subject) != (basis.grant, basis.subject):
            raise NotAuthentic("log.corrupt", "the entry names another grant or subject than its basis")
        self._check_policy(shown, found, basis, meta)
        self._remember(index, shown, found, basis, detail.exchange)

    def deny(self, meta: Meta, detail: Detail, now: int) -> None:
        """A refusal: what it tells of the presentation is what the sender signed. Raises as `accept`."""
        self._policies.check_known(meta.policy_hash)
        if (
            meta.reason not in CATALOGUE
            or meta.released
            or detail.grant
            or detail.subject
            or len(detail.exchange) != 32
        ):
            raise Malformed("malformed.field", "not the entry of a refusal")
        self._participants.standing(meta.sender)
        bare = Meta(meta.event, sender=meta.sender, policy_hash=meta.policy_hash, reason=meta.reason)
        if not detail.documents:
            if meta.reason not in _FRAME_REASONS:
                raise NotAuthentic("log.corrupt", "a refusal without the presentation that was refused")
            check_only(meta, bare)
            return
        payload = self._payload(meta, detail, now)
        try:
            shown = presentation.parse(payload)
        except Malformed:
            check_only(meta, bare)
            return
        told = replace(bare, recipient=shown.recipient, purpose=shown.purpose, ceilings=shown.ceilings)
        if meta.schema_hash:
            told = replace(told, schema_hash=schema.by_hash(meta.schema_hash).hash)
        check_only(meta, told)

    def waiting(self, digest: bytes) -> Exchange:
        """An accepted exchange that did not end yet. Raises `Refused` (exchange.unknown, exchange.state)."""
        found = self._by_hash.get(digest)
        if found is None:
            raise Refused("exchange.unknown", "no such exchange was accepted before this entry")
        if not found.waiting:
            raise Refused("exchange.state", "the exchange had ended before this entry")
        return found

    def end(self, digest: bytes) -> None:
        """It was acknowledged, expired or withdrawn. Raises as `waiting`."""
        found = self.waiting(digest)
        found.waiting = False
        if found.by_grant:
            self._under[found.grant].discard(digest)
            if not self._under[found.grant]:
                del self._under[found.grant]

    def waiting_under(self, grant: bytes) -> set[bytes]:
        """The exchanges under a grant that did not end yet."""
        return set(self._under.get(grant, ()))

    def expire(self, meta: Meta, detail: Detail, now: int) -> None:
        """An exchange outlived its presentation, or its epoch's gate key was lost, which the entry must say.

        Raises `NotAuthentic`, `Refused` (exchange.*).
        """
        is_lost = meta.reason == "gate.epoch"
        found = self._ended(replace(meta, reason="") if is_lost else meta, detail)
        if found is None:
            return
        if now <= found.not_after and not is_lost:
            raise Refused("exchange.state", "the exchange was called expired before its time")
        self.end(detail.exchange)

    def withdraw(self, meta: Meta, detail: Detail) -> None:
        """An exchange ended with its grant. Raises `NotAuthentic`, `Refused` (exchange.*, consent.*)."""
        found = self._ended(meta, detail)
        if found is None:
            return
        # Under a grant that is not registered it was accepted because that was erased.
        is_known = found.by_grant and self._grants.is_registered(found.grant)
        if not found.by_grant or (is_known and not self._grants.standing(found.grant).revoked):
            raise Refused("exchange.state", "an exchange was withdrawn whose grant was not revoked")
        self.end(detail.exchange)

    def _ended(self, meta: Meta, detail: Detail) -> Exchange | None:
        """The exchange that an entry ends; None where it was erased."""
        if detail.exchange not in self._by_hash and self._was_erased(ACCEPTED, meta):
            check_only(meta, Meta(meta.event, sender=meta.sender, recipient=meta.recipient, purpose=meta.purpose))
            return None
        found = self.waiting(detail.exchange)
        check_only(meta, Meta(meta.event, sender=found.sender, recipient=found.recipient, purpose=found.purpose))
        if detail != Detail(detail.exchange, found.grant, found.subject):
            raise NotAuthentic("log.corrupt", "the entry names another grant or subject than the exchange")
        return found

    def _payload(self, meta: Meta, detail: Detail, now: int) -> bytes:
        """The presentation's bytes, which the sender signed with its key of that moment."""
        signed = one_document(envelope.PRESENTATION, detail)
        payload = self._signatures.verify(signed, self._participants.signing_key(meta.sender, now))
        if detail.exchange != presentation.hash_of(payload):
            raise NotAuthentic("log.corrupt", "the entry is about another presentation than was signed")
        return payload

    def _signed_by_sender(self, meta: Meta, detail: Detail, now: int) -> Presentation:
        shown = presentation.parse(self._payload(meta, detail, now))
        if shown.sender != meta.sender:
            raise NotAuthentic("presentation.sender", "another participant signed than the entry names")
        return shown

    def _check_presentation(self, shown: Presentation, now: int) -> None:
        if shown.aud != self._origin:
            raise Refused("presentation.audience")
        # The broker looks at the clock before it commits; a commit takes a moment.
        shown.check_time(now if now > shown.not_after + SKEW_S else min(now, shown.not_after))
        if shown.epoch_id not in self._participants.standing(shown.sender).epochs:
            raise Refused("gate.epoch", "the sender offered no such epoch before this entry")
        if shown.nonce in self._nonces.get(shown.sender, ()):
            raise Refused("presentation.nonce_reused", "the sender used the nonce before")

    def _basis(self, shown: Presentation, found: Schema, meta: Meta, detail: Detail, now: int) -> _Basis:
        if shown.basis_kind == BASIS_KIND_GRANT:
            if not self._grants.is_registered(shown.basis) and self._was_erased("grant.registered", shown):
                return _Basis(shown.basis, detail.subject)
            standing = self._grants.use(shown, found.hash, now)
            return _Basis(shown.basis, standing.grant.subject)
        if shown.basis_kind == BASIS_KIND_ANSWER:
            return self._answers(shown, found, meta, detail)
        if shown.basis != meta.policy_hash:
            raise Refused("policy.denied", "the statute named is not in the policy of this entry")
        if found.name in presentation.OWN_RECORDS:
            self._grants.check_attested_by(shown.recipient, shown.sender)
            return _Basis(subject=shown.recipient)
        return _Basis()

    def _answers(self, shown: Presentation, found: Schema, meta: Meta, detail: Detail) -> _Basis:
        asked = self._by_hash.get(shown.in_reply_to)
        if asked is not None:
            return self._answer_to(asked, shown, found)
        for index, was in self._erasures.of(ACCEPTED):
            erased = Exchange(
                index, was.sender, was.recipient, was.purpose, shown.workflow, shown.encounter, 0,
                schema.by_hash(was.schema_hash), detail.grant, detail.subject, by_grant=False, waiting=False,
            )  # fmt: skip
            try:
                basis = self._answer_to(erased, shown, found)
                self._check_policy(shown, found, basis, meta)
            except Error:
                continue
            return basis
        raise Refused("exchange.unknown", "it answers an exchange that was not accepted before this entry")

    def _was_erased(self, event: str, what: Presentation | Meta) -> bool:
        """Whether an entry was erased that may be the one that this rests on: no more can be told of it."""
        parties = (what.sender, what.recipient, what.purpose)
        return any((one.sender, one.recipient, one.purpose) == parties for _, one in self._erasures.of(event))

    def _answer_to(self, asked: Exchange, shown: Presentation, found: Schema) -> _Basis:
        question = replace(
            shown, sender=asked.sender, recipient=asked.recipient, purpose=asked.purpose, workflow=asked.workflow,
            encounter=asked.encounter,
        )  # fmt: skip
        presentation.check_answers(shown, question, shown.in_reply_to, asked.subject or None)
        presentation.check_answer_schema(shown.purpose, found.name)
        return _Basis(asked.grant, asked.subject, asked)

    def _check_policy(self, shown: Presentation, found: Schema, basis: _Basis, meta: Meta) -> None:
        self._policies.check_known(meta.policy_hash)
        to_patient = bool(basis.subject) and shown.recipient == basis.subject
        request = Request(
            sender_role=self._participants.role(shown.sender),
            sender_status="active",
            recipient_role="patient" if to_patient else self._participants.role(shown.recipient),
            recipient_status="active",
            same_participant=shown.sender == shown.recipient,
            purpose=shown.purpose,
            basis=BASIS_NAMES[shown.basis_kind],
            schema=found.name,
            asked_purpose=basis.asked.purpose if basis.asked else None,
            asked_schema=basis.asked.schema.name if basis.asked else None,
        )
        self._policies.check_released(meta.policy_hash, request, found, shown.ceilings, meta.released)

    def _remember(self, index: int, shown: Presentation, found: Schema, basis: _Basis, digest: bytes) -> None:
        """Ids that many exchanges share are kept once: a log of a million entries must fit a small machine."""
        sender, recipient, grant, subject = (
            self._same.setdefault(one, one) for one in (shown.sender, shown.recipient, basis.grant, basis.subject)
        )
        self._nonces.setdefault(sender, set()).add(shown.nonce)
        matter = basis.asked or shown
        by_grant = basis.asked is None and bool(grant)
        purpose = sys.intern(shown.purpose)
        self._by_hash[digest] = Exchange(
            index, sender, recipient, purpose, matter.workflow, matter.encounter, shown.not_after, found, grant,
            subject, by_grant,
        )  # fmt: skip
        if by_grant:
            self._under.setdefault(grant, set()).add(digest)


def _meta(shown: Presentation, schema_hash: bytes, *, ceilings: bytes, released: bytes, policy: bytes) -> Meta:
    return Meta(
        ACCEPTED, shown.sender, shown.recipient, shown.purpose, schema_hash, ceilings, released, policy_hash=policy
    )


def _check_levels(found: Schema, ceilings: bytes, released: bytes) -> None:
    found.check_levels(ceilings)
    found.check_levels(released)
    if not within(released, ceilings):
        raise Refused("consent.exceeded", "a level was released that is finer than its ceiling")
