"""Sealed and gated records as files, and the secrets beside them: each party's in a file of its own, 0600.

A sealed file is what a hospital sends, a gated file what a recipient gets; both are strict CBOR arrays that begin
with their name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients import durable
from zhifu import cbor
from zhifu.errors import Malformed

_SEALED: Final = "zhifu/v1 sealed file"
_GATED: Final = "zhifu/v1 gated file"
_SPOT: Final = "zhifu/v1 spot audit file"
_SECRET: Final = "zhifu/v1 secret file"
MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class SealedFile:
    """Manifest, every leaf, the signed presentation (envelope bytes), the capsule, and the sender's signing key."""

    manifest: bytes
    leaves: bytes
    presentation: bytes
    capsule: bytes
    signer: bytes

    def write(self, path: Path) -> None:
        _write(path, [_SEALED, *(getattr(self, name) for name in self.__slots__)])


@dataclass(frozen=True, slots=True)
class GatedFile:
    """Manifest, released levels, their leaves, the broker's shares, presentation, capsule, the sender's signing key."""

    manifest: bytes
    released: bytes
    leaves: bytes
    shares: bytes
    presentation: bytes
    capsule: bytes
    signer: bytes

    def write(self, path: Path) -> None:
        _write(path, [_GATED, *(getattr(self, name) for name in self.__slots__)])


@dataclass(frozen=True, slots=True)
class SpotFile:
    """What a hospital opens to an auditor: the exchange it is about, manifest, every leaf, and the record key K."""

    exchange: bytes
    manifest: bytes
    leaves: bytes
    key: bytes

    def write(self, path: Path) -> None:
        _write(path, [_SPOT, *(getattr(self, name) for name in self.__slots__)])


def read_spot(path: Path) -> SpotFile:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return SpotFile(*_read(path, _SPOT, len(SpotFile.__slots__)))


def read_sealed(path: Path) -> SealedFile:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return SealedFile(*_read(path, _SEALED, len(SealedFile.__slots__)))


def read_gated(path: Path) -> GatedFile:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return GatedFile(*_read(path, _GATED, len(GatedFile.__slots__)))


def write_secret(path: Path, owner: str, secret: bytes) -> None:
    """One party's secret: ``owner`` is hospital, broker or recipient."""
    _write(path, [_SECRET, owner.encode(), secret])


def read_secret(path: Path, owner: str) -> bytes:
    """Raises `Malformed` (usage.file) for another party's, `Refused` (usage.file) where it is missing or others can
    read it.
    """
    whose, secret = _fields(durable.read_private(path, MAX_BYTES), path, _SECRET, 2)
    if whose != owner.encode():
        raise Malformed(
            "usage.file", f"{path.name} is the {whose.decode(errors='replace')}'s secret, not the {owner}'s"
        )
    return secret


def _read(path: Path, name: str, count: int) -> list[bytes]:
    return _fields(durable.read(path, MAX_BYTES), path, name, count)


def _fields(content: bytes, path: Path, name: str, count: int) -> list[bytes]:
    found, *fields = cbor.array(content, MAX_BYTES, 1 + count)
    if found != name or any(type(field) is not bytes for field in fields):
        raise Malformed("usage.file", f"{path.name} is not a {name.removeprefix('zhifu/v1 ')}")
    return fields


def _write(path: Path, row: list[cbor.Value]) -> None:
    durable.write(path, cbor.encode(row))
