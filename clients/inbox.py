"""The inbox: each delivery is checked, opened and answered in one transaction, then acknowledged (DESIGN 4.3, 6).

A frame whose proof does not hold is not touched at all. A delivery that fails a check is refused with the reason,
signed. What was acknowledged once is acknowledged again with the same bytes and never processed twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from clients import wire
from clients.counts import COUNTS
from clients.role import Draft, Parts, Transaction
from clients.store import Receipt
from zhifu import acknowledgement, presentation, pseudonym, receive
from zhifu.errors import Error, NotAuthentic
from zhifu.receipt import Entry, Proven
from zhifu.receive import Opened, Recipient
from zhifu.v1 import exchange_pb2

TRIES: Final = 3
"""How often a role may fail on one delivery, by its own mistake, before it is refused as ``internal``."""
_log = logging.getLogger("zhifu.inbox")


class Inbox:
    """Takes delivery frames; the acknowledgements it returns are durable and may be sent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._failed: Counter[bytes] = Counter()

    def take(self, frame: exchange_pb2.DeliveryFrame) -> list[bytes]:
        """Acknowledgement payloads for a frame's deliveries; those that failed for a passing reason have none yet.

        Raises `Malformed`, `NotAuthentic` where the log's proof does not hold: then nothing was opened or kept, and
        `Refused` (unavailable.store).
        """
        if not frame.HasField("proof"):
            raise NotAuthentic("receipt.missing", "deliveries without a proof")
        head = self._store.trust.head()
        proven = wire.prove(frame.proof, head, self._parts.log_key)
        with self._store.transaction():
            self._store.trust.move_head(proven.head_after(head), frame.proof.checkpoint)
            recipient = self._recipient()
            found = [self._one(delivery, proven, frame.proof, recipient) for delivery in frame.deliveries]
        return [one for one in found if one is not None]

    def _recipient(self) -> Recipient:
        parts, store = self._parts, self._store
        return Recipient(
            participant=parts.directory.participant,
            aud=parts.origin,
            kem_keys=parts.keystore.kem_keys,
            statements=parts.directory.statements(parts.now()),
            earlier=parts.directory.earlier(parts.now()),
            policy_hashes=parts.policy_hashes,
            seen=lambda exchange: store.incoming.acknowledgement(exchange) is not None,
            asked=store.outgoing.asked,
            pseudonyms=store.pseudonyms.seen,
            announced=store.pseudonyms.announced(parts.directory.participant),
        )

    def _one(
        self, delivery: exchange_pb2.Delivery, proven: Proven, proof: exchange_pb2.LogProof, recipient: Recipient
    ) -> bytes | None:
        exchange = presentation.hash_of(delivery.presentation.payload)
        before = self._store.incoming.acknowledgement(exchange)
        if before is not None:
            return before
        if not delivery.HasField("entry"):
            raise NotAuthentic("receipt.missing")
        # An acknowledgement repeats this entry: one that is not in the log is never signed for.
        entry = wire.proven_entry(delivery.entry, proven)
        self._store.receipts.put(receipt_of(exchange, entry, proven, proof))
        try:
            with self._store.transaction():
                return self._open(delivery, entry, proven, recipient)
        except Error as error:
            if error.retryable:
                COUNTS.postponed[error.reason] += 1
                _log.warning("delivery.postponed", extra={"about": {"exchange": exchange, "reason": error.reason}})
                return None
            return self._refuse(exchange, entry, proven, error.reason)
        except Exception:
            self._failed[exchange] += 1
            _log.exception("role.failed", extra={"about": {"exchange": exchange, "tries": self._failed[exchange]}})
            if self._failed[exchange] < TRIES:
                return None
            return self._refuse(exchange, entry, proven, "internal")

    def _open(self, delivery: exchange_pb2.Delivery, entry: Entry, proven: Proven, recipient: Recipient) -> bytes:
        now_ms = self._parts.clock_ms()
        received = wire.received(delivery, proven)
        opened = receive.receive(received, recipient, now_ms // 1000)
        said = self._acknowledge(opened.hash, entry, proven, "")
        grant = received.grant.to_bytes() if received.grant else b""
        retention = self._parts.retention
        erase_at, periods = retention.erase_at(opened, now_ms // 1000), retention.periods(opened)
        self._store.incoming.put_opened(opened, grant, said, now_ms, erase_at, periods)
        self._remember(opened, delivery.presentation.payload)
        tx = self._parts.transaction()
        draft = self._parts.role.on_opened(opened, tx)
        if draft is not None:
            self._answer(draft, tx)
        about = {"exchange": opened.hash, "sender": opened.presentation.sender, "answered": draft is not None}
        _log.info("delivery.opened", extra={"about": about})
        COUNTS.incoming[""] += 1
        return said

    def _remember(self, opened: Opened, payload: bytes) -> None:
        store, shown = self._store, opened.presentation
        subject = opened.grant.subject if opened.grant else b""
        store.outgoing.remember_asked(opened.hash, payload, subject)
        if subject:
            found = pseudonym.by_epoch(opened.capsule.pseudonym, opened.capsule.tokens)
            store.pseudonyms.see(shown.sender, subject, found)
        asked = store.outgoing.get(shown.in_reply_to) if shown.in_reply_to else None
        if asked is not None:
            if asked.released is not None:
                store.outgoing.advance(asked.exchange, "answered")
            latest = store.outgoing.latest(asked.exchange) or asked
            if latest.exchange != asked.exchange:
                # It was presented anew in the meantime: the recipient has the record, it need not be sent again.
                store.outgoing.advance(latest.exchange, "answered")
            store.touch(asked.first)

    @staticmethod
    def _answer(draft: Draft, tx: Transaction) -> None:
        try:
            tx.queue(draft)
        except Error as error:
            if error.retryable:
                raise
            # The sender is not at fault for an answer that our own role drafted wrongly.
            raise RuntimeError(f"the answer cannot be sent: {error.reason}") from error

    def _refuse(self, exchange: bytes, entry: Entry, proven: Proven, reason: str) -> bytes:
        said = self._acknowledge(exchange, entry, proven, reason)
        self._store.incoming.put(exchange, said, reason, self._parts.clock_ms())
        COUNTS.incoming[reason] += 1
        _log.error("delivery.refused", extra={"about": {"exchange": exchange, "reason": reason}})
        return said

    def _acknowledge(self, exchange: bytes, entry: Entry, proven: Proven, reason: str) -> bytes:
        me, now = self._parts.directory.participant, self._parts.now()
        found = acknowledgement.acknowledge(self._parts.origin, me, exchange, entry, proven, reason, now)
        return found.to_bytes()


def receipt_of(exchange: bytes, entry: Entry, proven: Proven, proof: exchange_pb2.LogProof) -> Receipt:
    """What is kept of a frame's proof for one of its exchanges."""
    return Receipt(
        exchange=exchange,
        opening=wire.opening(entry).SerializeToString(deterministic=True),
        note=proof.checkpoint,
        log_range=proof.range.SerializeToString(deterministic=True),
        size=proven.checkpoint.size,
        root=proven.checkpoint.root,
        leaf_hash=entry.leaf_hash,
    )
