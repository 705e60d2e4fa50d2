"""The public payer's split (SETTLEMENT 2 and 4): worked figures, tables, and what holds for every bill."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.hospital.sample import sample_bill
from clients.public_payer import rules
from clients.public_payer.split import PublicSplit, YearToDate, settle
from zhifu import bill, identities, ladder, money
from zhifu.errors import Malformed, Refused
from zhifu.pricing import PricedLine, line_amount

VECTORS = json.loads((Path(__file__).parent / "vectors" / "settlement.json").read_text("utf-8"))
TABLE = Path(rules.__file__).parent / "tables" / "example-city.toml"
DAY = date(2026, 9, 14)


def employee() -> rules.Rule:
    return rules.load("example-city").rule(DAY, "310", "1101", "02")


def retired() -> rules.Rule:
    return rules.load("示例市").rule(DAY, "310", "1201", "02")


def lines_of(rows: list[list[str]]) -> list[PricedLine]:
    return [PricedLine.of(level, money.fen(amt) or 0, amt, "1", None, prop) for level, amt, prop in rows]


def in_scope(yuan: str) -> list[PricedLine]:
    return lines_of([["01", yuan, "0"]])


@pytest.mark.parametrize("name", ["direct_payment", "three_payers"])
def test_worked_figures(name: str) -> None:
    vector: dict[str, Any] = VECTORS[name]
    found = settle(employee(), lines_of(vector["lines"]))
    assert {field: money.yuan(getattr(found, field)) for field in vector["public"]} == vector["public"]
    assert (found.hifmi_pay, found.maf_pay, found.cvlserv_pay, found.hifes_pay, found.oth_pay) == (0, 0, 0, 0, 0)


def test_the_sample_bill_settles_as_the_worked_example() -> None:
    found = settle(employee(), [line.priced for line in bill.parse(sample_bill()).lines])
    assert found == settle(employee(), lines_of(VECTORS["direct_payment"]["lines"]))


def test_every_figure_says_why() -> None:
    found = settle(employee(), lines_of(VECTORS["three_payers"]["lines"]))
    assert [(row.field, money.yuan(row.amount), row.reason) for row in found.explain] == [
        ("fulamt_ownpay_amt", "80000.00", "catalog.own"),
        ("preselfpay_amt", "10000.00", "catalog.pre"),
        ("act_pay_dedc", "1000.00", "threshold"),
        ("hifp_pay", "150000.00", "hifp_pay.cap"),
        ("hifob_pay", "19350.00", "hifob_pay.ratio"),
        ("copay_one", "39650.00", "copay.ratio"),
    ]
    assert all(ladder.conforms("clauses", [[r.field, r.amount, r.clause, r.reason]]) for r in found.explain)


TOWN_LINES = [["01", "30000.00", "0"], ["02", "10000.00", "0.10"], ["03", "2000.00", "1"]]


@pytest.mark.parametrize(
    ("day", "person", "expected"),
    [
        # (inscp 39,000 - 800): 20,000 x 85 % + 18,200 x 88 %; 自付一 5,984, 自付二 1,000, 自费 2,000
        (
            DAY,
            "1101",
            {"hifp_pay": "33016.00", "copay_one": "5984.00", "cvlserv_pay": "0.00", "psn_part_amt": "8984.00"},
        ),
        # of the 6,984 left in the catalogue: (6,984 - 1,500) x 60 %
        (DAY, "1102", {"hifp_pay": "33016.00", "cvlserv_pay": "3290.40", "psn_part_amt": "5693.60"}),
        # the year before: 38,100 x 82 %
        (date(2025, 9, 14), "1101", {"hifp_pay": "31242.00", "act_pay_dedc": "900.00", "psn_part_amt": "10758.00"}),
    ],
)
def test_another_city_year_and_category_have_figures_of_their_own(
    day: date, person: str, expected: dict[str, str]
) -> None:
    """Worked by hand from the table's own words: nothing of them stands in the code."""
    found = settle(rules.load("样例市").rule(day, "310", person, "02"), lines_of(TOWN_LINES), acct_pay=50_000)
    assert {field: money.yuan(getattr(found, field)) for field in expected} == expected
    assert (found.fund_pay_sumamt, found.psn_cash_pay) == (found.funds + 50_000, found.psn_part_amt - 50_000)


