"""An insurer's decision on one claim: deterministic, and every amount says where it comes from (SETTLEMENT 3).

For each part of a product: pay = min((eligible - compensation - deductible left) x ratio, cap left); then the cap of
the visit and the sum insured. What the rules cannot decide goes to a reviewer with the reasons; what they refuse they
refuse with the clause, never in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Literal

from clients.insurer.cover import OPEN, Cover, Span, Visit, examine
from clients.insurer.product import Part, Product
from zhifu import identities, money
from zhifu.errors import Malformed
from zhifu.explain import Explanation
from zhifu.pricing import Split


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """What the insurer was shown. Amounts are fen. No repr: it is patient data.

    ``public`` is what all public funds paid (the personal account is the patient's money, not theirs), zero unless
    ``public_settled``. Other compensation (group plan, 惠民保) comes by category, never by name. ``diagnoses`` are
    ICD-10 codes or categories (three characters or more) or chapters (1 to 22); empty: none was shown. ``charges`` are
    fen by charge category, None where they were not shown.
    """

    split: Split
    public_settled: bool
    public: int = 0
    other_in_catalog: int = 0
    other_out_of_catalog: int = 0
    diagnoses: tuple[str | int, ...] = ()
    span: Span | None = None
    grade: str | None = None
    charges: Mapping[str, int] | None = None

    @property
    def left(self) -> int:
        return self.split.total - self.public - self.other_in_catalog - self.other_out_of_catalog

    def eligible(self, covers: str) -> tuple[int, int]:
        """(in catalogue, out of it): the expense that a part covers, before any compensation."""
        parts = self.split
        return parts.inscp + parts.pre if covers != "out-of-catalog" else 0, (
            parts.own + parts.over if covers != "in-catalog" else 0
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a policy year, in fen: of each part's deductible and cap, and of the sum insured."""

    deductibles: tuple[int, ...]
    caps: tuple[int, ...]
    sum_insured_left: int

    @property
    def deductible_left(self) -> int:
        return sum(self.deductibles)

    @staticmethod
    def of(deductible: int, sum_insured: int) -> Standing:
        """Of a product with one part."""
        return Standing((deductible,), (sum_insured,), sum_insured)


@dataclass(frozen=True, slots=True)
class Paid:
    """What one part pays, in fen, in and out of the catalogue, and how much of its deductible that used."""

    in_catalog: int
    out_of_catalog: int
    deductible_used: int

    @property
    def pay(self) -> int:
        return self.in_catalog + self.out_of_catalog


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. ``pay`` is what the insurer pays (fen), ``patient`` what then remains of the bill.

    Under "review" nothing is paid yet: ``pay`` is zero, ``standing`` is as it was, ``reasons`` say what a reviewer must
    decide and ``proposed`` what the arithmetic gives if every reason is settled in the patient's favour. ``paid`` is by
    part of the product, and what was proposed under "review".
    """

    outcome: Literal["pay", "review"]
    pay: int
    patient: int
    proposed: int
    deductible_used: int
    standing: Standing
    explain: tuple[Explanation, ...]
    reasons: tuple[Explanation, ...]
    paid: tuple[Paid, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Figures:
    """One part's arithmetic, before the caps that all parts share."""

    eligible: int
    public: int
    other: int
    offset: int
    applied: int
    after_ratio: int
    pay: int
    base: tuple[int, int]

    def split(self) -> Paid:
        """What is paid, by category: in proportion to what was left of each, to the fen."""
        inside, outside = self.base
        within = money.half_up(self.pay * inside, inside + outside) if self.pay else 0
        return Paid(within, self.pay - within, self.offset + self.applied)


def new_year(product: Product) -> Standing:
    """The standing at the start of a policy year."""
    return _standing(product, existing=False)


def _standing(product: Product, *, existing: bool) -> Standing:
    scales = tuple(part.scale(existing=existing).deductible for part in product.parts)
    return Standing(scales, tuple(part.cap for part in product.parts), product.sum_insured)


def standing(product: Product, used: Mapping[str, int], *, existing: bool = False) -> Standing:
    """What is left after ``used``, the sums of a ledger by token (`tokens`); a per-visit deductible is due anew.

    A policy's sums may have been lowered below what was used before.
    """
    new = _standing(product, existing=existing)
    names = [tokens(number) for number in range(len(product.parts))]
    spent = [0 if product.per_visit else used.get(name, 0) for name, _ in names]
    deductibles = tuple(max(0, whole - gone) for whole, gone in zip(new.deductibles, spent, strict=True))
    caps = tuple(max(0, cap - used.get(name, 0)) for cap, (_, name) in zip(new.caps, names, strict=True))
    return Standing(deductibles, caps, max(0, new.sum_insured_left - used.get("pay", 0)))


def tokens(part: int) -> tuple[str, str]:
    """The ledger's names of the deductible that a part used and of what it paid."""
    return ("deductible_used", "part_pay") if part == 0 else (f"deductible_used_{part + 1}", f"part_pay_{part + 1}")


def limits(product: Product) -> dict[str, int]:
    """What a whole policy year has, in fen by the ledger's tokens: of the sum insured, and of each part's cap."""
    return {"pay": product.sum_insured} | {tokens(number)[1]: part.cap for number, part in enumerate(product.parts)}


def decide(product: Product, claim: Claim, left: Standing | None = None, cover: Cover | None = None) -> Decision:
    """The decision on ``claim``; without a standing it is the first of its policy year.

    Raises `Malformed`: bill.identity where the claim does not add up or compensation exceeds the expense,
    usage.argument where ``left`` is not one of this product.
    """
    visit = Visit(claim.span, claim.grade, claim.diagnoses)
    found = examine(product, cover or OPEN, visit, public_settled=claim.public_settled)
    left = left or _standing(product, existing=found.existing)
    _check(product, claim, left, existing=found.existing)
    if found.refused:
        return Decision("pay", 0, claim.left, 0, 0, left, found.refused, (), _nothing(product))
    unsettled = product.insured_with_public and not claim.public_settled
    figures, excess = _figures(product, claim, left, existing=found.existing, unsettled=unsettled)
    explain = [row for n, one in enumerate(figures) for row in _explain(product, product.parts[n], one, unsettled)]
    paid, limits = _limited(product, [one.split() for one in figures], left)
    explain = [*excess, *explain, *limits]
    total = sum(one.pay for one in paid)
    reasons = (*found.open, *_hidden(product, claim))
    if reasons:
        return Decision("review", 0, claim.left, total, 0, left, tuple(explain), reasons, paid)
    used = sum(one.deductible_used for one in paid)
    return Decision("pay", total, claim.left - total, total, used, _after(left, paid), tuple(explain), (), paid)


def _nothing(product: Product) -> tuple[Paid, ...]:
    return tuple(repeat(Paid(0, 0, 0), len(product.parts)))


def _after(left: Standing, paid: Sequence[Paid]) -> Standing:
    return Standing(
        tuple(whole - one.deductible_used for whole, one in zip(left.deductibles, paid, strict=True)),
        tuple(cap - one.pay for cap, one in zip(left.caps, paid, strict=True)),
        left.sum_insured_left - sum(one.pay for one in paid),
    )


def _check(product: Product, claim: Claim, left: Standing, *, existing: bool) -> None:
    identities.check_split(claim.split)
    parts = claim.split
    if min(claim.public, claim.other_in_catalog, claim.other_out_of_catalog) < 0:
        raise identities.violation(2, "a compensation is below zero")
    if claim.public and not claim.public_settled:
        raise identities.violation(2, "public funds paid what was not settled through them")
    if claim.public > parts.inscp + parts.pre or claim.public + claim.other_in_catalog > parts.inscp + parts.pre:
        raise identities.violation(2, "in-catalogue compensation exceeds the expense")
    if claim.other_out_of_catalog > parts.own + parts.over:
        raise identities.violation(2, "out-of-catalogue compensation exceeds the expense")
    new = _standing(product, existing=existing)
    whole, given = (*new.deductibles, *new.caps, new.sum_insured_left), (
        *left.deductibles, *left.caps, left.sum_insured_left
    )  # fmt: skip
    if len(whole) != len(given) or not all(0 <= one <= most for one, most in zip(given, whole, strict=True)):
        raise Malformed("usage.argument", "the standing is not one of this product")


def _figures(
    product: Product, claim: Claim, left: Standing, *, existing: bool, unsettled: bool
) -> tuple[list[_Figures], list[Explanation]]:
    excess = _excess(product, claim)
    over = sum(row.amount for row in excess)
    factor = product.unsettled_factor if unsettled else money.ONE
    found = []
    for part, deductible, cap in zip(product.parts, left.deductibles, left.caps, strict=True):
        inside, outside = claim.eligible(part.covers)
        public = min(claim.public, inside)
        other = (claim.other_in_catalog if inside else 0, claim.other_out_of_catalog if outside else 0)
        base = max(0, inside - public - other[0]), max(0, outside - other[1])
        # What is above a category's cap is taken from the part out of the catalogue first: it is the dearer one.
        cut_out = min(over, base[1])
        base = base[0] - min(over - cut_out, base[0]), base[1] - cut_out
        # Public compensation reduces the base only; other compensation also counts against the deductible.
        offset = min(sum(other), deductible) if product.offset else 0
        applied = min(sum(base), deductible - offset)
        ratio = part.scale(existing=existing).ratio
        due = money.half_up((sum(base) - applied) * ratio * factor, money.ONE * money.ONE)
        found.append(
            _Figures(inside + outside, public, sum(other), offset, applied, due, min(due, cap), base)
        )  # fmt: skip
    return found, excess


def _excess(product: Product, claim: Claim) -> list[Explanation]:
    charges = claim.charges or {}
    return [
        Explanation("excess", charges.get(cap.kind, 0) - cap.most, cap.clause, "eligible.item_cap")
        for cap in product.item_caps
        if charges.get(cap.kind, 0) > cap.most
    ]


def _hidden(product: Product, claim: Claim) -> Iterator[Explanation]:
    if product.item_caps and claim.charges is None:
        yield Explanation("pay", 0, product.item_caps[0].clause, "review.item-charges_absent")


def _limited(product: Product, paid: list[Paid], left: Standing) -> tuple[tuple[Paid, ...], list[Explanation]]:
    """All parts within the cap of a visit and the sum insured; the later parts give way first."""
    total = sum(one.pay for one in paid)
    limits = [(left.sum_insured_left, "sum_insured", "pay.sum_insured_limit")]
    if product.visit_cap is not None:
        limits.append((product.visit_cap, "visit_cap", "pay.visit_limit"))
    most, clause, reason = min(limits)
    if total <= most:
        return tuple(paid), [] if len(paid) == 1 else [Explanation("pay", total, product.clauses["ratio"], "pay.sum")]
    room, kept = most, []
    for one in paid:
        kept.append(_at_most(one, room))
        room -= kept[-1].pay
    return tuple(kept), [Explanation("pay", most, product.clauses[clause], reason)]


def _at_most(one: Paid, most: int) -> Paid:
    if one.pay <= most:
        return one
    within = money.half_up(most * one.in_catalog, one.pay)
    return replace(one, in_catalog=within, out_of_catalog=most - within)


def _explain(product: Product, part: Part, figures: _Figures, unsettled: bool) -> Iterator[Explanation]:
    clauses = product.clauses
    covered = part.covers.replace("-", "_")
    yield Explanation("eligible", figures.eligible, clauses["eligible"], f"eligible.{covered}")
    if figures.public:
        yield Explanation("public", figures.public, clauses["public"], "compensation.public")
    if figures.other:
        yield Explanation("other", figures.other, clauses["other"], "compensation.other")
    if figures.offset:
        yield Explanation("deductible", figures.offset, clauses["offset"], "deductible.offset")
    yield Explanation("deductible", figures.applied, clauses["deductible"], "deductible.applied")
    ratio = "unsettled" if unsettled else "ratio"
    yield Explanation("after_ratio", figures.after_ratio, clauses[ratio], f"ratio.{ratio}")
    if figures.pay < figures.after_ratio:
        yield Explanation("pay", figures.pay, clauses["sum_insured"], "pay.sum_insured_limit")
    elif len(product.parts) == 1:
        yield Explanation("pay", figures.pay, clauses[ratio], "pay.due")
    else:
        yield Explanation("part_pay", figures.pay, clauses[ratio], f"pay.due.{covered}")
