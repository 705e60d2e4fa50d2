"""What the public payer takes for the same visit, and that it pays it once.

A visit is a person and the number that the national interface knows the visit by, however it is spelled, at whichever
hospital; without a number, a person, a hospital and the totals. Nobody lies in two hospitals at once either: the stays
that two of them claim for a person share no day but that of the transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Final

from clients import naming
from clients.decision import INPATIENT, Decision
from clients.ledger import Ledger
from clients.role import Transaction
from clients.visits import Part, Visits
from zhifu.cbor import Value
from zhifu.errors import Refused
from zhifu.identifiers.spelling import compact
from zhifu.receive import Opened

_REPEATED: Final = "该次就诊的这些天已由另一笔结算 / another claim of this visit stands for these days"
_ELSEWHERE: Final = "同期已有其他医院的住院结算 / another hospital's stay stands for these days"


def once(opened: Opened, tx: Transaction, decide: Callable[[], Decision]) -> Decision:
    """What ``decide`` says of a claim, or what was said of it when it was presented before.

    Raises `Refused` (settlement.repeated): another claim for these days of the visit stands. One that was cancelled,
    reversed or not confirmed in time does not.
    """
    ledger = Ledger(tx.store)
    visits = Visits(tx.store, lambda claim: _stands(ledger, claim, tx.now))
    same, stays, part = _visit(opened, tx), _stays(opened, tx), _part(opened)
    for one in visits.overlapping(same, part):
        if one.message != part.message:
            raise Refused("settlement.repeated", _REPEATED)
        return one.decision
    if any(one.sender != part.sender for one in visits.overlapping(stays, part)):
        raise Refused("settlement.repeated", _ELSEWHERE)
    found = decide()
    visits.put(same, part.answered(found), tx.now)
    # Never asked again by its message, and a person's stays are many: only its days.
    visits.put(stays, part, tx.now)
    return found


def _stands(ledger: Ledger, claim: bytes, now: int) -> bool:
    holding = ledger.find(claim)
    return holding is not None and holding.counts(now)


def _visit(opened: Opened, tx: Transaction) -> list[bytes]:
    values = opened.values
    number = values.get("visit-number")
    about = ("number", compact(number)) if number else ("bill", opened.presentation.sender.hex(), _totals(values))
    return [naming.name(tx.store, "visit", person, *about) for person in _persons(values)]


def _stays(opened: Opened, tx: Transaction) -> list[bytes]:
    """Where a stay of at least a night is found by its person alone; a visit has none."""
    if opened.manifest.schema.name != INPATIENT or opened.values.get("admission") == opened.values.get("discharge"):
        return []
    return [naming.name(tx.store, "stay", person) for person in _persons(opened.values)]


def _persons(values: Mapping[str, Value]) -> list[str]:
    """Each number that names her, so that one claim may name her by one and the next by another."""
    return [f"{unit} {values[unit]}" for unit in ("citizen-id", "insured-number") if values.get(unit)]


def _part(opened: Opened) -> Part:
    """The day of discharge does not count, one at least: on it the next part, or a stay elsewhere, may begin."""
    values = opened.values
    first, last = (values.get(name) or values.get("visit-date") for name in ("admission", "discharge"))
    begin, end = date.fromisoformat(first) if first else date.min, date.fromisoformat(last) if last else date.max
    return Part.of(opened, begin, max(begin, end - timedelta(days=1)))


def _totals(values: Mapping[str, Value]) -> str:
    return " ".join(f"{token}={fen}" for token, fen in values.get("totals") or ())
