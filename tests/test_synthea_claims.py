"""Claims that nobody here wrote, through the quick claim: offered, filed, decided or queued with a reason."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from clients.hospital.sample import sample_bill
from clients.insurer import review
from clients.patient import claim_cli, claims, wallet
from tests.house import PATIENCE_S, House, Patient, open_house, run, until
from zhifu.identifiers import checks

DATA: Final = Path(__file__).parents[1] / ".." / "shared" / "data" / "fhir" / "synthea-claims"
KINDS: Final = ("Claim", "Patient", "Encounter", "Condition", "Organization", "Coverage")
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the public claims are not on this computer")


class Files:
    """The resources by reference, and each claim as a Bundle of what it leads to."""

    def __init__(self) -> None:
        self.rows = {
            f"urn:uuid:{row['id']}": row
            for kind in KINDS
            for row in map(json.loads, (DATA / f"{kind}.ndjson").read_text("utf-8").splitlines())
        }
        self.claims = [row for row in self.rows.values() if row["resourceType"] == "Claim"]

    def bundle(self, claim: dict[str, Any]) -> bytes:
        found: dict[str, dict[str, Any]] = {}
        waiting = [f"urn:uuid:{claim['id']}"]
        while waiting:
            name = waiting.pop()
            row = self.rows.get(name)
            if row is not None and name not in found and (not found or row["resourceType"] != "Claim"):
                found[name] = row
                waiting += references(row)
        return json.dumps(
            {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"fullUrl": name, "resource": one} for name, one in found.items()],
            }
        ).encode()

    def identify(self, patients: list[str]) -> dict[str, str]:
        """What a hospital knows and Synthea does not: a citizen ID that passes its check and belongs to nobody."""
        numbers = {}
        for place, name in enumerate(patients):
            body = f"999999{self.rows[name]['birthDate'].replace('-', '')}{place:03d}"
            numbers[name] = body + checks.citizen_check_digit(body)
            given = {"system": "urn:zhifu:national:certno", "value": numbers[name]}
            self.rows[name]["identifier"] = [*self.rows[name].get("identifier", ()), given]
        return numbers


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    if isinstance(value, dict):
        own = [str(value["reference"])] if isinstance(value.get("reference"), str) else []
        return own + [found for one in value.values() for found in references(one)]
    return []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("synthea")) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the claims: holdings by their state, and in the queue how often each reason stands there."""

    ledger: Counter[str]
    queued: int
    reasons: Counter[str]


def through(house: House, count: int, seed: int) -> Ended:
    """Offer, file, decide: every claim of the sample ends in the ledger, or in the queue with reason and deadline."""
    files = Files()
    chosen = Random(seed).sample(files.claims, count)
    numbers = files.identify(sorted({one["patient"]["reference"] for one in chosen}))
    patients = {name: enrolled(house, name, number) for name, number in numbers.items()}
    for claim in chosen:
        bill = house.file("claim.json", files.bundle(claim))
        made = run("hospital", "paid", house.path / "hospital", "--bill", bill, "--json").ok().json
        assert len(made) == 1, "each claim is offered to its own patient, once"
    patience = PATIENCE_S + count
    filed = sum(file_all(patient, patience) for patient in patients.values())
    assert filed == count

    def decided() -> bool:
        with house.store("insurer") as store:
            return len(review.find(store, review.OPEN)) + len(house.holdings("insurer")) == count

    until(decided, "every claim reaches the insurer", patience)
    with house.store("insurer") as store:
        queue = review.find(store, review.OPEN)
    assert all(item.reasons and item.deadline > item.since for item in queue)
    assert queue, "a claim in dollars has no rule here"
    assert house.running["hospital"].process.poll() is None
    assert house.running["insurer"].process.poll() is None
    until(lambda: all(told(patient) for patient in patients.values()), "the patients hear of it", patience)
    reasons = Counter(reason for item in queue for reason in item.reasons)
    return Ended(Counter(one.state for one in house.holdings("insurer")), len(queue), reasons)


def enrolled(house: House, name: str, number: str) -> Patient:
    """The patient of a national sample bill with this citizen ID: the desk knows her by it."""
    document = json.loads(sample_bill(1))
    document["setlinfo"] |= {"certno": number, "brdy": f"{number[6:10]}-{number[10:12]}-{number[12:14]}"}
    return house.enrol(json.dumps(document, ensure_ascii=False).encode(), name=name.rpartition(":")[2])


def file_all(patient: Patient, patience: float) -> int:
    """Every offer that reaches this wallet, filed; until no more come."""
    filed = 0
    opened = wallet.load(patient.wallet)

    def next_ones() -> list[claims.Claim]:
        claim_cli.collect(opened, int(time.time()))
        return [one for one in claims.listed(opened, int(time.time())) if one.state == "offered"]

    while found := next_ones() or (until(next_ones, "an offer", patience) if not filed else []):
        for one in found:
            asyncio.run(claims.file(opened, one, int(time.time())))
            filed += 1
    return filed


def told(patient: Patient) -> bool:
    opened = wallet.load(patient.wallet)
    claim_cli.collect(opened, int(time.time()))
    return all(one.state in ("review", "decided", "paid") for one in claims.listed(opened, int(time.time())))


def test_a_slice_of_them_runs_through_the_nodes(house: House) -> None:
    through(house, 6, seed=20261128)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_500_of_them_run_through_the_nodes(tmp_path: Path) -> None:
    begun = time.monotonic()
    with open_house(tmp_path) as found:
        print(through(found, 500, seed=1), f"in {time.monotonic() - begun:.0f} s")
