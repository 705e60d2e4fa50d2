"""The insurer's book: who is insured under which policy, found by the pseudonym that a claim carries (DESIGN 4.5).

It is built from the insurer's own list of persons: each number is blinded, evaluated under the insurer's key, and
linked. On disk are keyed names and wrapped policies; the list itself is not kept.
"""

from __future__ import annotations

import csv
import hmac
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from clients import naming
from clients.insurer import product as products
from clients.insurer.product import Product
from clients.store import Insured, Store
from zhifu import cbor, money, pseudonym
from zhifu.errors import Malformed, NotAuthentic
from zhifu.voprf import MAX_BATCH

COLUMNS: Final = ("cert_type", "cert_no", "policy", "product", "sum_insured", "deductible")
"""The first line of a list. ``sum_insured`` and ``deductible`` are yuan with two places; empty: the product's.

An empty ``product`` is the one that the insurer's node serves.
"""
MAX_BYTES: Final = 1 << 30
_MAX_POLICY: Final = 1024


class Service(Protocol):
    """What is needed of the pseudonym service (`clients.pseudonym_service`)."""

    async def keys(self, recipient: bytes) -> dict[int, bytes]: ...

    async def evaluate(self, recipient: bytes, epoch: int, identifiers: Sequence[bytes]) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """One person's policy: its number, its product ("" is the node's own), and what differs from it, in fen."""

    number: str
    product: str
    sum_insured: int | None = None
    deductible: int | None = None

    def terms(self, own: Product) -> Product:
        """The product with this policy's own sums. Raises `Malformed` (usage.argument) for a product that is gone."""
        found = products.load(self.product) if self.product else own
        return replace(
            found,
            sum_insured=found.sum_insured if self.sum_insured is None else self.sum_insured,
            deductible=found.deductible if self.deductible is None else self.deductible,
        )

    def to_bytes(self) -> bytes:
        return cbor.encode([1, self.number, self.product, self.sum_insured, self.deductible])

    @staticmethod
    def from_bytes(data: bytes) -> Policy:
        _, *rest = cbor.array(data, _MAX_POLICY, 5)
        return Policy(*rest)


@dataclass(frozen=True, slots=True)
class Row:
    """One person of a list; ``identifier`` is the VOPRF's input."""

    identifier: bytes = field(repr=False)
    policy: Policy


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: persons in the book, evaluations asked for, persons struck; epochs it links under."""

    persons: int
    evaluated: int
    struck: int
    epochs: tuple[int, ...]


class Book:
    """The insured persons of one node. Lookups join the transaction that is open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, by_epoch: Mapping[int, bytes]) -> Insured | None:
        """The person that a capsule's pseudonyms name, under whichever epoch she is linked.

        Raises `NotAuthentic` (pseudonym.changed) where two of them name different persons.
        """
        found = [one for one in (self._store.insured.find(e, self._name(e, p)) for e, p in by_epoch.items()) if one]
        if any(not hmac.compare_digest(one.person, found[0].person) for one in found[1:]):
            raise NotAuthentic("pseudonym.changed", "two epochs name two persons")
        return found[0] if found else None

    async def build(
        self, rows: Sequence[Row], me: bytes, service: Service, *, add: bool, progress: Callable[[int, int], None]
    ) -> Built:
        """Take in the persons of a list, and link each under every announced epoch; durable batch by batch.

        Who is linked already is not evaluated again, so a build that was interrupted goes on where it was. Unless
        ``add``, who is not in the list leaves the book. ``progress`` is told (done, to do), in evaluations.
        Raises `Refused` (pseudonym.quota, pseudonym.epoch, unavailable.*), `NotAuthentic` (pseudonym.*).
        """
        persons = {self._person(row.identifier): row for row in rows}
        with self._store.transaction():
            for person, row in persons.items():
                self._store.insured.put(Insured(person, row.policy.to_bytes()))
            struck = 0 if add else self._store.insured.keep_only(persons)
        epochs = tuple(sorted(await service.keys(me)))
        missing = [(e, p) for e in epochs for p in persons if not self._store.insured.is_linked(e, p)]
        done = 0
        for epoch, batch in _batches(missing):
            evaluated = await service.evaluate(me, epoch, [persons[person].identifier for person in batch])
            with self._store.transaction():
                for person, found in zip(batch, evaluated, strict=True):
                    self._store.insured.link(epoch, self._name(epoch, found), person)
            done += len(batch)
            progress(done, len(missing))
        return Built(self._store.insured.count()[0], done, struck, epochs)

    def _person(self, identifier: bytes) -> bytes:
        return naming.name(self._store, "insured", identifier.hex())

    def _name(self, epoch: int, found: bytes) -> bytes:
        return naming.name(self._store, "pseudonym", str(epoch), found.hex())


def _batches(missing: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    by_epoch: dict[int, list[bytes]] = {}
    for epoch, person in missing:
        by_epoch.setdefault(epoch, []).append(person)
    for epoch, persons in by_epoch.items():
        for at in range(0, len(persons), MAX_BATCH):
            yield epoch, persons[at : at + MAX_BATCH]


def read(content: bytes) -> list[Row]:
    """A list of insured persons, CSV in UTF-8 with `COLUMNS`.

    Raises `Malformed` (usage.file) with the line that is wrong, never with what stands there.
    """
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Malformed("usage.file", "not a CSV file in UTF-8") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise Malformed("usage.file", f"the first line must be {','.join(COLUMNS)}")
    found: list[Row] = []
    persons: set[bytes] = set()
    for number, line in enumerate(lines[1:], start=2):
        row = _row(line, number)
        if row.identifier in persons:
            raise Malformed("usage.file", f"line {number}: the person stands there twice")
        persons.add(row.identifier)
        found.append(row)
    return found


def _row(line: list[str], number: int) -> Row:
    if len(line) != len(COLUMNS):
        raise Malformed("usage.file", f"line {number}: not {len(COLUMNS)} columns")
    kind, person, policy, product, insured, deductible = (cell.strip() for cell in line)
    if not 1 <= len(policy) <= 64:
        raise Malformed("usage.file", f"line {number}: policy is a text of 1 to 64 characters")
    try:
        identifier = pseudonym.identifier(kind, person)
        chosen = products.load(product).name if product else ""
    except Malformed as error:
        raise Malformed("usage.file", f"line {number}: {error.detail}") from None
    sums = [_fen(text, name, number) for text, name in ((insured, "sum_insured"), (deductible, "deductible"))]
    return Row(identifier, Policy(policy, chosen, *sums))


def _fen(text: str, name: str, number: int) -> int | None:
    if not text:
        return None
    found = money.fen(text)
    if found is None or found < 0:
        raise Malformed("usage.file", f"line {number}: {name} must be yuan with two places, not negative")
    return found
