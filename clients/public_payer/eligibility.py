"""The public payer's answer to a question of cover: by which rule, and what of the year is left (SETTLEMENT 2).

Nothing is held: what is left now may be used by the time that there is a bill. The personal account is not part of it:
the question needs no balance of the patient's own money.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from clients.daybook import day_of
from clients.decision import COVERED, UNCLEAR, Decision
from clients.ledger import Ledger
from clients.public_payer.rules import Rule, Table
from zhifu import bill_forms
from zhifu.cbor import Value
from zhifu.errors import Malformed, Refused
from zhifu.explain import Explanation


def answer(values: Mapping[str, Value], table: Table, ledger: Ledger, exchange: bytes, now: int) -> Decision:
    """Whether a rule of the table covers it, with threshold and fund caps left (fen); ``now`` is Unix s.

    Without a rule a person must look: that is no word on being insured. Raises `Malformed` (schema.value) where no
    insured person is named.
    """
    insutype, psn_type, care = values.get("insurance") or (None, None, None)
    _, _, grade = values.get("hospital") or (None, None, None)
    person = values.get("citizen-id") or values.get("insured-number")
    if person is None:
        raise Malformed("schema.value", "the question names no insured person")
    seen = values.get("service-date")
    day = date.fromisoformat(seen) if seen else day_of(now)
    outpatient = care is not None and bill_forms.is_outpatient(care)
    try:
        rule = table.rule(day, insutype, psn_type, grade, outpatient=outpatient)
    except Refused:
        row = Explanation("pay", 0, f"{table.city}：没有适用于该情形的规则 / no rule fits", "review.no_rule")
        return Decision(UNCLEAR, {}, (row,), exchange, 0)
    used = ledger.used(ledger.account("outpatient-year" if outpatient else "year", str(day.year), person), now)
    rows = tuple(_left(rule, used))
    return Decision(COVERED, {row.field: row.amount for row in rows}, rows, exchange, 0)


def _left(rule: Rule, used: Mapping[str, int]) -> Iterator[Explanation]:
    threshold = max(0, rule.threshold - used.get("act_pay_dedc", 0))
    yield Explanation("threshold_left", threshold, rule.threshold_clause, "eligibility.threshold")
    for layer in rule.layers:
        left = max(0, layer.cap - used.get(layer.pays, 0))
        yield Explanation(f"{layer.pays}_left", left, layer.clause, f"eligibility.{layer.pays}")
