"""A claim after payment, by real processes: told at home, one tap, decided in time or compensated, adds up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from clients import daybook
from clients.hospital.sample import sample_bill
from clients.insurer import promise
from clients.keystore import FileKeystore
from tests.house import House, Patient, another_stay, open_house, run, until
from zhifu import bill as bills
from zhifu.daybook import verify

BILL = sample_bill(1)
VISIT = sample_bill(2, outpatient=True)


@dataclass(slots=True)
class Scene:
    house: House
    patient: Patient


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_house(tmp_path_factory.mktemp("quick")) as house:
        yield Scene(house, house.enrol(BILL))


def claims(patient: Patient, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run("wallet", "claims", patient.wallet, "--json", *more).ok().json
    return found


def the_claim(patient: Patient, state: str, of: str = "") -> dict[str, Any]:
    """The wallet's claim once it is in this state."""

    def look() -> dict[str, Any] | None:
        found = [one for one in claims(patient, "--lang", "en") if one["claim"].startswith(of)]
        return found[0] if found and found[0]["state"] == state else None

    return until(look, f"the claim is {state}")


def new_offer(patient: Patient) -> dict[str, Any]:
    return until(
        lambda: next((one for one in claims(patient) if one["state"] == "offered"), None), "the wallet is told"
    )


def reconciled(house: House, at: float | None = None) -> Any:
    day = daybook.day_of(int(at or time.time())).isoformat()
    words = [house.day("payer", "public-payer", day), house.day("insurer", "insurer", day)]
    return run("reconcile", house.path / "hospital", day, *words, "--json")


def test_the_rest_was_paid_and_one_tap_claims_it(scene: Scene) -> None:
    house, patient = scene.house, scene.patient
    settled = house.settle(BILL, None).ok().json
    assert (settled["state"], settled["patient_fen"]) == ("confirmed", 800_000)
    offered = the_claim(patient, "offered")
    assert (offered["total_fen"], offered["paid"]) == (2_000_000, {"public": 1_200_000, "patient": 800_000})
    assert "8,000.00" in offered["words"][0]
    run("hospital", "paid", house.path / "hospital", "--settlement", settled["settlement"]).ok()
    assert len(claims(patient)) == 1, "said again, it is the same offer"
    nobody = run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", sample_bill(2))).ok()
    assert (nobody.out, "zhifu hospital attest" in nobody.err) == ("0 offered\n", True), "and what is missing"
    whole = run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", BILL))
    assert (whole.code, f"settlement {settled['settlement']}" in whole.err) == (1, True), "she did not pay all of it"

    shown = run("wallet", "review", patient.wallet, offered["claim"], "--json", "--lang", "en").ok().json
    assert {one["unit"]: one["value"] for one in shown["units"]}["totals"], "she sees what the insurer will see"
    filed = run("wallet", "claim", patient.wallet, offered["claim"][:12], "--json").ok().json
    assert filed["state"] in ("filed", "decided", "paid")
    done = the_claim(patient, "paid")
    assert (done["pay_fen"], done["late_fen"]) == (800_000, None)
    assert [one["state"] for one in done["news"]] == ["decided", "paid"]
    assert any(sentence.startswith("Because: ") for sentence in done["words"])
    again = run("wallet", "claim", patient.wallet, offered["claim"])
    assert (again.code, "exchange.state" in again.err) == (1, True)

    (row,) = run("hospital", "claims", house.path / "hospital", "--json").ok().json
    assert (row["state"], row["commercial_fen"], row["patient_fen"]) == ("confirmed", 800_000, 0)
    (statement,) = run("wallet", "statement", patient.wallet, "--json").ok().json
    assert [(role, fen) for role, _, fen in statement["payments"]] == [
        ("public-payer", 1_200_000),
        ("insurer", 800_000),
        ("patient", 0),
    ]
    assert sum(one.amounts["pay"] for one in house.holdings("insurer") if one.state == "committed") == 800_000
    found = reconciled(house).ok().json
    assert found["differences"] == []


