"""What an insurer takes for the same visit, and that its rules pay it once.

It is shown no number of a visit, so that a visit is known by the secret of its encounter, which its hospital seals into
each of its records; and for the same person by the same days and sums, whichever hospital says so. What looks like a
visit again is a reviewer's: it may be an interim bill, and two visits of a day may cost the same.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from clients import naming
from clients.insurer import review
from clients.insurer.cover import Span
from clients.ledger import Ledger
from clients.role import Transaction
from clients.store import Insured
from clients.visits import Part, Visits
from zhifu.explain import Explanation
from zhifu.receive import Opened

AGAIN: Final = Explanation(
    "pay", 0, "该次就诊已有一笔理赔，由人工核定 / a claim of this visit stands: a person decides", "review.visit_again"
)
_SUMS: Final = ("admission", "discharge", "stay", "visit-date", "totals")


def visits(tx: Transaction) -> Visits:
    """The claims of this node that are paid, held or being decided."""
    ledger = Ledger(tx.store)

    def stands(claim: bytes) -> bool:
        holding = ledger.find(claim)
        return review.is_open(tx.store, claim) or (holding is not None and holding.counts(tx.now))

    return Visits(tx.store, stands)


def places(bill: Opened, insured: Insured | None, tx: Transaction) -> list[bytes]:
    """Where the claims of a visit are found; nowhere for somebody who is not in the book, whom a person looks at."""
    if insured is None:
        return []
    encounter = (bill.presentation.sender.hex(), bill.values["encounter"].hex())
    figures = (f"{unit}={bill.values.get(unit)}" for unit in _SUMS)
    about = (("visit", *encounter), ("figures", *figures))
    return [naming.name(tx.store, kind, insured.person.hex(), *parts) for kind, *parts in about]


def part(bill: Opened) -> Part:
    """The days as far as they are shown: of a month, all."""
    values = bill.values
    first, last = (Span.of(values.get(name) or values.get("visit-date")) for name in ("admission", "discharge"))
    begin, end = first.first if first else date.min, last.last if last else date.max
    return Part.of(bill, begin, max(begin, end))
