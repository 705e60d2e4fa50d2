"""From a bill to the units of a record, and what the hospital may ask of whom (DESIGN 4.1).

Default deny: what the schema does not name is not sealed. What a bill leaves open is a unit without a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from importlib import import_module

from clients.decision import ELIGIBILITY, INPATIENT, OUTPATIENT
from clients.hospital.icd_tables import NO_TABLES, Tables
from clients.hospital.openbill import CNY, OpenBill, OpenLine, as_open, head_of
from zhifu import icd, schema
from zhifu.bill import Bill
from zhifu.cbor import Value
from zhifu.pricing import Split
from zhifu.schema import Schema


def schema_of(bill: Bill | OpenBill) -> Schema:
    """The schema that a bill is sealed under: of a stay, or of an outpatient visit."""
    head = head_of(bill)
    return schema.load(OUTPATIENT if head.is_outpatient else INPATIENT)


def claim(bill: Bill | OpenBill, encounter: bytes, tables: Tables = NO_TABLES) -> dict[str, Value]:
    """The finest value of every unit of `schema_of` the bill; ``encounter`` is the secret drawn for it, 32 bytes.

    ``tables``, the hospital's codes, find sensitive diagnoses and procedures under codes of another edition too.
    """
    given = as_open(bill)
    found = {"encounter": encounter, **_person(given), **_visit(given), **_illness(given, tables), **_items(given)}
    found["notes"] = _notes(bill) if isinstance(bill, Bill) else None
    return {unit.name: found[unit.name] for unit in schema_of(given).units}


def eligibility(bill: Bill | OpenBill, encounter: bytes, tables: Tables = NO_TABLES) -> dict[str, Value]:
    """The finest value of every unit of a question of cover; of an admission, what is known of it."""
    given = as_open(bill)
    head = given.head
    found = {"encounter": encounter, **_person(given), **_visit(given), **_illness(given, tables)}
    found["service-date"] = _day(head.begndate or head.enddate)
    return {unit.name: found[unit.name] for unit in schema.load(ELIGIBILITY).units}


def totals(split: Split) -> list[list[Value]]:
    """A split by category, as the form ``money``: token and fen."""
    return [
        ["total", split.total],
        ["own", split.own],
        ["over", split.over],
        ["pre", split.pre],
        ["inscp", split.inscp],
    ]


def hospital(bill: Bill | OpenBill) -> list[Value] | None:
    """Code, name and grade; None where code or name is open."""
    head = head_of(bill)
    if head.fixmedins_code is None or head.fixmedins_name is None:
        return None
    return [head.fixmedins_code, head.fixmedins_name, head.hosp_lv]


def _person(bill: OpenBill) -> Mapping[str, Value]:
    head = bill.head
    return {
        "name": head.psn_name,
        "citizen-id": head.certno if head.psn_cert_type == "01" else None,
        "birth-date": _day(head.brdy),
        "sex": head.gend,
        "phone": head.tel,
        "address": head.addr,
        "insured-number": head.psn_no,
        "bank-account": head.bankacct,
        "policy-number": head.policy_no,
    }


def _visit(bill: OpenBill) -> Mapping[str, Value]:
    head = bill.head
    insurance = [head.insutype, head.psn_type, head.med_type]
    return {
        "visit-number": head.mdtrt_id,
        "medical-record-number": head.medcasno,
        "invoice-number": head.invono,
        "hospital": hospital(bill),
        "insurance": insurance if any(insurance) else None,
        "admission": _day(head.begndate),
        "discharge": _day(head.enddate),
        "stay": head.days,
        "visit-date": _day(head.begndate or head.enddate),
    }


def _illness(bill: OpenBill, tables: Tables) -> Mapping[str, Value]:
    """Plain and sensitive ones: HIV, psychiatric, genetic and others are units of their own (`zhifu.icd`).

    Codes of another edition become those of the tables, so that category and chapter are this edition's.
    """
    plain: list[Value] = []
    sensitive: list[Value] = []
    for one in bill.diagnoses or ():
        reason = icd.sensitivity(one.diag_code, one.diag_name, tables.diagnoses)
        (plain if reason is None else sensitive).append(
            [tables.diagnoses.standard(one.diag_code), one.diag_name, int(one.maindiag_flag)]
        )
    done: list[Value] = []
    sensitive_done: list[Value] = []
    for act in bill.procedures or ():
        reason = icd.procedure_sensitivity(act.oprn_oprt_code, act.oprn_oprt_name or "", tables.procedures)
        (done if reason is None else sensitive_done).append(
            [tables.procedures.standard(act.oprn_oprt_code), act.oprn_oprt_name]
        )
    return {
        "diagnosis": plain or None,
        "sensitive-diagnosis": sensitive or None,
        "procedures": done or None,
        "sensitive-procedure": sensitive_done or None,
    }


def _items(bill: OpenBill) -> Mapping[str, Value]:
    lines, begin = bill.lines, bill.head.begndate
    days = [line.fee_ocur_time for line in lines]
    split = bill.split
    return {
        "item-codes": _some([line.med_list_codg for line in lines]),
        "item-names": _some([line.medins_list_name for line in lines]),
        "item-prices": _whole([line.pric for line in lines], [line.cnt for line in lines]),
        "item-charges": _charges(bill),
        "item-catalog": _catalog(lines),
        "item-dates": _some([_day(day) for day in days]),
        "item-intervals": _some([(day - begin).days if day and begin else None for day in days]),
        "item-doctors": _some([line.bilg_dr_name for line in lines]),
        "item-departments": _some([line.bilg_dept_name for line in lines]),
        "totals": totals(split) if split is not None else None,
    }


def _charges(bill: OpenBill) -> Value:
    if bill.currency != CNY:
        return None
    return _whole([line.med_chrgitm_type for line in bill.lines], [line.amt for line in bill.lines])


def _catalog(lines: Sequence[OpenLine]) -> Value:
    known_columns = _whole([line.chrgitm_lv for line in lines], [line.prop for line in lines])
    if known_columns is None:
        return None
    return [*known_columns, [line.pric_uplmt for line in lines], [int(line.lmt_used_flag or False) for line in lines]]


def _whole(*columns: list[Value]) -> list[Value] | None:
    """Columns without a gap, or nothing: a payer that adds up must not add up a part."""
    return None if not columns[0] or any(one is None for column in columns for one in column) else list(columns)


def _some(column: list[Value]) -> list[Value] | None:
    return column if any(one is not None for one in column) else None


def _notes(bill: Bill) -> Value:
    """What was written, and the same without the people in it: both are sealed, so that an auditor can compare."""
    text = bill.setlinfo.main_cond_dscr
    if text is None:
        return None
    # Imported when first needed: compiling its patterns takes longer than everything else that a command imports.
    from clients.hospital.scrub import known
    from clients.hospital.scrub.text import scrub

    return [text, scrub(text, known.from_bill(bill)).text]


def prepare() -> None:
    """Import what takes people out of text, so that nobody at a desk waits for it."""
    import_module("clients.hospital.scrub.text")
    import_module("clients.hospital.scrub.known")


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
