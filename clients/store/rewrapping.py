"""Wrapping everything anew under another storage key, all of it or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from clients.store.database import Database
from clients.store.vault import Vault, row

_EPOCH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A column that is kept wrapped, and the columns whose values name the place of each."""

    table: str
    column: str
    keys: tuple[str, ...]


WRAPPED: Final = (
    Wrapped("record", "key", ("hash",)),
    Wrapped("outgoing", "mandate", ("exchange",)),
    Wrapped("incoming", "content", ("exchange",)),
    Wrapped("epoch", "secret", ("id",)),
    Wrapped("insured", "policy", ("person",)),
    Wrapped("job", "payload", ("kind", "id")),
    Wrapped("pseudonym", "pseudonym", ("side", "peer", "subject", "epoch")),
)


def rewrap(database: Database, vault: Vault) -> int:
    """Open each value with whatever key of the ``vault`` opens it, and wrap it with the current one; how many.

    Inside the caller's transaction. Raises `NotAuthentic` (leaf.open) for one that no key opens.
    """
    return sum(_rewrap(database, vault, one) for one in WRAPPED)


def _rewrap(database: Database, vault: Vault, one: Wrapped) -> int:
    names, where = ", ".join(one.keys), " AND ".join(f"{name} = ?" for name in one.keys)
    found = database.rows(f"SELECT {one.column}, {names} FROM {one.table} WHERE {one.column} IS NOT NULL")
    update = f"UPDATE {one.table} SET {one.column} = ? WHERE {where}"
    for wrapped, *key in found:
        place = row(one.table, *map(_encoded, key))
        database.write(update, vault.wrap(place, vault.unwrap(place, wrapped)), *key)
    return len(found)


def _encoded(key: Any) -> bytes:
    """As the parts of the store name their places."""
    if isinstance(key, int):
        return key.to_bytes(_EPOCH_BYTES, "big")
    return key.encode() if isinstance(key, str) else bytes(key)
