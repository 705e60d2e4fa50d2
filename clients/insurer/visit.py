"""What an insurer takes for the same visit, and that its rules pay it once.

It is shown no number of a visit, so that a visit is known by the secret of its encounter, which its hospital seals into
each of its records; and for the same person by the same days and sums, whichever hospital says so. What looks like a
visit again is a reviewer's: it may be an interim bill, and two visits of a day may cost the same.

What she reports herself has no secret and her own figures: it may be any claim of hers for that day, and any claim for
that day may be it.
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
_MOST_MONTHS: Final = 24
_UNDATED: Final = ""
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


def days(insured: Insured | None, one: Part, tx: Transaction) -> list[bytes]:
    """Where any claim of a person is found by its days: by month, since of years there are many claims."""
    if insured is None:
        return []
    return [naming.name(tx.store, "days", insured.person.hex(), month) for month in _months(one) or (_UNDATED,)]


def undated(insured: Insured | None, tx: Transaction) -> list[bytes]:
    """Where her claims are found that showed no day."""
    return [naming.name(tx.store, "days", insured.person.hex(), _UNDATED)] if insured is not None else []


def reports(insured: Insured | None, tx: Transaction) -> list[bytes]:
    """Where all that a person reported herself is found: it is little."""
    return [naming.name(tx.store, "reports", insured.person.hex())] if insured is not None else []


def _months(one: Part) -> list[str]:
    """ISO months that a part touches; none where it has no days, for which a stay of more than two years is taken."""
    begin, end = (12 * day.year + day.month - 1 for day in (date.fromisoformat(one.begin), date.fromisoformat(one.end)))
    if end - begin >= _MOST_MONTHS:
        return []
    return [f"{month // 12}-{month % 12 + 1:02d}" for month in range(begin, end + 1)]


def reported(digest: bytes, subject_key: bytes, day: date) -> Part:
    """What a patient reported, by its parcel's hash and her key."""
    return Part(digest, subject_key, digest, day.isoformat(), day.isoformat())


def part(bill: Opened) -> Part:
    """The days as far as they are shown: of a month, all."""
    values = bill.values
    first, last = (Span.of(values.get(name) or values.get("visit-date")) for name in ("admission", "discharge"))
    begin, end = first.first if first else date.min, last.last if last else date.max
    return Part.of(bill, begin, max(begin, end))
