"""The connection: pragmas, tables, transactions. A commit is on the disk when it returns (``synchronous=FULL``)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from zhifu.errors import Refused

Row = tuple[Any, ...]
BUSY_MS: Final = 5_000
VERSION: Final = 5

_TABLES: Final = """
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL,
    note BLOB NOT NULL) STRICT;
CREATE TABLE cosigned (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT;
CREATE TABLE witness (name TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cursor (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE statement (
    participant BLOB NOT NULL, serial INTEGER NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (participant, serial)
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (
    id BLOB PRIMARY KEY, secret BLOB NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL,
    gate_key_id BLOB, offer BLOB, retired INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE pseudonym (
    side TEXT NOT NULL, peer BLOB NOT NULL, subject BLOB NOT NULL, epoch INTEGER NOT NULL, pseudonym BLOB NOT NULL,
    PRIMARY KEY (side, peer, subject, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE pseudonym_key (
    recipient BLOB NOT NULL, epoch INTEGER NOT NULL, public_key BLOB NOT NULL, listed INTEGER NOT NULL,
    PRIMARY KEY (recipient, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE insured (person BLOB PRIMARY KEY, policy BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE insured_name (
    epoch INTEGER NOT NULL, name BLOB NOT NULL, person BLOB NOT NULL, PRIMARY KEY (epoch, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX insured_person ON insured_name (person, epoch);
CREATE TABLE record (
    hash BLOB PRIMARY KEY, manifest BLOB NOT NULL, leaves BLOB, key BLOB, created INTEGER NOT NULL,
    keep_until INTEGER NOT NULL
) STRICT;
CREATE INDEX record_kept ON record (keep_until) WHERE key IS NOT NULL;
CREATE TABLE outgoing (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, exchange BLOB NOT NULL UNIQUE, first BLOB NOT NULL, attempt INTEGER NOT NULL,
    record BLOB NOT NULL, presentation BLOB NOT NULL, capsule BLOB, mandate BLOB NOT NULL, state TEXT NOT NULL,
    not_after INTEGER NOT NULL, until INTEGER NOT NULL, released BLOB, reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX outgoing_open ON outgoing (seq) WHERE state IN ('waiting', 'sent');
CREATE INDEX outgoing_due ON outgoing (not_after) WHERE state IN ('waiting', 'sent');
CREATE INDEX outgoing_first ON outgoing (first, seq);
CREATE TABLE asked (exchange BLOB PRIMARY KEY, presentation BLOB NOT NULL, subject BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE notice (id INTEGER PRIMARY KEY, exchange BLOB NOT NULL, content BLOB NOT NULL) STRICT;
CREATE INDEX notice_exchange ON notice (exchange);
CREATE TABLE incoming (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, exchange BLOB NOT NULL UNIQUE, acknowledgement BLOB NOT NULL,
    reason TEXT NOT NULL, in_reply_to BLOB, content BLOB, received INTEGER NOT NULL, erase_at INTEGER NOT NULL,
    purpose TEXT NOT NULL DEFAULT '', schema BLOB NOT NULL DEFAULT x'', periods BLOB NOT NULL DEFAULT x'',
    look_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX incoming_kept ON incoming (purpose, schema, periods, received) WHERE content IS NOT NULL;
CREATE INDEX incoming_erase ON incoming (erase_at) WHERE content IS NOT NULL;
CREATE INDEX incoming_answers ON incoming (in_reply_to, seq) WHERE in_reply_to IS NOT NULL;
CREATE TABLE receipt (
    exchange BLOB PRIMARY KEY, opening BLOB NOT NULL, note BLOB NOT NULL, range BLOB NOT NULL,
    size INTEGER NOT NULL, root BLOB NOT NULL, leaf_hash BLOB NOT NULL, acknowledgement BLOB NOT NULL,
    final INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX receipt_pending ON receipt (size) WHERE final = 0;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, reason TEXT NOT NULL, size INTEGER NOT NULL,
    root BLOB NOT NULL, content BLOB NOT NULL
) STRICT;
CREATE TABLE job (
    kind TEXT NOT NULL, id BLOB NOT NULL, state TEXT NOT NULL, payload BLOB NOT NULL, updated INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX job_state ON job (kind, state, updated);
"""

_UPGRADES: Final = {
    3: """
ALTER TABLE incoming ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE incoming ADD COLUMN schema BLOB NOT NULL DEFAULT x'';
ALTER TABLE incoming ADD COLUMN periods BLOB NOT NULL DEFAULT x'';
ALTER TABLE incoming ADD COLUMN look_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX incoming_kept ON incoming (purpose, schema, periods, received) WHERE content IS NOT NULL;
""",
    4: """
CREATE INDEX outgoing_due ON outgoing (not_after) WHERE state IN ('waiting', 'sent');
CREATE INDEX incoming_erase ON incoming (erase_at) WHERE content IS NOT NULL;
CREATE INDEX record_kept ON record (keep_until) WHERE key IS NOT NULL;
""",
}
"""From a version to the one after it."""


class Database:
    """One SQLite connection. Everything that changes a row runs inside `transaction`."""

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self._lock = _lock(path, alone=alone)
        try:
            # Made here first, so that it and the files SQLite puts beside it are nobody else's to read.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise Refused("unavailable.store", f"{path.name} cannot be opened") from error
        self._depth = 0
        self._durable = True
        self._owner: asyncio.Task[Any] | None = None
        self._touched: set[bytes] = set()
        self.constants: dict[tuple[str, bytes], bytes] = {}
        """What was read and never changes. Forgotten when anything is undone: it may have been made in that."""
        self._listeners: list[Callable[[frozenset[bytes]], None]] = []

    def _prepare(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "secure_delete=ON"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._become(_TABLES, VERSION)
        while version in _UPGRADES:
            self._become(_UPGRADES[version], version + 1)
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            self._connection.close()
            raise Refused("unavailable.store", f"the store is of version {version}, not {VERSION}")

    def _become(self, statements: str, version: int) -> None:
        self._connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version={version}; COMMIT;")

    @contextmanager
    def transaction(self, durable: bool) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT, or a savepoint inside one. Raises `Refused` (unavailable.store)."""
        outermost = self._depth == 0
        if outermost:
            self._owner = _task()
            self._sync(durable)
        self._check_owner()
        name = f"part{self._depth}"
        begin, end, undo = (
            ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
            if outermost
            else (f"SAVEPOINT {name}", f"RELEASE {name}", f"ROLLBACK TO {name}; RELEASE {name}")
        )
        self._execute(begin)
        self._depth += 1
        try:
            yield
            self._execute(end)
        except BaseException:
            self._undo(undo)
            raise
        finally:
            self._depth -= 1
        if outermost:
            self._tell()

    def _sync(self, durable: bool) -> None:
        if durable != self._durable:
            self._execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _undo(self, statements: str) -> None:
        self.constants.clear()
        # A commit that failed may have rolled back by itself; then there is nothing left to undo.
        with suppress(sqlite3.Error):
            for statement in statements.split("; "):
                self._connection.execute(statement)
        if self._depth == 1:
            self._touched.clear()

    def _tell(self) -> None:
        touched, self._touched = frozenset(self._touched), set()
        for listener in self._listeners:
            listener(touched)

    def write(self, statement: str, *values: object) -> int:
        """Change rows; how many were changed. Raises `Refused` (unavailable.store)."""
        if not self._depth:
            raise RuntimeError("a write outside of a transaction would not be durable with what it belongs to")
        self._check_owner()
        return self._execute(statement, *values).rowcount

    def _check_owner(self) -> None:
        # Another task's rows would become durable, or be undone, with a transaction that it knows nothing of.
        if self._owner is not _task():
            raise RuntimeError("a transaction was held over an await")

    def rows(self, statement: str, *values: object) -> list[Row]:
        return self._execute(statement, *values).fetchall()

    def row(self, statement: str, *values: object) -> Row | None:
        found: Row | None = self._execute(statement, *values).fetchone()
        return found

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            # SQLite's message may quote a value; its type says enough.
            raise Refused("unavailable.store", type(error).__name__) from None

    def truncate_log(self) -> bool:
        """Empty the write-ahead log, so that what was overwritten or erased is in no file; False while others read.

        Raises `Refused` (unavailable.store).
        """
        (busy, _, _) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        return not busy

    def touch(self, exchange: bytes) -> None:
        self._touched.add(exchange)

    def on_commit(self, listener: Callable[[frozenset[bytes]], None]) -> None:
        self._listeners.append(listener)

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(path: Path, *, alone: bool) -> int:
    """Everybody may open the store, unless one wants it alone: to wrap it under another key. A lock ends with its
    process. Raises `Refused` (unavailable.store).
    """
    descriptor = -1
    try:
        descriptor = os.open(path.with_name("storage.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        why = "another process uses the store: stop it first" if alone else "the storage key is being rotated"
        raise Refused("unavailable.store", why) from error
    except OSError as error:
        raise Refused("unavailable.store", f"{path.name} cannot be opened") from error
    return descriptor


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop: a command, not a node
        return None
