"""Reconciling a day: what the payers signed against what the hospital knows, each difference by name (SETTLEMENT 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from clients import daybook
from clients.hospital import asking, check
from clients.hospital import case as cases
from clients.hospital.case import Case
from clients.ledger import LONGEST_S
from clients.store import Store
from zhifu.daybook import DayStatement, Row

EDGE_S: Final = 900
"""What ended this close to midnight may stand in the neighbouring day's statement."""
_EXPECTED: Final[Mapping[str, tuple[str, ...]]] = {
    "confirmed": ("committed",),
    "reversing": ("committed", "reversed"),
    "reversed": ("reversed",),
    "cancelled": ("cancelled", "expired"),
    "failed": ("cancelled", "expired", "reversed"),
    "open": ("reserved", "expired"),
    "reserved": ("reserved", "committed", "expired"),
    "lapsed": ("reserved", "expired"),
}


@dataclass(frozen=True, slots=True)
class Known:
    """One reservation as the hospital knows it; ``pay`` is fen, ``ended`` Unix s, 0 while it goes on."""

    settlement: bytes
    payer: bytes
    state: str
    pay: int
    ended: int


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` is amount, state, unknown-here or missing-there; what one side does not have is None or empty."""

    what: str
    payer: bytes
    reservation: bytes
    settlement: bytes
    here_fen: int | None
    there_fen: int | None
    here: str
    there: str


def known(store: Store, there: Sequence[DayStatement], day: date) -> dict[bytes, Known]:
    """The reservations that payers told this hospital of, by their ids: of the settlements that changed about ``day``.

    A row of ``there`` that is none of them may be of any time (a reviewer decided after the desk gave up): then all are
    looked through, which takes a millisecond for each settlement.
    """
    found = _by_id(store, cases.changed(store, (daybook.begins(day) - LONGEST_S) * 1000))
    if all(row.reservation in found for one in there for row in one.rows):
        return found
    return _by_id(store, cases.every(store))


def _by_id(store: Store, of: Iterable[Case]) -> dict[bytes, Known]:
    return {reservation: one for case in of for reservation, one in _of(store, case)}


def _of(store: Store, case: Case) -> Iterator[tuple[bytes, Known]]:
    for payer in case.payers:
        step = case.claim(payer)
        if step in case.exchanges:
            yield from _held(store, case, case.exchanges[step], case.state, case.finished // 1000)
        for exchange in case.lapsed(payer):
            yield from _held(store, case, exchange, "lapsed", 0)


def _held(store: Store, case: Case, exchange: bytes, state: str, ended: int) -> Iterator[tuple[bytes, Known]]:
    for opened in store.incoming.answers(exchange):
        found = asking.read(opened)
        if found.outcome == "reserved":
            yield found.reservation, Known(case.id, opened.presentation.sender, state, check.owes(found), ended)


def differences(here: Mapping[bytes, Known], there: Iterable[DayStatement], day: date) -> list[Difference]:
    """What does not agree between the hospital's memory and the payers' statements of ``day``."""
    found: list[Difference] = []
    for statement in there:
        rows = {row.reservation: row for row in statement.rows}
        found += [one for row in rows.values() if (one := _compare(statement.payer, row, here.get(row.reservation)))]
        found += _missing(statement.payer, rows, here, day)
    return found


def uncompared(here: Mapping[bytes, Known], there: Iterable[DayStatement], day: date) -> Counter[bytes]:
    """How many reservations ended on ``day`` at each payer whose statement is not there."""
    stated = {one.payer for one in there}
    return Counter(one.payer for one in here.values() if one.payer not in stated and _surely_on(one.ended, day))


def _compare(payer: bytes, row: Row, one: Known | None) -> Difference | None:
    if one is None or one.payer != payer:
        return Difference("unknown-here", payer, row.reservation, b"", None, row.pay, "", row.state)
    what = "amount" if one.pay != row.pay else "state" if row.state not in _EXPECTED[one.state] else ""
    if not what:
        return None
    return Difference(what, payer, row.reservation, one.settlement, one.pay, row.pay, one.state, row.state)


def _missing(payer: bytes, rows: Mapping[bytes, Row], here: Mapping[bytes, Known], day: date) -> Iterator[Difference]:
    for reservation, one in here.items():
        if one.payer == payer and reservation not in rows and _surely_on(one.ended, day):
            yield Difference("missing-there", payer, reservation, one.settlement, one.pay, None, one.state, "")


def _surely_on(ended: int, day: date) -> bool:
    return bool(ended) and all(daybook.day_of(ended + edge) == day for edge in (-EDGE_S, EDGE_S))
