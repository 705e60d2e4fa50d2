"""An insurer's insured persons, found by pseudonym: keyed names outside, the policy wrapped (DESIGN 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from clients.store.database import Database
from clients.store.vault import Vault, row


@dataclass(frozen=True, slots=True)
class Insured:
    """``person`` is a 32-byte name that tells nobody else who it is; ``policy`` is the insurer's own (CBOR)."""

    person: bytes
    policy: bytes = field(repr=False)


class InsuredPersons:
    """The book. ``name`` below is the keyed name of a pseudonym under its epoch, 32 bytes."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def put(self, one: Insured) -> None:
        """Take a person in, or give her another policy."""
        wrapped = self._vault.wrap(row("insured", one.person), one.policy)
        self._database.write(
            "INSERT INTO insured VALUES (?, ?) ON CONFLICT (person) DO UPDATE SET policy = excluded.policy",
            one.person, wrapped,
        )  # fmt: skip

    def link(self, epoch: int, name: bytes, person: bytes) -> None:
        """This pseudonym is this person, from now on."""
        self._database.write("INSERT OR REPLACE INTO insured_name VALUES (?, ?, ?)", epoch, name, person)

    def find(self, epoch: int, name: bytes) -> Insured | None:
        """Who is called so. Raises `NotAuthentic` (leaf.open) where the row was tampered with."""
        found = self._database.row(
            "SELECT person, policy FROM insured_name JOIN insured USING (person) WHERE epoch = ? AND name = ?",
            epoch, name,
        )  # fmt: skip
        return Insured(found[0], self._vault.unwrap(row("insured", found[0]), found[1])) if found else None

    def get(self, person: bytes) -> Insured | None:
        """A person of the book. Raises `NotAuthentic` (leaf.open) where the row was tampered with."""
        found = self._database.row("SELECT person, policy FROM insured WHERE person = ?", person)
        return Insured(found[0], self._vault.unwrap(row("insured", found[0]), found[1])) if found else None

    def is_linked(self, epoch: int, person: bytes) -> bool:
        """Whether the person was evaluated under this epoch."""
        query = "SELECT 1 FROM insured_name WHERE epoch = ? AND person = ?"
        return self._database.row(query, epoch, person) is not None

    def keep_only(self, persons: Iterable[bytes]) -> int:
        """Strike every other person from the book; how many there were."""
        self._database.write("CREATE TEMP TABLE IF NOT EXISTS kept (person BLOB PRIMARY KEY)")
        self._database.write("DELETE FROM kept")
        for person in persons:
            self._database.write("INSERT OR IGNORE INTO kept VALUES (?)", person)
        self._database.write("DELETE FROM insured_name WHERE person NOT IN (SELECT person FROM kept)")
        return self._database.write("DELETE FROM insured WHERE person NOT IN (SELECT person FROM kept)")

    def forget(self, epoch: int) -> int:
        """Drop the names under an epoch whose key is over; how many there were."""
        return self._database.write("DELETE FROM insured_name WHERE epoch = ?", epoch)

    def count(self) -> tuple[int, dict[int, int]]:
        """How many persons there are, and how many of them are linked under each epoch."""
        (persons,) = self._database.rows("SELECT count(*) FROM insured")[0]
        linked = self._database.rows("SELECT epoch, count(*) FROM insured_name GROUP BY epoch ORDER BY epoch")
        return persons, {epoch: number for epoch, number in linked}  # noqa: C416
