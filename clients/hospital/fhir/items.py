"""The lines of an open bill as items of a Claim, and the doctors and departments that they name: inverse of `lines`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clients.hospital.fhir import amounts
from clients.hospital.fhir.coding import national
from clients.hospital.openbill import OpenBill, OpenLine

Json = dict[str, Any]
_NO_CODE: Final = {"text": "item"}
_INFORMATION: Final = ("selfpay_prop", "pric_uplmt", "lmt_used_flag")


def items(bill: OpenBill, visit: str | None) -> tuple[Json, list[Json]]:
    """The parts of a Claim (item, careTeam, supportingInfo), and the resources that careTeam refers to."""
    people = _Numbered()
    said = _Numbered()
    rows = [_item(number, line, bill.currency, visit, people, said) for number, line in enumerate(bill.lines, start=1)]
    information = [_information(number, *one) for one, number in said.items()]
    if bill.head.main_cond_dscr is not None:
        what = {"category": _concept("main_cond_dscr", "1"), "valueString": bill.head.main_cond_dscr}
        information.append({"sequence": len(information) + 1, **what})
    team = [{"sequence": number, "provider": {"reference": _place(*one, number)}} for one, number in people.items()]
    named = [_resource(*one, number) for one, number in people.items()]
    parts = {"item": rows, "careTeam": team, "supportingInfo": information}
    return {name: value for name, value in parts.items() if value}, named


class _Numbered:
    """Distinct things in the order in which they came, numbered from 1."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, Any], int] = {}

    def number(self, *one: Any) -> int:
        return self._numbers.setdefault(one, len(self._numbers) + 1)

    def items(self) -> Iterator[tuple[tuple[str, Any], int]]:
        yield from self._numbers.items()


def _item(number: int, line: OpenLine, currency: str, visit: str | None, people: _Numbered, said: _Numbered) -> Json:
    named = (("Practitioner", line.bilg_dr_name), ("Organization", line.bilg_dept_name))
    team = [people.number(kind, name) for kind, name in named if name is not None]
    stated = [(name, getattr(line, name)) for name in _INFORMATION]
    information = [said.number(name, value) for name, value in stated if value is not None]
    found = {
        "sequence": number,
        "careTeamSequence": team,
        "informationSequence": information,
        "category": _coded("med_chrgitm_type", line.med_chrgitm_type),
        "productOrService": _coded("med_list_codg", line.med_list_codg, line.medins_list_name) or _NO_CODE,
        "programCode": [_coded("chrgitm_lv", line.chrgitm_lv)] if line.chrgitm_lv else None,
        "servicedDate": line.fee_ocur_time.isoformat() if line.fee_ocur_time else None,
        "quantity": {"value": amounts.from_ten_thousandths(line.cnt)} if line.cnt is not None else None,
        "unitPrice": _price(line.pric, currency),
        "net": amounts.money(line.amt, currency),
        "encounter": [{"reference": visit}] if visit else None,
    }
    return {name: value for name, value in found.items() if value is not None and value != []}


def _price(pric: int | None, currency: str) -> Json | None:
    return None if pric is None else {"value": amounts.from_ten_thousandths(pric), "currency": currency}


def _information(number: int, name: str, value: Any) -> Json:
    # A flag is counted as 0 or 1: there is no boolean that this element may hold and Money could not.
    exact = amounts.from_ten_thousandths(int(value) * 10_000 if isinstance(value, bool) else value)
    return {"sequence": number, "category": _concept(name, "1"), "valueQuantity": {"value": exact}}


def _coded(field: str, code: str | None, display: str | None = None) -> Json | None:
    return None if code is None else _concept(field, code, display)


def _concept(field: str, code: str, display: str | None = None) -> Json:
    coding = {"system": national(field), "code": code}
    return {"coding": [coding | ({"display": display} if display else {})]}


def _place(kind: str, name: str, number: int) -> str:
    return f"{kind}/team-{number}"


def _resource(kind: str, name: str, number: int) -> Json:
    named: Any = name if kind == "Organization" else [{"text": name}]
    return {"resourceType": kind, "id": f"team-{number}", "name": named}
