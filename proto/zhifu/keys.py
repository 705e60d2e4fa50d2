"""Suites, key identifiers, identity keys, KEM keys and key statements (DESIGN 4.2, 4.4).

The broker distributes keys, so it must not be able to invent them: a participant's offline identity key signs a
*key statement* that lists its current keys, and every node pins identities by fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from zhifu.errors import Malformed, NotAuthentic

SUITE: Final = 1
"""SHA-256, HKDF-SHA256, AES-256-GCM, Ed25519, HPKE with X-Wing and X25519. Suite 2 is reserved for SM2/SM3/SM4."""

VERSION: Final = 1
ID_BYTES: Final = 32
_MLKEM_PUBLIC_BYTES: Final = 1184
_X25519_BYTES: Final = 32
_REMEMBERED: Final = 256
"""Public keys that are loaded: a participant's few recipients, over and over."""


class Alg(IntEnum):
    """Algorithm numbers in key ids and statements."""

    ED25519 = 1
    X25519 = 2
    MLKEM768_X25519 = 3


_SUITES: Final = {
    Alg.X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    Alg.MLKEM768_X25519: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}


def key_id(alg: Alg, public_key: bytes) -> bytes:
    """``SHA-256("zhifu/v1 key\\0" || u16 alg || pk)``, 32 bytes (DESIGN 4.4)."""
    return hashlib.sha256(b"zhifu/v1 key\0" + alg.to_bytes(2, "big") + public_key).digest()


def participant_id(identity_key: bytes) -> bytes:
    """SHA-256 of an Ed25519 identity (or subject) key: 32 bytes, the name of its holder on the wire."""
    return hashlib.sha256(identity_key).digest()


def check_signing_key(public_key: bytes) -> None:
    """Refuse a key that is not a point of the prime-order group: small-order keys verify anything.

    Raises `NotAuthentic` (consent.weak_key).
    """
    if len(public_key) != 32 or not crypto_core_ed25519_is_valid_point(public_key):
        raise NotAuthentic("consent.weak_key")


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Ed25519 (RFC 8032) as libsodium checks it: small-order and non-canonical keys are refused.

    Raises `NotAuthentic` (signature.invalid).
    """
    try:
        VerifyKey(public_key).verify(message, signature)
    except (CryptoError, ValueError, TypeError) as error:
        raise NotAuthentic("signature.invalid") from error


def sign(key: SigningKey, message: bytes) -> bytes:
    """The 64-byte Ed25519 signature."""
    return bytes(key.sign(message).signature)


@dataclass(frozen=True, slots=True)
class KemPublic:
    """A KEM public key as it stands in a statement: X25519 (32 bytes) or ML-KEM-768 || X25519 (1,216 bytes)."""

    alg: Alg
    raw: bytes

    @property
    def id(self) -> bytes:
        return key_id(self.alg, self.raw)

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE base mode, single shot (RFC 9180, section 6.1): ``enc || ciphertext``.

        Raises `Malformed` (malformed.field) for bytes that are no usable public key.
        """
        try:
            return _SUITES[self.alg].encrypt(plaintext, _load_public(self.alg, self.raw), info=info)
        except ValueError as error:  # a low-order X25519 point: the shared secret would be zeros
            raise Malformed("malformed.field", "not a usable KEM public key") from error


@dataclass(frozen=True, slots=True)
class KemPrivate:
    """A KEM private key: 32 bytes of X25519, after a 64-byte ML-KEM seed for X-Wing.

    It is loaded and its public key derived once, here: for X-Wing that takes as long as to open something with it.
    Raises `Malformed` (malformed.field) for bytes that are no such key.
    """

    alg: Alg
    raw: bytes = field(repr=False)
    public: KemPublic = field(init=False, repr=False, compare=False)
    _loaded: X25519PrivateKey | hpke.MLKEM768X25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            seed = b"" if self.alg is Alg.X25519 else self.raw[:-_X25519_BYTES]
            classic = X25519PrivateKey.from_private_bytes(self.raw[len(seed) :])
            public = classic.public_key().public_bytes_raw()
            if self.alg is Alg.X25519:
                self._keep(classic, public)
                return
            quantum = MLKEM768PrivateKey.from_seed_bytes(seed)
            both = hpke.MLKEM768X25519PrivateKey(quantum, classic)
            self._keep(both, quantum.public_key().public_bytes_raw() + public)
        except ValueError:
            # The cause is left out on purpose: it could quote the key.
            raise Malformed("malformed.field", "not a KEM private key") from None

    def _keep(self, loaded: X25519PrivateKey | hpke.MLKEM768X25519PrivateKey, public: bytes) -> None:
        object.__setattr__(self, "_loaded", loaded)
        object.__setattr__(self, "public", KemPublic(self.alg, public))

    @staticmethod
    def generate(alg: Alg) -> KemPrivate:
        classic = X25519PrivateKey.generate().private_bytes_raw()
        if alg is Alg.X25519:
            return KemPrivate(alg, classic)
        return KemPrivate(Alg.MLKEM768_X25519, MLKEM768PrivateKey.generate().private_bytes_raw() + classic)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open what `KemPublic.seal` made. Raises `NotAuthentic` (capsule.open)."""
        try:
            return _SUITES[self.alg].decrypt(sealed, self._loaded, info=info)
        except (InvalidTag, ValueError) as error:
            raise NotAuthentic("capsule.open") from error


@lru_cache(_REMEMBERED)
def _load_public(alg: Alg, raw: bytes) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
    try:
        if alg is Alg.X25519:
            return X25519PublicKey.from_public_bytes(raw)
        quantum, classic = raw[:_MLKEM_PUBLIC_BYTES], raw[_MLKEM_PUBLIC_BYTES:]
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(quantum), X25519PublicKey.from_public_bytes(classic)
        )
    except ValueError as error:
        raise Malformed("malformed.field", "not a KEM public key") from error


def check_kem_public(alg: int, raw: bytes) -> KemPublic:
    """A KEM key from the wire. Raises `Malformed` (malformed.field)."""
    if alg not in (Alg.X25519, Alg.MLKEM768_X25519):
        raise Malformed("malformed.field", "unknown KEM")
    _load_public(Alg(alg), raw)
    return KemPublic(Alg(alg), raw)


def strongest(keys: Sequence[KemPublic]) -> KemPublic:
    """The strongest KEM of a statement: X-Wing before X25519 (DESIGN 4.4). Raises `NotAuthentic` (key.unknown)."""
    if not keys:
        raise NotAuthentic("key.unknown", "the statement lists no KEM key")
    return max(keys, key=lambda key: key.alg)
