"""What a node remembers: one SQLite file, and the only place of the clients that knows a database (DESIGN section 8).

Each part states its own duties. Writing outside of ``with store.transaction():`` is refused; when that block ends
without an error, what it wrote survives a crash of process and machine (WAL, ``synchronous=FULL``). What could tell
something about a patient is kept only wrapped under the node's storage key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from clients.store import rewrapping
from clients.store.backlog import Backlog, backlog
from clients.store.database import Database
from clients.store.incoming import Incoming, Stored
from clients.store.insured import Insured, InsuredPersons
from clients.store.jobs import Job, Jobs
from clients.store.mandate import Mandate
from clients.store.outgoing import Outgoing, Sent
from clients.store.pseudonyms import Pseudonyms
from clients.store.receipts import Evidence, Receipt, Receipts
from clients.store.records import Records
from clients.store.trust import Trust
from clients.store.vault import Vault
from zhifu.errors import NotAuthentic, Refused

__all__ = [
    "Evidence", "Incoming", "Insured", "InsuredPersons", "Job", "Jobs", "Mandate", "Outgoing", "Pseudonyms", "Receipt",
    "Receipts", "Records", "Sent", "Store", "Stored", "Trust", "alone",
]  # fmt: skip

_WITNESS: Final = ("storage-key", b"current")
"""A job that the current storage key opens, made when it was drawn."""
_Rewrap = Callable[[Vault, Vault, Callable[[int, int], None]], int]


@contextmanager
def alone(path: Path) -> Iterator[_Rewrap]:
    """A store that nobody else has open; what it gives wraps everything anew, from one vault to the other.

    See `clients.store.rewrapping`; the last argument gets rows done and rows in all. Raises `Refused`
    (unavailable.store).
    """
    database = Database(path, alone=True)

    def anew(old: Vault, new: Vault, progress: Callable[[int, int], None]) -> int:
        with database.transaction(True):
            Jobs(database, new).put(Job(*_WITNESS, "current", b"", 0))
        whole, done = rewrapping.count(database), 0

        def went(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, whole)

        changed = rewrapping.rewrap(database, old, new, went)
        if not database.truncate_log():
            raise Refused("unavailable.store", "the write-ahead log cannot be emptied")
        return changed

    try:
        yield anew
    finally:
        database.close()


class Store:
    """The parts of a node's memory over one connection; used on the event loop's thread only."""

    def __init__(self, path: Path, vault: Vault) -> None:
        """Open or make the file, 0600. Raises `Refused` (unavailable.store), also while its key is being rotated."""
        self._database = Database(path)
        self.records = Records(self._database, vault)
        self.outgoing = Outgoing(self._database, vault)
        self.incoming = Incoming(self._database, vault)
        self.receipts = Receipts(self._database)
        self.trust = Trust(self._database, vault)
        self.pseudonyms = Pseudonyms(self._database, vault)
        self.insured = InsuredPersons(self._database, vault)
        self.jobs = Jobs(self._database, vault)
        self._check_key()

    def _check_key(self) -> None:
        """Who read the key before it was rotated must not write with it any more."""
        try:
            self.jobs.get(*_WITNESS)
        except NotAuthentic as error:
            self.close()
            why = "the storage key is not this store's: it was rotated since, or they are of two nodes"
            raise Refused("unavailable.store", why) from error

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """All of the block or nothing, durable when it ends. Within a transaction it is a part that can fail alone.

        Not ``durable``: it does not wait for the disk, and a crash of the machine may undo it (never a part of it).
        Raises `Refused` (unavailable.store), after which nothing of the block was kept.
        """
        return self._database.transaction(durable)

    def touch(self, exchange: bytes) -> None:
        """Tell `on_commit`, once this transaction is durable, that something is new about an exchange."""
        self._database.touch(exchange)

    def on_commit(self, listener: Callable[[frozenset[bytes]], None]) -> None:
        """Call ``listener`` after every commit with the exchanges that were touched in it."""
        self._database.on_commit(listener)

    def unreceipted(self) -> list[bytes]:
        """Exchanges that count as accepted here, or were acknowledged, and of which there is no receipt."""
        query = (
            "SELECT exchange FROM outgoing WHERE released IS NOT NULL UNION SELECT exchange FROM incoming"
            " EXCEPT SELECT exchange FROM receipt"
        )
        return [exchange for (exchange,) in self._database.rows(query)]

    def backlog(self) -> Backlog:
        """What waits for others. Raises `Refused` (unavailable.store)."""
        return backlog(self._database)

    def erase_overdue(self, now: int) -> int:
        """Erase what was to be kept until ``now`` (Unix s) and no longer; the number of records and openings erased.

        Receipts, signatures and hashes stay: they tell that there was an exchange, not what was in it.
        """
        with self.transaction():
            return self.records.erase(now) + self.incoming.erase(now) + self.trust.erase_epochs(now)

    def leave_no_trace(self) -> bool:
        """Empty the write-ahead log: what was erased is in no file any more. False while another process reads.

        Raises `Refused` (unavailable.store).
        """
        return self._database.truncate_log()

    def close(self) -> None:
        self._database.close()
