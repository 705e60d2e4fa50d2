"""SQLite behind the store's interface: WAL, ``synchronous=FULL``, one writing connection, group commit (DESIGN
section 8).

SQLModel declares the tables; rows travel through the driver, because an ORM row costs seven times as much (DESIGN
section 8).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from broker.store.interface import Conflict
from broker.store.tables import VERSION
from zhifu.errors import Malformed, NotAuthentic, Refused

T = TypeVar("T", bound=SQLModel)
_PRAGMAS: Final = ("page_size=16384", "journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "cache_size=-65536")


@cache
def _columns(table: type[SQLModel]) -> tuple[str, ...]:
    return tuple(column.name for column in table.__table__.columns)  # type: ignore[attr-defined]


@cache
def _keys(table: type[SQLModel]) -> tuple[str, ...]:
    return tuple(column.name for column in table.__table__.primary_key)  # type: ignore[attr-defined]


@cache
def _insert(table: type[SQLModel]) -> str:
    names = ", ".join(f'"{name}"' for name in _columns(table))
    marks = ", ".join("?" * len(_columns(table)))
    return f'INSERT INTO "{table.__tablename__}" ({names}) VALUES ({marks})'


def _where(names: Iterable[str]) -> str:
    return " AND ".join(f'"{name}" = ?' for name in names) or "1"


def _ours(error: sqlite3.Error | OverflowError) -> Conflict | Malformed | Refused:
    """What an error of the driver means, without its text: that may quote the statement."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(error.sqlite_errorname)
    if isinstance(error, OverflowError):
        return Malformed("malformed.field", "a number of more than 64 bits")
    return Refused("unavailable.store")


class Rows:
    """Reads on one connection; what they mean stands in `broker.store.interface`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except (sqlite3.Error, OverflowError) as error:
            raise _ours(error) from error

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            # A row can be unreadable although the rows before it were not.
            return self._connection.execute(sql, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise _ours(error) from error

    def get(self, table: type[T], *key: object) -> T | None:
        sql = f'SELECT * FROM "{table.__tablename__}" WHERE {_where(_keys(table))}'
        found = self._all(sql, key)
        return _model(table, found[0]) if found else None

    def find(self, table: type[T], *, limit: int = 1_000_000, after: object = None, **equal: object) -> list[T]:
        keys = _keys(table)
        clauses, values = [_where(equal)], list(equal.values())
        if after is not None:
            clauses.append(f'"{keys[0]}" > ?')
            values.append(after)
        order = ", ".join(f'"{name}"' for name in keys)
        sql = f'SELECT * FROM "{table.__tablename__}" WHERE {" AND ".join(clauses)} ORDER BY {order} LIMIT ?'
        return [_model(table, row) for row in self._all(sql, [*values, limit])]

    def scan(self, table: type[T]) -> Iterator[T]:
        order = ", ".join(f'"{name}"' for name in _keys(table))
        rows = self._run(f'SELECT * FROM "{table.__tablename__}" ORDER BY {order}')
        try:
            for row in rows:
                yield _model(table, row)
        except sqlite3.Error as error:
            raise _ours(error) from error

    def overdue(self, now: int) -> list[int]:
        sql = "SELECT entry FROM delivery WHERE not_after < ? ORDER BY entry LIMIT 1024"
        return [row[0] for row in self._all(sql, (now,))]

    def nodes(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        sql = 'SELECT hash FROM tree_node WHERE level = ? AND "index" = ?'
        found = [self._all(sql, node) for node in wanted]
        if [] in found:
            raise NotAuthentic("log.corrupt", "a node of the tree is missing")
        return [rows[0][0] for rows in found]


class Writing(Rows):
    """One writing transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._marked = False
        self._run("BEGIN IMMEDIATE")

    def mark(self) -> None:
        # Every open savepoint costs each page that is written after it.
        if self._marked:
            self._run("RELEASE operation")
        self._run("SAVEPOINT operation")
        self._marked = True

    def rewind(self) -> None:
        self._run("ROLLBACK TO operation")

    def insert(self, table: type[SQLModel], rows: Sequence[Sequence[Any]]) -> None:
        try:
            self._connection.executemany(_insert(table), rows)
        except (sqlite3.Error, OverflowError) as error:
            raise _ours(error) from error

    def update(self, table: type[SQLModel], changes: dict[str, object], **equal: object) -> int:
        sets = ", ".join(f'"{name}" = ?' for name in changes)
        sql = f'UPDATE "{table.__tablename__}" SET {sets} WHERE {_where(equal)}'
        return self._run(sql, [*changes.values(), *equal.values()]).rowcount

    def delete(self, table: type[SQLModel], **equal: object) -> int:
        sql = f'DELETE FROM "{table.__tablename__}" WHERE {_where(equal)}'
        return self._run(sql, list(equal.values())).rowcount

    def delete_through(self, table: type[SQLModel], key: int, **equal: object) -> int:
        sql = f'DELETE FROM "{table.__tablename__}" WHERE "{_keys(table)[0]}" <= ? AND {_where(equal)}'
        return self._run(sql, [key, *equal.values()]).rowcount


def _model(table: type[T], row: Sequence[Any]) -> T:
    # Rows come from our own typed columns; validating each again would cost more than reading it.
    return table.model_construct(**dict(zip(_columns(table), row, strict=True)))


class SqliteStore:
    """One file, one writing connection, one reading connection that sees committed rows only."""

    def __init__(self, path: Path) -> None:
        try:
            # For its owner only, whatever the umask; the log beside it takes over the file's mode. Before the first
            # connection: closing any descriptor of the file drops the locks that this process has on it, and
            # another process would then delete the write-ahead log under us.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._writer = _connect(path)
            _create(self._writer)
            self._reading = _connect(path)
            self._reading.execute("PRAGMA query_only=1")
        except (sqlite3.Error, OSError) as error:
            raise Refused("unavailable.store", f"{path.name} cannot be opened") from error
        self.reader = Rows(self._reading)

    def begin(self) -> Writing:
        return Writing(self._writer)

    def commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise _ours(error) from error

    def rollback(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection forgets its transaction anyway; the caller reads the head again.
            return

    def close(self) -> None:
        self._reading.close()
        self._writer.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == VERSION:
        return
    if found:
        raise Refused("unavailable.store", f"the database is of version {found}, this broker of {VERSION}")
    connection.execute("BEGIN IMMEDIATE")
    for table in SQLModel.metadata.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=dialect.dialect())))
        for index in table.indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=dialect.dialect())))
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def open_read_only(path: Path) -> Rows:
    """Committed rows of a broker, running or stopped, all as of one moment. Raises `Refused` (usage.file)."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        # A snapshot begins with the first read inside a transaction.
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM head")
    except sqlite3.Error as error:
        raise Refused("usage.file", f"{path.name} is not a broker's database") from error
    return Rows(connection)
