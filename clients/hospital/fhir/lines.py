"""The items of a Claim as lines of a bill, with exact amounts of one currency that add up to the Claim's total.

What the national interface says of a line and FHIR has no element for stands in a supportingInfo that the item names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from clients.hospital.fhir.amounts import minor_units, ten_thousandths
from clients.hospital.fhir.coding import code, coding, display, national
from clients.hospital.fhir.person import one_name
from clients.hospital.fhir.place import Place
from clients.hospital.fhir.reading import Reading
from clients.hospital.fhir.resources import Resource
from clients.hospital.openbill import OpenBill, OpenLine
from zhifu import bill_forms as forms
from zhifu.bill import MAX_LINES
from zhifu.errors import Malformed

INFORMATION: Final = ("selfpay_prop", "pric_uplmt", "lmt_used_flag")


@dataclass(slots=True)
class _Shared:
    """What the items refer to by sequence, and the one currency."""

    information: Mapping[int, tuple[str, int | None]]
    doctors: Mapping[int, str]
    departments: Mapping[int, str]
    currency: str = ""
    seen: set[int] = field(default_factory=set)


def read(claim: Resource, bill: OpenBill, reading: Reading) -> OpenBill:
    """``bill`` with its lines and total. Raises `Malformed` (bill.syntax, bill.identity) with the path."""
    rows = claim.place.rows("item")
    if len(rows) > MAX_LINES:
        raise rows[MAX_LINES].refusal(f"is more than the {MAX_LINES} lines of a bill")
    shared = _shared(claim, reading)
    lines = tuple(_line(row, shared, reading) for row in rows)
    total = _total(claim.place, lines, shared)
    return replace(bill, lines=lines, currency=shared.currency, total=total)


def _shared(claim: Resource, reading: Reading) -> _Shared:
    doctors, departments = _team(claim, reading)
    information: dict[int, tuple[str, int | None]] = {}
    for row in claim.place.rows("supportingInfo"):
        for name in INFORMATION:
            if coding(row.maybe("category"), national(name)) is not None:
                value = row.need("valueQuantity").need("value")
                information[_sequence(row, information)] = name, ten_thousandths(value)
    return _Shared(information, doctors, departments)


def _team(claim: Resource, reading: Reading) -> tuple[Mapping[int, str], Mapping[int, str]]:
    """Who ordered, by sequence: practitioners are doctors, organisations departments."""
    doctors: dict[int, str] = {}
    departments: dict[int, str] = {}
    for row in claim.place.rows("careTeam"):
        held = reading.resources.find(row.need("provider"), claim)
        if held is None or held.kind not in ("Practitioner", "Organization"):
            reading.note(row.need("provider"), "left out: names no practitioner and no department")
            continue
        found = reading.resources.read(held)
        reading.reach(found)
        if held.kind == "Practitioner":
            names = found.place.rows("name")
            name, into = one_name(names[0], reading, forms.NAME) if names else None, doctors
        else:
            name, into = reading.fit(found.place.maybe("name"), forms.NAME), departments
        if name is not None:
            into[_sequence(row, into)] = name
    return doctors, departments


def _line(row: Place, shared: _Shared, reading: Reading) -> OpenLine:
    _sequence(row, shared.seen)
    shared.seen.add(row.need("sequence").whole())
    product = row.need("productOrService")
    coded = coding(product, national("med_list_codg")) or _only(product)
    said = dict(_information(row, shared))
    pric, cnt = _price(row, shared, reading)
    return OpenLine(
        path=row.path,
        med_list_codg=reading.fit(coded.need("code"), forms.TOKEN) if coded is not None else None,
        medins_list_name=display(coded),
        med_chrgitm_type=code(row.maybe("category"), "med_chrgitm_type", forms.CHARGE_TYPE),
        chrgitm_lv=_class(row),
        pric=pric,
        cnt=cnt,
        amt=_amount(row.maybe("net"), shared),
        selfpay_prop=said.get("selfpay_prop"),
        pric_uplmt=said.get("pric_uplmt"),
        lmt_used_flag=bool(said["lmt_used_flag"]) if "lmt_used_flag" in said else None,
        bilg_dr_name=_first(row, shared.doctors),
        bilg_dept_name=_first(row, shared.departments),
        fee_ocur_time=_day(row, reading),
    )


def _only(product: Place) -> Place | None:
    """The coding of a product, where there is one alone: of two nobody could say which the bill means."""
    found = [row for row in product.rows("coding") if row.maybe("code") is not None]
    return found[0] if len(found) == 1 else None


def _class(row: Place) -> str | None:
    found = [code(one, "chrgitm_lv", forms.CLASS) for one in row.rows("programCode")]
    return next((one for one in found if one is not None), None)


def _price(row: Place, shared: _Shared, reading: Reading) -> tuple[int | None, int | None]:
    """Unit price and count in ten-thousandths. With a factor both are left out: a bill's line has none."""
    factor = row.maybe("factor")
    if factor is not None and factor.number() != 1:
        reading.note(factor, "left out with price and count: a line of a bill has no factor")
        return None, None
    price, count = row.maybe("unitPrice"), row.inside("quantity", "value")
    if price is not None:
        _same_currency(price, price.need("currency").text(), shared)
    exact = [None if one is None else ten_thousandths(one) for one in (price and price.need("value"), count)]
    for place, value in zip((price, count), exact, strict=True):
        if place is not None and value is None:
            reading.note(place, "left out: more than four places")
    return exact[0], exact[1]


def _amount(net: Place | None, shared: _Shared) -> int | None:
    if net is None:
        return None
    currency, minor = minor_units(net)
    _same_currency(net, currency, shared)
    return minor


def _same_currency(place: Place, currency: str, shared: _Shared) -> None:
    if shared.currency and currency != shared.currency:
        raise place.need("currency").refusal("is not the currency of the other amounts")
    shared.currency = currency


def _information(row: Place, shared: _Shared) -> list[tuple[str, int]]:
    found = []
    for place in row.rows("informationSequence"):
        name, value = shared.information.get(place.whole(), ("", None))
        if name and value is None:
            raise place.refusal("names a value with more than four places")
        if name and value is not None:
            found.append((name, value))
    return found


def _first(row: Place, names: Mapping[int, str]) -> str | None:
    found = [names[one.whole()] for one in row.rows("careTeamSequence") if one.whole() in names]
    return found[0] if found else None


def _day(row: Place, reading: Reading) -> date | None:
    period = row.maybe("servicedPeriod")
    return reading.day(row.maybe("servicedDate") or (period.maybe("start") if period is not None else None))


def _sequence(row: Place, taken: Mapping[int, object] | set[int]) -> int:
    place = row.need("sequence")
    if place.whole() in taken:
        raise place.refusal("stands there twice")
    return place.whole()


def _total(claim: Place, lines: tuple[OpenLine, ...], shared: _Shared) -> int | None:
    """The Claim's total, else the sum of its items where each has an amount."""
    amounts = [line.amt for line in lines]
    known = sum(amount for amount in amounts if amount is not None)
    whole = known if amounts and None not in amounts else None
    total = claim.maybe("total")
    if total is None:
        return whole
    declared = _amount(total, shared)
    if whole is not None and declared != whole:
        raise Malformed("bill.identity", f"{total.path}.value: is not the sum of the items")
    return declared
