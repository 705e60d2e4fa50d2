"""Erasing the details of entries: two officers order it, a legal hold wins, an entry records it (DESIGN section 7).

What is destroyed is the detail with the key of its commitment, and the rows beside the log that hold the same. The
commitment stays in the leaf, so every proof that was given still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.audit import COMMITTED, Sequence, stored_entry
from broker.store import tables
from broker.store.interface import Transaction
from zhifu import cbor, consent, envelope, receipt
from zhifu.envelope import Envelope
from zhifu.erasure import Hold, Order
from zhifu.errors import Refused
from zhifu.receipt import Detail, Entry, Meta, parse_detail, parse_meta

ERASABLE: Final = frozenset(
    "exchange.accepted exchange.denied exchange.expired exchange.withdrawn exchange.deleted grant.registered"
    " grant.refused grant.revoked subject.enrolled subject.key_added subject.key_revoked ticket.redeemed".split()
)
"""Events about a person. What acknowledgements and participants signed names none."""


@dataclass(frozen=True, slots=True)
class Done:
    """The entry that records it, and those whose details it erased."""

    entry: Entry
    erased: tuple[int, ...]


def erase(order: Order, signed: tuple[Envelope, ...], state: Transaction, sequence: Sequence, now_ms: int) -> Done:
    """Carry out a verified order, whole or not at all. What was erased before is passed over.

    Raises `Refused` (erasure.entry, erasure.held, exchange.state).
    """
    due = [one for one in order.entries if state.get(tables.Erasure, one) is None]
    if not due:
        raise Refused("erasure.erased")
    found = [_erasable(one, state) for one in due]
    documents = (cbor.encode(list(due)), *(one.to_bytes() for one in signed))
    recorded = sequence.record(Meta("entry.erased", reason=order.basis), Detail(documents=documents), now_ms)
    for one in found:
        _destroy(one, recorded.index, state)
    return Done(recorded, tuple(due))


def _erasable(index: int, state: Transaction) -> Entry:
    row = state.get(tables.Entry, index)
    if row is None or row.kind != COMMITTED:
        raise Refused("erasure.entry", f"entry {index} has no detail of its own")
    one = stored_entry(index, state)
    if parse_meta(one.meta).event not in ERASABLE:
        raise Refused("erasure.entry", f"entry {index} is about no person")
    detail = parse_detail(one.detail)
    if any(name and state.get(tables.Hold, name) for name in (detail.subject, detail.grant, detail.exchange)):
        raise Refused("erasure.held", f"entry {index}")
    if state.get(tables.Delivery, index) is not None:
        raise Refused("exchange.state", f"entry {index}: the exchange is still to be delivered")
    if parse_meta(one.meta).event == "grant.revoked" and _is_due(detail, state):
        raise Refused("exchange.state", f"entry {index}: a recipient is still to be told by it to erase what it got")
    return one


def _is_due(detail: Detail, state: Transaction) -> bool:
    """Whether a recipient under a revoked grant has not said yet what it erased: that duty rests on the entry."""
    under_it = state.find(tables.Exchange, subject=detail.subject, grant_hash=detail.grant)
    words = (state.get(tables.Deletion, one.hash) for one in under_it)
    return any(word is not None and not word.envelope for word in words)


def _destroy(one: Entry, recorded: int, state: Transaction) -> None:
    detail = parse_detail(one.detail)
    state.insert(tables.Erasure, [(one.index, receipt.erased(one).detail_commitment, recorded)])
    state.update(tables.Entry, {"detail_key": b"", "detail": b""}, index=one.index)
    # The hash and the nonce stay: they keep what was presented once from being presented again.
    gone: dict[str, object] = {"payload": b"", "grant_hash": b"", "subject": b""}
    state.update(tables.Exchange, gone, entry=one.index)
    beside = _BESIDE.get(parse_meta(one.meta).event)
    if beside is not None:
        beside(one.index, detail, state)


def _destroy_grant(_: int, detail: Detail, state: Transaction) -> None:
    state.update(tables.Grant, {"envelope": b"", "subject": b"", "status": "erased"}, hash=detail.grant)


def _destroy_subject(_: int, detail: Detail, state: Transaction) -> None:
    # The key's hash stays: a key that was somebody's once is never enrolled as another's.
    state.update(tables.Subject, {"public_key": b"", "status": "erased"}, id=detail.subject)
    state.delete(tables.Attested, subject=detail.subject)


def _destroy_key(index: int, detail: Detail, state: Transaction) -> None:
    gone: dict[str, object] = {"subject": b"", "public_key": b"", "change": b"", "signer": b"", "status": "erased"}
    state.update(tables.SubjectKey, gone, subject=detail.subject, entry=index)


def _destroy_ticket(_: int, detail: Detail, state: Transaction) -> None:
    # Its hash and nonce stay, as those of an exchange do.
    digest = consent.hash_of(envelope.from_bytes(envelope.TICKET, detail.documents[0]).payload)
    state.update(tables.Ticket, {"grant_hash": b"", "workflow": b"", "envelope": b""}, hash=digest)


_BESIDE: Final[Mapping[str, Callable[[int, Detail, Transaction], None]]] = {
    "grant.registered": _destroy_grant,
    "subject.enrolled": _destroy_subject,
    "subject.key_added": _destroy_key,
    "subject.key_revoked": _destroy_key,
    "ticket.redeemed": _destroy_ticket,
}
"""What stands beside the log, by event."""


def hold(order: Hold, signed: tuple[Envelope, ...], state: Transaction, sequence: Sequence, now_ms: int) -> Entry:
    """Place or lift a verified hold; the entry that records it. What is done twice is recorded twice."""
    event = "hold.lifted" if order.lifted else "hold.placed"
    documents = tuple(one.to_bytes() for one in signed)
    recorded = sequence.record(Meta(event, reason=order.basis), Detail(documents=documents), now_ms)
    state.delete(tables.Hold, target=order.target)
    if not order.lifted:
        state.insert(tables.Hold, [(order.target, recorded.index)])
    return recorded