def test_a_class_that_one_city_pays_and_another_does_not() -> None:
    """04可报丙 at 30 %: 丙 in 示例市, in the catalogue in 样例市."""
    lines = lines_of([["04", "1000.00", "0.30"]])
    city, town = (rules.load(name).rule(DAY, "310", "1101", "02") for name in ("example-city", "example-town"))
    assert (settle(city, lines).fulamt_ownpay_amt, settle(city, lines).inscp_scp_amt) == (100_000, 0)
    found = settle(town, lines)
    assert (found.preselfpay_amt, found.inscp_scp_amt, found.fulamt_ownpay_amt) == (30_000, 70_000, 0)


def test_what_the_year_has_used_counts() -> None:
    year = YearToDate(act_pay_dedc=60_000, hifp_pay=14_500_000, hifob_pay=29_000_000)
    found = settle(employee(), in_scope("50400.00"), year)
    # 50,400 - 400 = 50,000; the pool has 5,000 left, which 6,250 of base use up; 43,750 x 90 % meets 10,000 left.
    assert (found.act_pay_dedc, found.hifp_pay, found.hifob_pay) == (40_000, 500_000, 1_000_000)
    assert found.year == YearToDate(100_000, 15_000_000, 30_000_000)
    above = [row.amount for row in found.explain if row.reason == "copay.above_caps"]
    assert above == [4_375_000 - 1_111_111]
    assert settle(employee(), in_scope("100.00"), found.year).funds == 0


def test_a_threshold_used_up_is_not_due_again() -> None:
    assert settle(employee(), in_scope("100.00"), YearToDate(act_pay_dedc=100_000)).hifp_pay == 8_000
    assert settle(employee(), in_scope("100.00"), YearToDate(act_pay_dedc=100_001)).hifp_pay == 8_000
    assert settle(employee(), in_scope("999.99")).funds == 0


def test_what_an_exhausted_fund_leaves_reaches_the_next_to_the_fen() -> None:
    pool, other = employee().layers
    rule = replace(employee(), layers=(replace(pool, segments=(rules.Segment(0, 3_000),)), other))
    found = settle(rule, in_scope("0.01"), YearToDate(act_pay_dedc=100_000, hifp_pay=15_000_000))
    assert (found.hifp_pay, found.hifob_pay) == (0, 1)


def test_segments_each_at_its_ratio() -> None:
    found = settle(retired(), in_scope("40700.01"))
    assert [row.amount for row in found.explain if row.field == "hifp_pay"] == [2_550_000, 900_001]
    assert found.hifp_pay == 3_450_001


def test_the_account_is_the_patients_money() -> None:
    found = settle(employee(), lines_of(VECTORS["direct_payment"]["lines"]), acct_pay=300_000)
    assert (found.psn_part_amt, found.acct_pay, found.psn_cash_pay) == (800_000, 300_000, 500_000)
    assert (found.funds, found.fund_pay_sumamt) == (1_200_000, 1_200_000)
    inside = settle(replace(employee(), account_in_fund_total=True), in_scope("2000.00"), acct_pay=100)
    assert inside.fund_pay_sumamt == inside.funds + 100
    assert identities.funds_paid(inside.fund_pay_sumamt, 100, account_inside=True) == inside.funds


@pytest.mark.parametrize("acct_pay", [-1, 800_001])
def test_the_account_pays_the_patients_share_at_most(acct_pay: int) -> None:
    with pytest.raises(Malformed) as caught:
        settle(employee(), lines_of(VECTORS["direct_payment"]["lines"]), acct_pay=acct_pay)
    assert caught.value.reason == "usage.argument"


def test_a_negative_year_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        settle(employee(), in_scope("1.00"), YearToDate(hifp_pay=-1))
    assert caught.value.reason == "usage.argument"


def test_the_payer_checks_the_lines_itself() -> None:
    wrong = [*in_scope("10.00"), PricedLine.of("01", 1001, "10.00", "1", None, "0")]
    with pytest.raises(Malformed, match=r"identity 1: .* at line 2 \(feedetail\[1\]\)"):
        settle(employee(), wrong)


def test_the_city_decides_on_class_04() -> None:
    line = lines_of([["04", "2000.00", "0.1"]])
    assert settle(employee(), line).fulamt_ownpay_amt == 200_000
    assert settle(replace(employee(), payable_c=True), line).inscp_scp_amt == 180_000


@pytest.mark.parametrize(
    "case",
    [
        (date(2023, 12, 31), "310", "1101", "02"),
        (date(2030, 1, 1), "310", "1101", "02"),
        (DAY, "390", "1101", "02"),
        (DAY, "310", "15", "02"),
        (DAY, "310", "1101", "11"),
    ],
)
def test_what_the_table_does_not_cover_is_undecided(case: tuple[date, str | None, str | None, str | None]) -> None:
    with pytest.raises(Refused) as caught:
        rules.load("example-city").rule(*case)
    assert caught.value.reason == "settlement.undecided"


