"""Between the messages of ``exchange.proto`` and the types of `zhifu`. Nothing is believed here, only read.

A frame's proof is the exception: `prove` checks it against the pinned log key and the head this node remembers.
"""

from __future__ import annotations

from zhifu import checkpoint, envelope, merkle, receipt
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.envelope import Envelope, Kind
from zhifu.errors import CATALOGUE, Malformed, NotAuthentic, Refused
from zhifu.ranges import Range
from zhifu.receipt import Entry, Head, LogProof, Proven
from zhifu.receive import Received
from zhifu.v1 import exchange_pb2, signed_pb2


def hashes(data: bytes) -> tuple[bytes, ...]:
    """Concatenated 32-byte hashes, cut apart. Raises `Malformed` (malformed.field)."""
    if len(data) % merkle.HASH_BYTES:
        raise Malformed("malformed.field", "not a sequence of hashes")
    return tuple(data[i : i + merkle.HASH_BYTES] for i in range(0, len(data), merkle.HASH_BYTES))


def log_proof(message: exchange_pb2.LogProof, log_key: VerifierKey) -> LogProof:
    """A frame's proof as it was sent. The range's tree is the checkpoint's, which ``log_key`` signed.

    Raises `Malformed`, `NotAuthentic` (log.signature).
    """
    size = checkpoint_of(message.checkpoint, log_key).size
    shown = message.range
    leaves = Range(shown.begin, hashes(shown.left), hashes(shown.leaves), hashes(shown.right), size)
    return LogProof(message.checkpoint, leaves, message.known_size, hashes(message.consistency))


def prove(message: exchange_pb2.LogProof, head: Head, log_key: VerifierKey) -> Proven:
    """The leaves that a frame proves (DESIGN 7). Raises `Malformed`, `NotAuthentic` (log.*, receipt.invalid)."""
    return receipt.verify_proof(log_proof(message, log_key), head, log_key)


def entry(message: exchange_pb2.EntryOpening) -> Entry:
    """An opened audit entry, not yet proven to be in the log."""
    return Entry(message.index, message.time_ms, message.meta_key, message.meta, message.detail_key, message.detail)


def proven_entry(message: exchange_pb2.EntryOpening, proven: Proven | None) -> Entry:
    """The entry, once it is a leaf of what the frame proves. Raises `NotAuthentic` (receipt.*)."""
    if proven is None:
        raise NotAuthentic("receipt.missing", "the frame proves nothing")
    found = entry(message)
    proven.check_entry(found)
    return found


def opening(one: Entry) -> exchange_pb2.EntryOpening:
    """The inverse of `entry`."""
    return exchange_pb2.EntryOpening(
        index=one.index,
        time_ms=one.time_ms,
        meta_key=one.meta_key,
        meta=one.meta,
        detail_key=one.detail_key,
        detail=one.detail,
    )


def received(message: exchange_pb2.Delivery, proven: Proven) -> Received:
    """A delivery for `zhifu.receive.receive`. Raises `Malformed` (malformed.*)."""
    grant = envelope.from_proto(envelope.GRANT, message.grant) if message.HasField("grant") else None
    return Received(
        presentation=envelope.from_proto(envelope.PRESENTATION, message.presentation),
        manifest=message.manifest,
        released=message.released,
        leaves=message.leaves,
        shares=message.shares,
        capsule=message.capsule,
        grant=grant,
        entry=entry(message.entry) if message.HasField("entry") else None,
        proven=proven,
        ticket=envelope.from_proto(envelope.TICKET, message.ticket) if message.HasField("ticket") else None,
    )


def signed(kind: Kind, message: signed_pb2.Envelope) -> Envelope:
    """An envelope of one kind. Raises `Malformed`."""
    return envelope.from_proto(kind, message)


def refusal(message: exchange_pb2.Refusal) -> Refused:
    """The broker's refusal as our own error; a reason that is not in the catalogue becomes ``internal``.

    What the broker says about it is kept only as far as it is short and printable.
    """
    detail = message.detail if message.detail.isprintable() else ""
    if message.reason not in CATALOGUE:
        return Refused("internal", f"the broker gave a reason that this version does not know. {detail[:120]}".strip())
    return Refused(message.reason, detail[:200])


def receipt_of(note: bytes, log_range: bytes, log_key: VerifierKey) -> Proven:
    """A stored receipt's proof (``log_range``: a serialised LogRange), verified again. Raises `NotAuthentic`."""
    shown = exchange_pb2.LogRange.FromString(log_range)
    message = exchange_pb2.LogProof(checkpoint=note, range=shown)
    # Size 0: whether it fits our head was checked when it was stored.
    return receipt.verify_proof(log_proof(message, log_key), Head(), log_key)


def checkpoint_of(note: bytes, log_key: VerifierKey) -> Checkpoint:
    """The checkpoint that the pinned log key signed. Raises `Malformed`, `NotAuthentic` (log.signature)."""
    return checkpoint.verify(note, log_key)


def evidence(frame: exchange_pb2.ConnectResponse) -> bytes:
    """What is kept of a frame that does not verify: proofs, entries, signatures; never leaves, shares or capsules."""
    kept = exchange_pb2.ConnectResponse()
    kept.CopyFrom(frame)
    for delivery in kept.deliveries.deliveries if kept.HasField("deliveries") else ():
        for name in ("leaves", "shares", "capsule"):
            delivery.ClearField(name)
    return kept.SerializeToString(deterministic=True)
