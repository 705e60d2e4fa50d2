"""Records this node sealed: once, for all recipients (DESIGN 4.2)."""

from __future__ import annotations

from typing import Final

from clients.store.database import Database
from clients.store.jobs import HELD
from clients.store.vault import Vault, row
from zhifu import manifest
from zhifu.manifest import Manifest
from zhifu.sealed import SealedRecord

KEEP_S: Final = 180 * 86_400


class Records:
    """Sealed bytes and the wrapped record key K, for late recipients and spot audits."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def put(self, record: SealedRecord, now: int, keep_until: int) -> bytes:
        """Keep a record; its manifest hash. Durable before it is presented to anyone. Times are Unix s."""
        encoded = record.encoded_manifest
        digest = manifest.hash_of(encoded)
        key = self._vault.wrap(row("record", digest), record.key)
        self._database.write(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", digest, encoded, record.leaves, key, now, keep_until
        )
        return digest

    def get(self, digest: bytes) -> SealedRecord | None:
        """The record with its key K; None where it is unknown or was erased. Raises `NotAuthentic` (leaf.open)."""
        found = self._database.row("SELECT manifest, leaves, key FROM record WHERE hash = ?", digest)
        if found is None or found[2] is None:
            return None
        encoded, leaves, key = found
        return SealedRecord(manifest.parse(encoded), leaves, self._vault.unwrap(row("record", digest), key))

    def sealed(self, digest: bytes) -> tuple[bytes, bytes] | None:
        """(manifest, leaves) as they are sent; the key stays wrapped."""
        found = self._database.row("SELECT manifest, leaves FROM record WHERE hash = ?", digest)
        return None if found is None or found[1] is None else (found[0], found[1])

    def manifest(self, digest: bytes) -> Manifest | None:
        """What was sealed: it stays when the record itself is erased."""
        found = self._database.row("SELECT manifest FROM record WHERE hash = ?", digest)
        return manifest.parse(found[0]) if found else None

    def erase(self, now: int) -> int:
        """Erase leaves and key of records whose time is over (``now`` in Unix s); the manifest opens nothing.

        What was sent in an exchange that a legal hold stands on stays.
        """
        held = f"SELECT record FROM outgoing WHERE exchange IN {HELD} OR first IN {HELD}"
        due = f"keep_until < ? AND key IS NOT NULL AND hash NOT IN ({held})"
        return self._database.write(f"UPDATE record SET leaves = NULL, key = NULL WHERE {due}", now)