@pytest.mark.parametrize("day", [date(2024, 1, 1), date(2029, 12, 31)])
def test_both_ends_of_a_rule_belong_to_it(day: date) -> None:
    assert rules.load("example-city").rule(day, "310", "11", "05").threshold == 60_000


def test_an_unknown_city_names_the_known() -> None:
    with pytest.raises(Malformed, match="example-city") as caught:
        rules.load("nowhere")
    assert caught.value.reason == "usage.argument"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('pays = "hifob_pay"', 'pays = "hifmi_pay"', "rule[0].layer[1].base is not what this fund"),
        ('pays = "hifob_pay"', 'pays = "hifp_pay"', "rule[0].layer[1].base is not what this fund"),
        ('base = "above-cap"', 'base = "out-of-pocket"', "rule[0].layer[1].base is not what this fund"),
        ('ratio = "0.80"', 'ratio = "1.80"', "rule[0].layer[0].segments[0].ratio must be"),
        ('ratio = "0.80"', "ratio = 0.80", "rule[0].layer[0].segments[0].ratio must be"),
        ('from = "0.00", ratio = "0.80"', 'from = "1.00", ratio = "0.80"', "rule[0].layer[0].segments must start at"),
        ("begin = 2024-01-01", 'begin = "2024-01-01"', "rule[0].begin must be a date"),
        ("begin = 2024-01-01", "begin = 2024-01-01T00:00:00", "rule[0].begin must be a date"),
        ('cap = "150000.00"', 'cap = "-1.00"', "rule[0].layer[0].cap must be"),
        ('cap = "150000.00"', "", "rule[0].layer[0].cap is missing"),
        ('psn_type = ["11"]', "psn_type = []", "rule[0].psn_type must be a list of strings"),
        ('psn_type = ["12"]', 'psn_type = ["110"]', "rules example-city/2026-01/1 and example-city/2026-01/3 fit"),
        ("payable_c = false", 'payable_c = "no"', "payable_c must be true or false"),
        ("payable_c = false", "payable_c = false\npayable_b = true", "payable_b is not a key of this file"),
        ("[clauses]", "[clauses", "not TOML"),
    ],
)
def test_a_table_that_is_not_understood_does_not_load(before: str, after: str, why: str) -> None:
    source = TABLE.read_text("utf-8")
    assert before in source
    with pytest.raises(Malformed, match=re.escape(why)) as caught:
        rules.parse(source.replace(before, after, 1))
    assert caught.value.reason == "policy.invalid"


@st.composite
def priced(draw: st.DrawFn) -> PricedLine:
    price, count = draw(st.integers(0, 10**9)), draw(st.integers(0, 10**5))
    level, prop = draw(st.sampled_from(["01", "02", "03", "04"])), draw(st.integers(0, 10_000))
    limit = draw(st.none() | st.integers(1, 10**9))
    return PricedLine(level, line_amount(price, count), price, count, limit, prop)


YEARS = st.builds(YearToDate, st.integers(0, 200_000), st.integers(0, 16_000_000), st.integers(0, 31_000_000))


@given(st.lists(priced(), max_size=8), YEARS, st.sampled_from(["1101", "1201"]), st.booleans())
def test_for_every_bill_and_year(lines: list[PricedLine], year: YearToDate, person: str, payable_c: bool) -> None:
    rule = replace(rules.load("example-city").rule(DAY, "310", person, "02"), payable_c=payable_c)
    found = settle(rule, lines, year)
    identities.check_statement(found.statement, public=True)
    assert found.medfee_sumamt == sum(line.amt for line in lines)
    assert 0 <= found.funds <= found.inscp_scp_amt - found.act_pay_dedc
    assert found.hifp_pay <= max(0, 15_000_000 - year.hifp_pay)
    assert found.hifob_pay <= max(0, 30_000_000 - year.hifob_pay)
    assert found.psn_part_amt == found.copay_one + found.copay_two + found.fulamt_ownpay_amt + found.overlmt_selfpay
    assert_explained(found)


