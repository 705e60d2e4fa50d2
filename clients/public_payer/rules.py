"""The public payer's tables: which rule a city applies to whom, where and when (SETTLEMENT 2; tables/*.toml).

Rates and thresholds are data. A table that this version cannot apply in full does not load: a layer that is not
understood must not become a layer that is left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from itertools import combinations, pairwise
from typing import Final

from zhifu.errors import Malformed, Refused
from zhifu.explain import CLAUSE
from zhifu.fields import AMOUNT, DAY, FLAG, RATIO, Fields, Grammar, text

_REASON: Final = "policy.invalid"
_MOST: Final = 1000
_CLAUSES: Final = ("own", "over", "pre", "copay", "above")
_NAME: Final = text(64)
_UNSTATED: Final = ("insutype", "psn_type", "hosp_lv")
_CARE: Final[Grammar[bool]] = Grammar('"inpatient" or "outpatient"', {"inpatient": False, "outpatient": True}.get)
# What each layer may fill, and from which part of the expense, in the order in which they pay. The first one is there
# always. What pays from a year's burden looks at what the patient still bears in the catalogue (自付一 and 自付二).
_ORDER: Final = {
    "hifp_pay": "above-threshold",
    "hifob_pay": "above-cap",
    "hifmi_pay": "year-burden",
    "maf_pay": "year-burden",
    "cvlserv_pay": "year-burden",
    "hifes_pay": "year-burden",
    "oth_pay": "year-burden",
}
BURDEN: Final = tuple(pays for pays, base in _ORDER.items() if base == "year-burden")
"""The funds that pay from a year's burden: 大病, 救助, 公务员补助, 企业补充, other."""


