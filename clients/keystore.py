"""A node's private keys: drawn once, kept in files that nobody else may read (DESIGN 4.4).

Everything else asks a `Keystore`, so that keys can move into a token or a key service: its signing keys then only look
like PyNaCl's, and sign elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey

from clients import durable
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.keys import Alg, KemPrivate, KemPublic, participant_id
from zhifu.statement import KeyStatement

STATEMENT_LIFETIME_S: Final = 7 * 86_400
_STORAGE: Final = b"zhifu/v1 storage\0"
_NONCE_BYTES: Final = 12
_SEEDS: Final = ("identity", "signing", "cosigning", "storage")
_KEMS: Final = {"kem-x25519": Alg.X25519, "kem-xwing": Alg.MLKEM768_X25519}
EARLIER: Final = ".earlier"
"""Part of the name of a key's file that another has taken the place of."""
NEXT_TLS: Final = "tls.next.key"
STORAGE_BEFORE: Final = "storage.before.key"
EARLIER_TLS: Final = f"tls{EARLIER}.key"
_MAX_KEY: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Keystore(Protocol):
    """The keys of one participant. ``kem_keys`` are by key id, earlier ones too, of which ``stated_kems`` are stated;
    ``tls_key`` is PEM; ``tls_keys`` are the hashes (SPKI) of every key that may come: current, next, the one before.
    """

    @property
    def identity(self) -> SigningKey: ...
    @property
    def signing(self) -> SigningKey: ...
    @property
    def cosigning(self) -> SigningKey: ...
    @property
    def kem_keys(self) -> Mapping[bytes, KemPrivate]: ...
    @property
    def stated_kems(self) -> tuple[KemPublic, ...]: ...
    @property
    def tls_key(self) -> bytes: ...
    @property
    def tls_keys(self) -> tuple[bytes, ...]: ...

    def refresh(self) -> None:
        """Take up keys that were drawn since. Raises `Refused` (usage.file)."""
        ...

    def wrap(self, row: bytes, secret: bytes) -> bytes:
        """``secret`` sealed for storage; ``row`` names the place it is kept at."""
        ...

    def unwrap(self, row: bytes, wrapped: bytes) -> bytes:
        """What `wrap` sealed for this very ``row``. Raises `NotAuthentic` (leaf.open)."""
        ...