def assert_explained(found: PublicSplit) -> None:
    """The rows of a field add up to it, and those of 自付一 with the threshold to the whole of it."""
    sums: dict[str, int] = {}
    for row in found.explain:
        assert row.amount >= 0
        sums[row.field] = sums.get(row.field, 0) + row.amount
    assert sums.pop("copay_one") + sums["act_pay_dedc"] == found.copay_one
    assert all(getattr(found, field) == amount for field, amount in sums.items())


@given(st.integers(0, 10**8), st.integers(1, 10**8))
def test_a_larger_bill_is_never_paid_less(amount: int, more: int) -> None:
    small, large = (settle(employee(), in_scope(money.yuan(fen))) for fen in (amount, amount + more))
    assert 0 <= large.funds - small.funds <= more


def test_what_a_claim_leaves_open_the_payers_registers_say() -> None:
    table = rules.load("example-city")
    stated = table.rule(DAY, "310", "1101", "02")
    for case in ((None, "1101", "02"), ("310", None, "02"), ("310", "1101", None), (None, None, None)):
        assert table.rule(DAY, *case) is stated
    # What it does say is never overruled by the registers.
    with pytest.raises(Refused):
        table.rule(DAY, "390", None, None)


# --- residents: 大病 and 救助 over the year (SETTLEMENT 2) ------------------------------------------------------------


def resident(psn_type: str = "1401", day: date = DAY) -> rules.Rule:
    return rules.load("example-city").rule(day, "390", psn_type, "02")


def test_serious_illness_pays_by_segments_above_the_years_threshold() -> None:
    found = settle(resident(), in_scope("201000.00"))
    # 200,000 x 65 % = 130,000; the burden is 71,000, of which 55,000 lie above 16,000: 50,000 x 60 % + 5,000 x 65 %.
    assert (found.hifp_pay, found.hifmi_pay, found.copay_one) == (13_000_000, 3_325_000, 3_775_000)
    assert (found.year.hifmi_burden, found.fund_pay_sumamt) == (7_100_000, 16_325_000)


def test_the_same_bill_before_the_revision() -> None:
    found = settle(resident(day=date(2025, 12, 31)), in_scope("201000.00"))
    # 200,100 x 60 % = 120,060, capped at 120,000; the burden is 81,000: 50,000 x 60 % + 13,000 x 65 %.
    assert (found.hifp_pay, found.hifmi_pay) == (12_000_000, 3_845_000)


def test_relief_pays_of_what_the_others_leave() -> None:
    found = settle(resident("1801"), in_scope("100000.00"))
    # 65 % = 65,000; burden 35,000: (35,000 - 8,000) x 65 % = 17,550; then 17,450 x 70 % = 12,215.
    assert (found.hifp_pay, found.hifmi_pay, found.maf_pay) == (6_500_000, 1_755_000, 1_221_500)
    assert found.copay_one == 523_500


def test_relief_reaches_the_advance_share_too() -> None:
    found = settle(resident("1801"), lines_of([["02", "100000.00", "0.5"]]))
    assert found.funds + found.copay_one + found.copay_two == found.medfee_sumamt
    assert min(found.copay_one, found.copay_two) >= 0


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.sampled_from(["1401", "1801"]))
def test_serious_illness_pays_a_year_in_two_bills_like_one(one: int, two: int, person: str) -> None:
    rule = replace(
        resident(person), threshold=0, layers=tuple(replace(la, cap=10**12) for la in resident(person).layers)
    )
    first = settle(rule, in_scope(money.yuan(one)))
    second = settle(rule, in_scope(money.yuan(two)), first.year)
    whole = settle(rule, in_scope(money.yuan(one + two)))
    assert abs(first.funds + second.funds - whole.funds) <= 4


@given(st.lists(priced(), max_size=8), st.sampled_from(["1401", "1801"]), st.integers(0, 10**9), st.integers(0, 10**7))
def test_for_every_resident(lines: list[PricedLine], person: str, burden: int, paid: int) -> None:
    year = YearToDate(hifmi_burden=burden, maf_burden=burden // 2, hifmi_pay=paid, maf_pay=paid // 2)
    found = settle(resident(person), lines, year)
    identities.check_statement(found.statement, public=True)
    assert found.hifmi_pay <= max(0, 40_000_000 - paid)
    assert found.maf_pay <= max(0, 6_000_000 - paid // 2)
    assert min(found.copay_one, found.copay_two) >= 0


def test_an_outpatient_visit_has_a_threshold_of_its_own() -> None:
    rule = rules.load("example-city").rule(DAY, "310", "1101", "02", outpatient=True)
    assert (rule.outpatient, settle(rule, in_scope("620.00")).hifp_pay) == (True, 22_000)
