"""From a bill to the units of a record, and what the hospital may ask of whom (DESIGN 4.1).

Default deny: what the schema ``inpatient-claim`` does not name is not sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from zhifu import icd
from zhifu.bill import Bill, Diagnosis, Line
from zhifu.cbor import Value
from zhifu.icd import NO_TABLE, CodeTable
from zhifu.pricing import Split

SCHEMA: Final = "inpatient-claim"


def claim(bill: Bill, encounter: bytes, table: CodeTable = NO_TABLE) -> dict[str, Value]:
    """The finest value of every unit of an inpatient claim; ``encounter`` is the secret drawn for it, 32 bytes.

    ``table``, the hospital's diagnosis codes, finds sensitive diagnoses under codes of another edition too.
    """
    head = bill.setlinfo
    plain, sensitive = _diagnoses(bill.diagnoses, table)
    return {
        "encounter": encounter,
        "name": head.psn_name,
        "citizen-id": head.certno if head.psn_cert_type == "01" else None,
        "birth-date": _day(head.brdy),
        "sex": head.gend,
        "phone": head.tel,
        "address": head.addr,
        "insured-number": head.psn_no,
        "visit-number": head.mdtrt_id,
        "invoice-number": head.invono,
        "bank-account": head.bankacct,
        "hospital": _hospital(bill),
        "insurance": [head.insutype, head.psn_type, head.med_type],
        "admission": _day(head.begndate),
        "discharge": _day(head.enddate),
        "stay": head.days,
        "diagnosis": plain,
        "sensitive-diagnosis": sensitive,
        "totals": totals(bill.split),
        **_items(bill.lines),
    }


def totals(split: Split) -> list[list[Value]]:
    """A split by category, as the form ``money``: token and fen."""
    return [
        ["total", split.total],
        ["own", split.own],
        ["over", split.over],
        ["pre", split.pre],
        ["inscp", split.inscp],
    ]


def _hospital(bill: Bill) -> list[Value] | None:
    head = bill.setlinfo
    if head.fixmedins_code is None or head.fixmedins_name is None:
        return None
    return [head.fixmedins_code, head.fixmedins_name, head.hosp_lv]


def _diagnoses(found: Sequence[Diagnosis], table: CodeTable) -> tuple[list[Value] | None, list[Value] | None]:
    """Plain and sensitive ones: HIV, psychiatric, genetic and others are a unit of their own (`zhifu.icd`)."""
    plain: list[Value] = []
    sensitive: list[Value] = []
    for one in found:
        reason = icd.sensitivity(one.diag_code, one.diag_name, table)
        rows = plain if reason is None else sensitive
        rows.append([one.diag_code, one.diag_name, int(one.maindiag_flag)])
    return plain or None, sensitive or None


def _items(lines: Sequence[Line]) -> Mapping[str, Value]:
    return {
        "item-codes": [line.med_list_codg for line in lines],
        "item-names": [line.medins_list_name for line in lines],
        "item-prices": [[line.pric for line in lines], [line.cnt for line in lines]],
        "item-charges": [[line.med_chrgitm_type for line in lines], [line.amt for line in lines]],
        "item-catalog": [
            [line.chrgitm_lv for line in lines],
            [line.selfpay_prop for line in lines],
            [line.pric_uplmt for line in lines],
            [int(line.lmt_used_flag) for line in lines],
        ],
        "item-dates": [_day(line.fee_ocur_time) for line in lines],
        "item-doctors": [line.bilg_dr_name for line in lines],
        "item-departments": [line.bilg_dept_name for line in lines],
    }


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
