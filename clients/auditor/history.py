"""What the entries say, checked one after the other: could an honest broker have written this entry here?

Each event has one check, which raises with the reason for which the broker should have refused. State is what earlier
entries established, and nothing of it is taken from the broker's own tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from clients.auditor import subject_keys
from clients.auditor.checkpoints import Claims
from clients.auditor.entries import EntryLine, Published
from clients.auditor.erasures import Erasures
from clients.auditor.exchanges import Exchanges
from clients.auditor.grants import Grants, one_document
from clients.auditor.parcels import Parcels
from clients.auditor.participants import Participants, check_only
from clients.auditor.pins import Pins
from clients.auditor.policy import Policies
from clients.auditor.pseudonyms import Pseudonyms
from clients.auditor.report import Violation
from clients.auditor.signatures import Signatures
from clients.auditor.tree import Leaves
from zhifu import acknowledgement, deletion, envelope
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import MAX_FRAME
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import participant_id
from zhifu.receipt import Detail, Entry, Erased, Meta, parse_detail, parse_meta
from zhifu.statement import SKEW_S, claimed_participant

STATED: Final = "key.stated"
ERASED: Final = "(erased)"
CLOCK_SET: Final = "clock.set"
_WITHDRAWN: Final = "exchange.withdrawn"
_Check = Callable[[Entry, Meta, Detail], None]


class History:
    """What the log established up to the last entry that was checked. ``leaves`` are those of the entries so far."""

    def __init__(self, pins: Pins, policies: Policies, leaves: Leaves) -> None:
        self._origin = pins.origin
        self._leaves = leaves
        self.participants = Participants(pins)
        self._grants = Grants(pins.origin, self.participants, pins.hotline)
        self._parcels = Parcels(pins.origin, self._grants)
        self._service = participant_id(pins.log_key.public_key)
        self._pseudonyms = Pseudonyms(pins, self.participants)
        self._signatures = Signatures()
        self._erasures = Erasures(pins)
        self._exchanges = Exchanges(
            pins.origin, self.participants, self._grants, policies, self._signatures, self._erasures
        )
        self.claims = Claims()
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self._latest_ms = 0
        self._to_withdraw: set[bytes] = set()
        self._checks: Mapping[str, _Check] = self._by_event()

    def check(self, one: EntryLine) -> None:
        """The next entry. Raises `Malformed`, `NotAuthentic` or `Refused`, and must not be asked again after that."""
        self._check_time(one)
        if isinstance(one, Published):
            self._check_order(STATED, b"")
            self._state_keys(one.document, one.time_ms // 1000)
            self.counts[STATED] += 1
            return
        if isinstance(one, Erased):
            self._erasures.meet(one)
            self.counts[ERASED] += 1
            return
        meta, detail = parse_meta(one.meta), parse_detail(one.detail)
        self._check_order(meta.event, detail.exchange)
        check = self._checks.get(meta.event)
        if check is None:
            raise Malformed("malformed.field", f"no broker of this version writes an entry {meta.event}")
        check(one, meta, detail)
        self.counts[meta.event] += 1

    def finish(self) -> None:
        """The log ends here. Raises `Refused` (exchange.state) where a revocation left something queued."""
        self._erasures.finish()
        if self._to_withdraw:
            raise Refused("exchange.state", "the log ends before what was queued under a revoked grant is withdrawn")

    def _state_keys(self, document: bytes, now: int) -> None:
        """By a participant's identity key, or by the log's own key for the services that it runs (DESIGN 4.5)."""
        signed = envelope.from_bytes(envelope.KEY_STATEMENT, document)
        claimed = claimed_participant(signed)
        if claimed == self._service:
            self._pseudonyms.state_keys(signed, claimed, now)
        else:
            self.participants.state_keys(signed, claimed, now)

    def _by_event(self) -> dict[str, _Check]:
        people, grants, exchanges = self.participants, self._grants, self._exchanges
        return {
            "participant.enrolled": lambda one, meta, detail: people.enrol(meta, detail),
            "participant.suspended": lambda one, meta, detail: people.set_standing(meta, detail, one.time_ms),
            "participant.resumed": lambda one, meta, detail: people.set_standing(meta, detail, one.time_ms),
            "entry.erased": lambda one, meta, detail: self._erasures.recorded(one.index, meta, detail, _seconds(one)),
            "hold.placed": lambda one, meta, detail: self._erasures.hold(meta, detail, _seconds(one)),
            "hold.lifted": lambda one, meta, detail: self._erasures.hold(meta, detail, _seconds(one)),
            "epoch.offered": lambda one, meta, detail: people.offer_epoch(meta, detail),
            "subject.enrolled": lambda one, meta, detail: grants.enrol_subject(meta, detail, _seconds(one)),
            "grant.registered": lambda one, meta, detail: grants.register(meta, detail, _seconds(one)),
            "grant.refused": lambda one, meta, detail: grants.refuse(meta, detail),
            "grant.revoked": self._revoked,
            subject_keys.ADDED: lambda one, meta, detail: grants.change_key(meta, detail, one.time_ms),
            subject_keys.REVOKED: lambda one, meta, detail: grants.change_key(meta, detail, one.time_ms),
            "ticket.redeemed": self._redeemed,
            "exchange.deleted": lambda one, meta, detail: self._deleted(meta, detail, _seconds(one)),
            "exchange.accepted": lambda one, meta, detail: exchanges.accept(one.index, meta, detail, _seconds(one)),
            "exchange.denied": lambda one, meta, detail: exchanges.deny(meta, detail, _seconds(one)),
            "exchange.acknowledged": self._acknowledged,
            "exchange.expired": lambda one, meta, detail: exchanges.expire(meta, detail, _seconds(one)),
            _WITHDRAWN: lambda one, meta, detail: exchanges.withdraw(meta, detail),
            "parcel.left": lambda one, meta, detail: self._parcels.leave(meta, detail),
            "parcel.taken": lambda one, meta, detail: self._parcels.take(meta, detail),
            "parcel.withdrawn": lambda one, meta, detail: self._parcels.withdraw(meta, detail),
            "audit.searched": lambda one, meta, detail: people.note_reading(meta, detail),
            "audit.exported": lambda one, meta, detail: people.note_reading(meta, detail),
            "pseudonym.evaluated": lambda one, meta, detail: self._pseudonyms.evaluate(meta, detail),
            "pseudonym.denied": lambda one, meta, detail: self._pseudonyms.deny(meta, detail),
            CLOCK_SET: lambda one, meta, detail: None,
            "pseudonym.quota": lambda one, meta, detail: self._pseudonyms.raise_quota(meta, detail, _seconds(one)),
        }

    def _check_time(self, one: EntryLine) -> None:
        """In order; a broker whose clock was ahead and was put right says so by an entry, for everybody to see."""
        if isinstance(one, Entry) and parse_meta(one.meta).event == CLOCK_SET:
            self._latest_ms = one.time_ms
        elif one.time_ms < self._latest_ms - 1000 * SKEW_S:
            raise NotAuthentic(
                "log.corrupt", f"the entry is dated {self._latest_ms - one.time_ms} ms before an earlier one"
            )
        self._latest_ms = max(self._latest_ms, one.time_ms)

    def _check_order(self, event: str, exchange: bytes) -> None:
        """What is queued under a grant is withdrawn with its revocation, before anything else (DESIGN 4.3)."""
        if not self._to_withdraw:
            return
        if event != _WITHDRAWN or exchange not in self._to_withdraw:
            raise Refused("exchange.state", "what was queued under a revoked grant was not withdrawn with it")
        self._to_withdraw.discard(exchange)

    def _is_gone(self, grant: bytes, party: bytes) -> bool:
        """Whether a grant was erased, as far as can be told: one of this party's was."""
        erased = self._erasures.of("grant.registered")
        return not self._grants.is_registered(grant) and any(party in (was.sender, was.recipient) for _, was in erased)

    def _redeemed(self, one: Entry, meta: Meta, detail: Detail) -> None:
        if not self._is_gone(detail.grant, meta.sender):
            self._grants.redeem(meta, detail, _seconds(one))

    def _revoked(self, one: Entry, meta: Meta, detail: Detail) -> None:
        if self._is_gone(detail.grant, meta.sender):
            check_only(meta, Meta(meta.event, sender=meta.sender))
            self._to_withdraw = self._exchanges.waiting_under(detail.grant)
            return
        self._to_withdraw = self._exchanges.waiting_under(self._grants.revoke(meta, detail, _seconds(one)))

    def _deleted(self, meta: Meta, detail: Detail, now: int) -> None:
        """A recipient's signed word, after the grant was revoked, about an exchange that rested on it."""
        check_only(meta, Meta(meta.event, sender=meta.sender))
        signed = one_document(envelope.DELETION, detail)
        said = deletion.parse(self._signatures.verify(signed, self.participants.signing_key(meta.sender, now)))
        here = (self._origin, meta.sender, detail.exchange)
        if (said.aud, said.recipient, said.presentation_hash) != here:
            raise NotAuthentic("log.corrupt", "the entry is about another deletion than was signed")
        due = self._parcels.is_due(detail.exchange)
        if due is not None:
            if due != (meta.sender, detail.subject):
                raise NotAuthentic("log.corrupt", "a word on erasing another's parcel")
            return
        if not self._is_gone(detail.grant, meta.sender) and not self._grants.standing(detail.grant).revoked:
            raise Refused("exchange.state", "a deletion under a grant that stands")

    def _acknowledged(self, one: Entry, meta: Meta, detail: Detail) -> None:
        """What one recipient signed about deliveries, each about an exchange that it was to get, in this very log."""
        check_only(meta, Meta(meta.event, sender=meta.sender))
        if not 1 <= len(detail.documents) <= MAX_FRAME or detail != Detail(documents=detail.documents):
            raise Malformed("malformed.field", "not the entry of 1 to 64 acknowledgements")
        key = self._recipient_key(meta.sender, _seconds(one))
        for document in detail.documents:
            self._acknowledge(document, meta.sender, key, one.index)

    def _recipient_key(self, recipient: bytes, now: int) -> bytes:
        if self.participants.is_enrolled(recipient):
            return self.participants.signing_key(recipient, now)
        key = self._grants.subject_key(recipient)
        if key is None:
            raise Refused("participant.unknown", "an acknowledgement by nobody who is enrolled")
        return key

    def _acknowledge(self, document: bytes, recipient: bytes, key: bytes, said_at: int) -> None:
        signed = envelope.from_bytes(envelope.ACKNOWLEDGEMENT, document)
        said = acknowledgement.parse(self._signatures.verify(signed, key))
        if self._erasures.is_erased(said.index):
            self._acknowledge_erased(said, recipient, said_at)
            return
        exchange = self._exchanges.waiting(said.presentation_hash)
        if said.recipient != recipient or exchange.recipient != recipient:
            raise NotAuthentic("presentation.recipient", "an acknowledgement of what another was to get")
        here = (self._origin, exchange.index, self._leaves.hash_at(exchange.index))
        if (said.aud, said.index, said.leaf_hash) != here:
            raise NotAuthentic("log.fork", f"the recipient was shown another entry than entry {exchange.index}")
        self.claims.add(said.size, said.root, exchange.index, said_at)
        self._exchanges.end(said.presentation_hash)
        if not said.opened:
            parties = (exchange.sender.hex(), recipient.hex(), exchange.schema.name)
            self.violations.append(Violation(exchange.index, said_at, *parties, said.reason))

    def _acknowledge_erased(self, said: Acknowledgement, recipient: bytes, said_at: int) -> None:
        """Of the exchange only its place and its parties are left; the recipient signed the leaf, which is."""
        if recipient != self._erasures.recipient(said.index) or said.recipient != recipient:
            raise NotAuthentic("presentation.recipient", "an acknowledgement of what another was to get")
        if (said.aud, said.leaf_hash) != (self._origin, self._leaves.hash_at(said.index)):
            raise NotAuthentic("log.fork", f"the recipient was shown another entry than entry {said.index}")
        self.claims.add(said.size, said.root, said.index, said_at)


def _seconds(one: Entry) -> int:
    return one.time_ms // 1000
