"""The manifest: a record's identity, in a fixed layout without a parser (DESIGN 4.2).

"zhifu/v1 manifest\\0" | version u8 | suite u8 | rid 16 | schema hash 32 | sealer 32 | size class u8 |
sealed at u64 ms | n u8 | n leaf digests of 32 | hash of the amended manifest 32, zeros if none
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from zhifu import schema as schemas
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE, VERSION

_MAGIC: Final = b"zhifu/v1 manifest\0"
_HEAD: Final = struct.Struct(f">{len(_MAGIC)}sBB16s32s32sBQB")
NO_AMENDMENT: Final = bytes(32)
RID_BYTES: Final = 16
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a sealer commits to. ``digests`` follow the schema's order; ``sealed_at`` is Unix ms."""

    rid: bytes
    schema_hash: bytes
    sealer: bytes
    size_class: int
    sealed_at: int
    digests: tuple[bytes, ...]
    amends: bytes = NO_AMENDMENT

    def to_bytes(self) -> bytes:
        head = _HEAD.pack(
            _MAGIC, VERSION, SUITE, self.rid, self.schema_hash, self.sealer, self.size_class, self.sealed_at,
            len(self.digests),
        )  # fmt: skip
        return head + b"".join(self.digests) + self.amends

    @property
    def schema(self) -> schemas.Schema:
        """Raises `Malformed` (schema.unknown)."""
        return schemas.by_hash(self.schema_hash)


def hash_of(encoded: bytes) -> bytes:
    """SHA-256(M)."""
    return hashlib.sha256(encoded).digest()


@lru_cache(_REMEMBERED)
def parse(encoded: bytes) -> Manifest:
    """Read a manifest; the last ones are remembered.

    Raises `Malformed` (malformed.size, malformed.version, malformed.field, schema.unknown).
    """
    if not _HEAD.size + 32 <= len(encoded) <= _HEAD.size + 32 * (schemas.MAX_LEAVES + 1):
        raise Malformed("malformed.size", "not the size of a manifest")
    magic, version, suite, rid, schema_hash, sealer, size_class, sealed_at, n = _HEAD.unpack_from(encoded)
    if magic != _MAGIC or version != VERSION or suite != SUITE:
        raise Malformed("malformed.version", "not a manifest of this version")
    if len(encoded) != _HEAD.size + 32 * (n + 1) or size_class >= len(schemas.SIZE_CLASSES):
        raise Malformed("malformed.field", "the manifest's length or size class does not fit")
    body = encoded[_HEAD.size :]
    digests = tuple(body[i : i + 32] for i in range(0, 32 * n, 32))
    found = Manifest(rid, schema_hash, sealer, size_class, sealed_at, digests, body[-32:])
    if len(found.schema.leaves) != n:
        raise Malformed("malformed.field", "the manifest does not list the schema's leaves")
    return found


def check_hash(encoded: bytes, signed_hash: bytes) -> Manifest:
    """The manifest that was signed. Raises `NotAuthentic` (manifest.hash), `Malformed`."""
    if hash_of(encoded) != signed_hash:
        raise NotAuthentic("manifest.hash")
    return parse(encoded)
