"""A policy's years: what is used of one is not used of the next, whichever day the policy began."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest

from clients.insurer.book import Policy
from clients.insurer.cover import OPEN, Cover, Span
from clients.insurer.policy_year import account, begins
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.store import Store

MARCH: Final = Cover(date(2026, 3, 1), date(2027, 2, 28))


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, 12, tzinfo=UTC).timestamp())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    yield Ledger(store)
    store.close()


@pytest.mark.parametrize(
    ("cover", "day", "first"),
    [
        (OPEN, "2026-05-01", None),
        (MARCH, "2026-03-01", "2026-03-01"),
        (MARCH, "2027-02-28", "2026-03-01"),
        (MARCH, "2026-02-20", "2026-03-01"),
        (Cover(date(2024, 3, 1)), "2026-02-28", "2025-03-01"),
        (Cover(date(2024, 3, 1)), "2026-03-01", "2026-03-01"),
        (Cover(None, date(2026, 12, 31)), "2026-12-31", "2026-01-01"),
        (Cover(date(2024, 2, 29)), "2026-02-28", "2025-03-01"),
        (Cover(date(2024, 2, 29)), "2028-02-29", "2028-02-29"),
    ],
)
def test_a_year_begins_on_the_policys_day(cover: Cover, day: str, first: str | None) -> None:
    found = begins(cover, date.fromisoformat(day))
    assert (found and found.isoformat()) == first


def test_a_renewed_policy_has_its_year_anew(ledger: Ledger) -> None:
    now = at(2027, 3, 5)
    old = account(ledger, Policy("P1", "", cover=MARCH), Span.of("2027-02-20"), now)
    ledger.reserve(old, Holding(bytes(32), "committed", {"pay": 5}, 0, now), now)
    renewed = Policy("P1", "", cover=Cover(date(2027, 3, 1), date(2028, 2, 29), renewal=True))
    new = account(ledger, renewed, Span.of("2027-03-02"), now)
    assert ledger.used(new, now) == {}
    assert account(ledger, Policy("P1", "", cover=MARCH), Span.of("2027-02"), now) == old
    # Of a day that is not shown it is taken for today's.
    assert account(ledger, renewed, None, now) == new


def test_what_was_used_before_years_were_told_apart_counts_to_the_end_of_its_year(ledger: Ledger) -> None:
    before = ledger.account("policy-year", "P1")
    ledger.reserve(before, Holding(bytes(32), "committed", {"pay": 5}, 0, at(2026, 4, 1)), at(2026, 4, 1))
    policy = Policy("P1", "", cover=MARCH)
    assert account(ledger, policy, Span.of("2026-05-01"), at(2026, 5, 2)) == before
    renewed = Policy("P1", "", cover=Cover(date(2027, 3, 1)))
    assert account(ledger, renewed, Span.of("2027-05-01"), at(2027, 5, 2)) != before
