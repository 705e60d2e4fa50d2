"""The duty to erase: the patient revoked a grant, so what came under it goes, and the node signs what it did (DESIGN
section 5).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from clients import holding, parcel_jobs, wire
from clients.role import Parts
from clients.store import Job
from zhifu import envelope
from zhifu.deletion import Deletion, parse
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.receipt import Entry, Proven, parse_detail, parse_meta
from zhifu.receive import Opened
from zhifu.v1 import exchange_pb2
from zhifu.v1.signed_pb2 import DELETION_OUTCOME_DELETED, DELETION_OUTCOME_KEPT

DUE: Final = "delete"
RECORDED: Final = "deleted"
_KIND: Final = "deletion"
_log = logging.getLogger("zhifu.deletion")


def noticed(parts: Parts, notice: exchange_pb2.Notice, proven: Proven | None) -> None:
    """A duty, with the revocation's entry, or the broker's receipt for our word on one; in the open transaction.

    Raises `NotAuthentic` (receipt.*), `Malformed`.
    """
    entry = wire.proven_entry(notice.entry, proven) if notice.HasField("entry") else None
    if entry is None:
        raise NotAuthentic("receipt.missing", "a duty to erase without the entry of what it rests on")
    exchange = notice.presentation_hash
    if notice.state == RECORDED:
        found = parts.store.jobs.get(_KIND, exchange)
        if found is not None:
            parts.store.jobs.put(Job(_KIND, exchange, "recorded", found.payload, parts.clock_ms()))
        return
    if parts.store.jobs.get(_KIND, exchange) is None:
        _obey(parts, exchange, entry)


def _obey(parts: Parts, exchange: bytes, entry: Entry) -> None:
    stored = parts.store.incoming.get(exchange)
    opened = stored.opened if stored is not None else None
    detail = parse_detail(entry.detail)
    if parse_meta(entry.meta).event == "parcel.withdrawn" and detail.exchange == exchange:
        reason = _held(parts, exchange) or parts.role.keeps_parcel(exchange, parts.transaction())
        _sign(parts, exchange, reason, opened)
        return
    if parse_meta(entry.meta).event != "grant.revoked" or (opened and opened.presentation.basis != detail.grant):
        raise NotAuthentic("receipt.invalid", "the entry does not revoke the grant of this exchange")
    reason = parts.role.keeps(opened, parts.transaction()) if opened is not None else ""
    reason = reason or _held(parts, exchange)
    if not reason:
        parts.store.incoming.erase_one(exchange)
    _sign(parts, exchange, reason, opened)


def resume(parts: Parts) -> int:
    """Erase what a revocation, or a withdrawal, left for a legal hold alone, once that is released; how many.

    In a transaction of its own. Raises `Refused` (unavailable.store).
    """
    with parts.store.transaction():
        return sum(_left_for_a_hold(parts, one) and _erase(parts, one) for one in holding.released(parts.store))


def _left_for_a_hold(parts: Parts, exchange: bytes) -> bool:
    job = parts.store.jobs.get(_KIND, exchange)
    return (
        job is not None and parse(envelope.from_bytes(envelope.DELETION, job.payload).payload).reason == holding.REASON
    )


def _erase(parts: Parts, exchange: bytes) -> bool:
    """Whether there was something to erase, which the role does not keep either."""
    one, stored = parcel_jobs.get(parts.store, exchange), parts.store.incoming.get(exchange)
    if one is not None:
        return one.state != parcel_jobs.ERASED and not parts.role.keeps_parcel(exchange, parts.transaction())
    if stored is None or stored.opened is None or parts.role.keeps(stored.opened, parts.transaction()):
        return False
    parts.store.incoming.erase_one(exchange)
    return True


def _held(parts: Parts, exchange: bytes) -> str:
    return holding.REASON if holding.is_held(parts.store, exchange) else ""


def _sign(parts: Parts, exchange: bytes, reason: str, opened: Opened | None) -> None:
    signed = _signed(parts, exchange, reason, opened)
    parts.store.jobs.put(Job(_KIND, exchange, "signed", signed.to_bytes(), parts.clock_ms()))
    _log.info("deletion", extra={"about": {"exchange": exchange, "kept": reason}})


def _signed(parts: Parts, exchange: bytes, reason: str, opened: Opened | None) -> Envelope:
    until = opened.grant.data_erase_at if reason and opened is not None and opened.grant is not None else 0
    said = Deletion(
        aud=parts.origin,
        recipient=parts.directory.participant,
        presentation_hash=exchange,
        outcome=DELETION_OUTCOME_KEPT if reason else DELETION_OUTCOME_DELETED,
        reason=reason,
        until=until,
        issued_at=parts.now(),
    )
    return envelope.seal_one(envelope.DELETION, said.to_bytes(), parts.keystore.signing)


def unsent(parts: Parts, sent: set[bytes]) -> Iterator[Envelope]:
    """What the broker has not confirmed yet and was not ``sent`` on this stream, signed by the key of our statement."""
    for job in parts.store.jobs.find(_KIND, "signed"):
        if job.id not in sent:
            sent.add(job.id)
            yield envelope.signed_by(envelope.from_bytes(envelope.DELETION, job.payload), parts.keystore.signing)
