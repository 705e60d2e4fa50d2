"""Epoch secrets: a node draws E once a day and offers it to the broker's gate key (DESIGN 4.2)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import envelope, strict
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE, VERSION, KemPrivate, KemPublic
from zhifu.v1 import signed_pb2

MAX_LIFETIME_S: Final = 48 * 3600
_INFO: Final = b"zhifu/v1 epoch\0"


@dataclass(frozen=True, slots=True)
class Epoch:
    """A node's own epoch: the secret E (32 bytes) and its id (16). Times are Unix s."""

    epoch_id: bytes
    secret: bytes
    not_before: int
    not_after: int

    @staticmethod
    def draw(not_before: int, not_after: int) -> Epoch:
        return Epoch(os.urandom(16), os.urandom(32), not_before, not_after)

    def offer(self, node: bytes, gate_key: KemPublic, key: SigningKey) -> Envelope:
        """The signed offer: E sealed by HPKE to the broker's gate key, and to nobody else."""
        message = signed_pb2.EpochOffer(
            version=VERSION,
            suite=SUITE,
            node=node,
            epoch_id=self.epoch_id,
            gate_key_id=gate_key.id,
            not_before=self.not_before,
            not_after=self.not_after,
            sealed_secret=gate_key.seal(self.secret, _info(node, gate_key.id)),
        )
        return envelope.seal_one(envelope.EPOCH_OFFER, message.SerializeToString(deterministic=True), key)


@dataclass(frozen=True, slots=True)
class EpochOffer:
    """A verified offer; ``sealed_secret`` is all that the broker stores."""

    node: bytes
    epoch_id: bytes
    gate_key_id: bytes
    not_before: int
    not_after: int
    sealed_secret: bytes


def verify_offer(signed: Envelope, node: bytes, signing_key: bytes) -> EpochOffer:
    """An offer by ``node``. Raises `Malformed`, `NotAuthentic`."""
    envelope.verify(signed, signing_key)
    message = strict.parse(signed_pb2.EpochOffer, signed.payload, signed.kind.cap)
    if message.node != node:
        raise NotAuthentic("presentation.sender", "the epoch is offered in another node's name")
    begin, end = strict.positive("not_before", message.not_before), strict.positive("not_after", message.not_after)
    if not begin < end <= begin + MAX_LIFETIME_S:
        raise Malformed("malformed.field", "an epoch lasts at most 48 hours")
    return EpochOffer(
        node,
        strict.exactly("epoch_id", message.epoch_id, 16),
        strict.exactly("gate_key_id", message.gate_key_id, 32),
        begin,
        end,
        message.sealed_secret,
    )


def unwrap(offer: EpochOffer, gate_key: KemPrivate) -> bytes:
    """E, 32 bytes. Raises `NotAuthentic` (gate.unwrap), never the library's own error."""
    try:
        secret = gate_key.open(offer.sealed_secret, _info(offer.node, offer.gate_key_id))
    except NotAuthentic as error:
        raise NotAuthentic("gate.unwrap") from error
    if len(secret) != 32:
        raise NotAuthentic("gate.unwrap", "the epoch secret is not 32 bytes")
    return secret


def _info(node: bytes, gate_key_id: bytes) -> bytes:
    return _INFO + node + gate_key_id