def test_a_reviewer_is_late_and_the_clock_stood_still(scene: Scene) -> None:
    """Five days pass in the store of the insurer: three promised, one waited for documents, so one whole day late."""
    house, patient = scene.house, scene.patient
    bill = another_stay(sample_bill(1))
    run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", bill)).ok()
    offered = new_offer(patient)
    assert offered["paid"] == {"patient": 2_000_000}, "without the public payer she paid all of it"
    name = offered["claim"]
    run("wallet", "claim", patient.wallet, name).ok()
    review = the_claim(patient, "review", name)
    assert review["due"] - review["news"][0]["at"] == 3 * 86_400
    (item,) = run("insurer", "queue", house.path / "insurer", "--json").ok().json
    assert (item["reasons"], item["deadline"]) == (["review.not_settled_publicly"], review["due"])

    run("insurer", "ask", house.path / "insurer", item["claim"], "--document", "出院小结").ok()
    waiting = the_claim(patient, "waiting", name)
    assert waiting["documents"] == ["出院小结"]
    twice = run("insurer", "ask", house.path / "insurer", item["claim"], "--document", "发票")
    assert twice.code == 1
    age(house, bytes.fromhex(item["claim"]), filed=5 * 86_400 + 60, waiting=86_400)
    run("insurer", "received", house.path / "insurer", item["claim"]).ok()
    the_claim(patient, "review", name)
    house.decide("insurer", item["claim"], "--proposed")
    done = the_claim(patient, "paid", name)
    assert (done["pay_fen"], done["late_fen"]) == (1_200_000, 2_000), "60 %, and one whole day at 20.00"
    assert any("20.00" in sentence for sentence in done["words"])
    held = {one.id.hex(): one for one in house.holdings("insurer")}[item["claim"]]
    assert (held.state, held.amounts["late"]) == ("committed", 2_000)
    assert reconciled(house).ok().json["differences"] == []
    day = daybook.day_of(int(time.time()))
    key = FileKeystore.load(house.cast.settings["insurer"].keys).signing.verify_key.encode()
    stated = verify(daybook.read(house.day("insurer", "insurer", day.isoformat())), key)
    assert {row.pay for row in stated.rows} == {800_000, 1_202_000}, "a reservation's row is all that is owed by it"


def test_a_statement_is_one_payers_own_of_a_day_that_was(scene: Scene) -> None:
    house, day = scene.house, daybook.day_of(int(time.time()))
    hospital, to = house.path / "hospital", ("--hospital", house.cast.ids["hospital"].hex(), "-o", house.path / "x.day")
    other = run("insurer", "statement", house.path / "public-payer", day, *to)
    assert (other.code, "no insurer's" in other.err) == (2, True)
    ahead = run("insurer", "statement", house.path / "insurer", day + timedelta(days=2), *to)
    assert (ahead.code, "has not begun" in ahead.err) == (2, True)
    one = house.day("insurer", "insurer", day.isoformat())
    twice = run("reconcile", hospital, day, one, one)
    assert (twice.code, "same payer" in twice.err) == (2, True), "its rows would be counted twice"
    bill = run("reconcile", hospital, day, house.file("bill.json", BILL))
    assert (bill.code, "bill.json is no statement" in bill.err) == (2, True)


def age(house: House, claim: bytes, *, filed: int, waiting: int) -> None:
    """As if the claim had been filed, and documents asked for, so many seconds earlier."""
    now = int(time.time())
    with house.store("insurer") as store, store.transaction():
        clock = promise.need(store, claim)
        promise.put(store, claim, promise.Promise(now - filed, clock.days, clock.rate, 0, now - waiting, 0), now)


def test_taken_back_before_it_left(scene: Scene) -> None:
    """She withdraws while the hospital's node is away: nothing reaches the insurer, and it is not paid."""
    house, patient = scene.house, scene.patient
    bill = another_stay(sample_bill(1))
    visit = bills.parse(bill).setlinfo.mdtrt_id
    run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", bill)).ok()
    offered = new_offer(patient)
    house.kill("hospital")
    filed = run("wallet", "claim", patient.wallet, offered["claim"], "--json").ok().json
    run("wallet", "revoke", patient.wallet, filed["grant"]).ok()
    before = len(house.holdings("insurer"))
    house.restart("hospital")

    def learned() -> Any:
        rows = run("hospital", "claims", house.path / "hospital", "--json").ok().json
        return next((one for one in rows if one["visit"] == visit and one["state"] == "failed"), None)

    assert until(learned, "the hospital learns it")["reason"].startswith("consent.")
    assert len(house.holdings("insurer")) == before


