"""One level of one unit, sealed: secret, key, commitment, ciphertext and digest (DESIGN 4.2)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from zhifu import cbor
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE
from zhifu.schema import KC_BYTES, TAG_BYTES

_SECRET: Final = b"zhifu/v1 secret\0"
_LEAF: Final = b"zhifu/v1 leaf\0"
_DIGEST: Final = b"zhifu/v1 digest\0"
# Every key is used for one encryption only, so the nonce can be constant (DESIGN 4.2).
_NONCE: Final = bytes(12)
_PAD: Final = b"\x80"
_SUITE: Final = bytes([SUITE])
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class Mac:
    """HMAC-SHA256 under one key of at most 64 bytes (RFC 2104), by hand: OpenSSL 3 looks HMAC up for each call, which
    costs more than the hashes of what is so short, and what depends on the key alone is hashed once.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            raise ValueError("a longer key is hashed first, which nothing here needs")
        padded = key.ljust(_BLOCK, b"\0")
        self._inner, self._outer = sha256(padded.translate(_INNER)), sha256(padded.translate(_OUTER))

    def __call__(self, message: bytes) -> bytes:
        """32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def expand(self, info: bytes, length: int) -> bytes:
        """HKDF-Expand with SHA-256 (RFC 5869, section 2.3) for ``length`` up to 64 bytes."""
        first = self(info + b"\x01")
        return first[:length] if length <= 32 else (first + self(first + info + b"\x02"))[:length]


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """`Mac.expand` for one use of a key."""
    return Mac(key).expand(info, length)


def place(rid: bytes, unit: int, level: int) -> bytes:
    """``suite || rid || u16 unit || u8 level``: what every label of a leaf is followed by."""
    return _SUITE + rid + label(unit, level)


def label(unit: int, level: int) -> bytes:
    """``u16 unit || u8 level``."""
    return unit.to_bytes(2, "big") + bytes([level])


def secret(record_key: bytes, rid: bytes, unit: int, level: int) -> bytes:
    """``s[u,l]``: the 32-byte secret of one level of one unit, from the record key K."""
    return expand(record_key, _SECRET + place(rid, unit, level), 32)


def secrets(record_key: bytes, rid: bytes, labels: Sequence[bytes]) -> list[bytes]:
    """`secret` of several leaves of one record, whose units and levels are given as `label` writes them."""
    mac, head = Mac(record_key), _SECRET + _SUITE + rid
    return [mac.expand(head + at, 32) for at in labels]


def marked(value: cbor.Value) -> bytes:
    """Strict CBOR || 0x80: what is padded. Raises `Malformed` (malformed.encoding)."""
    return cbor.encode(value) + _PAD


def pad(value: cbor.Value, size: int) -> bytes:
    """Strict CBOR || 0x80 || zeros, ``size`` bytes. Raises `Malformed` (schema.overflow)."""
    plain = marked(value)
    if len(plain) > size:
        raise Malformed("schema.overflow")
    return plain.ljust(size, b"\0")


def unpad(plain: bytes) -> cbor.Value:
    """The value in a padded plaintext. Raises `Malformed` (leaf.padding, malformed.encoding)."""
    encoded, mark, zeros = plain.rpartition(_PAD)
    if not mark or zeros.strip(b"\0"):
        raise Malformed("leaf.padding")
    return cbor.decode(encoded, len(plain))


def seal(value: cbor.Value, size: int, leaf_secret: bytes, rid: bytes, unit: int, level: int, schema: bytes) -> bytes:
    """``kc || AES-256-GCM(key, 0^12, padded value, aad)`` with a ``size``-byte plaintext; ``schema`` is its hash."""
    return seal_padded(pad(value, size), leaf_secret, rid, label(unit, level), schema)


def seal_padded(plain: bytes, leaf_secret: bytes, rid: bytes, at: bytes, schema: bytes) -> bytes:
    """`seal` of what is padded already; ``at`` is the leaf's `label`."""
    header = _LEAF + _SUITE + rid + at
    keys = expand(leaf_secret, header, 64)
    return keys[32:] + AESGCM(keys[:32]).encrypt(_NONCE, plain, header + schema)


def open_leaf(sealed: bytes, leaf_secret: bytes, rid: bytes, unit: int, level: int, schema: bytes) -> cbor.Value:
    """The value of a leaf. Raises `NotAuthentic` (leaf.commitment, leaf.open), `Malformed` (leaf.padding, …)."""
    header = _LEAF + place(rid, unit, level)
    keys = expand(leaf_secret, header, 64)
    if len(sealed) < KC_BYTES + TAG_BYTES or not hmac.compare_digest(keys[32:], sealed[:KC_BYTES]):
        raise NotAuthentic("leaf.commitment")
    try:
        return unpad(AESGCM(keys[:32]).decrypt(_NONCE, sealed[KC_BYTES:], header + schema))
    except InvalidTag as error:
        raise NotAuthentic("leaf.open") from error


def digest(sealed: bytes, rid: bytes, unit: int, level: int, schema: bytes) -> bytes:
    """``SHA-256("zhifu/v1 digest\\0" || aad || leaf)``: what the manifest lists and the keyless broker checks."""
    return digests((sealed,), rid, (label(unit, level),), schema)[0]


def digests(sealed: Sequence[bytes], rid: bytes, labels: Sequence[bytes], schema: bytes) -> list[bytes]:
    """`digest` of several leaves of one record, whose units and levels are given as `label` writes them."""
    head = _DIGEST + _LEAF + _SUITE + rid
    return [sha256(head + at + schema + one).digest() for one, at in zip(sealed, labels, strict=True)]
