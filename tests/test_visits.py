"""A visit is paid once, by each payer's own book: claimed twice, by two hospitals, in parts, and taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from clients.hospital.sample import sample_bill
from clients.reasons import ended
from tests.house import House, later, open_house, until
from tests.test_payers import queue

OTHER = "hospital-b"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("visits"), product="no-insurance-60", others={OTHER: ""}) as opened:
        yield opened


def bill(seed: int, months: int = 0, **head: str) -> bytes:
    """A bill of the seed's person, its stay moved on by ``months``, then with other words in its head."""
    document = json.loads(sample_bill(seed))
    later(document["setlinfo"], months)
    document["setlinfo"] |= head
    return json.dumps(document, ensure_ascii=False).encode()


def settle(house: House, content: bytes, hospital: str = "hospital") -> tuple[str, str]:
    """What a settlement with the public payer alone ends with."""
    found = house.finish(house.submit(content, [], hospital=hospital), hospital=hospital)
    return found["state"], found["reason"]


def paid(house: House) -> int:
    return sum(one.amounts["pay"] for one in house.holdings("public-payer") if one.state == "committed")


CONFIRMED = ("confirmed", "")
REPEATED = ("failed", "settlement.repeated")


def test_a_second_claim_of_a_visit_is_refused_and_the_first_stands(house: House) -> None:
    before = paid(house)
    assert settle(house, bill(801)) == CONFIRMED
    once = paid(house) - before
    # Its own system sends it in other bytes, and another bill of the visit with other numbers.
    assert settle(house, bill(801).replace(b'", "', b'",  "')) == REPEATED
    assert settle(house, bill(801, setl_id="JS2", invono="FP2", enddate="2026-09-20")) == REPEATED
    assert (paid(house) - before, once > 0) == (once, True)
    assert "医保不重复支付" in ended("settlement.repeated", "", "zh")


def test_what_is_held_counts_and_what_is_cancelled_or_taken_back_does_not(house: House) -> None:
    content, again = bill(802), bill(802, invono="FP2")
    held = house.submit(content, [], hold=True)
    until(lambda: house.look(held)["state"] == "reserved", "the split is held")
    assert settle(house, again) == REPEATED
    house.api("POST", f"/settlements/{held}/cancel", {})
    assert house.finish(held)["state"] == "cancelled"
    confirmed = house.submit(again, [])
    assert house.finish(confirmed)["state"] == "confirmed"
    assert settle(house, content) == REPEATED
    house.api("POST", f"/settlements/{confirmed}/refund", {})
    until(lambda: house.look(confirmed)["state"] == "reversed", "the settlement is taken back")
    assert settle(house, content) == CONFIRMED


def test_interim_bills_of_one_visit_follow_each_other(house: House) -> None:
    first = bill(803, enddate="2026-09-10")
    assert settle(house, first) == CONFIRMED
    assert settle(house, bill(803, begndate="2026-09-09")) == REPEATED
    assert settle(house, bill(803, begndate="2026-09-10")) == CONFIRMED


def test_another_hospital_cannot_claim_the_visit_nor_the_days(house: House) -> None:
    content = json.loads(bill(804))["setlinfo"]
    assert settle(house, bill(804)) == CONFIRMED
    spelled = content["mdtrt_id"][:4] + "-" + content["mdtrt_id"][4:].lower()
    assert settle(house, bill(804, mdtrt_id=spelled), OTHER) == REPEATED
    assert settle(house, bill(804, mdtrt_id="ZYB1"), OTHER) == REPEATED
    moved = {"mdtrt_id": "ZYB2", "begndate": content["enddate"], "enddate": "2026-10-20"}
    assert settle(house, bill(804, **moved), OTHER) == CONFIRMED, "transferred on the day of discharge"


def test_an_insurer_has_a_person_look_at_a_visit_again(house: House) -> None:
    content, again = bill(805), bill(805, invono="FP2")
    patient = house.enrol(content, "patient-805")
    assert claim(house, content, house.consent(patient, content))["commercial_fen"]
    assert reasons(house, again, house.consent(patient, again)) == ["review.visit_again"]
    later_part = bill(805, months=1)
    assert claim(house, later_part, house.consent(patient, later_part))["commercial_fen"]


def claim(house: House, content: bytes, consent: Any) -> dict[str, Any]:
    return house.finish(house.submit(content, [("medical", consent)], route="direct"))


def reasons(house: House, content: bytes, consent: Any) -> list[str]:
    """Why a reviewer has a claim that the desk waits for."""
    house.submit(content, [("medical", consent)], route="direct", patient=True)
    (queued,) = until(lambda: queue(house, "insurer"), "the claim is in the reviewer's queue")
    found: list[str] = queued["reasons"]
    return found
