"""Everything that lies wrapped in a node's store, from one storage key to another, in batches that a crash may part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clients.store.database import Database
from clients.store.vault import Vault, row
from zhifu.errors import NotAuthentic

BATCH: Final = 256
"""Rows in one transaction."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A column that is wrapped, and the key columns that name the row (`clients.store.vault.row`)."""

    table: str
    column: str
    keys: tuple[str, ...]


WRAPPED: Final = (
    Wrapped("epoch", "secret", ("id",)),
    Wrapped("insured", "policy", ("person",)),
    Wrapped("pseudonym", "pseudonym", ("side", "peer", "subject", "epoch")),
    Wrapped("record", "key", ("hash",)),
    Wrapped("outgoing", "mandate", ("exchange",)),
    Wrapped("incoming", "content", ("exchange",)),
    Wrapped("job", "payload", ("kind", "id")),
)


def count(database: Database) -> int:
    """How many values are wrapped."""
    return sum(
        database.rows(f"SELECT count(*) FROM {one.table} WHERE {one.column} IS NOT NULL")[0][0] for one in WRAPPED
    )


def rewrap(database: Database, old: Vault, new: Vault, progress: Callable[[int], None]) -> int:
    """Wrap under ``new`` what is wrapped under ``old``; how many rows were. What ``new`` opens already is left.

    Each batch is durable when ``progress`` hears of it. When this returns, ``new`` opens every row. Nobody else may
    write meanwhile. Raises `NotAuthentic` (leaf.open) at a row that neither opens, `Refused` (unavailable.store).
    """
    changed = 0
    for place in WRAPPED:
        for batch in _batches(database, place):
            with database.transaction(True):
                changed += sum(_one(database, place, found, old, new) for found in batch)
            progress(len(batch))
    return changed


def _batches(database: Database, place: Wrapped) -> Iterator[list[Sequence[str | int | bytes]]]:
    keys, marks = ", ".join(place.keys), ", ".join("?" * len(place.keys))
    query = f"SELECT {keys}, {place.column} FROM {place.table} WHERE {place.column} IS NOT NULL"
    order = f"ORDER BY {keys} LIMIT {BATCH}"
    found = database.rows(f"{query} {order}")
    while found:
        yield list(found)
        found = database.rows(f"{query} AND ({keys}) > ({marks}) {order}", *found[-1][:-1])


def _one(database: Database, place: Wrapped, found: Sequence[str | int | bytes], old: Vault, new: Vault) -> bool:
    *keys, wrapped = found
    assert isinstance(wrapped, bytes)
    name = row(place.table, *(_named(key) for key in keys))
    try:
        new.unwrap(name, wrapped)
        return False
    except NotAuthentic:
        again = new.wrap(name, old.unwrap(name, wrapped))
    which = " AND ".join(f"{key} = ?" for key in place.keys)
    database.write(f"UPDATE {place.table} SET {place.column} = ? WHERE {which}", again, *keys)
    return True


def _named(key: str | int | bytes) -> bytes:
    """A key column as it stands in a row's name."""
    if isinstance(key, str):
        return key.encode()
    return key.to_bytes(4, "big") if isinstance(key, int) else key
