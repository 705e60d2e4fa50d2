"""What the store asks of a keystore: to wrap what must not lie open on a disk."""

from __future__ import annotations

from typing import Protocol


class Vault(Protocol):
    """Authenticated wrapping under the storage key; ``row`` names the place, so that nothing can be moved."""

    def wrap(self, row: bytes, secret: bytes) -> bytes: ...

    def unwrap(self, row: bytes, wrapped: bytes) -> bytes: ...


def row(table: str, *keys: bytes) -> bytes:
    """The name of a place: table, then each key with its length before it."""
    return b"".join([table.encode(), b"\0", *(len(key).to_bytes(2, "big") + key for key in keys)])
