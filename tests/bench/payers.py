"""A settlement with a public payer and two insurers, idle: milliseconds from the bill to the last commitment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from clients.hospital.sample import sample_bill
from tests.house import House, open_house
from zhifu import bill as bills

SECOND: Final = "insurer-city"


def measure(folder: Path, count: int) -> list[int]:
    """``settlement_ms`` of ``count`` settlements, each for a patient of her own with two policies."""
    with open_house(folder, others={SECOND: "city-supplementary"}) as house:
        return [_one(house, seed) for seed in range(count)]


def _one(house: House, seed: int) -> int:
    bill = sample_bill(seed)
    head = bills.parse(bill).setlinfo
    consents = []
    for kind, insurer in (("medical", "insurer"), ("city-supplementary", SECOND)):
        house.cover(insurer, [f"{head.psn_cert_type},{head.certno},P{seed}-{kind},,,,,,,"])
        patient = house.enrol(bill, f"patient-{seed}-{kind}", insurer, insured=True)
        consents.append((kind, house.consent(patient, bill)))
    settled = house.finish(house.submit(bill, consents))
    assert settled["state"] == "confirmed", settled["reason"]
    return int(settled["settlement_ms"])
