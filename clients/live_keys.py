"""The keys of a running node, which are read again when others were drawn (``zhifu node rotate``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from nacl.signing import SigningKey, VerifyKey

from clients.keystore import FileKeystore
from zhifu.keys import KemPrivate, KemPublic


class LiveKeystore:
    """A `clients.keystore.Keystore` over a folder. Between two calls of `refresh` nothing changes."""

    def __init__(self, folder: Path) -> None:
        """Raises as `FileKeystore.load`."""
        self._folder = folder
        self._read_ns = folder.stat().st_mtime_ns if folder.exists() else 0
        self.keys = FileKeystore.load(folder)
        self._signers = {name: cast(SigningKey, _Signer(self, name)) for name in ("signing", "cosigning")}

    def refresh(self) -> None:
        """Read the folder again if a file of it was replaced. Raises `Refused` (usage.file)."""
        now_ns = self._folder.stat().st_mtime_ns
        if now_ns != self._read_ns:
            self.keys = FileKeystore.load(self._folder)
            self._read_ns = now_ns

    @property
    def identity(self) -> SigningKey:
        return self.keys.identity

    @property
    def signing(self) -> SigningKey:
        return self._signers["signing"]

    @property
    def cosigning(self) -> SigningKey:
        return self._signers["cosigning"]

    @property
    def kem_keys(self) -> Mapping[bytes, KemPrivate]:
        return self.keys.kem_keys

    @property
    def stated_kems(self) -> tuple[KemPublic, ...]:
        return self.keys.stated_kems

    @property
    def tls_key(self) -> bytes:
        return self.keys.tls_key

    @property
    def tls_keys(self) -> tuple[bytes, ...]:
        return self.keys.tls_keys

    def wrap(self, row: bytes, secret: bytes) -> bytes:
        return self.keys.wrap(row, secret)

    def unwrap(self, row: bytes, wrapped: bytes) -> bytes:
        return self.keys.unwrap(row, wrapped)


class _Signer:
    """Looks like a signing key, and signs with the one that is current: whoever was given it need not ask again."""

    def __init__(self, live: LiveKeystore, name: str) -> None:
        self._live = live
        self._name = name

    def sign(self, message: bytes) -> Any:
        return getattr(self._live.keys, self._name).sign(message)

    @property
    def verify_key(self) -> VerifyKey:
        found: VerifyKey = getattr(self._live.keys, self._name).verify_key
        return found
