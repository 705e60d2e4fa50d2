"""What payers answer to a question of cover: by the same rules as a claim, from less, and with nothing held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from clients.insurer import eligibility as insurer
from clients.insurer import product as products
from clients.insurer.book import Policy
from clients.insurer.cover import Cover, Range
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.public_payer import eligibility as public
from clients.public_payer import rules
from clients.store import Store
from zhifu.errors import Malformed

NOW: Final = 1_790_000_000
ASKED: Final = b"\x01" * 32
VISIT: Final[Mapping[str, Any]] = {
    "citizen-id": "99999919840517000X",
    "hospital": ("H1", "示例", "02"),
    "insurance": ("310", "1101", "21"),
    "service-date": "2026-04-10",
    "diagnosis": (9,),
}
OUTPATIENT: Final = Policy("P1", "outpatient", cover=Cover(date(2026, 3, 1), date(2027, 2, 28)))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys")))


def asked(ledger: Ledger, policy: Policy = OUTPATIENT, **changed: Any) -> tuple[str, list[str]]:
    found = insurer.answer({**VISIT, **changed}, policy, products.load("full"), ledger, ASKED, NOW)
    return found.outcome, [row.reason for row in found.clauses if not row.reason.startswith("eligibility.")]


@pytest.mark.parametrize(
    ("changed", "outcome", "reasons"),
    [
        ({}, "covered", []),
        ({"service-date": "2026-03-20"}, "not-covered", ["exclusion.waiting_period"]),
        ({"service-date": "2026-03-20", "diagnosis": (19,)}, "covered", []),
        ({"service-date": "2026-03-20", "diagnosis": None}, "unclear", ["exclusion.waiting_period"]),
        ({"service-date": "2026-02-20"}, "not-covered", ["exclusion.before_cover"]),
        ({"service-date": "2027-03-20", "diagnosis": None}, "not-covered", ["exclusion.after_cover"]),
        ({"service-date": None}, "unclear", ["review.admission_absent"]),
        ({"diagnosis": None}, "covered", []),
    ],
)
def test_an_insurer_goes_by_the_policys_time(
    ledger: Ledger, changed: dict[str, Any], outcome: str, reasons: list[str]
) -> None:
    assert asked(ledger, **changed) == (outcome, reasons)


def test_a_chapter_that_holds_an_excluded_code_leaves_it_open(ledger: Ledger) -> None:
    """Psychiatric codes are chapter 5; what existed before is a range within chapter 9."""
    own = Policy("P1", "full")
    assert asked(ledger, own, diagnosis=(5,)) == ("unclear", ["review.exclusion.psychiatric"])
    million = replace(own, product="million-yuan", cover=Cover(existing=(Range.of("I10-I15"),)))
    assert asked(ledger, million) == ("unclear", ["review.pre_existing_unclear"])


def test_what_is_left_follows_the_ledger(ledger: Ledger) -> None:
    account, own = ledger.account("policy-year", "P1"), Policy("P1", "deductible-10000")
    used = {"deductible_used": 300_000, "part_pay": 500_000, "pay": 500_000}
    ledger.reserve(account, Holding(b"\x02" * 32, "committed", used, 0), NOW)
    found = insurer.answer(VISIT, own, products.load("full"), ledger, ASKED, NOW)
    whole = products.load("deductible-10000")
    assert found.amounts == {"deductible_left": 700_000, "sum_insured_left": whole.sum_insured - 500_000}
    assert {row.field: row.amount for row in found.clauses} == found.amounts, "each amount has its clause"
    assert (found.reservation, found.expires, len(ledger.holdings())) == (ASKED, 0, 1)


def test_the_public_payer_answers_by_its_rule(ledger: Ledger) -> None:
    table = rules.load("example-city")
    account = ledger.account("year", "2026", VISIT["citizen-id"])
    ledger.reserve(account, Holding(b"\x02" * 32, "committed", {"act_pay_dedc": 40_000, "hifp_pay": 1}, 0), NOW)
    found = public.answer(VISIT, table, ledger, ASKED, NOW)
    assert (found.outcome, found.amounts) == (
        "covered", {"threshold_left": 60_000, "hifp_pay_left": 14_999_999, "hifob_pay_left": 30_000_000}
    )  # fmt: skip
    assert all(row.clause for row in found.clauses)
    visit = public.answer({**VISIT, "insurance": ("310", "1101", "11")}, table, ledger, ASKED, NOW)
    assert visit.amounts == {"threshold_left": 18_000, "hifp_pay_left": 600_000}, "visits have a year of their own"


def test_without_a_date_it_is_today_in_china(ledger: Ledger) -> None:
    """The year begins at the patient's midnight, eight hours before that of UTC."""
    new_year = int(datetime(2026, 12, 31, 16, tzinfo=UTC).timestamp())
    account = ledger.account("year", "2026", VISIT["citizen-id"])
    ledger.reserve(account, Holding(b"\x02" * 32, "committed", {"act_pay_dedc": 40_000}, 0), NOW)
    undated = {name: value for name, value in VISIT.items() if name != "service-date"}
    left = [
        public.answer(undated, rules.load("example-city"), ledger, ASKED, now).amounts["threshold_left"]
        for now in (new_year - 1, new_year)
    ]
    assert left == [60_000, 100_000]


def test_without_a_rule_a_person_looks_and_without_a_person_nobody_does(ledger: Ledger) -> None:
    table = rules.load("example-city")
    found = public.answer({**VISIT, "insurance": ("999", None, None)}, table, ledger, ASKED, NOW)
    assert (found.outcome, [row.reason for row in found.clauses]) == ("unclear", ["review.no_rule"])
    with pytest.raises(Malformed, match="insured person"):
        public.answer({**VISIT, "citizen-id": None}, table, ledger, ASKED, NOW)
