"""Whether a policy covers a claim at all: its time, its waiting period, the hospital's grade, what it excludes.

Each finding is an explanation with its clause. What is certain refuses, in words and with a reason; what the released
precision leaves open (a month that the waiting period ends in, a chapter that holds an excluded code) is a reviewer's.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from clients.insurer.product import Product
from zhifu import ladder
from zhifu.errors import Malformed
from zhifu.explain import Explanation

_CATEGORY: Final = re.compile("[A-Z][0-9]{2}")
_MONTH: Final = re.compile("([0-9]{4})-([0-9]{2})")
_RANGE: Final = re.compile("([A-Z][0-9]{2})-([A-Z][0-9]{2})")
# ICD-10 chapters 19 (injury, poisoning) and 20 (external causes): no waiting period for accidents.
_ACCIDENT: Final = (19, 20)


@dataclass(frozen=True, slots=True)
class Span:
    """The days on which a visit may have begun: one day where it is known, else all of a month."""

    first: date
    last: date

    @staticmethod
    def of(text: str | None) -> Span | None:
        """From a date or a month, as released; None for neither."""
        if text is None:
            return None
        if found := _MONTH.fullmatch(text):
            year, month = int(found[1]), int(found[2])
            return Span(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))
        day = date.fromisoformat(text)
        return Span(day, day)


@dataclass(frozen=True, slots=True)
class Range:
    """ICD-10 categories ``first`` to ``last``, both included."""

    first: str
    last: str

    @staticmethod
    def of(text: str) -> Range:
        """From "E10-E14". Raises `Malformed` (usage.file)."""
        found = _RANGE.fullmatch(text)
        if found is None or found[1] > found[2]:
            raise Malformed("usage.file", "pre-existing conditions are ranges of ICD-10 categories, A00-B99")
        return Range(found[1], found[2])

    def holds(self, diagnosis: str | int) -> bool:
        """Certainly within: a chapter never is, since it holds other codes too."""
        return isinstance(diagnosis, str) and self.first <= diagnosis[:3] <= self.last

    def touches(self, diagnosis: str | int) -> bool:
        if isinstance(diagnosis, int):
            return ladder.chapter(self.first) <= diagnosis <= ladder.chapter(self.last)
        return self.holds(diagnosis)


@dataclass(frozen=True, slots=True)
class Cover:
    """What the insurer's book says of one policy: from when to when (None: open), renewed or new, known conditions."""

    begin: date | None = None
    end: date | None = None
    renewal: bool = False
    existing: tuple[Range, ...] = ()


OPEN: Final = Cover()
"""A policy of which the book says no more: in force, no waiting period, nothing known."""


@dataclass(frozen=True, slots=True)
class Found:
    """``refused``: each enough by itself. ``open``: a reviewer's. ``existing``: certainly a known condition."""

    refused: tuple[Explanation, ...]
    open: tuple[Explanation, ...]
    existing: bool


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """What the claim shows of when, where and why. No repr: it is patient data."""

    span: Span | None
    grade: str | None
    diagnoses: tuple[str | int, ...]


def examine(product: Product, cover: Cover, visit: Visit, *, public_settled: bool) -> Found:
    """Every finding at once, so that a reviewer and the patient see all of them."""
    refused: list[Explanation] = []
    left_open = [*_route(product, public_settled=public_settled), *_diagnoses(product, visit.diagnoses)]
    for certain, finding in (*_time(product, cover, visit), *_grade(product, visit.grade)):
        (refused if certain else left_open).append(finding)
    existing = any(known.holds(code) for known in cover.existing for code in visit.diagnoses)
    maybe = any(known.touches(code) for known in cover.existing for code in visit.diagnoses)
    if product.existing != "covered" and maybe:
        if not existing:
            left_open.append(_pays_nothing(product.clauses["existing"], "review.pre_existing_unclear"))
        elif product.existing == "excluded":
            refused.append(_pays_nothing(product.clauses["existing"], "exclusion.pre_existing"))
    return Found(tuple(refused), tuple(left_open), existing)


def _pays_nothing(clause: str, reason: str) -> Explanation:
    return Explanation("pay", 0, clause, reason)


def _route(product: Product, *, public_settled: bool) -> Iterator[Explanation]:
    if product.public_first and not public_settled:
        yield _pays_nothing(product.clauses["route"], "review.not_settled_publicly")


def _diagnoses(product: Product, diagnoses: Sequence[str | int]) -> Iterator[Explanation]:
    if not diagnoses:
        yield _pays_nothing(product.clauses["diagnosis"], "review.diagnosis_absent")
    if not all(_is_readable(diagnosis) for diagnosis in diagnoses):
        yield _pays_nothing(product.clauses["diagnosis"], "review.diagnosis_unreadable")
    for exclusion in product.exclusions:
        if any(exclusion.touches(diagnosis) for diagnosis in diagnoses):
            yield _pays_nothing(exclusion.clause, f"review.{exclusion.reason}")


def _is_readable(diagnosis: str | int) -> bool:
    if isinstance(diagnosis, int):
        return 1 <= diagnosis <= 22
    return _CATEGORY.match(diagnosis) is not None


def _time(product: Product, cover: Cover, visit: Visit) -> Iterator[tuple[bool, Explanation]]:
    if cover.begin is None and cover.end is None:
        return
    if visit.span is None:
        yield False, _pays_nothing(product.clauses["eligible"], "review.admission_absent")
        return
    begin, end = cover.begin or date.min, cover.end or date.max
    if visit.span.first < begin:
        sure = visit.span.last < begin
        yield sure, _pays_nothing(product.clauses["eligible"], _reason("before_cover", sure=sure))
    if visit.span.last > end:
        sure = visit.span.first > end
        yield sure, _pays_nothing(product.clauses["eligible"], _reason("after_cover", sure=sure))
    waits = product.waiting_days and cover.begin is not None and not cover.renewal and not _is_accident(visit.diagnoses)
    if waits and cover.begin is not None:
        over = cover.begin + timedelta(days=product.waiting_days)
        if visit.span.first < over and visit.span.last >= begin:
            sure = visit.span.last < over
            yield sure, _pays_nothing(product.clauses["waiting"], _reason("waiting_period", sure=sure))


def _reason(what: str, *, sure: bool) -> str:
    return f"exclusion.{what}" if sure else f"review.{what}_unclear"


def _is_accident(diagnoses: Sequence[str | int]) -> bool:
    return bool(diagnoses) and all(_chapter(one) in _ACCIDENT for one in diagnoses)


def _chapter(diagnosis: str | int) -> int:
    if isinstance(diagnosis, int):
        return diagnosis
    try:
        return ladder.chapter(diagnosis)
    except Malformed:
        return 0


def _grade(product: Product, grade: str | None) -> Iterator[tuple[bool, Explanation]]:
    if product.grades and grade is None:
        yield False, _pays_nothing(product.clauses["grade"], "review.hospital_grade_absent")
    elif product.grades and grade not in product.grades:
        yield True, _pays_nothing(product.clauses["grade"], "exclusion.hospital_grade")
