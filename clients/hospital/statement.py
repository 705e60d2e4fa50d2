"""The patient's statement: who pays what under which clause, by which order rule, and what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from clients.decision import STATEMENT
from clients.hospital import coordination, record
from clients.hospital.case import Case
from clients.hospital.openbill import AnyBill, head_of, split_of
from zhifu import cbor, schema
from zhifu.cbor import Value
from zhifu.receive import Opened

PATIENT: Final = "本人 / you"
_NAME: Final = 40
"""Characters of a payer's name where there is no room for more: eleven rows of them fit."""


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
    rows = list(case.quick.rows) if case.quick else []
    rows += [(role, names[payer], case.pay(payer)) for payer, role in roles.items()]
    return _short([*rows, ("patient", PATIENT, case.amounts["patient"])])


def _short(rows: Sequence[tuple[str, str, int]]) -> list[Value]:
    """Names as they are; where the unit does not hold them all, the first characters of each."""
    whole: list[Value] = [list(row) for row in rows]
    if _bytes(whole) <= _room("payments"):
        return whole
    return [[role, name if len(name) <= _NAME else name[: _NAME - 1] + "…", fen] for role, name, fen in rows]


def _clauses(case: Case, bill: AnyBill, answers: Mapping[str, Opened]) -> list[Value]:
    """Every payer's own rows, in the order in which they pay; before them the rule that ordered them."""
    rule = coordination.load(case.desk.order).explain(split_of(bill).total)
    first: list[Value] = [[rule.field, rule.amount, rule.clause, rule.reason]]
    said = [[list(row) for row in opened.values.get("clauses") or ()] for opened in answers.values()]
    return first + [row for rows in _within(said, _room("clauses") - _bytes(first)) for row in rows]


def _within(said: Sequence[list[Value]], room: int) -> list[list[Value]]:
    """Of each payer's rows, what ``room`` (bytes) holds: who needs less than an equal part leaves the rest to others.

    A payer may answer with as many as the whole statement holds, and a settlement must not fail by that after it was
    confirmed. Rows that are left out are counted in one more.
    """
    sizes = {place: _bytes(rows) for place, rows in enumerate(said)}
    kept = list(said)
    for done, place in enumerate(sorted(sizes, key=sizes.__getitem__)):
        part = room // (len(said) - done)
        if sizes[place] > part:
            kept[place] = _cut(said[place], part)
        room -= min(sizes[place], part)
    return kept


def _cut(rows: list[Value], room: int) -> list[Value]:
    """The first rows, as far as they fit with the one that counts the others."""
    at = len(rows)
    while at and _bytes([*rows[:at], _more(len(rows) - at)]) > room:
        at = at * 9 // 10
    return [*rows[:at], _more(len(rows) - at)]


def _more(left_out: int) -> Value:
    return ["clauses", 0, f"另有 {left_out} 条见其理赔决定 / {left_out} more in this payer's decision", "clauses.more"]


def _bytes(rows: Sequence[Value]) -> int:
    return len(cbor.encode(list(rows)))


def _room(unit: str) -> int:
    """The most that a unit of a statement holds, without its padding's mark, in bytes."""
    return max(schema.load(STATEMENT).unit(unit).levels[0].sizes) - 1
