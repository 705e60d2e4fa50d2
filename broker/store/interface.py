"""What a store must do, whichever database is behind it (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from sqlmodel import SQLModel

T = TypeVar("T", bound=SQLModel)
DIRECTORY: Final = bytes(32)
"""Told to other brokers on the database in place of a node: someone's keys or standing changed."""


class Reader(Protocol):
    """Reads of committed state (on a `Transaction`: of what it wrote as well).

    Numbers are signed and have 64 bits; every method raises `Malformed` (malformed.field) for one that has more, and
    `Refused` (unavailable.store) when the database cannot be read or written.
    """

    def get(self, table: type[T], *key: object) -> T | None:
        """The row with this primary key."""

    def find(self, table: type[T], *, limit: int = 1_000_000, after: object = None, **equal: object) -> list[T]:
        """Rows whose columns equal the given values, ascending by primary key, at most ``limit``.

        A tuple stands for any of its values, of one type; there may be none, and then there are no rows.
        ``after`` continues behind a value of the primary key's last column, those before it being among ``equal``.
        """

    def keys(
        self, table: type[SQLModel], *, limit: int = 1_000_000, after: object = None, **equal: object
    ) -> list[Any]:
        """As `find`, but only the primary key of each row, which is one column: what else it holds is not read."""

    def scan(self, table: type[T]) -> Iterator[T]:
        """Every row, ascending by primary key, without holding them all in memory."""

    def overdue(self, now: int) -> list[int]:
        """Entries of at most 1,024 deliveries whose presentation ended before ``now`` (Unix s), by when it ended."""

    def waiting(self) -> list[tuple[bytes, int, int]]:
        """Of every recipient that deliveries wait for: its id, how many, and the oldest one's entry.

        Counts rows: not for the event loop.
        """

    def nodes(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Hashes of tree nodes ``(level, index)``, in the order asked.

        Raises `NotAuthentic` (log.corrupt) if one is missing.
        """

    def row(self, level: int, first: int, most: int) -> list[bytes]:
        """Hashes of at most ``most`` stored nodes of a level, from index ``first`` up to the first that is missing."""


class Transaction(Reader, Protocol):
    """The one writing transaction. Nothing of it is visible to others, or durable, before `Store.commit` returns."""

    def mark(self) -> None:
        """Remember this point of the transaction; the point before is forgotten."""

    def rewind(self) -> None:
        """Take back what was written since `mark`."""

    def insert(self, table: type[SQLModel], rows: Sequence[Any]) -> None:
        """Insert rows given as column values in the table's order. Raises `Conflict` on a key that exists."""

    def update(self, table: type[SQLModel], changes: dict[str, object], **equal: object) -> int:
        """Change the rows whose columns equal the given values, or any of a tuple; how many there were."""

    def use(self, grant_hash: bytes) -> bool:
        """Count one more use of a grant; False, and nothing is counted, if it has none left or is unknown."""

    def delete(self, table: type[SQLModel], **equal: object) -> int:
        """Delete the rows whose columns equal the given values, or any of a tuple; how many there were."""

    def delete_through(self, table: type[SQLModel], key: int, **equal: object) -> int:
        """Delete the rows up to and including a primary key whose columns equal the given values; how many."""


class Conflict(Exception):
    """A row with that key exists; what was written since the last mark must be taken back."""


class Store(Protocol):
    """A database. One transaction is open at a time, of all brokers on it; readers see committed rows only."""

    @property
    def reader(self) -> Reader:
        """Committed rows only, whatever the writing transaction does."""

    async def turn(self) -> Transaction:
        """Start the writing transaction as soon as no other broker writes, without holding up the event loop.

        Raises `Refused` (unavailable.store).
        """

    def clock_ms(self) -> int:
        """Unix ms, by one clock for all brokers on it, as far as it was heard of; never waits or raises."""

    def begin(self) -> Transaction:
        """The same for a caller that may wait. Raises `Refused` (unavailable.store)."""

    def commit(self) -> None:
        """Make it durable: after return the rows survive a power loss. May be called in another thread.

        Raises `Refused` (unavailable.store); the rows may be there or not, and the caller must look.
        """

    def rollback(self) -> None:
        """Forget the transaction. Never raises."""

    def forget(self) -> None:
        """See that what committed transactions overwrote is on no page and in no log of the database any more.

        As far as others let it: whoever reads an older state keeps it until then. Never raises.
        """

    def close(self) -> None:
        """Close every connection. Never raises."""


class Reserve(Protocol):
    """Room that is kept for what must still be written when the disk is full: acknowledgements, revocations, the log.

    It is released when there is no other room, and only what ends work is committed until there is enough again. New
    work is refused as what it is, with a time to come again, and not as an error of the store half-way through.
    """

    def look(self, lacking: bool) -> bool:
        """Release it where the disk is full, make it where there is room; whether there is too little room now.

        ``lacking``: since the last look something could not be written for want of room. It may wait for the disk or
        the database: not on an event loop. Never raises.
        """

    def close(self) -> None:
        """This broker looks no more."""
