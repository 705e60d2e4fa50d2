"""The worked figures of SETTLEMENT 4 through running nodes and the broker: several insurers, one after the other.

One house for all of them: a hospital, a public payer, and three insurers, in whose books each patient has her policy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from clients import daybook
from clients.hospital.case import every
from clients.hospital.sample import sample_bill
from clients.ledger import Holding, Ledger
from tests.house import House, open_house, run, until
from zhifu import bill as bills
from zhifu import money

SUPPLEMENTARY = "insurer-city"
GROUP = "insurer-group"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    others = {SUPPLEMENTARY: "city-supplementary", GROUP: "group-top-up"}
    with open_house(tmp_path_factory.mktemp("payers"), others=others) as opened:
        yield opened
        verified = run("audit", "verify", opened.path, "--json").ok().json
        assert verified["verified"] is True


def bill_of(seed: int, lines: Sequence[tuple[str, str, str]], **head: str) -> bytes:
    """A bill of the person of this seed; ``lines`` are class, amount and advance share."""
    document = json.loads(sample_bill(seed))
    one = document["feedetail"][0]
    document["feedetail"] = [
        {
            **one,
            "med_chrgitm_type": "05",
            "chrgitm_lv": level,
            "pric": amount,
            "cnt": "1",
            "amt": amount,
            "selfpay_prop": prop,
        }
        for level, amount, prop in lines
    ]
    sums = ("medfee_sumamt", "fulamt_ownpay_amt", "overlmt_selfpay", "preselfpay_amt", "inscp_scp_amt")
    kept = {name: value for name, value in document["setlinfo"].items() if name not in sums}
    document["setlinfo"] = kept | head
    return json.dumps(document, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Insured:
    """A person of a seed with her policies: (kind, insurer, product and what follows in the book's row)."""

    house: House
    seed: int
    policies: tuple[tuple[str, str, str], ...]

    def enter(self) -> Insured:
        head = bills.parse(sample_bill(self.seed)).setlinfo
        for kind, insurer, row in self.policies:
            self.house.cover(insurer, [f"{head.psn_cert_type},{head.certno},P{self.seed}-{kind},{row}"])
        return self

    def settle(self, bill: bytes, **desk: object) -> dict[str, Any]:
        return self.house.finish(self.begin(bill, **desk))

    def begin(self, bill: bytes, **desk: object) -> str:
        return self.house.submit(
            bill, [self._consent(bill, kind, insurer) for kind, insurer, _ in self.policies], **desk
        )

    def _consent(self, bill: bytes, kind: str, insurer: str) -> tuple[str, Any]:
        patient = self.house.enrol(bill, f"patient-{self.seed}-{kind}", insurer, insured=True)
        return kind, self.house.consent(patient, bill)


def queue(house: House, insurer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run("insurer", "queue", house.path / insurer, "--json").ok().json
    return found


def figures(found: dict[str, Any]) -> list[str]:
    """What each payer and the patient pay, in yuan."""
    assert (found["state"], found["reason"]) == ("confirmed", "")
    return [money.yuan(fen) for fen in (*(one["fen"] for one in found["payers"]), found["patient_fen"])]


@pytest.mark.parametrize(
    ("product", "route", "pays", "patient"),
    [
        ("full", "public", "8000.00", "0.00"),
        ("deductible-10000", "public", "0.00", "8000.00"),
        ("in-catalog", "public", "5500.00", "2500.00"),
        ("no-insurance-60", "direct", "12000.00", "8000.00"),
        ("no-insurance-60-deductible", "direct", "6000.00", "14000.00"),
    ],
)
def test_a_the_five_policies(house: House, product: str, route: str, pays: str, patient: str) -> None:
    seed = 600 + len(product)
    found = (
        Insured(house, seed, (("medical", GROUP, f"{product},,,,,,"),)).enter().settle(sample_bill(seed), route=route)
    )
    public = ["12000.00"] if route == "public" else []
    assert figures(found) == [*public, pays, patient]


# --- B: three payers (SETTLEMENT 4B) ----------------------------------------------------------------------------------

B_LINES = [("01", "120000.00", "0"), ("02", "100000.00", "0.1"), ("03", "80000.00", "1")]
CITY = ("city-supplementary", SUPPLEMENTARY, ",,,,,,")
MEDICAL = ("medical", GROUP, "million-yuan,,,,,,")


def test_b_city_supplementary_then_medical(house: House) -> None:
    found = Insured(house, 701, (MEDICAL, CITY)).enter().settle(bill_of(701, B_LINES))
    assert [one["kind"] for one in found["payers"]] == ["basic", "city-supplementary", "medical"]
    assert figures(found) == ["169350.00", "50920.00", "79730.00", "0.00"]


def test_b_the_other_order(house: House) -> None:
    found = Insured(house, 702, (CITY, MEDICAL)).enter().settle(bill_of(702, B_LINES), order="commercial-first-2026-01")
    assert [one["kind"] for one in found["payers"]] == ["basic", "medical", "city-supplementary"]
    assert figures(found) == ["169350.00", "120650.00", "0.00", "10000.00"]


def test_b_pre_existing(house: House) -> None:
    known = ((*CITY[:2], ",,,,,,K80-K87"), (*MEDICAL[:2], "million-yuan,,,,,,K80-K87"))
    found = Insured(house, 703, known).enter().settle(bill_of(703, B_LINES))
    assert figures(found) == ["169350.00", "18460.00", "0.00", "112190.00"]


# --- C: outpatient (SETTLEMENT 4C) ------------------------------------------------------------------------------------

OUTPATIENT = ("outpatient", "insurer", "outpatient,,,2026-03-01,,,")


def visit(seed: int, total: str, day: str) -> bytes:
    """An outpatient visit, all in the catalogue; each has a number of its own."""
    head = {"med_type": "11", "mdtrt_id": f"MZ{day}", "begndate": day, "enddate": day}
    return bill_of(seed, [("01", total, "0")], **head)


def test_c_a_policy_over_three_visits(house: House) -> None:
    insured = Insured(house, 711, (OUTPATIENT,)).enter()
    house.credit(visit(711, "620.00", "2026-04-10"), "150.00")
    waiting = insured.settle(visit(711, "620.00", "2026-03-20"), route="direct")
    assert figures(waiting) == ["0.00", "620.00"]
    assert "exclusion.waiting_period" in clauses(house, "insurer")
    april = insured.settle(visit(711, "620.00", "2026-04-10"), account="150.00")
    assert figures(april) == ["220.00", "240.00", "160.00"]
    assert (april["account_fen"], april["cash_fen"]) == (15_000, 1_000)
    may = insured.settle(visit(711, "1150.00", "2026-05-02"), route="direct")
    assert figures(may) == ["500.00", "650.00"]
    paid = sum(one.amounts["pay"] for one in house.holdings("insurer") if one.state == "committed")
    assert paid == 74_000


def clauses(house: House, insurer: str) -> set[str]:
    """Reason codes of everything this insurer answered."""
    with house.store("hospital") as store:
        cases = every(store)
        opened = [one for case in cases for step in case.exchanges.values() for one in store.incoming.answers(step)]
    mine = [one for one in opened if one.presentation.sender == house.cast.ids[insurer]]
    return {row[3] for one in mine for row in one.values["clauses"] or ()}


def test_c_after_a_group_plan(house: House) -> None:
    policies = (OUTPATIENT, ("group", GROUP, "group-top-up,,,,,,"))
    found = Insured(house, 712, policies).enter().settle(visit(712, "620.00", "2026-04-10"))
    assert [one["kind"] for one in found["payers"]] == ["basic", "group", "outpatient"]
    assert figures(found) == ["220.00", "360.00", "32.00", "8.00"]


# --- what the rules cannot decide -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "pays", "patient"),
    [(("--proposed",), "120650.00", "10000.00"), (("--pay", "100.00"), "100.00", "130550.00")],
)
def test_a_reviewer_decides_while_the_desk_waits(house: House, how: tuple[str, ...], pays: str, patient: str) -> None:
    """The insurer sees the month of admission only, and its waiting period ends within it."""
    seed = 720 + len(how)
    insured = Insured(house, seed, (("medical", GROUP, "million-yuan,,,2026-08-20,,,"),)).enter()
    begun = insured.begin(bill_of(seed, B_LINES), patient=True)
    (queued,) = until(lambda: queue(house, GROUP), "the claim is in the reviewer's queue")
    assert (queued["reasons"], queued["proposed_fen"]) == (["review.waiting_period_unclear"], 12_065_000)
    house.decide(GROUP, queued["claim"], *how)
    assert figures(house.finish(begun)) == ["169350.00", pays, patient]
    assert queue(house, GROUP) == []


def test_a_reviewer_may_take_longer_than_others_hold(house: House) -> None:
    """What the public payer held is over by then: it is asked anew, and the reviewer's word stands."""
    house.end("public-payer")
    house.restart("public-payer", code="from clients.public_payer import decision\ndecision.RESERVED_S = 2")
    insured = Insured(house, 731, (("medical", GROUP, "million-yuan,,,2026-08-20,,,"),)).enter()
    begun = insured.begin(bill_of(731, B_LINES), patient=True)
    (queued,) = until(lambda: queue(house, GROUP), "the claim is in the reviewer's queue")
    held = max(house.holdings("public-payer"), key=lambda one: one.since)
    until(lambda: time.time() > held.expires + 1, "what the public payer holds is over")
    house.end("public-payer")
    house.restart("public-payer")
    house.decide(GROUP, queued["claim"], "--proposed")
    assert figures(house.finish(begun)) == ["169350.00", "120650.00", "10000.00"]
    states = {one.id: one.state for one in house.holdings("public-payer")}
    assert states[held.id] == "reserved"  # as nobody wrote down that it is over
    assert newest(house, "public-payer", "committed") is not None


def test_who_decides_too_late_holds_nothing(house: House) -> None:
    """The reviewer's deadline passes while the desk waits: what others hold is freed, and his own word is too late."""
    house.end(GROUP)
    house.restart(GROUP, code="from clients.insurer import review\nreview.DAY_S = 1")
    insured = Insured(house, 730, (("medical", GROUP, "million-yuan,,,2026-08-20,,,"),)).enter()
    begun = insured.begin(bill_of(730, B_LINES), patient=True)
    (queued,) = until(lambda: queue(house, GROUP), "the claim is in the reviewer's queue")
    found = house.finish(begun)
    assert (found["state"], found["reason"]) == ("failed", "settlement.undecided")
    assert "deadline" in found["detail"]
    public = until(lambda: newest(house, "public-payer", "cancelled"), "the public payer's split is freed")
    assert public.amounts["pay"] == 16_935_000
    house.decide(GROUP, queued["claim"], "--proposed")
    late = until(lambda: newest(house, GROUP, "cancelled"), "what the reviewer held is freed at once")
    assert late.amounts["pay"] == 12_065_000
    assert house.look(begun)["state"] == "failed"


def newest(house: House, payer: str, state: str) -> Holding | None:
    """The payer's latest holding, if it is in this state."""
    last = max(house.holdings(payer), key=lambda one: one.since, default=None)
    return last if last is not None and last.state == state else None


# --- a day later ------------------------------------------------------------------------------------------------------


def test_the_day_reconciles_and_a_forged_ledger_does_not(house: House) -> None:
    """Every settlement above, hospital against payers; then one amount in an insurer's ledger is not what it was.

    What ended unpaid is erased when its patient revokes; the ledger and its statement know of it all the same.
    """
    with house.store(GROUP) as store, store.transaction():
        ended = [one.id for one in Ledger(store).holdings() if one.state == "cancelled"]
        for claim in ended:
            store.incoming.erase_one(claim)
    assert ended
    day = daybook.day_of(int(time.time())).isoformat()
    statements = [house.day("payer", "public-payer", day)]
    statements += [house.day("insurer", name, day) for name in ("insurer", SUPPLEMENTARY, GROUP)]
    found = run("reconcile", house.path / "hospital", day, *statements, "--json").ok().json
    assert (found["differences"], found["without_statement"]) == ([], {})
    assert found["rows"] >= 3
    with house.store(GROUP) as store:
        one = next(held for held in Ledger(store).holdings() if held.state == "committed" and held.amounts["pay"])
        Ledger(store).change(one.id, {**one.amounts, "pay": one.amounts["pay"] + 1}, one.since)
    changed = run("reconcile", house.path / "hospital", day, house.day("insurer", GROUP, day), "--json")
    (row,) = changed.json["differences"]
    assert changed.code == 5
    assert len(changed.json["without_statement"]) == 3, "nobody takes them for agreed"
    assert (row["what"], row["there_fen"] - row["here_fen"]) == ("amount", 1)
