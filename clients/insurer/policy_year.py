"""The policy year that a visit falls into, and the account of what is used of it.

A policy's years begin on the day of the year on which it began, or after the one on which it ends: renewed under the
same number, it has its deductible and its sum insured anew. A policy of which the book knows no day has one account.
"""

from __future__ import annotations

from datetime import date, timedelta

from clients import daybook
from clients.insurer.book import Policy
from clients.insurer.cover import Cover, Span
from clients.ledger import Ledger


def account(ledger: Ledger, policy: Policy, span: Span | None, now: int) -> bytes:
    """The 32-byte id of the account that a visit counts against; ``now`` (Unix s) stands for days not shown."""
    known = ledger.account("policy-year", policy.number)
    first = begins(policy.cover, span.last if span else daybook.day_of(now))
    if first is None or ledger.last(known) >= daybook.begins(first):
        # What was used before years were told apart stands under the number alone, to the end of its year.
        return known
    return ledger.account("policy-year", policy.number, first.isoformat())


def begins(cover: Cover, day: date) -> date | None:
    """The first day of the policy year that ``day`` falls into, the first year's for days before; None: unknown."""
    anchor = cover.begin or (cover.end and cover.end + timedelta(days=1))
    if not anchor:
        return None
    found = _anniversary(anchor, day.year)
    if found > day:
        found = _anniversary(anchor, day.year - 1)
    return max(found, cover.begin) if cover.begin else found


def _anniversary(anchor: date, year: int) -> date:
    """A policy that began on a 29 February has its other years from 1 March."""
    try:
        return anchor.replace(year=year)
    except ValueError:
        return date(year, 3, 1)
