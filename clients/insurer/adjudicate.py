"""An insurer's decision on one claim: deterministic, and every amount says where it comes from (SETTLEMENT 3).

pay = min((eligible - compensation - deductible left) x ratio, sum insured left). What the rules cannot decide goes to
a reviewer with the reasons; this module never refuses a claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from clients.insurer.product import Product
from zhifu import identities, money
from zhifu.errors import Malformed
from zhifu.explain import Explanation
from zhifu.pricing import Split

_CATEGORY: Final = re.compile("[A-Z][0-9]{2}")


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """What the insurer was shown. Amounts are fen. No repr: it is patient data.

    ``public`` is what all public funds paid (the personal account is the patient's money, not theirs), zero unless
    ``public_settled``. Other compensation (group plan, 惠民保) comes by category, never by name. ``diagnoses`` are
    ICD-10 codes or categories (three characters or more) or chapters (1 to 22); empty: none was shown.
    """

    split: Split
    public_settled: bool
    public: int = 0
    other_in_catalog: int = 0
    other_out_of_catalog: int = 0
    diagnoses: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a policy year, in fen."""

    deductible_left: int
    sum_insured_left: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. ``pay`` is what the insurer pays (fen), ``patient`` what then remains of the bill.

    Under "review" nothing is paid yet: ``pay`` is zero, ``standing`` is as it was, ``reasons`` say what a reviewer must
    decide and ``proposed`` what the arithmetic gives if every reason is settled in the patient's favour.
    """

    outcome: Literal["pay", "review"]
    pay: int
    patient: int
    proposed: int
    deductible_used: int
    standing: Standing
    explain: tuple[Explanation, ...]
    reasons: tuple[Explanation, ...]


@dataclass(frozen=True, slots=True)
class _Figures:
    eligible: int
    public: int
    other: int
    offset: int
    applied: int
    after_ratio: int
    pay: int
    unsettled: bool

    @property
    def deductible_used(self) -> int:
        return self.offset + self.applied


def new_year(product: Product) -> Standing:
    """The standing at the start of a policy year."""
    return Standing(product.deductible, product.sum_insured)


def decide(product: Product, claim: Claim, standing: Standing | None = None) -> Decision:
    """The decision on ``claim``; without a ``standing`` it is the first of its policy year.

    Raises `Malformed`: bill.identity where the claim does not add up or compensation exceeds the expense,
    usage.argument where ``standing`` is not one of this product.
    """
    standing = standing or new_year(product)
    _check(product, claim, standing)
    figures = _figures(product, claim, standing)
    explain = tuple(_explain(product, figures))
    left = claim.split.total - claim.public - claim.other_in_catalog - claim.other_out_of_catalog
    if reasons := tuple(_reasons(product, claim)):
        return Decision("review", 0, left, figures.pay, 0, standing, explain, reasons)
    used = figures.deductible_used
    after = Standing(standing.deductible_left - used, standing.sum_insured_left - figures.pay)
    return Decision("pay", figures.pay, left - figures.pay, figures.pay, used, after, explain, ())


def _check(product: Product, claim: Claim, standing: Standing) -> None:
    identities.check_split(claim.split)
    parts = claim.split
    if min(claim.public, claim.other_in_catalog, claim.other_out_of_catalog) < 0:
        raise identities.violation(2, "a compensation is below zero")
    if claim.public and not claim.public_settled:
        raise identities.violation(2, "public funds paid what was not settled through them")
    in_catalog = claim.public + claim.other_in_catalog
    if claim.public > parts.inscp or in_catalog > parts.inscp + parts.pre:
        raise identities.violation(2, "in-catalogue compensation exceeds the expense")
    if claim.other_out_of_catalog > parts.own + parts.over:
        raise identities.violation(2, "out-of-catalogue compensation exceeds the expense")
    deductible, insured = standing.deductible_left, standing.sum_insured_left
    if not (0 <= deductible <= product.deductible and 0 <= insured <= product.sum_insured):
        raise Malformed("usage.argument", "the standing is not one of this product")


def _figures(product: Product, claim: Claim, standing: Standing) -> _Figures:
    parts = claim.split
    eligible, other = parts.inscp + parts.pre, claim.other_in_catalog
    if not product.in_catalog:
        eligible, other = parts.total, other + claim.other_out_of_catalog
    base = eligible - claim.public - other
    # Public compensation reduces the base only; other compensation also counts against the deductible.
    offset = min(other, standing.deductible_left)
    applied = min(base, standing.deductible_left - offset)
    unsettled = product.insured_with_public and not claim.public_settled
    factor = product.unsettled_factor if unsettled else money.ONE
    due = money.half_up((base - applied) * product.ratio * factor, money.ONE * money.ONE)
    pay = min(due, standing.sum_insured_left)
    return _Figures(eligible, claim.public, other, offset, applied, due, pay, unsettled)


def _explain(product: Product, figures: _Figures) -> Iterator[Explanation]:
    clauses = product.clauses
    covered = "in_catalog" if product.in_catalog else "all"
    yield Explanation("eligible", figures.eligible, clauses["eligible"], f"eligible.{covered}")
    if figures.public:
        yield Explanation("public", figures.public, clauses["public"], "compensation.public")
    if figures.other:
        yield Explanation("other", figures.other, clauses["other"], "compensation.other")
    if figures.offset:
        yield Explanation("deductible", figures.offset, clauses["offset"], "deductible.offset")
    yield Explanation("deductible", figures.applied, clauses["deductible"], "deductible.applied")
    ratio = "unsettled" if figures.unsettled else "ratio"
    yield Explanation("after_ratio", figures.after_ratio, clauses[ratio], f"ratio.{ratio}")
    if figures.pay < figures.after_ratio:
        yield Explanation("pay", figures.pay, clauses["sum_insured"], "pay.sum_insured_limit")
    else:
        yield Explanation("pay", figures.pay, clauses[ratio], "pay.due")


def _reasons(product: Product, claim: Claim) -> Iterator[Explanation]:
    if product.public_first and not claim.public_settled:
        yield Explanation("pay", 0, product.clauses["route"], "review.not_settled_publicly")
    if not claim.diagnoses:
        yield Explanation("pay", 0, product.clauses["diagnosis"], "review.diagnosis_absent")
    if not all(_is_readable(diagnosis) for diagnosis in claim.diagnoses):
        yield Explanation("pay", 0, product.clauses["diagnosis"], "review.diagnosis_unreadable")
    for exclusion in product.exclusions:
        if any(exclusion.touches(diagnosis) for diagnosis in claim.diagnoses):
            yield Explanation("pay", 0, exclusion.clause, f"review.{exclusion.reason}")


def _is_readable(diagnosis: str | int) -> bool:
    if isinstance(diagnosis, int):
        return 1 <= diagnosis <= 22
    return _CATEGORY.match(diagnosis) is not None
