"""What a node remembers: one SQLite file, and the only place of the clients that knows a database (DESIGN section 8).

Each part states its own duties. Writing outside of ``with store.transaction():`` is refused; when that block ends
without an error, what it wrote survives a crash of process and machine (WAL, ``synchronous=FULL``). What could tell
something about a patient is kept only wrapped under the node's storage key.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

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
from clients.store.rewrapping import rewrap
from clients.store.trust import Trust
from clients.store.vault import Vault

__all__ = [
    "Evidence", "Incoming", "Insured", "InsuredPersons", "Job", "Jobs", "Mandate", "Outgoing", "Pseudonyms", "Receipt",
    "Receipts", "Records", "Sent", "Store", "Stored", "Trust",
]  # fmt: skip


class Store:
    """The parts of a node's memory over one connection; used on the event loop's thread only."""

    def __init__(self, path: Path, vault: Vault) -> None:
        """Open or make the file, 0600. Raises `Refused` (unavailable.store)."""
        self._database = Database(path)
        self.records = Records(self._database, vault)
        self.outgoing = Outgoing(self._database, vault)
        self.incoming = Incoming(self._database, vault)
        self.receipts = Receipts(self._database)
        self.trust = Trust(self._database, vault)
        self.pseudonyms = Pseudonyms(self._database, vault)
        self.insured = InsuredPersons(self._database, vault)
        self.jobs = Jobs(self._database, vault)

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

    def rewrap(self, vault: Vault) -> int:
        """Wrap everything anew under the ``vault``'s current key, durable when it returns; how many values.

        Raises `Refused` (unavailable.store), `NotAuthentic` (leaf.open): then nothing was changed.
        """
        with self.transaction():
            return rewrap(self._database, vault)

    def close(self) -> None:
        self._database.close()
