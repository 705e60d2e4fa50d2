"""Insurers' products and their decisions (SETTLEMENT 3 and 4)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.insurer import product as products
from clients.insurer.adjudicate import Claim, Decision, Standing, decide, new_year
from zhifu import ladder, money
from zhifu.errors import Malformed
from zhifu.identities import Statement, check_statement
from zhifu.pricing import Split

VECTORS = json.loads((Path(__file__).parent / "vectors" / "settlement.json").read_text("utf-8"))
FULL = Path(products.__file__).parent / "products" / "full.toml"
PARTS = Split(2_000_000, 250_000, 0, 150_000, 1_600_000)
SHOWN = ("K80", "K76")


def fen(text: str) -> int:
    value = money.fen(text)
    assert value is not None
    return value


def settled() -> Claim:
    """SETTLEMENT 4A after the public payer."""
    return Claim(PARTS, True, 1_200_000, diagnoses=SHOWN)


def unsettled() -> Claim:
    return Claim(PARTS, False, diagnoses=SHOWN)


@pytest.mark.parametrize("row", VECTORS["direct_payment"]["policies"], ids=lambda row: str(row["product"]))
def test_the_five_policies(row: dict[str, str | bool]) -> None:
    policy = products.load(str(row["product"]))
    found = decide(policy, settled() if row["settled"] else unsettled())
    assert policy.public_first is row["settled"]
    assert (found.outcome, found.reasons) == ("pay", ())
    assert money.yuan(found.pay) == row["pays"]
    assert money.yuan(found.patient) == row["patient"]
    assert money.yuan(found.deductible_used) == row["deductible_used"]
    assert money.yuan(found.standing.deductible_left) == row["deductible_left"]
    assert found.standing.sum_insured_left == policy.sum_insured - found.pay


@pytest.mark.parametrize("row", VECTORS["three_payers"]["medical"], ids=lambda row: str(row["why"]))
def test_order_of_payers(row: dict[str, str]) -> None:
    parts = Split(30_000_000, 8_000_000, 0, 1_000_000, 21_000_000)
    claim = Claim(parts, True, 16_935_000, fen(row["other_in"]), fen(row["other_out"]), SHOWN)
    found = decide(products.load("deductible-10000"), claim)
    assert (money.yuan(found.pay), money.yuan(found.patient)) == (row["pays"], row["patient"])


def test_a_group_plan_offsets_the_deductible() -> None:
    row = VECTORS["outpatient_after_group_plan"]
    ratio = money.ratio(row["ratio"])
    assert ratio is not None
    policy = replace(products.load("full"), deductible=fen(row["deductible"]), ratio=ratio)
    total = fen(row["total"])
    claim = Claim(Split(total, 0, 0, 0, total), True, fen(row["public"]), fen(row["other"]), diagnoses=SHOWN)
    found = decide(policy, claim)
    assert (money.yuan(found.pay), found.deductible_used) == (row["pays"], 10_000)


def test_public_compensation_never_offsets_the_deductible() -> None:
    found = decide(products.load("deductible-10000"), settled())
    assert (found.pay, found.deductible_used) == (0, 800_000)
    reasons = {row.reason: row.amount for row in found.explain}
    assert reasons["compensation.public"] == 1_200_000
    assert "deductible.offset" not in reasons


def test_other_compensation_does_both() -> None:
    found = decide(products.load("deductible-10000"), replace(settled(), other_in_catalog=300_000))
    # 8,000 - 3,000 = 5,000 to pay; 3,000 of the deductible are offset, so 7,000 of it remain against the 5,000.
    assert (found.pay, found.patient, found.deductible_used) == (0, 500_000, 800_000)
    assert [r.amount for r in found.explain if r.field == "deductible"] == [300_000, 500_000]


def test_the_deductible_lasts_a_year() -> None:
    policy = products.load("deductible-10000")
    first = decide(policy, settled())
    second = decide(policy, settled(), first.standing)
    assert (second.pay, second.standing.deductible_left) == (600_000, 0)
    assert decide(policy, settled(), second.standing).pay == 800_000


def test_the_sum_insured_is_a_limit() -> None:
    policy = products.load("full")
    found = decide(policy, settled(), Standing(0, 500_000))
    assert (found.pay, found.patient, found.standing.sum_insured_left) == (500_000, 300_000, 0)
    assert found.explain[-1].reason == "pay.sum_insured_limit"
    again = decide(policy, settled(), found.standing)
    assert (again.outcome, again.pay, again.patient) == ("pay", 0, 800_000)


def test_in_catalog_looks_at_in_catalog_compensation_only() -> None:
    found = decide(
        products.load("in-catalog"), replace(settled(), other_in_catalog=50_000, other_out_of_catalog=100_000)
    )
    assert (found.pay, found.patient) == (500_000, 150_000)


def test_without_an_insurance_with_the_public_payer_no_factor_applies() -> None:
    policy = replace(products.load("no-insurance-60"), insured_with_public=False)
    assert decide(policy, unsettled()).pay == 2_000_000


def test_every_amount_says_why() -> None:
    found = decide(products.load("no-insurance-60-deductible"), unsettled())
    assert [(row.field, money.yuan(row.amount), row.reason) for row in found.explain] == [
        ("eligible", "20000.00", "eligible.all"),
        ("deductible", "10000.00", "deductible.applied"),
        ("after_ratio", "6000.00", "ratio.unsettled"),
        ("pay", "6000.00", "pay.due"),
    ]
    assert "60%" in found.explain[-1].clause
    assert all(ladder.conforms("clauses", [[r.field, r.amount, r.clause, r.reason]]) for r in found.explain)


# --- review, never a silent denial --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diagnoses", "reasons"),
    [
        ((), ["review.diagnosis_absent"]),
        (("K80", "F32"), ["review.exclusion.psychiatric"]),
        (("F32.900",), ["review.exclusion.psychiatric"]),
        (("K08.100", "Q21"), ["review.exclusion.dental", "review.exclusion.congenital"]),
        ((5,), ["review.exclusion.psychiatric"]),
        ((11,), ["review.exclusion.dental"]),
        ((9,), []),
        (("k80",), ["review.diagnosis_unreadable"]),
        (("K8",), ["review.diagnosis_unreadable"]),
        ((23,), ["review.diagnosis_unreadable"]),
    ],
)
def test_a_diagnosis_that_may_be_excluded_is_reviewed(diagnoses: tuple[str | int, ...], reasons: list[str]) -> None:
    policy = products.load("full")
    found = decide(policy, replace(settled(), diagnoses=diagnoses))
    assert [row.reason for row in found.reasons] == reasons
    assert (found.outcome, found.pay) == (("review", 0) if reasons else ("pay", 800_000))
    assert found.proposed == 800_000
    assert all(ladder.conforms("clauses", [[r.field, r.amount, r.clause, r.reason]]) for r in found.reasons)


@pytest.mark.parametrize("name", ["full", "deductible-10000", "in-catalog"])
def test_a_claim_that_should_have_gone_to_the_public_payer_is_reviewed(name: str) -> None:
    policy = products.load(name)
    found = decide(policy, unsettled())
    assert [row.reason for row in found.reasons] == ["review.not_settled_publicly"]
    assert (found.outcome, found.pay, found.patient, found.deductible_used) == ("review", 0, 2_000_000, 0)
    assert found.standing == new_year(policy)


# --- claims that do not add up ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        (replace(settled(), split=replace(PARTS, total=1)), "identity 1"),
        (replace(settled(), public=1_600_001), "identity 2: .*in-catalogue compensation exceeds"),
        (replace(settled(), other_in_catalog=550_001), "identity 2: .*in-catalogue compensation exceeds"),
        (replace(settled(), other_out_of_catalog=250_001), "identity 2: .*out-of-catalogue compensation exceeds"),
        (replace(settled(), other_in_catalog=-1), "identity 2: .*below zero"),
        (replace(unsettled(), public=1), "identity 2: .*not settled through them"),
    ],
)
def test_a_claim_that_does_not_add_up(claim: Claim, why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        decide(products.load("full"), claim)
    assert caught.value.reason == "bill.identity"


@pytest.mark.parametrize("standing", [Standing(-1, 0), Standing(1_000_001, 0), Standing(0, -1), Standing(0, 10**12)])
def test_a_standing_of_another_product(standing: Standing) -> None:
    with pytest.raises(Malformed) as caught:
        decide(products.load("deductible-10000"), settled(), standing)
    assert caught.value.reason == "usage.argument"


# --- product files ------------------------------------------------------------------------------------------------


def test_the_products() -> None:
    assert products.names() == sorted(row["product"] for row in VECTORS["direct_payment"]["policies"])
    for name in products.names():
        policy = products.load(name)
        assert policy.name == name
        assert set(policy.display) == {"zh", "en"}
        assert policy.sum_insured == 200_000_000


def test_an_unknown_product_names_the_known() -> None:
    with pytest.raises(Malformed, match="deductible-10000, full, in-catalog, no-insurance-60,") as caught:
        products.load("gold")
    assert caught.value.reason == "usage.argument"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('ratio = "1.00"', "ratio = 1.0", "ratio must be a ratio"),
        ('ratio = "1.00"', 'ratio = "1.01"', "ratio must be a ratio"),
        ('deductible = "0.00"', "", "deductible is missing"),
        ('eligible = "all"', 'eligible = "some"', 'eligible must be "all" or'),
        ("public_first = true", "public_frist = true", "public_first is missing"),
        ("public_first = true", "public_first = true\nwaiting_days = 30", "waiting_days is not a key"),
        ('zh = "', 'fr = "x"\nzh = "', "display.fr is not a key"),
        ('icd = "F00-F99"', 'icd = "F99-F00"', "review[0].icd must be a range"),
        ('name = "full"', 'name = "full size"', "name must be a token"),
        ("[display]", "[display", "not TOML"),
    ],
)
def test_a_product_that_is_not_understood_does_not_load(before: str, after: str, why: str) -> None:
    source = FULL.read_text("utf-8")
    assert before in source
    with pytest.raises(Malformed, match=re.escape(why)) as caught:
        products.parse(source.replace(before, after, 1))
    assert caught.value.reason == "policy.invalid"


# --- any claim ----------------------------------------------------------------------------------------------------


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    amounts = st.integers(0, 10**8)
    own, over, pre, inscp = (draw(amounts) for _ in range(4))
    public_settled = draw(st.booleans())
    public = draw(st.integers(0, inscp)) if public_settled else 0
    other_in, other_out = draw(st.integers(0, inscp + pre - public)), draw(st.integers(0, own + over))
    diagnoses: tuple[str | int, ...] = draw(st.sampled_from([SHOWN, (), (9,), ("F20",)]))
    parts = Split(own + over + pre + inscp, own, over, pre, inscp)
    return Claim(parts, public_settled, public, other_in, other_out, diagnoses)


@given(st.data(), claims(), st.sampled_from(products.names()))
def test_for_every_claim(data: st.DataObject, claim: Claim, name: str) -> None:
    policy = products.load(name)
    deductible = data.draw(st.integers(0, policy.deductible))
    standing = Standing(deductible, data.draw(st.integers(0, policy.sum_insured)))
    found = decide(policy, claim, standing)
    assert found == decide(policy, claim, standing)
    assert (found.outcome == "review") == bool(found.reasons)
    assert 0 <= found.pay <= min(found.proposed, standing.sum_insured_left)
    assert found.standing.deductible_left == deductible - found.deductible_used >= 0
    assert found.standing.sum_insured_left == standing.sum_insured_left - found.pay >= 0
    assert found.explain[-1].amount == found.proposed
    assert_statement(claim, found)


def assert_statement(claim: Claim, found: Decision) -> None:
    """Nobody pays more than the expense, and the identities hold with the other insurers' part."""
    other = claim.other_in_catalog + claim.other_out_of_catalog
    parts = claim.split
    check_statement(
        Statement(
            split=parts,
            pool=claim.public,
            other_funds=0,
            copayment=parts.pre + parts.inscp - claim.public,
            out_of_catalog=parts.own + parts.over,
            commercial=found.pay + other,
            account=0,
            cash=found.patient,
        )
    )
