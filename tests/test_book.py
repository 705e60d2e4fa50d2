"""The insurer's book: built in bulk with the service's proof, found by pseudonym, linked again after a rotation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from clients.hospital.pseudonym import Pseudonyms
from clients.hospital.sample import sample_bill
from clients.insurer import book as books
from clients.insurer import product as products
from clients.insurer.book import Book, Policy
from clients.store import Insured
from tests import pseudonym_rig
from tests.formats import seed
from tests.pseudonym_rig import World, citizen
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.voprf import MAX_BATCH

HEAD = ",".join(books.COLUMNS[: books.LEAST_COLUMNS])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[World]:
    async with pseudonym_rig.world(tmp_path, "hospital", "insurer") as found:
        for name in ("hospital", "insurer"):
            await found[name].service.refresh()
        yield found


def rows(*numbers: int) -> list[books.Row]:
    lines = [f"01,{citizen(number)},P{number},,," for number in numbers]
    return books.read("\n".join([HEAD, *lines, ""]).encode())


async def build(house: World, *numbers: int, add: bool = False) -> tuple[books.Built, list[tuple[int, int]]]:
    insurer, told = house["insurer"], list[tuple[int, int]]()
    built = await Book(insurer.store).build(
        rows(*numbers), insurer.id, insurer.service, add=add, progress=lambda done, whole: told.append((done, whole))
    )
    return built, told


def bill(number: int) -> Bill:
    """A bill of that person."""
    found = bills.parse(sample_bill(1))
    return replace(found, setlinfo=replace(found.setlinfo, psn_cert_type="01", certno=citizen(number)))


async def called(house: World, number: int, subject: str = "") -> dict[int, bytes]:
    """What the hospital's capsule calls that person."""
    hospital = house["hospital"]
    own = Pseudonyms(hospital.store, hospital.service)
    return await own.of(house["insurer"].id, seed(subject or f"subject {number}"), bill(number))


def policy(found: Insured | None) -> str | None:
    return None if found is None else Policy.from_bytes(found.policy).number


async def test_the_insured_person_is_found_by_what_the_hospital_calls_her(house: World) -> None:
    await house["insurer"].service.raise_quota(house.quota(300))
    built, told = await build(house, *range(MAX_BATCH + 3))
    assert (built.persons, built.evaluated, built.struck, built.epochs) == (MAX_BATCH + 3, MAX_BATCH + 3, 0, (1,))
    assert told == [(MAX_BATCH, MAX_BATCH + 3), (MAX_BATCH + 3, MAX_BATCH + 3)]
    book = Book(house["insurer"].store)
    assert policy(book.find(await called(house, 7))) == "P7"
    assert book.find(await called(house, 700)) is None
    stored = house["insurer"].settings.database.read_bytes()
    assert citizen(7).encode() not in stored
    assert b"P7\x00" not in stored


async def test_who_is_linked_is_not_evaluated_again(house: World) -> None:
    await house["insurer"].service.raise_quota(house.quota(5))
    assert (await build(house, 1, 2, 3))[0].evaluated == 3
    assert (await build(house, 1, 2, 3, 4))[0].evaluated == 1
    assert (await build(house, 5, add=True))[0].persons == 5
    built, _ = await build(house, 1, 2)
    assert (built.persons, built.evaluated, built.struck) == (2, 0, 3)
    assert Book(house["insurer"].store).find(await called(house, 3)) is None


async def test_a_build_that_the_quota_stopped_goes_on(house: World) -> None:
    persons = range(MAX_BATCH + 2)
    await house["insurer"].service.raise_quota(house.quota(MAX_BATCH))
    with pytest.raises(Refused, match=r"pseudonym\.quota"):
        await build(house, *persons)
    await house["insurer"].service.raise_quota(house.quota(MAX_BATCH + 2, at=pseudonym_rig.now() + 1))
    assert (await build(house, *persons))[0].evaluated == 2


async def test_a_rotation_links_both_sides_again(house: World) -> None:
    hospital, insurer = house["hospital"], house["insurer"]
    await insurer.service.raise_quota(house.quota(3))
    await build(house, 1, 2, 3)
    assert list(await called(house, 1)) == [1]
    # Two keys stand: each side links under the new one, and either is enough to find her.
    house.keys.rotate(insurer.id)
    for side in (insurer, hospital):
        await side.service.refresh()
    await insurer.service.raise_quota(house.quota(3, epoch=2))
    built, _ = await build(house, 1, 2, 3)
    assert (built.evaluated, built.epochs) == (3, (1, 2))
    both, book = await called(house, 1), Book(insurer.store)
    assert list(both) == [1, 2]
    assert [policy(book.find({epoch: one})) for epoch, one in both.items()] == ["P1", "P1"]
    # The old key goes, and with it its links.
    house.keys.retire(insurer.id, 1)
    for side in (insurer, hospital):
        await side.service.refresh()
    with insurer.store.transaction():
        assert insurer.store.insured.forget(1) == 3
    after = await called(house, 1)
    assert list(after) == [2]
    assert policy(book.find(after)) == "P1"
    assert book.find({1: both[1]}) is None


async def test_two_epochs_that_name_two_persons_are_refused(house: World) -> None:
    insurer = house["insurer"]
    await insurer.service.raise_quota(house.quota(2))
    house.keys.rotate(insurer.id)
    await insurer.service.refresh()
    await insurer.service.raise_quota(house.quota(2, epoch=2))
    await build(house, 1, 2)
    await house["hospital"].service.refresh()
    one, other = await called(house, 1), await called(house, 2)
    with pytest.raises(NotAuthentic, match=r"pseudonym\.changed"):
        Book(insurer.store).find({1: one[1], 2: other[2]})


def test_a_policys_own_sums_replace_the_products() -> None:
    (row,) = books.read(f"{','.join(books.COLUMNS[:6])}\n01,{citizen(1)},P1,,1000.00,5.50\n".encode())
    terms = row.policy.terms(products.load("full"))
    assert (terms.sum_insured, terms.deductible) == (100_000, 550)
    assert Policy.from_bytes(row.policy.to_bytes()) == row.policy


@pytest.mark.parametrize(
    "content",
    [
        b"\xff", b"", b"a,b\n", f"{HEAD}\n01,{citizen(1)},P1,,\n".encode(), f"{HEAD}\n01,{citizen(1)},,,,\n".encode(),
        f"{HEAD}\n01,123,P1,,,\n".encode(), f"{HEAD}\n01,{citizen(1)},P1,,-1.00,\n".encode(),
        f"{HEAD}\n01,{citizen(1)},P1,no-such,,\n".encode(),
        f"{HEAD}\n01,{citizen(1)},P1,,,\n01,{citizen(1)},P2,,,\n".encode(),
    ],
)  # fmt: skip
def test_a_list_is_read_strictly_and_nothing_of_it_is_told(content: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        books.read(content)
    assert caught.value.reason == "usage.file"
    assert citizen(1) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{','.join(books.COLUMNS[:6])}\n".encode(), "names nobody"),
        (f"{','.join(books.COLUMNS[:6])}\n".encode() + "01,x,保单,,,\n".encode("gb18030"), "line 2: not UTF-8"),
        (f'{HEAD}\n01,{citizen(1)},"P\n1",,,\n01,x\n'.encode(), "line 4: not"),
        (f'{HEAD}\n01,{citizen(1)},"P'.encode(), "line 2: not CSV"),
    ],
)
def test_a_list_that_is_cut_short_or_of_another_program_names_its_line(content: bytes, told: str) -> None:
    with pytest.raises(Malformed, match=told):
        books.read(content)
