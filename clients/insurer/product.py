"""Policies as files: what a product promises, in data an underwriter can read (SETTLEMENT 3; products/*.toml)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Final

from zhifu import ladder
from zhifu.errors import Malformed
from zhifu.explain import CLAUSE
from zhifu.fields import AMOUNT, FLAG, RATIO, Fields, Grammar, text

DEFAULT: Final = "full"
"""No deductible, all that is left after the public payer (SETTLEMENT 4A)."""
_REASON: Final = "policy.invalid"
_CLAUSES: Final = tuple("eligible public other deductible offset ratio unsettled sum_insured route diagnosis".split())
# Needed only where the product uses them.
_CLAUSES_OF: Final = {"visit_cap": "visit_cap", "waiting_days": "waiting", "hospital_grades": "grade"}
_CHARGES: Final = Grammar("a charge category, 01 to 14", {f"{n:02d}": f"{n:02d}" for n in range(1, 15)}.get)
_DAYS: Final = Grammar("0 to 180 days", lambda given: given if 0 <= given <= 180 else None, int)
_COVERS: Final[Grammar[str]] = Grammar(
    '"all", "in-catalog" or "out-of-catalog"', {c: c for c in ("all", "in-catalog", "out-of-catalog")}.get
)
_EXISTING: Final[Grammar[str]] = Grammar(
    '"covered", "reduced" or "excluded"', {c: c for c in ("covered", "reduced", "excluded")}.get
)
_PER: Final[Grammar[bool]] = Grammar('"year" or "visit"', {"year": False, "visit": True}.get)
_NAME: Final = text(64)
_ICD_RANGE: Final = re.compile(r"([A-Z][0-9]{2})-([A-Z][0-9]{2})")
_CODE: Final[Grammar[str]] = Grammar("a token", lambda given: given if ladder.conforms("token", given) else None)
_RANGE: Final = Grammar("a range of ICD-10 categories, A00-B99", lambda given: _range(given))
_ELIGIBLE: Final[Grammar[str]] = Grammar('"all" or "in-catalog"', {c: c for c in ("all", "in-catalog")}.get)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """ICD-10 categories ``first`` to ``last`` that a reviewer must look at, and the clause that says why."""

    first: str
    last: str
    clause: str
    reason: str

    def touches(self, diagnosis: str | int) -> bool:
        """Whether it may be excluded: a code (three characters or more), or a chapter (1 to 22) that has such codes."""
        if isinstance(diagnosis, int):
            return ladder.chapter(self.first) <= diagnosis <= ladder.chapter(self.last)
        return self.first <= diagnosis[:3] <= self.last


@dataclass(frozen=True, slots=True)
class Scale:
    """What a part pays: a deductible (fen), then a ratio (ten-thousandths)."""

    deductible: int
    ratio: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one promise of a product covers ("all", "in-catalog" or "out-of-catalog") and how.

    ``cap`` is fen a policy year. ``existing`` is the scale for pre-existing conditions, where there is one.
    """

    covers: str
    usual: Scale
    cap: int
    existing: Scale | None = None

    def scale(self, *, existing: bool) -> Scale:
        return self.existing if existing and self.existing is not None else self.usual


@dataclass(frozen=True, slots=True)
class ItemCap:
    """The most of one charge category (01 to 14) that is eligible in a claim, fen."""

    kind: str
    most: int
    clause: str


@dataclass(frozen=True, slots=True)
class ServicePromise:
    """By when a patient's claim is decided, and what each whole day beyond that costs (fen)."""

    outpatient_days: int = 1
    inpatient_days: int = 3
    late_per_day: int = 2000


@dataclass(frozen=True, slots=True)
class Product:
    """A policy's terms. Amounts are fen a policy year, ratios ten-thousandths.

    ``public_first``: a claim comes after the public payer's settlement, or a reviewer must look at it.
    ``insured_with_public``: the premium was for a person with 医保, so ``unsettled_factor`` applies without one.
    ``per_visit``: the deductible is due at each visit. ``visit_cap``: fen, None for none. ``offset``: what others paid
    counts against the deductible. ``existing``: pre-existing conditions are "covered", "reduced" (each
    part's own scale) or "excluded". ``review_days``: by when a reviewer decides what the rules cannot; ``promise``: the
    same for claims of patients, who are compensated where it is late.
    """

    name: str
    version: str
    display: Mapping[str, str]
    public_first: bool
    insured_with_public: bool
    unsettled_factor: int
    parts: tuple[Part, ...]
    sum_insured: int
    clauses: Mapping[str, str]
    exclusions: tuple[Exclusion, ...]
    per_visit: bool = False
    visit_cap: int | None = None
    waiting_days: int = 0
    grades: tuple[str, ...] = ()
    offset: bool = True
    existing: str = "covered"
    item_caps: tuple[ItemCap, ...] = ()
    review_days: int = 3
    promise: ServicePromise = ServicePromise()

    @property
    def deductible(self) -> int:
        """Of all parts, in fen."""
        return sum(part.usual.deductible for part in self.parts)

    def with_sums(self, deductible: int | None = None, sum_insured: int | None = None) -> Product:
        """The same product with a policy's own sums (fen); a deductible is the first part's."""
        first, *rest = self.parts
        if deductible is not None:
            first = replace(first, usual=replace(first.usual, deductible=deductible))
        insured = self.sum_insured if sum_insured is None else sum_insured
        return replace(self, parts=(first, *rest), sum_insured=insured)


