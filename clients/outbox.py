"""The outbox: seals a record once, presents it as often as there are recipients, and never seals twice (DESIGN 4.2).

A presentation and its capsule are durable before anything is sent, and under one nonce only the same bytes are ever
sent. What outlives its time without a result is presented anew from the same sealed record, while its basis stands.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from clients.directory import Directory
from clients.keystore import Keystore
from clients.store import Mandate, Sent, Store
from clients.store.outgoing import LAPSED
from zhifu import capsule, consent, envelope, presentation, schema, sealed
from zhifu.capsule import Capsule
from zhifu.cbor import Value
from zhifu.epoch import Epoch
from zhifu.errors import Error, Refused
from zhifu.keys import Alg, KemPublic, check_kem_public
from zhifu.manifest import NO_AMENDMENT
from zhifu.presentation import Presentation
from zhifu.sealed import SealedRecord
from zhifu.v1 import exchange_pb2

EPOCH_S: Final = 24 * 3600
EPOCH_LIFETIME_S: Final = 36 * 3600
KEEP_S: Final = 180 * 86_400
STANDS_S: Final = 30 * 86_400
MAX_ATTEMPTS: Final = 64
FRAME_BYTES: Final = 4 << 20
"""Of one frame's submissions: half of what a receiver takes, since 64 long bills would be more."""
MOST_OVERDUE: Final = 256
GRACE_S: Final = 120
"""How long after its end a presentation is still waited for: a notice may say that it had arrived."""

_log = logging.getLogger("zhifu.outbox")


