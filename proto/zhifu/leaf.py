"""One level of one unit, sealed: secret, key, commitment, ciphertext and digest (DESIGN 4.2)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
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


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3) for ``length`` up to 64 bytes."""
    first = hmac.digest(key, info + b"\x01", "sha256")
    if length <= 32:
        return first[:length]
    return (first + hmac.digest(key, first + info + b"\x02", "sha256"))[:length]


def place(rid: bytes, unit: int, level: int) -> bytes:
    """``suite || rid || u16 unit || u8 level``: what every label of a leaf is followed by."""
    return _SUITE + rid + label(unit, level)


def label(unit: int, level: int) -> bytes:
    """``u16 unit || u8 level``."""
    return unit.to_bytes(2, "big") + bytes([level])


def secret(record_key: bytes, rid: bytes, unit: int, level: int) -> bytes:
    """``s[u,l]``: the 32-byte secret of one level of one unit, from the record key K."""
    return expand(record_key, _SECRET + place(rid, unit, level), 32)


def pad(value: cbor.Value, size: int) -> bytes:
    """Strict CBOR || 0x80 || zeros, ``size`` bytes. Raises `Malformed` (schema.overflow)."""
    plain = cbor.encode(value) + _PAD
    if len(plain) > size:
        raise Malformed("schema.overflow")
    return plain.ljust(size, b"\0")


def unpad(plain: bytes) -> cbor.Value:
    """The value in a padded plaintext. Raises `Malformed` (leaf.padding, malformed.encoding)."""
    encoded, mark, zeros = plain.rpartition(_PAD)
    if not mark or any(zeros):
        raise Malformed("leaf.padding")
    return cbor.decode(encoded, len(plain))


def seal(value: cbor.Value, size: int, leaf_secret: bytes, rid: bytes, unit: int, level: int, schema: bytes) -> bytes:
    """``kc || AES-256-GCM(key, 0^12, padded value, aad)`` with a ``size``-byte plaintext; ``schema`` is its hash."""
    header = _LEAF + place(rid, unit, level)
    keys = expand(leaf_secret, header, 64)
    return keys[32:] + AESGCM(keys[:32]).encrypt(_NONCE, pad(value, size), header + schema)


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
    return [hashlib.sha256(head + at + schema + one).digest() for one, at in zip(sealed, labels, strict=True)]