@dataclass(frozen=True, slots=True)
class Segment:
    """From ``start`` (fen of the layer's base) to the next segment the fund pays ``ratio`` (ten-thousandths)."""

    start: int
    ratio: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One fund: the national field it fills, its segments, and the most it pays in a year (fen).

    ``threshold`` (fen a year) is that of a fund which pays from a year's burden; zero elsewhere.
    """

    pays: str
    cap: int
    clause: str
    segments: tuple[Segment, ...]
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """The row of a table that decides a case, of a stay or of a visit.

    ``psn_type`` are prefixes; ``threshold`` is fen a year.
    """

    name: str
    begin: date
    end: date
    insutype: str
    psn_type: tuple[str, ...]
    hosp_lv: tuple[str, ...]
    threshold: int
    threshold_clause: str
    layers: tuple[Layer, ...]
    clauses: Mapping[str, str]
    payable_c: bool
    account_in_fund_total: bool
    outpatient: bool = False

    def covers(self, day: date, insutype: str, psn_type: str, hosp_lv: str, *, outpatient: bool = False) -> bool:
        """Whether the rule decides a case settled on ``day``, both ends included."""
        person = psn_type.startswith(self.psn_type)
        if outpatient is not self.outpatient or insutype != self.insutype:
            return False
        return self.begin <= day <= self.end and person and hosp_lv in self.hosp_lv


@dataclass(frozen=True, slots=True)
class Table:
    """A city's rules in one version. ``name`` is a token, ``city`` what people call it.

    ``account_in_fund_total``: the city prints the fund total with the personal account in it.
    ``unstated`` is what the payer's own registers say where a claim does not: insutype, psn_type and hosp_lv.
    """

    name: str
    city: str
    version: str
    unstated: Mapping[str, str]
    rules: tuple[Rule, ...]
    account_in_fund_total: bool = False

    def rule(
        self, day: date, insutype: str | None, psn_type: str | None, hosp_lv: str | None, *, outpatient: bool = False
    ) -> Rule:
        """The rule for a case; codes as in the national interface. Raises `Refused` (settlement.undecided)."""
        given = {"insutype": insutype, "psn_type": psn_type, "hosp_lv": hosp_lv}
        case = [value or self.unstated[name] for name, value in given.items()]
        for rule in self.rules:
            if rule.covers(day, *case, outpatient=outpatient):
                return rule
        what = "this day, insurance type, person category, hospital grade and kind of care"
        raise Refused("settlement.undecided", f"the table of {self.city} has no rule for {what}")


def parse(source: str) -> Table:
    """Read a table (TOML). Raises `Malformed` (policy.invalid) with the place at fault."""
    try:
        top = Fields(tomllib.loads(source), "", _REASON)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(_REASON, "not TOML") from error
    name, city, version = (top.need(_NAME, key) for key in ("name", "city", "version"))
    payable_c, account_inside = top.need(FLAG, "payable_c"), top.need(FLAG, "account_in_fund_total")
    clauses, unstated = _clauses(top.inner("clauses")), _unstated(top.inner("unstated"))
    rules = tuple(
        _rule(row, f"{name}/{version}/{number}", clauses, payable_c, account_inside)
        for number, row in enumerate(top.rows("rule", _MOST), start=1)
    )
    top.finish()
    for one, other in combinations(rules, 2):
        if _overlap(one, other):
            raise Malformed(_REASON, f"rules {one.name} and {other.name} fit the same case")
    return Table(name, city, version, unstated, rules, account_inside)


def names() -> list[str]:
    """The tables of this version, sorted."""
    return sorted(table.name for table in _all())


def load(name: str) -> Table:
    """The table of this name, or of the city of this name. Raises `Malformed` (usage.argument) with those there are."""
    for table in _all():
        if name in (table.name, table.city):
            return table
    raise Malformed("usage.argument", f"no such table; there is: {', '.join(names())}")


@cache
def _all() -> tuple[Table, ...]:
    folder = resources.files("clients.public_payer") / "tables"
    return tuple(parse(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml"))


def _clauses(fields: Fields) -> Mapping[str, str]:
    found = {name: fields.need(CLAUSE, name) for name in _CLAUSES}
    fields.finish()
    return found


def _unstated(fields: Fields) -> Mapping[str, str]:
    found = {name: fields.need(_NAME, name) for name in _UNSTATED}
    fields.finish()
    return found


def _rule(row: Fields, name: str, clauses: Mapping[str, str], payable_c: bool, account_inside: bool) -> Rule:
    threshold = row.inner("threshold")
    rule = Rule(
        name=name,
        begin=row.need(DAY, "begin"),
        end=row.need(DAY, "end"),
        insutype=row.need(_NAME, "insutype"),
        psn_type=row.texts("psn_type"),
        hosp_lv=row.texts("hosp_lv"),
        threshold=threshold.need(AMOUNT, "amount"),
        threshold_clause=threshold.need(CLAUSE, "clause"),
        layers=_layers(row),
        clauses=clauses,
        payable_c=payable_c,
        account_in_fund_total=account_inside,
        outpatient=row.maybe(_CARE, "care") or False,
    )
    threshold.finish()
    row.finish()
    return rule


def _layers(row: Fields) -> tuple[Layer, ...]:
    found = tuple(_layer(layer) for layer in row.rows("layer", len(_ORDER)))
    places = [list(_ORDER).index(layer.pays) for layer in found]
    if places[0] != 0 or any(after <= before for before, after in pairwise(places)):
        raise row.refusal("layer", f"must start with hifp_pay and keep the order {', '.join(_ORDER)}")
    return found


def _layer(layer: Fields) -> Layer:
    pays = layer.need(_NAME, "pays")
    if layer.need(_NAME, "base") != _ORDER.get(pays):
        raise layer.refusal("base", "is not what this fund pays from: this version knows no other layer here")
    threshold = layer.need(AMOUNT, "threshold") if pays in BURDEN else 0
    found = Layer(pays, layer.need(AMOUNT, "cap"), layer.need(CLAUSE, "clause"), _segments(layer), threshold)
    layer.finish()
    return found


def _segments(layer: Fields) -> tuple[Segment, ...]:
    rows = layer.rows("segments", _MOST)
    found = tuple(Segment(row.need(AMOUNT, "from"), row.need(RATIO, "ratio")) for row in rows)
    for row in rows:
        row.finish()
    if found[0].start != 0 or any(after.start <= before.start for before, after in pairwise(found)):
        raise layer.refusal("segments", "must start at 0.00 and rise")
    return found


def _overlap(one: Rule, other: Rule) -> bool:
    persons = any(a.startswith(b) or b.startswith(a) for a in one.psn_type for b in other.psn_type)
    days = one.begin <= other.end and other.begin <= one.end
    same = one.insutype == other.insutype and one.outpatient is other.outpatient
    return days and persons and same and bool({*one.hosp_lv} & {*other.hosp_lv})
