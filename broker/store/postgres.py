"""PostgreSQL behind the store's interface, for several brokers on one database (DESIGN section 8).

Whoever writes holds an advisory lock of the transaction: rows become visible in the order of the log, whichever broker
wrote them, and the lock is free as soon as its holder commits, dies or hangs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg import errors, pq, sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, NullPool, create_engine, inspect
from sqlalchemy.exc import DBAPIError

from broker.clock import clock_ms
from broker.store import versions
from broker.store.interface import Conflict
from broker.store.rows import Answer, Rows, Writing
from zhifu.errors import Malformed, Refused

SCHEMES: Final = ("postgresql://", "postgres://")
_TURN: Final = "SELECT pg_advisory_xact_lock(8_820_414_001)"
_CLOCK: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_OTHERS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name IN ('zhifu-broker', 'zhifu-bell')"
)
_VERSION: Final = "SELECT version_num FROM alembic_version"
_NO_NEWCOMERS: Final = "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"
_BITS: Final = 63
_PORTION: Final = 5000
# A broker that hangs while it holds the lock loses its transaction, and the others go on; a database that is gone
# without a word is noticed.
_SETTINGS: Final = (
    "-c synchronous_commit=on -c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=10s"
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)
_log = logging.getLogger("zhifu.store")
_HOLDS_PEOPLE: Final = ("entry", "exchange", "grant", "subject", "subject_key", "attested", "ticket")
"""Tables that an erasure takes something from (`broker.erasure`)."""
CLIENT: Final = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    # Of what was sent and is not acknowledged: keepalives say nothing then, and the kernel tries for many minutes.
    "tcp_user_timeout": 15_000,
}  # fmt: skip


def check_url(url: str) -> str:
    """The address of a database. Raises `Malformed` (usage.argument): not one, or it holds a password."""
    try:
        if not url.startswith(SCHEMES) or not conninfo_to_dict(url):
            raise ValueError
        secret = urlsplit(url).password is not None or "password" in conninfo_to_dict(url)
    except (ValueError, psycopg.Error) as error:
        raise Malformed("usage.argument", "a store is postgresql://user@host:port/database") from error
    if secret:
        raise Malformed("usage.argument", "a password belongs into PGPASSFILE or ~/.pgpass, not into an address")
    return url


@cache
def _translated(sql: str) -> str:
    return sql.replace("?", "%s")


def _ours(error: psycopg.Error) -> Conflict | Malformed | Refused:
    """What an error of the driver means, without its text: that may quote values."""
    if isinstance(error, errors.IntegrityError):
        return Conflict(type(error).__name__)
    if isinstance(error, errors.DataError):
        return Malformed("malformed.field", "a value that no column holds")
    return Refused("unavailable.space" if isinstance(error, errors.DiskFull) else "unavailable.store")


def _check(values: Sequence[Any]) -> None:
    # Compared with a wider number, a column of 64 bits is just unequal; the contract is to refuse.
    if any(type(one) is int and not -(1 << _BITS) <= one < 1 << _BITS for one in values):
        raise Malformed("malformed.field", "a number of more than 64 bits")


class Driver:
    """Statements on one connection, which is opened when it is first needed, and anew when it was lost.

    ``held``: a transaction is open. It is on that connection or nowhere: on the next one its statements would stand by
    themselves, and PostgreSQL would answer COMMIT as if something had been committed.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._closed = False
        self.held = False

    def open(self) -> psycopg.Connection[Any]:
        """Raises `Refused` (unavailable.store)."""
        if self._closed:
            raise Refused("unavailable.store", "the store is closed")
        if self._connection is None or self._connection.closed:
            if self.held:
                raise Refused("unavailable.store", "the transaction is lost with its connection")
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                raise _ours(error) from error
        return self._connection

    def ask(self, sql: str, values: Sequence[Any] = ()) -> Answer:
        _check(values)
        idle = self.idle
        try:
            return self._ask(sql, values)
        except psycopg.OperationalError as error:
            if not (idle and self._connection is not None and self._connection.closed):
                raise _ours(error) from error
        except psycopg.Error as error:
            raise _ours(error) from error
        # The database went away while nothing was open here: a statement by itself, a read or BEGIN, is asked again.
        try:
            return self._ask(sql, values)
        except psycopg.Error as error:
            raise _ours(error) from error

    def _ask(self, sql: str, values: Sequence[Any]) -> Answer:
        with self.open().cursor(binary=True) as cursor:
            cursor.execute(_translated(sql), values)
            return Answer(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    def write_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            _check(row)
        connection = self.open()
        try:
            with connection.cursor(binary=True) as cursor:
                cursor.executemany(_translated(sql), rows)
        except psycopg.Error as error:
            raise _ours(error) from error

    def savepoint(self, *, again: bool) -> None:
        try:
            # One round trip: the simple protocol takes several statements.
            self.open().execute("RELEASE operation; SAVEPOINT operation" if again else "SAVEPOINT operation")
        except psycopg.Error as error:
            raise _ours(error) from error

    @property
    def idle(self) -> bool:
        return self.open().info.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()


class PostgresStore:
    """One database, which other brokers may write to as well; two connections."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ahead_ms = 0
        _prepare(url)
        self._writer = Driver(lambda: _connect_again(url))
        self._reading = Driver(lambda: _connect_again(url, "-c default_transaction_read_only=on"))
        self.reader = Rows(self._reading)
        self._look_at_clock()

    def clock_ms(self) -> int:
        """By the database's clock: this computer's may be another broker's past or future."""
        return clock_ms() + self._ahead_ms

    def _look_at_clock(self) -> None:
        ((theirs,),) = self._writer.ask(_CLOCK).rows
        self._ahead_ms = int(theirs) - clock_ms()

    async def turn(self) -> Writing:
        return await asyncio.to_thread(self.begin)

    def begin(self) -> Writing:
        if not self._writer.idle:
            raise Refused("unavailable.store", "one transaction is open at a time")
        self._writer.ask("BEGIN")
        self._writer.held = True
        self._writer.ask(_TURN)
        self._look_at_clock()
        return Writing(self._writer)

    def commit(self) -> None:
        try:
            said = self._writer.open().execute("COMMIT").statusmessage
        except psycopg.Error as error:
            raise _ours(error) from error
        self._writer.held = False
        if said != "COMMIT":
            # PostgreSQL ends a failed transaction without a complaint.
            raise Refused("unavailable.store", "nothing was committed")

    def rollback(self) -> None:
        with suppress(Refused, psycopg.Error):
            if not self._writer.idle:
                self._writer.ask("ROLLBACK")
        self._writer.held = False

    def forget(self) -> None:
        # A connection of its own: it waits for nobody's transaction. FULL, which writes the tables anew and keeps
        # others out meanwhile: else what was deleted stays on its page until something happens to need the place.
        try:
            with closing(connect(self._url, "-c statement_timeout=0")) as own:
                for table in _HOLDS_PEOPLE:
                    own.execute(f'VACUUM (FULL) "{table}"'.encode())
        except psycopg.Error:
            _log.warning("store.forget")

    def close(self) -> None:
        self._reading.close()
        self._writer.close()


def _connect_again(url: str, settings: str = "") -> psycopg.Connection[Any]:
    """A broker's own, which may have been away while others brought the database to another version. Raises as
    `connect`, and `Refused` (unavailable.store) for one that this program does not know.
    """
    made = connect(url, settings)
    try:
        ((version,),) = made.execute(_VERSION.encode()).fetchall()
        versions.check(str(version))
    except BaseException:
        made.close()
        raise
    return made


def connect(url: str, settings: str = "", name: str = "zhifu-broker") -> psycopg.Connection[Any]:
    """A connection whose every statement is its own transaction.

    Raises `psycopg.Error`, `Refused` (unavailable.store): the database does not keep text as UTF-8.
    """
    given: dict[str, Any] = {**CLIENT, "options": f"{_SETTINGS} {settings}", "application_name": name}
    made = psycopg.connect(url, autocommit=True, **given)
    encoding = made.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        # What another one cannot write would be found out by the first Chinese name.
        made.close()
        raise Refused("unavailable.store", f"the database keeps text as {encoding}: create it with ENCODING 'UTF8'")
    return made


def _prepare(url: str) -> None:
    """A new database gets its tables; one of another version is refused."""
    driver = Driver(lambda: connect(url))
    try:
        named = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"
        version = versions.found(driver, [name for (name,) in driver.ask(named).rows])
    finally:
        driver.close()
    if version == versions.EMPTY:
        from broker.store import migrating

        with alone(url) as connection:
            migrating.upgrade(connection)
    else:
        versions.check(version)


@contextmanager
def alone(url: str, *, exclusive: bool = False) -> Iterator[Connection]:
    """One transaction for migrations, while no broker writes; ``exclusive``: while none is connected.

    Raises `Refused` (unavailable.store).
    """

    def opened() -> psycopg.Connection[Any]:
        settings = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
        made = connect(url, settings, "zhifu-migration")
        made.autocommit = False
        return made

    engine = create_engine("postgresql+psycopg://", creator=opened, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(_TURN)
            if exclusive and inspect(connection).has_table("alembic_version"):
                # Whoever connects anew from here on is counted, or waits, and sees which version it is of.
                connection.exec_driver_sql(_NO_NEWCOMERS)
            if exclusive and connection.exec_driver_sql(_OTHERS).scalar_one():
                raise Refused("unavailable.store", "a broker is connected to the database: stop it first")
            yield connection
    except (DBAPIError, psycopg.Error) as error:
        raise Refused("unavailable.store", "the database did not take it; nothing was changed") from error


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """Everything that is committed now, for as long as the block takes. Raises `Refused` (unavailable.store)."""

    def opened() -> psycopg.Connection[Any]:
        made = connect(url, "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0")
        made.autocommit, made.isolation_level, made.read_only = False, psycopg.IsolationLevel.REPEATABLE_READ, True
        return made

    engine = create_engine("postgresql+psycopg://", creator=opened, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as error:
        raise Refused("unavailable.store", "the database cannot be read") from error


def copy_out(connection: Connection, table: str, columns: Sequence[str]) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """The rows of a table in portions, each with how many there were until then."""
    count, portion, types = 0, list[tuple[Any, ...]](), _types(connection, table, columns)
    with _raw(connection).cursor() as cursor, cursor.copy(_copy("TO STDOUT", table, columns)) as copy:
        copy.set_types(types)
        for row in copy.rows():
            portion.append(row)
            if len(portion) == _PORTION:
                count += len(portion)
                yield count, portion
                portion = []
    yield count + len(portion), portion


def copy_in(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Insert rows; how many there were."""
    types = _types(connection, table, columns)
    with _raw(connection).cursor() as cursor:
        with cursor.copy(_copy("FROM STDIN", table, columns)) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        return cursor.rowcount


def last_notice(connection: Connection) -> int:
    """The last id that a notice was given; 0 if none was."""
    found = connection.exec_driver_sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM notice_id_seq")
    return int(found.scalar_one())


def go_on_after(connection: Connection, notice: int) -> None:
    """The next notice gets the id after this one."""
    connection.exec_driver_sql(f"SELECT setval('notice_id_seq', {int(notice) + 1}, false)")


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    found: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def _copy(how: str, table: str, columns: Sequence[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) " + how + " (FORMAT binary)").format(sql.Identifier(table), names)


def _types(connection: Connection, table: str, columns: Sequence[str]) -> list[str]:
    asked = "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = %s"
    found = dict(_raw(connection).execute(f"{asked} AND table_schema = current_schema()".encode(), (table,)).fetchall())
    return [found[name] for name in columns]


def open_read_only(url: str) -> Rows:
    """Committed rows, all as of one moment. Raises `Refused` (usage.file)."""
    driver = Driver(lambda: connect(url, "-c default_transaction_read_only=on"))
    try:
        driver.ask("BEGIN ISOLATION LEVEL REPEATABLE READ")
        driver.ask("SELECT count(*) FROM head")
    except Refused as error:
        raise Refused("usage.file", "there is no broker's database at this address") from error
    return Rows(driver)
