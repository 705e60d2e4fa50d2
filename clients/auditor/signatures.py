"""Envelopes signed as one frame: the frame's signature is checked once, each member's place in it every time.

A member whose path leads to a root that the same key signed before is signed, too: that is all that
`zhifu.envelope.verify` establishes, and the signature is nine tenths of its cost.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import Final

from zhifu import envelope, merkle
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.keys import Alg, key_id

_REMEMBERED: Final = 1024
_Frame = tuple[bytes, bytes, int, bytes]
"""Key, signature, number of members, root."""


class Signatures:
    """Remembers the frames it verified last."""

    def __init__(self) -> None:
        self._frames: OrderedDict[_Frame, None] = OrderedDict()

    def verify(self, signed: Envelope, public_key: bytes) -> bytes:
        """The payload, if ``public_key`` signed it. Raises `NotAuthentic` (key.unknown, signature.invalid)."""
        if signed.size == 1:
            return envelope.verify(signed, public_key)
        frame = (public_key, signed.signature, signed.size, _root(signed))
        if frame in self._frames and hmac.compare_digest(signed.key_id, key_id(Alg.ED25519, public_key)):
            return signed.payload
        payload = envelope.verify(signed, public_key)
        self._frames[frame] = None
        if len(self._frames) > _REMEMBERED:
            self._frames.popitem(last=False)
        return payload


def _root(signed: Envelope) -> bytes:
    leaf = merkle.leaf_hash(signed.kind.signed_bytes(signed.payload))
    try:
        return merkle.root_from_inclusion(leaf, signed.index, signed.size, signed.path)
    except NotAuthentic as error:
        raise NotAuthentic("signature.invalid", "the path does not fit the frame") from error
