"""What became of what this node sent: the broker's results, and notices about recipients (DESIGN sections 6 and 7).

Nothing is believed without its proof: an acceptance needs its entry in the log, "delivered" the recipient's signature,
and a recipient that was shown another log than we were is found out here.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from typing import Final

from clients import deletion, granting, parcel_jobs, wire
from clients.counts import COUNTS
from clients.inbox import receipt_of
from clients.outbox import GRACE_S, MOST_OVERDUE
from clients.role import Noticed, Parts
from clients.store import Receipt, Sent
from zhifu import acknowledgement, envelope, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import Envelope
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.keys import Alg, key_id
from zhifu.receipt import Entry, Proven, parse_detail, parse_meta
from zhifu.schema import within
from zhifu.v1 import exchange_pb2

CURSOR: Final = "notices"
_EPOCH_LOST: Final = ("gate.epoch", "gate.unwrap")
_EPOCH_TRIES: Final = 8
SLICE: Final = 16
_log = logging.getLogger("zhifu.outcome")


class Outcomes:
    """Takes result and notice frames, each in one transaction."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self.lapsed = False
        """Whether something is to be presented anew now (`renew_overdue`)."""

    # Results

    def results(self, frame: exchange_pb2.ResultFrame) -> list[bytes]:
        """Take a frame of results; the exchanges that the broker could not take now and that are to be sent again.

        Raises `Malformed`, `NotAuthentic` where a proof does not hold, `Refused` (unavailable.store): nothing was kept.
        """
        with self._store.transaction():
            proven = self._prove(frame.proof if frame.HasField("proof") else None)
            later = [one.presentation_hash for one in frame.results if not self._result(one, proven, frame.proof)]
        return later

    def _prove(self, proof: exchange_pb2.LogProof | None) -> Proven | None:
        if proof is None:
            return None
        head = self._store.trust.head()
        proven = wire.prove(proof, head, self._parts.log_key)
        self._store.trust.move_head(proven.head_after(head), proof.checkpoint)
        return proven

    def _result(self, one: exchange_pb2.Result, proven: Proven | None, proof: exchange_pb2.LogProof) -> bool:
        """False where it is to be sent again later."""
        sent = self._store.outgoing.get(one.presentation_hash)
        if sent is None:
            _log.warning("result.unknown", extra={"about": {"exchange": one.presentation_hash}})
            return True
        entry = wire.proven_entry(one.entry, proven) if one.HasField("entry") else None
        if one.HasField("refusal"):
            self._check_denied(sent, entry)
            return self._refused(sent, wire.refusal(one.refusal))
        if entry is None or proven is None:
            raise NotAuthentic("receipt.missing", "an acceptance without its entry")
        self._check_accepted(sent, entry, one.released)
        self._store.receipts.put(receipt_of(sent.exchange, entry, proven, proof))
        self._store.outgoing.accepted(sent.exchange, one.released)
        COUNTS.results["accepted"] += 1
        self._store.touch(sent.first)
        for content in self._store.outgoing.take_notices(sent.exchange):
            self._notice(exchange_pb2.Notice.FromString(content), None)
        return True

    def _check_accepted(self, sent: Sent, entry: Entry, released: bytes) -> None:
        """The entry is about this exchange and says what the result says. Raises `NotAuthentic` (receipt.invalid)."""
        shown, record = sent.presentation, self._store.records.manifest(sent.record)
        meta, detail = parse_meta(entry.meta), parse_detail(entry.detail)
        said = (meta.event, meta.sender, meta.recipient, meta.purpose, meta.ceilings, meta.released)
        done = ("exchange.accepted", shown.sender, shown.recipient, shown.purpose, shown.ceilings, released)
        same_schema = record is not None and meta.schema_hash == record.schema_hash
        if said != done or detail.exchange != sent.exchange or not same_schema:
            raise NotAuthentic("receipt.invalid", "the entry is about another exchange")
        if not within(released, shown.ceilings):
            raise NotAuthentic("receipt.invalid", "more was released than was presented")

    @staticmethod
    def _check_denied(sent: Sent, entry: Entry | None) -> None:
        if entry is None:
            return
        if parse_meta(entry.meta).event != "exchange.denied" or parse_detail(entry.detail).exchange != sent.exchange:
            raise NotAuthentic("receipt.invalid", "the entry is not about this refusal")

    def _refused(self, sent: Sent, error: Refused) -> bool:
        if sent.is_final or sent.released is not None:
            return True
        COUNTS.results[error.reason] += 1
        _log.warning("exchange.refused", extra={"about": {"exchange": sent.first, "reason": error.reason}})
        if error.retryable:
            return False
        if error.reason == "presentation.expired":
            # It may have been taken before, so it is not presented anew until its notice would have come.
            self._store.outgoing.lapse(sent.exchange, self._parts.now(), is_certain=False)
            return True
        if error.reason == "presentation.future":
            # One of the two clocks is wrong, and was not when they were compared. It is sent again until that is put
            # right, and presented anew if it was ours: what was ahead then still is.
            if sent.presentation.issued_at <= self._parts.now() + presentation.SKEW_S:
                return False
            if self._renewed(sent):
                return True
        if error.reason in _EPOCH_LOST and sent.attempt < _EPOCH_TRIES:
            self._store.trust.retire_epoch(sent.presentation.epoch_id)
            if self._renewed(sent):
                return True
        self._finish(sent, "refused", error.reason, by_recipient=False)
        return True

    # Notices

    def notices(self, frame: exchange_pb2.NoticeFrame) -> int:
        """Take a frame of notices; the id up to which they are stored. Raises as `results` does."""
        with self._store.transaction():
            proven = self._prove(frame.proof if frame.HasField("proof") else None)
            through = self._store.trust.cursor(CURSOR)
            for notice in frame.notices:
                if notice.id > through:
                    self._notice(notice, proven)
                    through = notice.id
            self._store.trust.move_cursor(CURSOR, through)
        return through

    def _notice(self, notice: exchange_pb2.Notice, proven: Proven | None) -> None:
        if notice.state in (deletion.DUE, deletion.RECORDED):
            deletion.noticed(self._parts, notice, proven)
            return
        if notice.state == granting.GRANTED:
            granting.noticed(self._parts, notice, proven)
            return
        if notice.state == parcel_jobs.NOTICE:
            parcel_jobs.noticed(self._parts, notice, proven)
            return
        sent = self._store.outgoing.get(notice.presentation_hash)
        if sent is None:
            _log.warning("notice.unknown", extra={"about": {"exchange": notice.presentation_hash}})
        elif notice.state in ("delivered", "refused"):
            receipt = self._store.receipts.get(sent.exchange)
            if receipt is None:
                content = notice.SerializeToString(deterministic=True)
                self._store.outgoing.keep_notice(notice.id, sent.exchange, content)
            else:
                self._acknowledged(sent, receipt, notice)
        elif notice.state in ("expired", "withdrawn"):
            self._ended(sent, notice, proven)
        else:
            raise Malformed("malformed.field", "a notice of an unknown state")

    def _acknowledged(self, sent: Sent, receipt: Receipt, notice: exchange_pb2.Notice) -> None:
        """The recipient's own word. One that does not hold is kept as evidence; the exchange is not settled by it."""
        try:
            signed = wire.signed(envelope.ACKNOWLEDGEMENT, notice.acknowledgement)
            said = self._verified(signed, sent)
            if said.presentation_hash != sent.exchange or said.opened != (notice.state == "delivered"):
                raise NotAuthentic("signature.invalid", "the acknowledgement is about something else")
            # That the entry is a leaf of it was checked when the receipt was stored.
            signed_head = wire.checkpoint_of(receipt.note, self._parts.log_key)
            acknowledgement.check_same_log(said, _entry(receipt), signed_head)
        except Error as error:
            self._alarm(sent, notice, error)
            return
        self._store.receipts.acknowledged(sent.exchange, signed.to_bytes())
        self._finish(sent, notice.state, said.reason, by_recipient=True)

    def _verified(self, signed: Envelope, sent: Sent) -> Acknowledgement:
        """An acknowledgement by the recipient, under any key that it was known to sign with. Raises `NotAuthentic`."""
        recipient = sent.presentation.recipient
        known = self._parts.directory.signing_keys(recipient)
        for key in known or [self._store.outgoing.mandate(sent.exchange).recipient_key]:
            if hmac.compare_digest(key_id(Alg.ED25519, key), signed.key_id):
                said = acknowledgement.parse(envelope.verify(signed, key))
                if said.recipient == recipient:
                    return said
        raise NotAuthentic("key.unknown", "the acknowledgement is not by the recipient")

    def _alarm(self, sent: Sent, notice: exchange_pb2.Notice, error: Error) -> None:
        """Either the broker or the recipient lies; whoever it is, this exchange is not settled (exit 5)."""
        content = notice.SerializeToString(deterministic=True)
        self._store.receipts.keep_evidence(self._parts.clock_ms(), error.reason, self._store.trust.head(), content)
        _log.critical("alarm", extra={"about": {"exchange": sent.first, "reason": error.reason}})
        if error.reason == "log.fork":
            self._finish(sent, "refused", error.reason, by_recipient=True)

    def _ended(self, sent: Sent, notice: exchange_pb2.Notice, proven: Proven | None) -> None:
        entry = wire.proven_entry(notice.entry, proven) if notice.HasField("entry") else None
        if entry is None:
            raise NotAuthentic("receipt.missing", "the end of an exchange without its entry")
        event, exchange = parse_meta(entry.meta).event, parse_detail(entry.detail).exchange
        if event != f"exchange.{notice.state}" or exchange != sent.exchange:
            raise NotAuthentic("receipt.invalid", "the entry is not about this exchange")
        if notice.state == "withdrawn":
            self._finish(sent, "withdrawn", "consent.revoked", by_recipient=False)
        elif self._parts.now() >= sent.until:
            self._finish(sent, "expired", "exchange.expired", by_recipient=False)
        else:
            # The log says that it will not be delivered any more: nothing is left to wait for.
            self._store.outgoing.lapse(sent.exchange, self._parts.now() - GRACE_S, is_certain=True)
            self.lapsed = True

    # Both

    def renew_overdue(self) -> Iterator[int]:
        """Present anew what outlived its time without a result, and end what may not be presented any more.

        Yields how many are done after each slice: to seal thousands of capsules takes long, and results must be read
        meanwhile.
        """
        self.lapsed = False
        overdue, done = [sent.exchange for sent in self._parts.outbox.overdue()], 0
        for at in range(0, len(overdue), SLICE):
            with self._store.transaction():
                done += sum(map(self._renew, overdue[at : at + SLICE]))
            yield done
        # What is left beyond these goes on at once, unless all that was tried can only be tried later.
        self.lapsed = self.lapsed or done == MOST_OVERDUE

    def _renew(self, exchange: bytes) -> bool:
        """Whether it is over: presented anew, ended, or answered since it was found overdue."""
        for sent in self._parts.outbox.overdue(exchange):
            if not self._renewed(sent):
                self._finish(sent, "expired", "exchange.expired", by_recipient=False)
        return not self._parts.outbox.overdue(exchange)

    def _renewed(self, sent: Sent) -> bool:
        """Whether it was presented anew. What can only be tried later counts as done: it is tried again."""
        if sent.is_final:
            return True
        try:
            found = self._parts.outbox.renew(sent)
        except Refused as error:
            _log.warning("renewal.postponed", extra={"about": {"exchange": sent.first, "reason": error.reason}})
            return True
        if found is not None:
            _log.info("exchange.renewed", extra={"about": {"exchange": sent.first, "presentation": found}})
            self._store.touch(sent.first)
        return found is not None

    def _finish(self, sent: Sent, state: str, reason: str, *, by_recipient: bool) -> None:
        if not self._store.outgoing.advance(sent.exchange, state, reason):
            return
        self._store.touch(sent.first)
        noticed = Noticed(sent.first, state, reason, by_recipient, sent.presentation)
        try:
            with self._store.transaction():
                role, tx = self._parts.role, self._parts.transaction()
                (role.on_refused if state == "refused" else role.on_notice)(noticed, tx)
        except Exception:
            # What happened is stored; that a role stumbled over it must not stop the others' notices.
            _log.exception("role.failed", extra={"about": {"exchange": sent.first, "state": state}})


def _entry(receipt: Receipt) -> Entry:
    return wire.entry(exchange_pb2.EntryOpening.FromString(receipt.opening))
