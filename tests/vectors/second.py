"""A second implementation of the primitives, from their specifications alone, to make and check known answers with.

It is written to be read beside the RFCs, in `hashlib` and `hmac` only: no module of this project, no library that the
project uses. It is slow and not constant-time: never seal anything real with it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import cache, reduce
from itertools import chain
from typing import Any


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# --- HKDF (RFC 5869) ------------------------------------------------------------------------------------------------


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.new(salt, secret, hashlib.sha256).digest()


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    blocks = [b""]
    while 32 * (len(blocks) - 1) < length:
        blocks.append(hmac.new(key, blocks[-1] + info + bytes([len(blocks)]), hashlib.sha256).digest())
    return b"".join(blocks)[:length]


# --- CBOR (RFC 8949): arrays, integers, text, bytes, booleans, null -------------------------------------------------


def cbor(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
    if isinstance(value, int):
        return cbor_head(0, value) if value >= 0 else cbor_head(1, -1 - value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    return cbor_head(4, len(value)) + b"".join(map(cbor, value))


def cbor_head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 256**size)
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


# --- protobuf (proto3): varints and length-delimited fields ---------------------------------------------------------


def varint(number: int) -> bytes:
    low = bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
    return low + (varint(number >> 7) if number > 0x7F else b"")


def protobuf(*fields: tuple[int, int | bytes | str | Sequence[bytes]]) -> bytes:
    """(number, value) in ascending order; zeros and empty values are left out, a list is a repeated field."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: int | bytes | str | Sequence[bytes]) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value if value else b""
    return b"".join(varint(number << 3 | 2) + varint(len(item)) + item for item in value)


# --- Merkle trees (RFC 9162, section 2.1) ---------------------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\0", data)


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    split = _split(len(leaves))
    return sha256(b"\1", tree_root(leaves[:split]), tree_root(leaves[split:]))


