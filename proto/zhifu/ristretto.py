"""The group ristretto255 (RFC 9496) as RFC 9497 uses it: checked elements and scalars, hashing to both (RFC 9380).

`rbcl` takes any 32 bytes for a scalar, calls the identity a valid point, ignores an encoding's highest bit (so that
each element has two) and adds what is no point at all without a word. So bytes from the wire become an element or a
scalar only here.
"""

from __future__ import annotations

import hashlib
from typing import Final

from zhifu import libsodium
from zhifu.errors import Malformed

ORDER: Final = 2**252 + 27_742_317_777_372_353_535_851_937_790_883_648_493
"""L: how many elements, and scalars, there are."""
ELEMENT_BYTES: Final = 32
SCALAR_BYTES: Final = 32
IDENTITY: Final = bytes(ELEMENT_BYTES)
_HIGHEST_BIT: Final = 0x80
_BLOCK_BYTES: Final = 128
_DIGEST_BYTES: Final = 64


def check_element(raw: bytes) -> bytes:
    """``raw`` if it is the canonical encoding of an element other than the identity (RFC 9497, section 4.1).

    Raises `Malformed` (malformed.field).
    """
    if len(raw) != ELEMENT_BYTES or raw == IDENTITY or raw[-1] & _HIGHEST_BIT:
        raise Malformed("malformed.field", "not an element of ristretto255, or its identity")
    if not libsodium.load().crypto_core_ristretto255_is_valid_point(raw):
        raise Malformed("malformed.field", "not an element of ristretto255, or its identity")
    return raw


def check_scalar(raw: bytes) -> bytes:
    """``raw`` if it is the canonical encoding of a scalar, 0 to L - 1. Raises `Malformed` (malformed.field)."""
    if len(raw) != SCALAR_BYTES or int.from_bytes(raw, "little") >= ORDER:
        raise Malformed("malformed.field", "not a scalar of ristretto255")
    return raw


def random_scalar() -> bytes:
    """A uniform scalar other than zero (RFC 9497, section 4.7.1)."""
    found = bytes(SCALAR_BYTES)
    while found == bytes(SCALAR_BYTES):
        found = libsodium.load().crypto_core_ristretto255_scalar_random()
    return found


def multiply(scalar: bytes, element: bytes) -> bytes:
    """``scalar * element``, both checked before; the identity where the scalar is zero."""
    return bytes(libsodium.load().crypto_scalarmult_ristretto255_allow_scalar_zero(scalar, element))


def multiply_base(scalar: bytes) -> bytes:
    """``scalar * G``."""
    return bytes(libsodium.load().crypto_scalarmult_ristretto255_base_allow_scalar_zero(scalar))


def add(left: bytes, right: bytes) -> bytes:
    """The sum of two checked elements (or sums of them)."""
    return bytes(libsodium.load().crypto_core_ristretto255_add(left, right))


def invert(scalar: bytes) -> bytes:
    """The inverse of a scalar other than zero."""
    return bytes(libsodium.load().crypto_core_ristretto255_scalar_invert(scalar))


def multiply_subtract(minuend: bytes, left: bytes, right: bytes) -> bytes:
    """``minuend - left * right`` of scalars, in constant time: one of them is a key."""
    product = libsodium.load().crypto_core_ristretto255_scalar_mul(left, right)
    return bytes(libsodium.load().crypto_core_ristretto255_scalar_sub(minuend, product))


def hash_to_element(message: bytes, dst: bytes) -> bytes:
    """hash_to_ristretto255 with expand_message_xmd and SHA-512 (RFC 9380, appendix B)."""
    return bytes(libsodium.load().crypto_core_ristretto255_from_hash(expand_message(message, dst)))


def hash_to_scalar(message: bytes, dst: bytes) -> bytes:
    """64 uniform bytes, little-endian, modulo L (RFC 9497, section 4.1)."""
    return bytes(libsodium.load().crypto_core_ristretto255_scalar_reduce(expand_message(message, dst)))


def expand_message(message: bytes, dst: bytes) -> bytes:
    """expand_message_xmd with SHA-512 to 64 bytes, which is one block of output (RFC 9380, section 5.3.1).

    ``dst`` has 1 to 255 bytes.
    """
    tag = dst + bytes([len(dst)])
    length = _DIGEST_BYTES.to_bytes(2, "big")
    first = hashlib.sha512(bytes(_BLOCK_BYTES) + message + length + b"\0" + tag).digest()
    return hashlib.sha512(first + b"\x01" + tag).digest()