def refund(house: House, settlement: str) -> str:
    found = house.api("POST", f"/settlements/{settlement}/refund?wait=30", {})
    return str(found["state"])


def of_claim(house: House, claim: str) -> dict[str, Any]:
    """The hospital's own row of a claim after payment, by its settlement."""
    rows = run("hospital", "claims", house.path / "hospital", "--json").ok().json
    return next(one for one in rows if one["of"] == claim)


def test_a_refund_takes_the_claim_after_it_with_it(scene: Scene) -> None:
    """The patient is paid back at the desk: what an insurer paid her for the same rest is not hers."""
    house, patient = scene.house, scene.patient
    settled = house.settle(another_stay(sample_bill(1)), None).ok().json["settlement"]
    name = new_offer(patient)["claim"]
    run("wallet", "claim", patient.wallet, name).ok()
    assert the_claim(patient, "paid", name)["pay_fen"] == 800_000
    assert refund(house, settled) == "reversed"
    the_claim(patient, "reversed", name)
    assert until(lambda: of_claim(house, settled)["state"] == "reversed", "and the hospital knows")
    held = [one for one in house.holdings("insurer") if one.state == "reversed"]
    assert [one.amounts["pay"] for one in held] == [800_000]
    assert reconciled(house).ok().json["differences"] == []


def test_what_was_offered_of_a_refunded_bill_is_over(scene: Scene) -> None:
    house, patient = scene.house, scene.patient
    settled = house.settle(another_stay(sample_bill(1)), None).ok().json["settlement"]
    name = new_offer(patient)["claim"]
    assert refund(house, settled) == "reversed"
    assert of_claim(house, settled)["state"] == "lapsed"
    before, refused = len(house.holdings("insurer")), house.log("hospital").count("claim.not_filed")
    run("wallet", "claim", patient.wallet, name).ok()
    until(lambda: house.log("hospital").count("claim.not_filed") > refused, "the hospital refuses to file it")
    assert len(house.holdings("insurer")) == before


def test_a_bill_is_not_settled_beside_a_claim_after_payment(scene: Scene) -> None:
    """Its insurer decided as if nobody else paid."""
    house, patient = scene.house, scene.patient
    bill = another_stay(sample_bill(1))
    run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", bill)).ok()
    name = new_offer(patient)["claim"]
    run("wallet", "claim", patient.wallet, name).ok()
    the_claim(patient, "review", name)
    refused = house.settle(bill, None)
    assert (refused.code, "exchange.state" in refused.err, "after payment" in refused.err) == (1, True, True)


def test_what_was_only_offered_gives_way_to_a_settlement(scene: Scene) -> None:
    house, patient = scene.house, scene.patient
    bill = another_stay(sample_bill(1))
    run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", bill)).ok()
    new_offer(patient)
    whole = of_claim(house, "")
    settled = house.settle(bill, None).ok().json
    assert settled["state"] == "confirmed"
    assert house.look(whole["settlement"])["state"] == "lapsed"
    assert of_claim(house, settled["settlement"])["state"] == "offered"


def test_the_day_is_of_china_and_stated() -> None:
    clock = promise.Promise(filed=1_000_000, days=1, rate=2_000)
    assert clock.late_days(1_000_000 + 2 * 86_400 - 1) == 0
    assert clock.compensation(1_000_000 + 2 * 86_400) == 2_000
    paused = clock.pause(1_000_100).resume(1_000_100 + 5 * 86_400)
    assert paused.due(0) == 1_000_000 + 6 * 86_400
    assert paused.stop(1_000_000 + 7 * 86_400).compensation(10**12) == 2_000, "stopped, it stays what it was"
    assert datetime.fromtimestamp(0, daybook.ZONE).hour == 8


def test_the_whole_log_verifies(scene: Scene) -> None:
    found = run("audit", "verify", scene.house.path, "--json").ok().json
    assert found["verified"], "offers and news of claims follow from keys and policy, as every exchange does"