def tree_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Inclusion proof of one leaf, its sibling first."""
    if len(leaves) < 2:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*tree_path(index, leaves[:split]), tree_root(leaves[split:])]
    return [*tree_path(index - split, leaves[split:]), tree_root(leaves[:split])]


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


# --- AES-GCM (FIPS 197, SP 800-38D) ---------------------------------------------------------------------------------


def _double(byte: int) -> int:
    return (byte << 1 ^ (0x11B if byte & 0x80 else 0)) & 0xFF


@cache
def _sbox() -> tuple[int, ...]:
    powers = [1]
    for _ in range(254):
        powers.append(powers[-1] ^ _double(powers[-1]))  # 3 generates the multiplicative group
    box = [0x63] * 256
    for exponent, element in enumerate(powers):
        inverse = powers[-exponent % 255]
        turned = (inverse << shift | inverse >> 8 - shift for shift in range(5))
        box[element] = reduce(lambda left, right: left ^ right, turned) & 0xFF ^ 0x63
    return tuple(box)


def _round_keys(key: bytes) -> list[list[int]]:
    box, words = _sbox(), [list(key[i : i + 4]) for i in range(0, len(key), 4)]
    width, constant = len(words), 1
    for i in range(width, 4 * (width + 7)):
        word = words[-1]
        if i % width == 0:
            word = [box[byte] for byte in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _double(constant)
        elif width > 6 and i % width == 4:
            word = [box[byte] for byte in word]
        words.append([a ^ b for a, b in zip(words[i - width], word, strict=True)])
    return [list(chain.from_iterable(words[i : i + 4])) for i in range(0, len(words), 4)]


def _aes_block(round_keys: list[list[int]], block: bytes) -> bytes:
    box = _sbox()
    state = [a ^ b for a, b in zip(block, round_keys[0], strict=True)]
    for number, round_key in enumerate(round_keys[1:], 2):
        state = [box[state[(5 * i) % 16]] for i in range(16)]  # SubBytes, ShiftRows
        if number < len(round_keys):
            state = list(chain.from_iterable(_mix(state[i : i + 4]) for i in range(0, 16, 4)))
        state = [a ^ b for a, b in zip(state, round_key, strict=True)]
    return bytes(state)


def _mix(column: list[int]) -> list[int]:
    every = column[0] ^ column[1] ^ column[2] ^ column[3]
    return [byte ^ every ^ _double(byte ^ column[(i + 1) % 4]) for i, byte in enumerate(column)]


def _ghash(key: int, data: bytes) -> int:
    digest = 0
    for i in range(0, len(data), 16):
        digest, factor, product = digest ^ int.from_bytes(data[i : i + 16], "big"), key, 0
        for bit in range(127, -1, -1):
            product ^= factor if digest >> bit & 1 else 0
            factor = factor >> 1 ^ (0xE1 << 120 if factor & 1 else 0)
        digest = product
    return digest


def gcm_seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-GCM with a 12-byte nonce: ciphertext || 16-byte tag."""
    keys = _round_keys(key)
    blocks = -(-len(plaintext) // 16)
    stream = b"".join(_aes_block(keys, nonce + (i + 2).to_bytes(4, "big")) for i in range(blocks))
    cipher = bytes(a ^ b for a, b in zip(plaintext, stream, strict=False))
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")
    hashed = _ghash(
        int.from_bytes(_aes_block(keys, bytes(16)), "big"),
        aad + bytes(-len(aad) % 16) + cipher + bytes(-len(cipher) % 16) + lengths,
    )
    tag = hashed ^ int.from_bytes(_aes_block(keys, nonce + b"\0\0\0\1"), "big")
    return cipher + tag.to_bytes(16, "big")


def gcm_open(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext. Raises `ValueError` where the tag does not fit."""
    cipher = sealed[:-16]
    plain = gcm_seal(key, nonce, cipher, aad)[:-16]  # the key stream is its own inverse
    if gcm_seal(key, nonce, plain, aad) != sealed:
        raise ValueError("tag")
    return plain


# --- X25519 (RFC 7748) and Ed25519 (RFC 8032) -----------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def x25519(scalar: bytes, u: bytes) -> bytes:
    k = int.from_bytes(scalar, "little") & ~7 & (1 << 254) - 1 | 1 << 254
    x1 = int.from_bytes(u, "little") % 2**255 % P
    x2, z2, x3, z3 = 1, 0, x1, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, P) % P if z2 else 0).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


def add(one: Point, two: Point) -> Point:
    """Addition on the twisted Edwards curve, by the affine formula."""
    (x1, y1), (x2, y2) = one, two
    both = _D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + both, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - both, -1, P)
    return x % P, y % P


def times(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        total, point, scalar = add(total, point) if scalar & 1 else total, add(point, point), scalar >> 1
    return total


def encode_point(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode_point(encoded: bytes) -> Point | None:
    """The point, or None where no point has this y. Accepts non-canonical y, as a test of such keys needs."""
    number = int.from_bytes(encoded, "little")
    y, odd = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (x if x & 1 == odd else -x % P), y


@cache
def _base() -> Point:
    point = decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


def ed25519_public(seed: bytes) -> bytes:
    return encode_point(times(_clamped(seed), _base()))


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    secret, prefix = _clamped(seed), hashlib.sha512(seed).digest()[32:]
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    commitment = encode_point(times(nonce, _base()))
    challenge = hashlib.sha512(commitment + ed25519_public(seed) + message).digest()
    return commitment + ((nonce + int.from_bytes(challenge, "little") * secret) % L).to_bytes(32, "little")


def _clamped(seed: bytes) -> int:
    half = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return half & ~7 & (1 << 254) - 1 | 1 << 254


# --- HPKE, base mode, one message (RFC 9180) ------------------------------------------------------------------------

X25519_KEM, X_WING_KEM = 0x0020, 0x647A
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 1, 2, 3


def _labeled_extract(suite_id: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + label + secret)


def _labeled_expand(suite_id: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info, length)


def dhkem_x25519(shared: bytes, enc: bytes, public: bytes) -> bytes:
    """The KEM's shared secret from the Diffie-Hellman value (section 4.1)."""
    suite_id = b"KEM" + X25519_KEM.to_bytes(2, "big")
    secret = _labeled_extract(suite_id, b"", b"eae_prk", shared)
    return _labeled_expand(suite_id, secret, b"shared_secret", enc + public, 32)


def key_schedule(kem: int, aead: int, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """(key, base nonce), with HKDF-SHA256 and without a pre-shared key (section 5.1)."""
    suite_id = b"HPKE" + kem.to_bytes(2, "big") + b"\0\1" + aead.to_bytes(2, "big")
    no_psk = _labeled_extract(suite_id, b"", b"psk_id_hash", b"")
    context = b"\0" + no_psk + _labeled_extract(suite_id, b"", b"info_hash", info)
    secret = _labeled_extract(suite_id, shared_secret, b"secret", b"")
    size = 16 if aead == AES_128_GCM else 32
    return (
        _labeled_expand(suite_id, secret, b"key", context, size),
        _labeled_expand(suite_id, secret, b"base_nonce", context, 12),
    )


def hpke_seal(public: bytes, ephemeral: bytes, info: bytes, plaintext: bytes, aead: int = AES_256_GCM) -> bytes:
    """``enc || ciphertext`` to an X25519 key, with a given ephemeral private key: for vectors only."""
    enc = x25519_public(ephemeral)
    shared = dhkem_x25519(x25519(ephemeral, public), enc, public)
    key, nonce = key_schedule(X25519_KEM, aead, shared, info)
    return enc + gcm_seal(key, nonce, plaintext, b"")


def hpke_open(private: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open ``enc || ciphertext`` with an X25519 private key. Raises `ValueError`."""
    enc = sealed[:32]
    shared = dhkem_x25519(x25519(private, enc), enc, x25519_public(private))
    key, nonce = key_schedule(X25519_KEM, AES_256_GCM, shared, info)
    return gcm_open(key, nonce, sealed[32:], b"")


def x_wing_private(seed: bytes) -> bytes:
    """A 32-byte X-Wing seed as the 64-byte ML-KEM seed and the X25519 private key (draft-connolly-cfrg-xwing-kem)."""
    return hashlib.shake_256(seed).digest(96)
