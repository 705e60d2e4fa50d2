"""The insurer's book: who is insured under which policy, found by the pseudonym that a claim carries (DESIGN 4.5).

It is built from the insurer's own list of persons: each number is blinded, evaluated under the insurer's key, and
linked. On disk are keyed names and wrapped policies; the list itself is not kept.
"""

from __future__ import annotations

import csv
import hmac
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Protocol

from clients import naming
from clients.insurer import product as products
from clients.insurer.cover import OPEN, Cover, Range
from clients.insurer.product import Product
from clients.store import Insured, Store
from zhifu import cbor, money, pseudonym
from zhifu.errors import Malformed, NotAuthentic
from zhifu.voprf import MAX_BATCH

COLUMNS: Final = (
    "cert_type", "cert_no", "policy", "product", "sum_insured", "deductible", "begin", "end", "renewal", "pre_existing"
)  # fmt: skip
"""The first line of a list; it may end after ``deductible``.

``sum_insured`` and ``deductible`` are yuan with two places; empty: the product's. An empty ``product`` is the one that
the insurer's node serves. ``begin`` and ``end`` are dates, both included; ``renewal`` is 1 where no waiting period is
due; ``pre_existing`` are ranges of ICD-10 categories, A00-B99, with a semicolon between them.
"""
LEAST_COLUMNS: Final = 6
MAX_BYTES: Final = 1 << 30
_MAX_POLICY: Final = 4096


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
    cover: Cover = OPEN

    def terms(self, own: Product) -> Product:
        """The product with this policy's own sums. Raises `Malformed` (usage.argument) for a product that is gone."""
        found = products.load(self.product) if self.product else own
        return found.with_sums(self.deductible, self.sum_insured)

    def to_bytes(self) -> bytes:
        """Strict CBOR; a policy that says nothing of its time is version 1."""
        sums = [self.number, self.product, self.sum_insured, self.deductible]
        if self.cover == OPEN:
            return cbor.encode([1, *sums])
        days = [day.isoformat() if day else None for day in (self.cover.begin, self.cover.end)]
        known = [f"{one.first}-{one.last}" for one in self.cover.existing]
        return cbor.encode([2, *sums, *days, self.cover.renewal, known])

    @staticmethod
    def from_bytes(data: bytes) -> Policy:
        version, *rest = cbor.decode(data, _MAX_POLICY)
        if version == 1:
            return Policy(*rest)
        number, product, insured, deductible, begin, end, renewal, known = rest
        first, last = (date.fromisoformat(day) if day else None for day in (begin, end))
        cover = Cover(first, last, renewal, tuple(Range.of(one) for one in known))
        return Policy(number, product, insured, deductible, cover)


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

    def by_identifier(self, identifier: bytes) -> Insured | None:
        """The person whom a report names by number: she says it herself, so that no pseudonym is needed."""
        return self._store.insured.get(self._person(identifier))

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
    lines = list(_lines(content))
    head = tuple(lines[0][1]) if lines else ()
    if len(head) < LEAST_COLUMNS or head != COLUMNS[: len(head)]:
        raise Malformed("usage.file", f"the first line must be {','.join(COLUMNS)}, or end after deductible")
    found: list[Row] = []
    persons: set[bytes] = set()
    for number, line in lines[1:]:
        row = _row(line, number, len(head))
        if row.identifier in persons:
            raise Malformed("usage.file", f"line {number}: the person stands there twice")
        persons.add(row.identifier)
        found.append(row)
    if not found:
        # Else a list that was cut short would strike everybody from the book.
        raise Malformed("usage.file", "the list names nobody")
    return found


def _lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows, each with the number of the line that it ends on. Raises `Malformed` (usage.file)."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise Malformed("usage.file", f"line {number}: not UTF-8; a spreadsheet saves it as CSV UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from ((reader.line_num, line) for line in reader)
    except csv.Error as error:
        raise Malformed("usage.file", f"line {reader.line_num}: not CSV") from error


def _row(line: list[str], number: int, columns: int) -> Row:
    if len(line) != columns:
        raise Malformed("usage.file", f"line {number}: not {columns} columns")
    cells = [cell.strip() for cell in line] + [""] * (len(COLUMNS) - columns)
    kind, person, policy, product, insured, deductible, *cover = cells
    if not 1 <= len(policy) <= 64:
        raise Malformed("usage.file", f"line {number}: policy is a text of 1 to 64 characters")
    try:
        identifier = pseudonym.identifier(kind, person)
        chosen = products.load(product).name if product else ""
        found = _cover(*cover)
    except Malformed as error:
        raise Malformed("usage.file", f"line {number}: {error.detail}") from None
    most, least = _fen(insured, "sum_insured", number), _fen(deductible, "deductible", number)
    return Row(identifier, Policy(policy, chosen, most, least, found))


def _cover(begin: str, end: str, renewal: str, known: str) -> Cover:
    try:
        first, last = (date.fromisoformat(day) if day else None for day in (begin, end))
    except ValueError:
        raise Malformed("usage.file", "begin and end are dates, YYYY-MM-DD") from None
    if renewal not in ("", "0", "1") or (first and last and last < first):
        raise Malformed("usage.file", "renewal is 0 or 1, and a policy ends after it began")
    return Cover(first, last, renewal == "1", tuple(Range.of(one.strip()) for one in known.split(";") if one.strip()))


def _fen(text: str, name: str, number: int) -> int | None:
    if not text:
        return None
    found = money.fen(text)
    if found is None or found < 0:
        raise Malformed("usage.file", f"line {number}: {name} must be yuan with two places, not negative")
    return found
