"""The patient's statement: who pays what under which clause, by which order rule, and what is left."""

from __future__ import annotations

from collections.abc import Mapping

from clients.hospital import coordination, record
from clients.hospital.case import Case
from clients.hospital.openbill import AnyBill, head_of, split_of
from zhifu.cbor import Value
from zhifu.receive import Opened

PATIENT: str = "本人 / you"


def values(case: Case, bill: AnyBill, answers: Mapping[str, Opened], names: Mapping[str, str]) -> dict[str, Value]:
    """The units of a ``statement``; ``answers`` are the payers' decisions, ``names`` what each is called."""
    head = head_of(bill)
    return {
        "encounter": case.encounter,
        "hospital": record.hospital(bill),
        "stay": [day.isoformat() if day else None for day in (head.begndate, head.enddate)],
        "totals": record.totals(bill.split) if bill.split else None,
        "payments": _payments(case, answers, names),
        "clauses": _clauses(case, bill, answers),
        "remainder": case.amounts["patient"],
    }


def _payments(case: Case, answers: Mapping[str, Opened], names: Mapping[str, str]) -> list[Value]:
    roles = {payer: "public-payer" if payer == "public" else "insurer" for payer in answers}
    rows: list[Value] = [list(row) for row in case.quick.rows] if case.quick else []
    rows += [[role, names[payer], case.pay(payer)] for payer, role in roles.items()]
    return [*rows, ["patient", PATIENT, case.amounts["patient"]]]


def _clauses(case: Case, bill: AnyBill, answers: Mapping[str, Opened]) -> list[Value]:
    """Every payer's own rows, in the order in which they pay; before them the rule that ordered them."""
    rule = coordination.load(case.desk.order).explain(split_of(bill).total)
    rows: list[Value] = [[rule.field, rule.amount, rule.clause, rule.reason]]
    return rows + [list(row) for opened in answers.values() for row in opened.values.get("clauses") or ()]
