"""An insurer's answer to a question of cover: whether the policy covers this visit, and what of its year is left.

It shows less than a claim, so it can say less: a chapter may hold an excluded code, and then the answer is "unclear",
with every clause that a claim would be looked at by. Nothing is held and nobody's queue grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from clients.decision import COVERED, NOT_COVERED, UNCLEAR, Decision
from clients.insurer import adjudicate, policy_year
from clients.insurer.book import Policy
from clients.insurer.cover import Found, Span, Visit, examine
from clients.insurer.product import Product
from clients.ledger import Ledger
from zhifu.cbor import Value
from zhifu.explain import Explanation

# Without a diagnosis it may still be an accident, for which nobody waits.
_WAITING: Final = "exclusion.waiting_period"
_ABSENT: Final = "review.diagnosis_absent"


def answer(values: Mapping[str, Value], policy: Policy, own: Product, ledger: Ledger, exchange: bytes, now: int) -> (
    Decision
):  # fmt: skip
    """By the policy's terms; ``own`` is the product of policies that name none, ``now`` Unix s."""
    terms = policy.terms(own)
    visit = _visit(values)
    found = examine(terms, policy.cover, visit, public_settled=True)
    used = ledger.used(policy_year.account(ledger, policy, visit.span, now), now)
    rows = tuple(_left(terms, used, existing=found.existing))
    refused, left_open = _sorted(found, visit)
    amounts = {row.field: row.amount for row in rows}
    if refused:
        return Decision(NOT_COVERED, {}, refused, exchange, 0)
    if left_open:
        return Decision(UNCLEAR, amounts, (*left_open, *rows), exchange, 0)
    return Decision(COVERED, amounts, rows, exchange, 0)


def unknown(row: Explanation, exchange: bytes) -> Decision:
    """The pseudonym names nobody of the book: a claim would go to a person, and so says the answer."""
    return Decision(UNCLEAR, {}, (row,), exchange, 0)


def _visit(values: Mapping[str, Value]) -> Visit:
    _, _, grade = values.get("hospital") or (None, None, None)
    return Visit(Span.of(values.get("service-date")), grade, tuple(values.get("diagnosis") or ()))


def _sorted(found: Found, visit: Visit) -> tuple[tuple[Explanation, ...], tuple[Explanation, ...]]:
    """(what is refused for certain, what is open); before there is a diagnosis, that there is none says nothing."""
    if visit.diagnoses:
        return found.refused, found.open
    waiting = tuple(row for row in found.refused if row.reason == _WAITING)
    certain = tuple(row for row in found.refused if row.reason != _WAITING)
    return certain, (*waiting, *(row for row in found.open if row.reason != _ABSENT))


def _left(terms: Product, used: Mapping[str, int], *, existing: bool) -> Iterator[Explanation]:
    left = adjudicate.standing(terms, used, existing=existing)
    clauses = terms.clauses
    yield Explanation("deductible_left", left.deductible_left, clauses["deductible"], "eligibility.deductible")
    insured = min(left.sum_insured_left, sum(left.caps))
    yield Explanation("sum_insured_left", insured, clauses["sum_insured"], "eligibility.sum_insured")
    if terms.visit_cap is not None:
        yield Explanation("visit_cap", terms.visit_cap, clauses["visit_cap"], "eligibility.visit_cap")