def parse(source: str) -> Product:
    """Read a product file (TOML). Raises `Malformed` (policy.invalid) with the place at fault."""
    try:
        top = Fields(tomllib.loads(source), "", _REASON)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(_REASON, "not TOML") from error
    insured = top.need(AMOUNT, "sum_insured")
    grades = top.texts("hospital_grades") if top.has("hospital_grades") else ()
    needed = [clause for key, clause in _CLAUSES_OF.items() if top.has(key)]
    existing = top.maybe(_EXISTING, "pre_existing") or "covered"
    product = Product(
        name=top.need(_CODE, "name"),
        version=top.need(_CODE, "version"),
        display=_texts(top.inner("display"), ("zh", "en")),
        public_first=top.need(FLAG, "public_first"),
        insured_with_public=top.need(FLAG, "insured_with_public"),
        unsettled_factor=top.need(RATIO, "unsettled_factor"),
        parts=_parts(top, insured, existing),
        sum_insured=insured,
        clauses=_texts(top.inner("clauses"), (*_CLAUSES, *needed, *(("existing",) if existing != "covered" else ()))),
        exclusions=tuple(_exclusion(row) for row in top.rows("review", 100)),
        per_visit=top.maybe(_PER, "deductible_per") or False,
        visit_cap=top.maybe(AMOUNT, "visit_cap"),
        waiting_days=top.maybe(_DAYS, "waiting_days") or 0,
        grades=grades,
        offset=not top.has("offset") or top.need(FLAG, "offset"),
        existing=existing,
        item_caps=tuple(_item_cap(row) for row in top.rows("item_cap", 14)) if top.has("item_cap") else (),
        review_days=top.maybe(_DAYS, "review_days") or 3,
        promise=_promise(top.inner("promise")) if top.has("promise") else ServicePromise(),
    )
    top.finish()
    return product


def names() -> list[str]:
    """The products of this version, sorted."""
    return sorted(_all())


def load(name: str) -> Product:
    """The product called ``name``. Raises `Malformed` (usage.argument) with the names there are."""
    try:
        return _all()[name]
    except KeyError:
        raise Malformed("usage.argument", f"no such product; there is: {', '.join(names())}") from None


@cache
def _all() -> Mapping[str, Product]:
    folder = resources.files("clients.insurer") / "products"
    found = [parse(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {product.name: product for product in found}


def _texts(fields: Fields, keys: tuple[str, ...]) -> Mapping[str, str]:
    found = {key: fields.need(CLAUSE, key) for key in keys}
    fields.finish()
    return found


def _parts(top: Fields, insured: int, existing: str) -> tuple[Part, ...]:
    """One part written at the top, or several as ``[[part]]``."""
    rows = top.rows("part", 2) if top.has("part") else [top]
    found = tuple(_part(row, top, insured) for row in rows)
    covered = [part.covers for part in found]
    if len(set(covered)) != len(covered) or ("all" in covered and len(covered) > 1):
        raise top.refusal("part", "covers the same expense twice")
    if existing == "reduced" and any(part.existing is None for part in found):
        raise top.refusal("pre_existing", "is reduced, so each part needs an existing scale")
    return found


def _part(row: Fields, top: Fields, insured: int) -> Part:
    usual = Scale(row.need(AMOUNT, "deductible"), row.need(RATIO, "ratio"))
    if row is top:
        return Part(row.need(_ELIGIBLE, "eligible"), usual, insured)
    reduced = None
    if row.has("existing"):
        inner = row.inner("existing")
        reduced = Scale(inner.need(AMOUNT, "deductible"), inner.need(RATIO, "ratio"))
        inner.finish()
    found = Part(row.need(_COVERS, "covers"), usual, row.need(AMOUNT, "cap"), reduced)
    row.finish()
    return found


def _promise(row: Fields) -> ServicePromise:
    found = ServicePromise(
        row.need(_DAYS, "outpatient_days"), row.need(_DAYS, "inpatient_days"), row.need(AMOUNT, "late_per_day")
    )
    row.finish()
    return found


def _item_cap(row: Fields) -> ItemCap:
    found = ItemCap(row.need(_CHARGES, "type"), row.need(AMOUNT, "most"), row.need(CLAUSE, "clause"))
    row.finish()
    return found


def _exclusion(row: Fields) -> Exclusion:
    first, last = row.need(_RANGE, "icd")
    found = Exclusion(first, last, row.need(CLAUSE, "clause"), row.need(_CODE, "reason"))
    row.finish()
    return found


def _range(given: str) -> tuple[str, str] | None:
    found = _ICD_RANGE.fullmatch(given)
    return (found[1], found[2]) if found and found[1] <= found[2] else None
