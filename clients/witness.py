"""This node as a witness of the log, and what it knows of the other witnesses (DESIGN section 7).

A checkpoint is checked against the largest head that was ever verified; the new head is on the disk before the
cosignature leaves. Others' cosignatures come with the same checkpoint, and tell which exchanges are final. Witnesses
that are no participants count where the node's own ``witnesses.policy`` (C2SP tlog-policy) names their keys.
"""

from __future__ import annotations

from clients import wire
from clients.counts import COUNTS
from clients.role import Parts
from clients.store import Receipt
from zhifu import checkpoint, witness
from zhifu.checkpoint import Checkpoint
from zhifu.receipt import Head, parse_meta
from zhifu.v1 import exchange_pb2


class Witness:
    """Takes checkpoint frames; what it returns is durable and may be sent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._name = witness.name_of(parts.directory.participant)

    def take(self, frame: exchange_pb2.CheckpointFrame) -> exchange_pb2.Cosignature | None:
        """Our cosignature, where the checkpoint is larger than what we cosigned before.

        Raises `Malformed`, `NotAuthentic` (log.signature, log.inconsistent, signature.invalid): then nothing was kept.
        """
        parts, trust = self._parts, self._store.trust
        signed = checkpoint.verify(frame.checkpoint, parts.log_key, parts.origin)
        head, shown = trust.head(), Head(signed.size, signed.root)
        is_newest = witness.check_extends(head, shown, frame.known_size, wire.hashes(frame.consistency))
        with self._store.transaction():
            trust.move_head(shown, frame.checkpoint)
            self._note(signed, frame.checkpoint)
            if not is_newest or signed.size <= trust.cosigned(self._name):
                return None
            trust.saw_cosigned(self._name, signed.size)
        COUNTS.cosigned_ms = parts.clock_ms()
        line = checkpoint.cosign(signed, self._name, parts.keystore.cosigning, parts.now())
        return exchange_pb2.Cosignature(size=signed.size, line=line)

    def _note(self, signed: Checkpoint, note: bytes) -> None:
        """Others' cosignatures, by the keys of their verified statements; what they make final is final."""
        statements = self._parts.directory.statements(self._parts.now())
        asked = self._parts.witnesses
        keys = {witness.key_of(stated) for stated in statements.values()}
        keys |= {member.key for member in asked.witnesses.values()}
        for key in checkpoint.verify_cosignatures(note, keys):
            self._store.trust.saw_cosigned(key.name, signed.size)
        known = {witness.name_of(participant) for participant in statements}
        names = known | {self._name} | {member.key.name for member in asked.witnesses.values()}
        seen = self._store.trust.witnesses().items()
        cosigned = {name: size for name, size in seen if size >= signed.size and name in names}
        if len(cosigned) < 2 or asked.reached(cosigned) < signed.size:
            return
        done = [one for one in self._store.receipts.pending(signed.size) if _is_final(one, cosigned, known)]
        if done:
            self._store.receipts.finalise([one.exchange for one in done], signed.size, note)
            for one in done:
                self._store.touch(one.exchange)


def _is_final(one: Receipt, cosigned: dict[str, int], known: set[str]) -> bool:
    opened = exchange_pb2.EntryOpening.FromString(one.opening)
    meta = parse_meta(opened.meta)
    # A patient is no witness; everyone else who is a party must have cosigned.
    parties = {witness.name_of(meta.sender), witness.name_of(meta.recipient)} & known
    return witness.is_final(one.size, parties, cosigned)