class Outbox:
    """Everything this node sends. Its methods join the transaction that is open, or make one."""

    def __init__(
        self, store: Store, keystore: Keystore, directory: Directory, origin: str, clock_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._keystore = keystore
        self._directory = directory
        self._origin = origin
        self._clock_ms = clock_ms

    # Sealing and presenting

    def seal(
        self, schema_name: str, values: Mapping[str, Value], *, amends: bytes = NO_AMENDMENT, keep_s: int = KEEP_S
    ) -> bytes:
        """Seal a record, once for all recipients; its manifest hash. Durable with the transaction.

        ``values`` maps unit names to finest values. Its key is kept, wrapped, for ``keep_s`` seconds.
        Raises `Malformed` (schema.*), `Refused` (unavailable.store).
        """
        now_ms = self._clock_ms()
        record = sealed.seal(schema.load(schema_name), values, self._directory.participant, now_ms, amends)
        with self._store.transaction():
            return self._store.records.put(record, now_ms // 1000, now_ms // 1000 + keep_s)

    def present(self, manifest_hash: bytes, mandate: Mandate) -> bytes:
        """Present a sealed record under ``mandate``; the exchange's hash. Durable with the transaction, sent after it.

        Raises `Refused`: consent.* where the grant would not bear it, unavailable.recipient, unavailable.overload,
        exchange.unknown for a record that was never sealed here or was erased; `NotAuthentic` (key.not_pinned).
        """
        if self._store.outgoing.is_full():
            raise Refused("unavailable.overload", "too many presentations wait for a result")
        now = self._clock_ms() // 1000
        until = mandate.until or now + STANDS_S
        with self._store.transaction():
            return self._put(self._record(manifest_hash), manifest_hash, mandate, now, until, None)

    def _record(self, manifest_hash: bytes) -> SealedRecord:
        record = self._store.records.get(manifest_hash)
        if record is None:
            raise Refused("exchange.unknown", "the record was not sealed here, or its time is over")
        return record

    def _put(
        self, record: SealedRecord, digest: bytes, mandate: Mandate, now: int, until: int, before: Sent | None
    ) -> bytes:
        if until <= now:
            raise Refused("consent.expired" if mandate.grant else "presentation.expired", "its time is over")
        epoch, nonce = self._epoch(now), presentation.new_nonce(self._clock_ms())
        root = sealed.gate_root(epoch.secret, record.manifest.rid, mandate.recipient, nonce)
        key = self._kem(mandate, now)
        parcel = self._capsule(record, digest, mandate, root, key)
        shown = Presentation(
            aud=self._origin,
            sender=self._directory.participant,
            recipient=mandate.recipient,
            key_id=key.id,
            basis_kind=mandate.basis_kind,
            basis=mandate.basis,
            purpose=mandate.purpose,
            encounter=mandate.encounter,
            manifest_hash=digest,
            ceilings=mandate.ceilings,
            capsule_hash=hashlib.sha256(parcel).digest(),
            gate_commitment=sealed.gate_commitment(record.manifest.rid, root),
            epoch_id=epoch.epoch_id,
            workflow=mandate.workflow,
            correlation=mandate.correlation,
            in_reply_to=mandate.in_reply_to,
            ticket_hash=mandate.ticket_hash,
            nonce=nonce,
            issued_at=now,
            not_after=min(now + min(mandate.lifetime_s, presentation.MAX_LIFETIME_S), epoch.not_after, until),
        )
        # What the recipient and the broker would refuse is not sent: parsing is strict, and the grant is asked.
        presentation.parse(shown.to_bytes())
        if mandate.grant is not None:
            consent.check_use(consent.verify_grant(mandate.grant), shown, record.manifest.schema_hash, now)
        return self._store.outgoing.put(shown, parcel, mandate, until, before)

    def _capsule(self, record: SealedRecord, digest: bytes, mandate: Mandate, root: bytes, key: KemPublic) -> bytes:
        record.manifest.schema.check_levels(mandate.ceilings)
        content = Capsule(
            mandate.ceilings,
            capsule.own_shares(record, mandate.ceilings, root),
            mandate.pseudonym,
            mandate.tokens,
            mandate.terms,
            mandate.attestations,
        )
        return capsule.seal(content, key, record.manifest.rid, digest, self._directory.participant)

    def _kem(self, mandate: Mandate, now: int) -> KemPublic:
        """A patient's key is in her grant; everyone else's in a statement that we verified."""
        if mandate.wallet_key:
            return check_kem_public(Alg.X25519, mandate.wallet_key)
        return self._directory.statement(mandate.recipient, now).kem

    def _epoch(self, now: int) -> Epoch:
        """Today's epoch; drawn where there is none younger than a day."""
        found = [one for one in self._store.trust.epochs(now) if now < one.not_before + EPOCH_S]
        if found:
            return found[-1]
        epoch = Epoch.draw(now, now + EPOCH_LIFETIME_S)
        self._store.trust.put_epoch(epoch)
        return epoch

    # Sending

    def frame(
        self, in_flight: Collection[bytes], limit: int
    ) -> tuple[exchange_pb2.SubmissionFrame, list[bytes]] | None:
        """The next presentations without a result, oldest first, signed together, and their hashes; None if none wait.

        At most ``limit`` of them and 64, none of ``in_flight``, and as many as `FRAME_BYTES` holds.
        """
        chosen = self._choose(in_flight, min(limit, envelope.MAX_FRAME))
        if not chosen:
            return None
        payloads = [one.payload for one, _ in chosen]
        signature, signed = envelope.seal_frame(envelope.PRESENTATION, payloads, self._keystore.signing)
        submissions = [parcel for _, parcel in chosen]
        frame = exchange_pb2.SubmissionFrame(key_id=signed[0].key_id, signature=signature, submissions=submissions)
        return frame, [one.exchange for one, _ in chosen]

    def mark_sent(self, exchanges: Iterable[bytes]) -> None:
        """They were sent and have no result yet. After a crash that means the same, so nothing waits for the disk."""
        with self._store.transaction(durable=False):
            for exchange in exchanges:
                self._store.outgoing.mark_sent(exchange)

    def _choose(self, in_flight: Collection[bytes], limit: int) -> list[tuple[Sent, exchange_pb2.Submission]]:
        now = self._clock_ms() // 1000
        chosen: list[tuple[Sent, exchange_pb2.Submission]] = []
        room = FRAME_BYTES
        for one in self._store.outgoing.unanswered(now, len(in_flight) + limit):
            if one.exchange in in_flight:
                continue
            parcel = self._submission(one)
            room -= parcel.ByteSize()
            if len(chosen) == limit or (chosen and room < 0):
                break
            chosen.append((one, parcel))
        return chosen

    def _submission(self, one: Sent) -> exchange_pb2.Submission:
        manifest, leaves = self._store.records.sealed(one.record) or (b"", b"")
        parcel = self._store.outgoing.capsule(one.exchange)
        return exchange_pb2.Submission(presentation=one.payload, manifest=manifest, leaves=leaves, capsule=parcel)

    # Presenting anew

    def renew(self, one: Sent) -> bytes | None:
        """Present the same sealed record again, under a new nonce; None where its basis does not stand any more.

        The exchange keeps the name of its first presentation. Raises `Refused` (unavailable.*): it can be tried later.
        """
        now = self._clock_ms() // 1000
        if one.attempt >= MAX_ATTEMPTS or now >= one.until:
            return None
        try:
            with self._store.transaction():
                mandate = self._store.outgoing.mandate(one.exchange)
                found = self._put(self._record(one.record), one.record, mandate, now, one.until, one)
                self._store.outgoing.advance(one.exchange, "expired", LAPSED)
                return found
        except Error as error:
            if error.retryable:
                raise
            about = {"exchange": one.first, "reason": error.reason}
            _log.warning("renewal.refused", extra={"about": about})
            return None

    def overdue(self, exchange: bytes | None = None) -> list[Sent]:
        """Presentations whose time is over, `GRACE_S` included, without a result: the oldest 256, or ``exchange``."""
        return self._store.outgoing.overdue(self._clock_ms() // 1000 - GRACE_S, MOST_OVERDUE, exchange)
