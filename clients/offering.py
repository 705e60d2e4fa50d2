"""The one offer of an epoch: made once for the broker's gate key, stored, and repeated on every stream (DESIGN 4.2)."""

from __future__ import annotations

from clients.role import Parts
from zhifu import envelope
from zhifu.envelope import Envelope
from zhifu.epoch import Epoch
from zhifu.keys import KemPublic


def offer(parts: Parts, gate: KemPublic, epoch: Epoch) -> Envelope | None:
    """The offer of ``epoch`` to ``gate``; None where it was made to a gate key that is gone: then it is retired."""
    trust = parts.store.trust
    made = trust.offer(epoch.epoch_id)
    if made is not None and made[0] == gate.id:
        return _signed_now(parts, envelope.from_bytes(envelope.EPOCH_OFFER, made[1]), epoch, made[0])
    with parts.store.transaction():
        if made is not None:
            trust.retire_epoch(epoch.epoch_id)
            return None
        signed = epoch.offer(parts.directory.participant, gate, parts.keystore.signing)
        trust.put_offer(epoch.epoch_id, gate.id, signed.to_bytes())
        return signed


def _signed_now(parts: Parts, made: Envelope, epoch: Epoch, gate_key: bytes) -> Envelope:
    """The same offer, signed by the key that our statement lists now."""
    signed = envelope.signed_by(made, parts.keystore.signing)
    if signed is made:
        return made
    with parts.store.transaction():
        parts.store.trust.put_offer(epoch.epoch_id, gate_key, signed.to_bytes())
    return signed