@dataclass(frozen=True, slots=True)
class StorageKey:
    """A storage key by itself, 32 bytes."""

    key: bytes = field(repr=False)

    def wrap(self, row: bytes, secret: bytes) -> bytes:
        """``nonce 12 || AES-256-GCM``; the aad names the row, so that a wrapped value opens nowhere else."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, secret, _STORAGE + row)

    def unwrap(self, row: bytes, wrapped: bytes) -> bytes:
        """Raises `NotAuthentic` (leaf.open)."""
        try:
            return AESGCM(self.key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _STORAGE + row)
        except (InvalidTag, ValueError) as error:
            raise NotAuthentic("leaf.open", "a stored row does not open with the storage key") from error


@dataclass(frozen=True, slots=True)
class FileKeystore:
    """Keys in ``keys/*.key``: 32-byte seeds and KEM keys as hex, the TLS key (P-256) as PEM."""

    identity: SigningKey = field(repr=False)
    signing: SigningKey = field(repr=False)
    cosigning: SigningKey = field(repr=False)
    kem_keys: Mapping[bytes, KemPrivate] = field(repr=False)
    tls_key: bytes = field(repr=False)
    storage: bytes = field(repr=False)
    stated_kems: tuple[KemPublic, ...] = field(repr=False)
    tls_keys: tuple[bytes, ...] = field(repr=False)
    storage_before: bytes = field(repr=False, default=b"")
    """While everything is wrapped anew: what was wrapped with this one is not yet."""

    @staticmethod
    def draw(folder: Path) -> FileKeystore:
        """Draw all keys into ``folder``, which must not exist; it appears with all of them or not at all.

        Raises `Refused` (usage.file).
        """
        partial = folder.with_name(folder.name + ".partial")
        try:
            if folder.exists():
                raise Refused("usage.file", f"{folder.name} exists already: keys are never drawn over")
            if partial.exists():
                _discard(partial)
            partial.mkdir(mode=0o700, parents=True)
            for name, content in fresh().items():
                durable.write(partial / f"{name}.key", content)
            partial.rename(folder)
            durable.sync_folder(folder.parent)
        except OSError as error:
            raise Refused("usage.file", f"{folder.name} cannot be written: {error.strerror}") from error
        return FileKeystore.load(folder)

    @staticmethod
    def load(folder: Path) -> FileKeystore:
        """The keys in ``folder``. Raises `Refused` (usage.file): missing, unreadable, or readable by others."""
        _check_private(folder, "chmod 700")
        seeds = {name: _read_hex(folder / f"{name}.key", 32) for name in _SEEDS}
        raw = {name: _read_hex(folder / f"{name}.key", 32 if alg is Alg.X25519 else 96) for name, alg in _KEMS.items()}
        kems = [KemPrivate(alg, raw[name]) for name, alg in _KEMS.items()]
        earlier = [KemPrivate(alg, _earlier(folder, name)) for name, alg in _KEMS.items() if _has_earlier(folder, name)]
        others = [read_key(path) for path in (folder / NEXT_TLS, folder / EARLIER_TLS) if path.exists()]
        tls = read_key(folder / "tls.key")
        return FileKeystore(
            SigningKey(seeds["identity"]),
            SigningKey(seeds["signing"]),
            SigningKey(seeds["cosigning"]),
            {kem.public.id: kem for kem in (*kems, *earlier)},
            tls,
            seeds["storage"],
            tuple(sorted((kem.public for kem in kems), key=lambda key: key.alg)),
            tuple(dict.fromkeys(_spki(one) for one in (tls, *others))),
            _read_hex(folder / STORAGE_BEFORE, 32) if (folder / STORAGE_BEFORE).exists() else b"",
        )

    def refresh(self) -> None:
        """These are what they were when they were read."""

    def wrap(self, row: bytes, secret: bytes) -> bytes:
        """As `StorageKey.wrap`, under the current key."""
        return StorageKey(self.storage).wrap(row, secret)

    def unwrap(self, row: bytes, wrapped: bytes) -> bytes:
        """Raises `NotAuthentic` (leaf.open)."""
        try:
            return StorageKey(self.storage).unwrap(row, wrapped)
        except NotAuthentic:
            if not self.storage_before:
                raise
        return StorageKey(self.storage_before).unwrap(row, wrapped)


def participant_of(keystore: Keystore) -> bytes:
    """The participant's id: SHA-256 of its identity key, 32 bytes."""
    return participant_id(bytes(keystore.identity.verify_key))


def state_keys(keystore: Keystore, serial: int, now: int) -> Envelope:
    """The key statement with this serial, valid for 7 days from ``now`` (Unix s), signed by the identity key."""
    identity = bytes(keystore.identity.verify_key)
    return KeyStatement(
        participant=participant_id(identity),
        serial=serial,
        issued_at=now,
        not_after=now + STATEMENT_LIFETIME_S,
        identity_key=identity,
        signing_key=bytes(keystore.signing.verify_key),
        cosigning_key=bytes(keystore.cosigning.verify_key),
        kem_keys=keystore.stated_kems,
        tls_spki=keystore.tls_keys,
    ).sign(keystore.identity)


def tls_private(keystore: Keystore) -> ec.EllipticCurvePrivateKey:
    """The TLS key. Raises `Refused` (usage.file) unless it is an EC key in PEM."""
    return ec_private(keystore.tls_key)


def ec_private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises `Refused` (usage.file) unless it is an EC key in PEM."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except ValueError:
        raise Refused("usage.file", "tls.key is not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused("usage.file", "tls.key is not an EC key")
    return key


def tls_spki(keystore: Keystore) -> bytes:
    """SHA-256 of the TLS key's SubjectPublicKeyInfo, 32 bytes."""
    return _spki(keystore.tls_key)


def _spki(pem: bytes) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded = ec_private(pem).public_key().public_bytes(serialization.Encoding.DER, form)
    return hashlib.sha256(encoded).digest()


def _has_earlier(folder: Path, name: str) -> bool:
    return (folder / f"{name}{EARLIER}.key").exists()


def _earlier(folder: Path, name: str) -> bytes:
    return _read_hex(folder / f"{name}{EARLIER}.key", 32 if _KEMS[name] is Alg.X25519 else 96)


def fresh() -> dict[str, bytes]:
    """Every key of a participant, newly drawn: the content of its file by its name."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    seeds = {name: os.urandom(32).hex().encode() + b"\n" for name in _SEEDS}
    kems = {name: KemPrivate.generate(alg).raw.hex().encode() + b"\n" for name, alg in _KEMS.items()}
    return {**seeds, **kems, "tls": pem}


def _discard(partial: Path) -> None:
    """What a draw that was interrupted left behind: nobody has seen those keys."""
    for path in partial.iterdir():
        path.unlink()
    partial.rmdir()


def _check_private(path: Path, remedy: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Refused("usage.file", f"{path.name} cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise Refused("usage.file", f"{path.name} can be read by others: {remedy} {path.name}")


def read_key(path: Path) -> bytes:
    """A key as its file has it. Raises `Refused` (usage.file): missing, unreadable, or readable by others."""
    return durable.read_private(path, _MAX_KEY)


def _read_hex(path: Path, length: int) -> bytes:
    try:
        raw = bytes.fromhex(read_key(path).decode("ascii"))
    except ValueError:
        # The cause is left out on purpose: it could quote the key.
        raise Refused("usage.file", f"{path.name} is not a key in hex") from None
    if len(raw) != length:
        raise Refused("usage.file", f"{path.name} holds {len(raw)} bytes, not {length}")
    return raw
