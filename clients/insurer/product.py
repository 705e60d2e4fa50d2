"""Policies as files: what a product promises, in data an underwriter can read (SETTLEMENT 3; products/*.toml)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from zhifu import ladder
from zhifu.errors import Malformed
from zhifu.explain import CLAUSE
from zhifu.fields import AMOUNT, FLAG, RATIO, Fields, Grammar, text

_REASON: Final = "policy.invalid"
_CLAUSES: Final = tuple("eligible public other deductible offset ratio unsettled sum_insured route diagnosis".split())
_NAME: Final = text(64)
_ICD_RANGE: Final = re.compile(r"([A-Z][0-9]{2})-([A-Z][0-9]{2})")
_CODE: Final[Grammar[str]] = Grammar("a token", lambda given: given if ladder.conforms("token", given) else None)
_RANGE: Final = Grammar("a range of ICD-10 categories, A00-B99", lambda given: _range(given))
_ELIGIBLE: Final[Grammar[bool]] = Grammar('"all" or "in-catalog"', {"all": False, "in-catalog": True}.get)


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
class Product:
    """A policy's terms. Amounts are fen a policy year, ratios ten-thousandths.

    ``public_first``: a claim comes after the public payer's settlement, or a reviewer must look at it.
    ``insured_with_public``: the premium was for a person with 医保, so ``unsettled_factor`` applies without one.
    """

    name: str
    version: str
    display: Mapping[str, str]
    public_first: bool
    insured_with_public: bool
    unsettled_factor: int
    in_catalog: bool
    deductible: int
    ratio: int
    sum_insured: int
    clauses: Mapping[str, str]
    exclusions: tuple[Exclusion, ...]


def parse(source: str) -> Product:
    """Read a product file (TOML). Raises `Malformed` (policy.invalid) with the place at fault."""
    try:
        top = Fields(tomllib.loads(source), "", _REASON)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(_REASON, "not TOML") from error
    product = Product(
        name=top.need(_CODE, "name"),
        version=top.need(_CODE, "version"),
        display=_texts(top.inner("display"), ("zh", "en")),
        public_first=top.need(FLAG, "public_first"),
        insured_with_public=top.need(FLAG, "insured_with_public"),
        unsettled_factor=top.need(RATIO, "unsettled_factor"),
        in_catalog=top.need(_ELIGIBLE, "eligible"),
        deductible=top.need(AMOUNT, "deductible"),
        ratio=top.need(RATIO, "ratio"),
        sum_insured=top.need(AMOUNT, "sum_insured"),
        clauses=_texts(top.inner("clauses"), _CLAUSES),
        exclusions=tuple(_exclusion(row) for row in top.rows("review", 100)),
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


def _exclusion(row: Fields) -> Exclusion:
    first, last = row.need(_RANGE, "icd")
    found = Exclusion(first, last, row.need(CLAUSE, "clause"), row.need(_CODE, "reason"))
    row.finish()
    return found


def _range(given: str) -> tuple[str, str] | None:
    found = _ICD_RANGE.fullmatch(given)
    return (found[1], found[2]) if found and found[1] <= found[2] else None
