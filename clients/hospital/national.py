"""An open bill as a file in the national interface's field names; the inverse of `zhifu.bill.parse`.

A file is whole or it is not written: a field that the interface needs and the claim left open is refused by the path
where the claim should have said it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from typing import Any, Final

from clients.hospital.openbill import CNY, Head, OpenBill, OpenLine
from zhifu import bill as bills
from zhifu import money
from zhifu.bill import Diagnosis, Procedure
from zhifu.errors import Malformed
from zhifu.pricing import CLASS_B, CLASS_C_PAYABLE

Json = dict[str, Any]
_REASON: Final = "bill.syntax"
_NOT_WRITTEN: Final = ("policy_no", "inpatient")
# What a line needs, and the element of a FHIR item that says it.
_NEEDED: Final = {
    "med_list_codg": "productOrService",
    "med_chrgitm_type": "category",
    "chrgitm_lv": "programCode",
    "pric": "unitPrice",
    "cnt": "quantity",
    "amt": "net",
}
_WRITTEN: Final[Mapping[str, Callable[[Any], str]]] = {
    "pric": money.decimal,
    "cnt": money.decimal,
    "pric_uplmt": money.decimal,
    "selfpay_prop": money.decimal,
    "amt": money.yuan,
    "lmt_used_flag": lambda flag: str(int(flag)),
    "fee_ocur_time": date.isoformat,
    "brdy": date.isoformat,
    "begndate": date.isoformat,
    "enddate": date.isoformat,
    "gend": str,
}


def document(bill: OpenBill) -> Json:
    """The file as JSON values. Raises `Malformed` (bill.syntax) with the path of what is missing."""
    if bill.currency != CNY:
        raise _refusal(bill, "total", "is not in yuan (CNY): a national bill has no other currency")
    for name, at in (("psn_name", "patient"), ("certno", "patient")):
        if getattr(bill.head, name) is None:
            raise _refusal(bill, at, f"the patient has no {name}, which a national bill needs")
    if not bill.diagnoses:
        raise _refusal(bill, "diagnosis", "no ICD-10 diagnosis, which a national bill needs")
    if not bill.lines:
        raise _refusal(bill, "item", "has no line")
    found = {
        "setlinfo": _head(bill),
        "feedetail": [_line(line) for line in bill.lines],
        "diseinfo": [_diagnosis(one) for one in bill.diagnoses],
        "oprninfo": [_procedure(one) for one in bill.procedures or ()],
    }
    return {name: value for name, value in found.items() if value}


def encode(bill: OpenBill) -> bytes:
    """The file, checked as one that came from outside would be. Raises `Malformed` (bill.syntax, bill.identity)."""
    content = json.dumps(document(bill), ensure_ascii=False, indent=1).encode()
    bills.parse(content)
    return content


def _refusal(bill: OpenBill, name: str, why: str) -> Malformed:
    return Malformed(_REASON, f"{bill.path}.{name}: {why}" if bill.path else f"{name}: {why}")


def _head(bill: OpenBill) -> Json:
    values = {one.name: getattr(bill.head, one.name) for one in fields(Head) if one.name not in _NOT_WRITTEN}
    split = bill.split
    sums = {} if split is None else {
        "medfee_sumamt": split.total, "fulamt_ownpay_amt": split.own, "overlmt_selfpay": split.over,
        "preselfpay_amt": split.pre, "inscp_scp_amt": split.inscp,
    }  # fmt: skip
    return _said(values) | {name: money.yuan(fen) for name, fen in sums.items()}


def _line(line: OpenLine) -> Json:
    needed = _NEEDED | ({"selfpay_prop": "informationSequence"} if line.chrgitm_lv in _SHARED else {})
    for name, element in needed.items():
        if getattr(line, name) is None:
            raise Malformed(_REASON, f"{line.path}.{element}: does not say {name}, which a national bill needs")
    values = {one.name: getattr(line, one.name) for one in fields(OpenLine) if one.name != "path"}
    return _said(values | {"selfpay_prop": line.prop})


_SHARED: Final = (CLASS_B, CLASS_C_PAYABLE)


def _diagnosis(one: Diagnosis) -> Json:
    return {"diag_code": one.diag_code, "diag_name": one.diag_name, "maindiag_flag": str(int(one.maindiag_flag))}


def _procedure(one: Procedure) -> Json:
    return _said({"oprn_oprt_code": one.oprn_oprt_code, "oprn_oprt_name": one.oprn_oprt_name})


def _said(values: Mapping[str, Any]) -> Json:
    """What is there, written as the interface writes it."""
    return {name: _WRITTEN.get(name, str)(value) for name, value in values.items() if value is not None}
