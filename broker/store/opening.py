"""Which database a broker has: SQLite in its folder, or PostgreSQL at an address (DESIGN section 8).

The driver of PostgreSQL is imported when there is an address: a broker with a file does not wait for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from broker.store import sqlite
from broker.store.file_reserve import FileReserve
from broker.store.interface import Reserve, Store
from broker.store.rows import Rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.store.bell import Bell
    from broker.store.migrating import Migrated


def check(address: str) -> None:
    """Raises `Malformed` (usage.argument): not the address of a database, or it holds a password."""
    from broker.store import postgres

    postgres.check_url(address)


def open_store(database: Path, address: str) -> Store:
    """The database at ``address``, or the file ``database`` where that is empty.

    Raises `Refused` (unavailable.store), `Malformed` (usage.argument).
    """
    if not address:
        return sqlite.SqliteStore(database)
    from broker.store import postgres

    return postgres.PostgresStore(postgres.check_url(address))


def open_read_only(database: Path, address: str) -> Rows:
    """Committed rows, all as of one moment. Raises `Refused` (usage.file), `Malformed` (usage.argument)."""
    if not address:
        return sqlite.open_read_only(database)
    from broker.store import postgres

    return postgres.open_read_only(postgres.check_url(address))


def bell_of(address: str) -> Bell | None:
    """Where the brokers on one database tell one another; None where there can be only one."""
    if not address:
        return None
    from broker.store.bell import Bell

    return Bell(address)


def reserve_of(folder: Path, address: str) -> Reserve:
    """The room kept for a full disk: the database's own at ``address``, or in the broker's folder beside its file."""
    if not address:
        return FileReserve(folder)
    from broker.store.table_reserve import TableReserve

    return TableReserve(address)


def migrate(database: Path, address: str, *, check: bool = False) -> Migrated:
    """Bring the database to the version that this program needs; ``check``: only say what is missing.

    Raises `Refused` (unavailable.store): a broker is on it, or no migration knows it; `Malformed` (usage.argument).
    """
    from broker.store import migrating

    with alone(database, address, exclusive=not check) as connection:
        return migrating.plan(connection) if check else migrating.upgrade(connection)


def alone(database: Path, address: str, *, exclusive: bool) -> AbstractContextManager[Connection]:
    """One transaction while nobody else writes; ``exclusive``: while no broker is on the database.

    Raises `Refused` (unavailable.store), `Malformed` (usage.argument).
    """
    if not address:
        return sqlite.alone(database, exclusive=exclusive)
    from broker.store import postgres

    return postgres.alone(postgres.check_url(address), exclusive=exclusive)
