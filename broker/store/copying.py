"""A database as one file, as of one moment, while its broker goes on; and such a file as a database again.

The file is always SQLite's: a backup of PostgreSQL can be restored into a folder, and the other way round.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData, Table

from broker.store import migrating, opening, sqlite
from broker.store.interface import Reader
from broker.store.rows import Rows
from broker.store.versions import EMPTY
from zhifu.errors import Refused

Tell = Callable[[str], None]
_PAGES: Final = 4096
_LEAP: Final = 1 << 32
"""Ids of notices go on this far ahead: nodes have read ids that the restored database never gave."""
_OURS: Final = "alembic_version"


def copy_out(database: Path, address: str, target: Path, tell: Tell) -> None:
    """Write everything that is committed now to ``target``, a new file. Raises `Refused` (unavailable.store,
    usage.file).
    """
    try:
        if address:
            _from_postgres(address, target, tell)
        else:
            _from_sqlite(database, target, tell)
        with closing(sqlite3.connect(target)) as made:
            # One file, without a log beside it.
            made.execute("PRAGMA journal_mode=DELETE").fetchall()
    except (sqlite3.Error, OSError) as error:
        raise Refused("unavailable.store", "the database could not be copied") from error


@contextmanager
def reading(copy: Path) -> Iterator[Reader]:
    """The rows of a copy. Raises `Refused` (usage.file)."""
    rows: Rows = sqlite.open_read_only(copy)
    try:
        yield rows
    finally:
        rows.close()


def copy_in(copy: Path, database: Path, address: str, now_ms: int, tell: Tell) -> None:
    """Make a copy the database, which must be new; it is brought to today's version and marked as restored.

    All of it or nothing. Raises `Refused` (unavailable.store).
    """
    if address:
        with opening.alone(database, address, exclusive=True) as connection:
            if migrating.plan(connection).before != EMPTY:
                raise Refused("unavailable.store", "the database is not empty: restore into a new one")
            _into_postgres(copy, connection, tell)
            _mark(connection, now_ms)
        return
    with sqlite.alone(copy, exclusive=False) as connection:
        migrating.upgrade(connection)
        _mark(connection, now_ms)
    with closing(sqlite3.connect(copy)) as made:
        made.execute("PRAGMA journal_mode=DELETE").fetchall()
    copy.replace(database)


def _from_sqlite(database: Path, target: Path, tell: Tell) -> None:
    def step(_: int, remaining: int, total: int) -> None:
        tell(f"{100 * (total - remaining) // max(total, 1)} % copied")

    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(target)) as made,
    ):
        # A snapshot begins with the first read: without one, every commit of the broker would begin the copy anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM head").fetchall()
        source.backup(made, pages=_PAGES, progress=step, sleep=0)


def _from_postgres(address: str, target: Path, tell: Tell) -> None:
    from broker.store import postgres

    with postgres.snapshot(address) as source:
        version = migrating.plan(source).before
        with sqlite.alone(target) as made:
            migrating.upgrade(made, version)
            raw = sqlite.raw(made)
            for table in _tables(made):
                for count, rows in postgres.copy_out(source, table.name, table.columns.keys()):
                    raw.executemany(_insert(table), rows)
                    tell(f"{table.name}: {count} rows")
            raw.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'notice'", (postgres.last_notice(source),))


def _into_postgres(copy: Path, connection: Connection, tell: Tell) -> None:
    from broker.store import postgres

    with sqlite.alone(copy) as of:
        version = migrating.plan(of).before
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as source:
        migrating.upgrade(connection, version)
        for table in _tables(connection):
            names = table.columns.keys()
            listed = ", ".join(f'"{name}"' for name in names)
            rows = source.execute(f'SELECT {listed} FROM "{table.name}"')
            count = postgres.copy_in(connection, table.name, names, rows)
            tell(f"{table.name}: {count} rows")
        ((last,),) = source.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'notice'")
        postgres.go_on_after(connection, last)
        migrating.upgrade(connection)


def _mark(connection: Connection, now_ms: int) -> None:
    """Notices go on at ids that no node has read, and nothing is signed before a majority of witnesses was heard."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO sqlite_sequence SELECT 'notice', 0 WHERE NOT EXISTS"
                                   " (SELECT 1 FROM sqlite_sequence WHERE name = 'notice')")  # fmt: skip
        connection.exec_driver_sql(f"UPDATE sqlite_sequence SET seq = seq + {_LEAP} WHERE name = 'notice'")
    else:
        from broker.store import postgres

        postgres.go_on_after(connection, postgres.last_notice(connection) + _LEAP)
    connection.exec_driver_sql("DELETE FROM restored")
    connection.exec_driver_sql(f"INSERT INTO restored VALUES (1, {int(now_ms)})")


def _tables(connection: Connection) -> list[Table]:
    """Of the version that it is of, so of every version; the mark of the version itself apart."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != _OURS]


def _insert(table: Table) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(table.columns))})'
