"""Which database a broker has: SQLite in its folder, or PostgreSQL at an address (DESIGN section 8)."""

from __future__ import annotations

from pathlib import Path

from broker.store import postgres, sqlite
from broker.store.bell import Bell
from broker.store.interface import Store
from broker.store.rows import Rows


def open_store(database: Path, address: str) -> Store:
    """The database at ``address``, or the file ``database`` where that is empty.

    Raises `Refused` (unavailable.store), `Malformed` (usage.argument).
    """
    return postgres.PostgresStore(postgres.check_url(address)) if address else sqlite.SqliteStore(database)


def open_read_only(database: Path, address: str) -> Rows:
    """Committed rows, all as of one moment. Raises `Refused` (usage.file), `Malformed` (usage.argument)."""
    return postgres.open_read_only(postgres.check_url(address)) if address else sqlite.open_read_only(database)


def bell_of(address: str) -> Bell | None:
    """Where the brokers on one database tell one another; None where there can be only one."""
    return Bell(address) if address else None
