"""The public payer's answer to a claim: from the released units to a split that its tables make (SETTLEMENT 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date

from clients.daybook import day_of
from clients.decision import RESERVED_S, Decision
from clients.ledger import Holding, Ledger
from clients.public_payer import personal
from clients.public_payer.rules import Table
from clients.public_payer.split import PublicSplit, YearToDate, settle
from zhifu.cbor import Value
from zhifu.errors import Malformed
from zhifu.pricing import PricedLine

_USED = tuple(one.name for one in fields(YearToDate))


def lines(values: Mapping[str, Value]) -> list[PricedLine]:
    """The priced lines in a claim's columns. Raises `Malformed` (schema.value) where a column is missing."""
    try:
        prices, counts = values["item-prices"]
        _, amounts = values["item-charges"]
        classes, ratios, limits, _ = values["item-catalog"]
        columns = zip(classes, amounts, prices, counts, limits, ratios, strict=True)
        return [PricedLine(*row) for row in columns]
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed("schema.value", "the claim does not have the columns that the split needs") from error


def decide(
    values: Mapping[str, Value], table: Table, ledger: Ledger, exchange: bytes, now: int, *, outpatient: bool = False
) -> Decision:
    """Split a claim and hold what it uses of the person's year; visits have a year of their own.

    ``exchange`` names the claim; ``now`` is Unix s.

    ``acct_left`` is what of the personal account is held for the patient's own share: she says at the confirmation how
    much of it she uses.

    Raises `Malformed` (schema.value, bill.identity), `Refused` where no rule of the table covers the case.
    """
    insutype, psn_type, _ = values.get("insurance") or (None, None, None)
    _, _, grade = values.get("hospital") or (None, None, None)
    person = values.get("citizen-id") or values.get("insured-number")
    if person is None:
        raise Malformed("schema.value", "the claim names no insured person")
    seen = values.get("discharge") or values.get("visit-date")
    day = date.fromisoformat(seen) if seen else day_of(now)
    rule = table.rule(day, insutype, psn_type, grade, outpatient=outpatient)
    account = ledger.account("outpatient-year" if outpatient else "year", str(day.year), person)
    used = ledger.used(account, now)
    before = YearToDate(**{name: used.get(name, 0) for name in _USED})
    split = settle(rule, lines(values), before)
    until = now + RESERVED_S
    ledger.reserve(account, Holding(exchange, "reserved", _held(split, before), until, now), now)
    shown = amounts(split) | {"acct_left": personal.hold(ledger, person, exchange, split.psn_cash_pay, until, now)}
    return Decision("reserved", shown, split.explain, exchange, until)


def _held(split: PublicSplit, before: YearToDate) -> dict[str, int]:
    """What the bill uses of the person's year, by the ledger's tokens."""
    used = {name: getattr(split.year, name) - getattr(before, name) for name in _USED}
    return {"pay": split.funds, **{name: fen for name, fen in used.items() if fen}}


def amounts(split: PublicSplit) -> dict[str, int]:
    """Every national field of the split that is an amount, by its own name, in fen."""
    named = {one.name: getattr(split, one.name) for one in fields(split)}
    return {name: value for name, value in named.items() if isinstance(value, int)}
