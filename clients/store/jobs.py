"""Jobs: what a role must remember of its own (settlements, reservations, ledgers), in one durable table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from clients.store.database import Database, Row
from clients.store.vault import Vault, row
from zhifu.errors import Refused

HOLD: Final = "hold"
PLACED: Final = "placed"
HELD: Final = f"(SELECT id FROM job WHERE kind = '{HOLD}' AND state = '{PLACED}')"
"""What a legal hold stands on (`clients.holding`), for statements that erase."""
ALL: Final = -1
"""As a limit: none."""
_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class Job:
    """``kind`` and ``state`` are the role's own words; ``payload`` (strict CBOR or JSON) lies wrapped on the disk.

    ``kind``, ``id`` and ``state`` lie open: an id is a hash or random, never a person's number. ``updated`` is Unix ms.
    """

    kind: str
    id: bytes
    state: str
    payload: bytes = field(repr=False)
    updated: int


class Jobs:
    """Each change is durable with the transaction that it is part of, together with the exchange that caused it."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def put(self, job: Job) -> None:
        """Make a job, or replace it whole."""
        wrapped = self._vault.wrap(row("job", job.kind.encode(), job.id), job.payload)
        self._database.write(
            "INSERT INTO job VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, id)"
            " DO UPDATE SET state = excluded.state, payload = excluded.payload, updated = excluded.updated",
            job.kind, job.id, job.state, wrapped, job.updated,
        )  # fmt: skip

    def get(self, kind: str, id_: bytes) -> Job | None:
        """Raises `NotAuthentic` (leaf.open) where the row was tampered with."""
        found = self._database.row("SELECT * FROM job WHERE kind = ? AND id = ?", kind, id_)
        return self._job(found) if found else None

    def constant(self, kind: str, id_: bytes, draw: Callable[[], bytes]) -> bytes:
        """The payload of a job that is made once and never changes; where there is none, what ``draw`` makes.

        It is read once: asked for with every other row, it would cost as much as they do.
        """
        found = self._database.constants.get((kind, id_))
        if found is None:
            # In a transaction, so that of two processes only one draws it.
            with self._database.transaction(True):
                job = self.get(kind, id_)
                if job is None:
                    job = Job(kind, id_, "drawn", draw(), 0)
                    self.put(job)
            found = self._database.constants[kind, id_] = job.payload
        return found

    def need(self, kind: str, id_: bytes) -> Job:
        """Like `get`. Raises `Refused` (exchange.unknown)."""
        found = self.get(kind, id_)
        if found is None:
            raise Refused("exchange.unknown", f"no {kind} of this id")
        return found

    def find(self, kind: str, *states: str, limit: int = 1000) -> list[Job]:
        """Jobs of a kind, in one of ``states`` if any are given, the longest unchanged first."""
        chosen = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        query = f"SELECT * FROM job WHERE kind = ? {chosen} ORDER BY updated, id LIMIT ?"
        return [self._job(found) for found in self._database.rows(query, kind, *states, limit)]

    def newest(self, kind: str, state: str, limit: int) -> list[bytes]:
        """The ids of the jobs of a kind in ``state`` that changed last, the last one first."""
        query = "SELECT id FROM job WHERE kind = ? AND state = ? ORDER BY updated DESC, id DESC LIMIT ?"
        return [id_ for (id_,) in self._database.rows(query, kind, state, limit)]

    def states(self, kind: str, *states: str) -> list[tuple[bytes, str]]:
        """The id and state of every job of a kind in one of ``states``, unopened, the longest unchanged first."""
        chosen = ", ".join("?" * len(states))
        query = f"SELECT id, state FROM job WHERE kind = ? AND state IN ({chosen}) ORDER BY updated, id"
        return [(id_, state) for id_, state in self._database.rows(query, kind, *states)]

    def since(self, kind: str, state: str, updated: int) -> Iterator[Job]:
        """Those of a kind in ``state`` that changed at ``updated`` (Unix ms) or later, read a page at a time."""
        query = "SELECT * FROM job WHERE kind = ? AND state = ? AND (updated, id) > (?, ?) ORDER BY updated, id LIMIT ?"
        after = (updated, b"")
        while page := self._database.rows(query, kind, state, *after, _PAGE):
            after = page[-1][4], page[-1][1]
            yield from map(self._job, page)

    def every(self, kind: str) -> Iterator[Job]:
        """All of a kind, by id, read a page at a time."""
        query, after = "SELECT * FROM job WHERE kind = ? AND id > ? ORDER BY id LIMIT ?", b""
        while page := self._database.rows(query, kind, after, _PAGE):
            after = page[-1][1]
            yield from map(self._job, page)

    def erase(self, kind: str, id_: bytes) -> None:
        self._database.write("DELETE FROM job WHERE kind = ? AND id = ?", kind, id_)

    def _job(self, found: Row) -> Job:
        kind, id_, state, wrapped, updated = found
        return Job(kind, id_, state, self._vault.unwrap(row("job", kind.encode(), id_), wrapped), updated)
