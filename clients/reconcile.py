"""A node's own receipts against the log: what it was promised must still stand there (DESIGN section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from clients import wire
from clients.store import Receipt, Store
from clients.tiles import Mirror
from zhifu import ranges, tlogproof
from zhifu.checkpoint import VerifierKey
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.v1 import exchange_pb2


@dataclass(frozen=True, slots=True)
class Omission:
    """An exchange that the log should show and does not: its hash in hex, and the reason."""

    exchange: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """``size`` is of the log that was looked at; counts are of this node's receipts."""

    size: int
    receipts: int
    final: int
    pending: int
    omissions: tuple[Omission, ...]


def reconcile(store: Store, log_key: VerifierKey, mirror: Mirror) -> Reconciled:
    """Look every receipt up. Raises `NotAuthentic` (log.inconsistent) where the log as a whole is another."""
    mirror.check_extends(store.trust.head())
    found, omissions = store.receipts.all(), []
    for one in found:
        try:
            _look_up(one, log_key, mirror)
        except Error as error:
            if isinstance(error, Refused):
                raise
            omissions.append(Omission(one.exchange.hex(), "log.omitted", f"{error.reason}: {error.detail}"))
    for exchange in store.unreceipted():
        omissions.append(Omission(exchange.hex(), "receipt.missing", "taken as accepted without a receipt"))
    final = sum(bool(one.final) for one in found)
    return Reconciled(mirror.checkpoint.size, len(found), final, len(found) - final, tuple(omissions))


def _look_up(one: Receipt, log_key: VerifierKey, mirror: Mirror) -> None:
    opened = wire.entry(exchange_pb2.EntryOpening.FromString(one.opening))
    proven = wire.receipt_of(one.note, one.log_range, log_key)
    proven.check_entry(opened)
    at = mirror.checkpoint
    mirror.inclusion(opened.leaf_hash, opened.index, at.size, at.root)


def portable(one: Receipt, log_key: VerifierKey, cosigned: bytes | None, mirror: Mirror | None) -> tlogproof.Proof:
    """A receipt as a C2SP tlog-proof, with the entry's opening as its extra data.

    With ``cosigned`` (the note that made it final) and a mirror it is upgraded to that checkpoint; else it is of the
    accepting one. Raises `NotAuthentic`, `Malformed`, `Refused` (unavailable.broker).
    """
    opened = wire.entry(exchange_pb2.EntryOpening.FromString(one.opening))
    proven = wire.receipt_of(one.note, one.log_range, log_key)
    proven.check_entry(opened)
    if cosigned is None or mirror is None:
        path = ranges.inclusion_of(proven.leaves, opened.index)
        return tlogproof.Proof(opened.index, tuple(path), one.note, one.opening)
    signed = wire.checkpoint_of(cosigned, log_key)
    path = mirror.inclusion(opened.leaf_hash, opened.index, signed.size, signed.root)
    return tlogproof.Proof(opened.index, tuple(path), cosigned, one.opening)


def opened_receipt(proof: tlogproof.Proof) -> exchange_pb2.EntryOpening:
    """The opening that `portable` put into a proof. Raises `NotAuthentic` (receipt.missing), `Malformed`."""
    if not proof.extra:
        raise NotAuthentic("receipt.missing", "the proof does not carry its entry")
    try:
        return exchange_pb2.EntryOpening.FromString(proof.extra)
    except DecodeError as error:
        raise Malformed("malformed.encoding", "the proof carries something else than its entry") from error
