"""Insurers' products and their decisions (SETTLEMENT 3 and 4)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.insurer import product as products
from clients.insurer.adjudicate import Claim, Decision, Standing, decide, new_year
from clients.insurer.cover import Cover, Range, Span
from clients.insurer.product import Scale
from zhifu import ladder, money
from zhifu.errors import Malformed
from zhifu.explain import Explanation
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
    policy = products.load("full")
    scale = Scale(fen(row["deductible"]), ratio)
    policy = replace(policy, parts=(replace(policy.parts[0], usual=scale),))
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
    found = decide(policy, settled(), Standing.of(0, 500_000))
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
        (replace(settled(), public=1_750_001), "identity 2: .*in-catalogue compensation exceeds"),
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


@pytest.mark.parametrize(
    "standing",
    [Standing.of(-1, 0), Standing.of(1_000_001, 0), Standing.of(0, -1), Standing.of(0, 10**12), Standing((), (), 0)],
)
def test_a_standing_of_another_product(standing: Standing) -> None:
    with pytest.raises(Malformed) as caught:
        decide(products.load("deductible-10000"), settled(), standing)
    assert caught.value.reason == "usage.argument"


# --- product files ------------------------------------------------------------------------------------------------


def test_the_products() -> None:
    more = ["city-supplementary", "group-top-up", "million-yuan", "outpatient"]
    assert products.names() == sorted([*more, *(row["product"] for row in VECTORS["direct_payment"]["policies"])])
    for name in products.names():
        policy = products.load(name)
        assert policy.name == name
        assert set(policy.display) == {"zh", "en"}
        assert policy.sum_insured >= 2_000_000


def test_an_unknown_product_names_the_known() -> None:
    with pytest.raises(
        Malformed, match="deductible-10000, full, group-top-up, in-catalog, million-yuan, no-"
    ) as caught:
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
        ("public_first = true", "public_first = true\nwaiting = 30", "waiting is not a key"),
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
    whole = new_year(policy)
    left = [tuple(data.draw(st.integers(0, most)) for most in sums) for sums in (whole.deductibles, whole.caps)]
    standing = Standing(left[0], left[1], data.draw(st.integers(0, policy.sum_insured)))
    found = decide(policy, claim, standing)
    assert found == decide(policy, claim, standing)
    assert (found.outcome == "review") == bool(found.reasons)
    assert 0 <= found.pay <= min(found.proposed, standing.sum_insured_left, policy.visit_cap or found.proposed)
    assert found.standing.deductible_left == standing.deductible_left - found.deductible_used >= 0
    assert found.standing.sum_insured_left == standing.sum_insured_left - found.pay >= 0
    assert all(one.pay <= cap for one, cap in zip(found.paid, standing.caps, strict=True))
    assert sum(one.pay for one in found.paid) == found.proposed
    assert sum(one.in_catalog for one in found.paid) <= claim.split.inscp + claim.split.pre - claim.public
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


# --- three payers, outpatient, and when a policy covers (SETTLEMENT 4B, 4C) ------------------------------------------

B_PARTS = Split(30_000_000, 8_000_000, 0, 1_000_000, 21_000_000)
B = Claim(B_PARTS, True, 16_935_000, diagnoses=SHOWN, grade="02")
DIABETES = Cover(existing=(Range("E10", "E14"),))


def test_the_city_supplementary_policy_pays_both_parts() -> None:
    found = decide(products.load("city-supplementary"), B)
    assert [(one.in_catalog, one.out_of_catalog) for one in found.paid] == [(892_000, 0), (0, 4_200_000)]
    assert (found.pay, found.patient) == (5_092_000, 13_065_000 - 5_092_000)
    then = decide(products.load("million-yuan"), replace(B, other_in_catalog=892_000, other_out_of_catalog=4_200_000))
    assert (then.pay, then.patient) == (7_973_000, 0)


def test_the_other_order_leaves_the_deductible() -> None:
    first = decide(products.load("million-yuan"), B)
    (paid,) = first.paid
    assert (first.pay, paid.in_catalog + paid.out_of_catalog) == (12_065_000, 12_065_000)
    other = replace(B, other_in_catalog=paid.in_catalog, other_out_of_catalog=paid.out_of_catalog)
    assert decide(products.load("city-supplementary"), other).patient == 1_000_000


def test_a_pre_existing_condition_lowers_one_and_excludes_the_other() -> None:
    claim = replace(B, diagnoses=("E11", "K80"))
    first = decide(products.load("city-supplementary"), claim, cover=DIABETES)
    assert [one.pay for one in first.paid] == [446_000, 1_400_000]
    then = decide(products.load("million-yuan"), claim, cover=DIABETES)
    assert (then.outcome, then.pay) == ("pay", 0)
    assert [row.reason for row in then.explain] == ["exclusion.pre_existing"]
    assert first.patient == 11_219_000


def test_a_chapter_leaves_a_pre_existing_condition_open() -> None:
    found = decide(products.load("million-yuan"), replace(B, diagnoses=(4,)), cover=DIABETES)
    assert [row.reason for row in found.reasons] == ["review.pre_existing_unclear"]


C_COVER = Cover(begin=date(2026, 3, 1))


def visit(total: int, public: int, day: str, other: int = 0) -> Claim:
    split = Split(total, 0, 0, 0, total)
    return Claim(split, public > 0, public, other, diagnoses=("J06",), span=Span.of(day))


@pytest.mark.parametrize(
    ("claim", "pay", "reason"),
    [
        (visit(62_000, 22_000, "2026-03-20"), 0, "exclusion.waiting_period"),
        (visit(62_000, 22_000, "2026-03-30"), 0, "exclusion.waiting_period"),
        (visit(62_000, 22_000, "2026-03-31"), 24_000, "pay.due"),
        (visit(62_000, 22_000, "2026-02-20"), 0, "exclusion.before_cover"),
        (visit(62_000, 22_000, "2026-04-10"), 24_000, "pay.due"),
        (visit(62_000, 22_000, "2026-04"), 24_000, "pay.due"),
        (visit(115_000, 0, "2026-05-02"), 50_000, "pay.visit_limit"),
        (visit(62_000, 22_000, "2026-04-10", 36_000), 3_200, "pay.due"),
    ],
)
def test_outpatient_visits(claim: Claim, pay: int, reason: str) -> None:
    found = decide(products.load("outpatient"), claim, cover=C_COVER)
    assert (found.outcome, found.pay, found.explain[-1].reason) == ("pay", pay, reason)


@pytest.mark.parametrize(
    ("name", "claim", "cover", "reason"),
    [
        ("outpatient", visit(62_000, 22_000, "2026-03"), C_COVER, "review.waiting_period_unclear"),
        ("outpatient", replace(visit(62_000, 22_000, "2026-03"), span=None), C_COVER, "review.admission_absent"),
        ("million-yuan", replace(B, grade=None), Cover(), "review.hospital_grade_absent"),
        ("group-top-up", B, Cover(), "review.item-charges_absent"),
    ],
)
def test_what_precision_leaves_open_is_reviewed(name: str, claim: Claim, cover: Cover, reason: str) -> None:
    found = decide(products.load(name), claim, cover=cover)
    assert (found.outcome, reason in [row.reason for row in found.reasons]) == ("review", True)


@pytest.mark.parametrize(
    ("cover", "diagnoses"), [(replace(C_COVER, renewal=True), ("J06",)), (C_COVER, ("S82",)), (C_COVER, (19,))]
)
def test_renewals_and_accidents_do_not_wait(cover: Cover, diagnoses: tuple[str | int, ...]) -> None:
    claim = replace(visit(62_000, 22_000, "2026-03-20"), diagnoses=diagnoses)
    assert decide(products.load("outpatient"), claim, cover=cover).pay == 24_000


def test_a_hospital_of_another_grade_is_not_covered() -> None:
    found = decide(products.load("million-yuan"), replace(B, grade="09"))
    assert (found.pay, [row.reason for row in found.explain]) == (0, ["exclusion.hospital_grade"])


def test_a_charge_category_has_its_own_cap() -> None:
    claim = replace(settled(), charges={"01": 500_000})
    found = decide(products.load("group-top-up"), claim)
    assert (found.pay, found.explain[0]) == (
        540_000,
        Explanation("excess", 200_000, "保险责任 第四条：床位费每次以 3000 元为限", "eligible.item_cap"),
    )


@given(claims(), st.sampled_from(["full", "deductible-10000", "in-catalog", "city-supplementary"]), st.integers(0, 100))
def test_a_bill_in_two_is_never_paid_more(claim: Claim, name: str, percent: int) -> None:
    """Where the deductible and the caps are the year's; a part rounds to a fen by itself."""
    whole = replace(claim, public_settled=True, diagnoses=SHOWN)
    first = _portion(whole, percent)
    policy = products.load(name)
    one = decide(policy, first)
    two = decide(policy, _rest(whole, first), one.standing)
    assert one.pay + two.pay <= decide(policy, whole).pay + 2 * len(policy.parts)


def _portion(claim: Claim, percent: int) -> Claim:
    own, over, pre, inscp = (
        part * percent // 100 for part in (claim.split.own, claim.split.over, claim.split.pre, claim.split.inscp)
    )
    paid = min(claim.public * percent // 100, inscp)
    other = min(claim.other_in_catalog * percent // 100, inscp + pre - paid)
    out = min(claim.other_out_of_catalog * percent // 100, own + over)
    return Claim(Split(own + over + pre + inscp, own, over, pre, inscp), True, paid, other, out, SHOWN)


def _rest(whole: Claim, part: Claim) -> Claim:
    split = Split(*(getattr(whole.split, n) - getattr(part.split, n) for n in ("total", "own", "over", "pre", "inscp")))
    return Claim(
        split,
        True,
        whole.public - part.public,
        whole.other_in_catalog - part.other_in_catalog,
        whole.other_out_of_catalog - part.other_out_of_catalog,
        SHOWN,
    )
