"""The last settlements, and those of a number: found without reading the others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.hospital import case as cases
from clients.hospital import intake, listing
from clients.hospital.case import Case, QuickClaim
from clients.hospital.coordination import Compensation
from clients.hospital.openbill import head_of
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore
from clients.store import Store
from tests import plans

BEGUN = 1_790_000_000_000
QUICK = QuickClaim(bytes(32), bytes(32), 0, bytes(16), Compensation(), ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    plans.begin("node")
    opened = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    yield opened
    opened.close()
    plans.check("node", tmp_path / "node.db")


def bill(number: int, **numbers: str) -> bytes:
    document = json.loads(sample_bill(number))
    document["setlinfo"] |= numbers
    return json.dumps(document, ensure_ascii=False).encode()


def kept(store: Store, place: int, content: bytes, quick: QuickClaim | None = None, *, listed: bool = True) -> Case:
    """A case that was opened ``place`` seconds after `BEGUN`."""
    started = BEGUN + 1000 * place
    found = Case(place.to_bytes(16, "big"), "open", "direct", content, b"", b"", (), b"", started, quick=quick)
    with store.transaction():
        cases.put(store, found, started)
        if listed:
            listing.put(store, found, head_of(intake.open_bill(content)))
    return found


def numbers(content: bytes) -> tuple[str, str]:
    head = json.loads(content)["setlinfo"]
    return head["mdtrt_id"], head["invono"]


def test_the_last_come_first_and_claims_stand_apart(store: Store) -> None:
    made = [kept(store, place, sample_bill(1 + place), QUICK if place % 3 == 0 else None) for place in range(12)]
    settlements = [one.id for one in reversed(made) if one.quick is None]
    assert [one.id for one in listing.last(store, listing.SETTLEMENT, 5)] == settlements[:5]
    assert [one.id for one in listing.last(store, listing.SETTLEMENT, 50)] == settlements
    assert [one.id for one in listing.last(store, listing.CLAIM, 50)] == [made[place].id for place in (9, 6, 3, 0)]


def test_what_changed_since_keeps_its_place(store: Store) -> None:
    first, second = (kept(store, place, sample_bill(1 + place)) for place in (0, 1))
    with store.transaction():
        cases.put(store, first.with_wish("cancel"), BEGUN + 9_000_000)
    assert [one.id for one in listing.last(store, listing.SETTLEMENT, 5)] == [second.id, first.id]
    assert listing.last(store, listing.SETTLEMENT, 5)[1].desk.wish == "cancel"


def test_a_number_finds_its_settlements(store: Store) -> None:
    visit, invoice = numbers(sample_bill(1))
    one = kept(store, 0, sample_bill(1))
    interim = kept(store, 1, bill(2, mdtrt_id=visit))
    kept(store, 2, sample_bill(3))
    kept(store, 3, sample_bill(1), QUICK)
    assert [case.id for case in listing.numbered(store, visit, None, 50)] == [interim.id, one.id]
    assert [case.id for case in listing.numbered(store, visit, None, 1)] == [interim.id]
    assert [case.id for case in listing.numbered(store, None, invoice, 50)] == [one.id]
    assert [case.id for case in listing.numbered(store, visit, invoice, 50)] == [one.id]
    assert listing.numbered(store, visit, numbers(sample_bill(3))[1], 50) == []
    assert listing.numbered(store, "unheard-of", None, 50) == []
    assert listing.numbered(store, "", None, 50) == []


def test_others_are_not_read_for_it(store: Store, tmp_path: Path) -> None:
    made = [kept(store, place, sample_bill(1 + place)) for place in range(4)]
    with sqlite3.connect(tmp_path / "node.db") as own:
        own.execute("UPDATE job SET payload = x'00' WHERE kind = ? AND id <> ?", (cases.KIND, made[3].id))
    own.close()
    assert [one.id for one in listing.last(store, listing.SETTLEMENT, 1)] == [made[3].id]
    assert [one.id for one in listing.numbered(store, *numbers(sample_bill(4)), 9)] == [made[3].id]


def test_no_number_lies_open_on_the_disk(store: Store, tmp_path: Path) -> None:
    kept(store, 0, sample_bill(1))
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("node.db*"))
    assert not any(number.encode() in on_disk for number in numbers(sample_bill(1)))


def test_what_an_earlier_version_opened_is_listed_once(store: Store) -> None:
    old = [kept(store, place, sample_bill(1 + place), listed=False) for place in range(300)]
    new = kept(store, 400, sample_bill(401))
    listing.complete(store)
    listing.complete(store)
    assert [one.id for one in listing.last(store, listing.SETTLEMENT, 3)] == [new.id, old[299].id, old[298].id]
    assert len(listing.last(store, listing.SETTLEMENT, 999)) == 301
    assert [one.id for one in listing.numbered(store, *numbers(sample_bill(8)), 9)] == [old[7].id]
    assert [one.id for one in listing.numbered(store, *numbers(sample_bill(401)), 9)] == [new.id]
    kept(store, 500, sample_bill(501), listed=False)
    listing.complete(store)
    assert len(listing.last(store, listing.SETTLEMENT, 999)) == 301, "done once: every settlement is listed since"
