"""SQLite behind the store's interface: WAL, ``synchronous=FULL``, one writing connection, group commit (DESIGN
section 8).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from broker.clock import clock_ms
from broker.store import versions
from broker.store.interface import Conflict
from broker.store.rows import Answer, Rows, Writing
from zhifu.errors import Malformed, Refused

_PRAGMAS: Final = (
    "page_size=16384",
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "cache_size=-65536",
    # What is deleted is overwritten where its page is written anyway.
    "secure_delete=FAST",
)

_NAMED: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"


def _ours(error: sqlite3.Error | OverflowError) -> Conflict | Malformed | Refused:
    """What an error of the driver means, without its text: that may quote the statement."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(error.sqlite_errorname)
    if isinstance(error, OverflowError):
        return Malformed("malformed.field", "a number of more than 64 bits")
    # Errors that Python raises by itself, of a closed connection say, have no code.
    is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return Refused("unavailable.space" if is_full else "unavailable.store")


class Driver:
    """Statements on one connection; what they mean stands in `broker.store.rows`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def ask(self, sql: str, values: Sequence[Any] = ()) -> Answer:
        try:
            # All at once: a row can be unreadable although the rows before it were not.
            cursor = self.connection.execute(sql, values)
            return Answer(cursor.fetchall(), cursor.rowcount)
        except (sqlite3.Error, OverflowError) as error:
            raise _ours(error) from error

    def write_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self.connection.executemany(sql, rows)
        except (sqlite3.Error, OverflowError) as error:
            raise _ours(error) from error

    def close(self) -> None:
        self.connection.close()

    def savepoint(self, *, again: bool) -> None:
        if again:
            self.ask("RELEASE operation")
        self.ask("SAVEPOINT operation")


class SqliteStore:
    """One file, one writing connection, one reading connection that sees committed rows only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # For its owner only, whatever the umask; the log beside it takes over the file's mode. Before the first
            # connection: closing any descriptor of the file drops the locks that this process has on it, and
            # another process would then delete the write-ahead log under us.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _prepare(path)
            self._writer = _connect(path)
            self._reading = _connect(path)
            self._reading.execute("PRAGMA query_only=1")
        except (sqlite3.Error, OSError) as error:
            raise Refused("unavailable.store", f"{path.name} cannot be opened") from error
        self.reader = Rows(Driver(self._reading))

    def clock_ms(self) -> int:
        return clock_ms()

    async def turn(self) -> Writing:
        return self.begin()

    def begin(self) -> Writing:
        driver = Driver(self._writer)
        driver.ask("BEGIN IMMEDIATE")
        return Writing(driver)

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

    def forget(self) -> None:
        # A connection of its own: the writer's may be committing in its thread.
        with suppress(sqlite3.Error), closing(_connect(self._path)) as own:
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._reading.close()
        self._writer.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _version(driver: Driver) -> str:
    return versions.found(driver, [name for (name,) in driver.ask(_NAMED).rows])


def version_of(path: Path) -> str:
    """The version that a database is marked with; nothing is written. Raises `Refused` (unavailable.store)."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return _version(Driver(connection))
    except sqlite3.Error as error:
        raise _ours(error) from error


def _prepare(path: Path) -> None:
    """A new database gets its tables; one of another version is refused."""
    with closing(_connect(path)) as connection:
        version = _version(Driver(connection))
    if version == versions.EMPTY:
        from broker.store import migrating

        with alone(path) as connection:
            migrating.upgrade(connection)
    else:
        versions.check(version)


@contextmanager
def alone(path: Path, *, exclusive: bool = False) -> Iterator[Connection]:
    """One transaction for migrations, while no other process writes; ``exclusive``: while none has it open.

    Raises `Refused` (unavailable.store).
    """
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            if exclusive:
                _check_alone(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
    except (DBAPIError, sqlite3.Error) as error:
        raise Refused("unavailable.store", f"{path.name} did not take it; nothing was changed") from error


def raw(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what costs too much by another way."""
    found: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def _check_alone(connection: Connection) -> None:
    try:
        # Leaving the write-ahead log takes the file for oneself, which SQLite refuses while another has it open.
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except DBAPIError as error:
        raise Refused("unavailable.store", "another process has the database open: stop the broker first") from error


def open_read_only(path: Path) -> Rows:
    """Committed rows of a broker, running or stopped, all as of one moment. Raises `Refused` (usage.file)."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        # A snapshot begins with the first read inside a transaction.
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM head")
    except sqlite3.Error as error:
        raise Refused("usage.file", f"{path.name} is not a broker's database") from error
    return Rows(Driver(connection))
