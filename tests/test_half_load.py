"""What an hour at half load is judged by: the broker's own change, not what others do to both it and the relay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.soak.steady import Window, judge

CALM = Window(exchanges=6000, cpu_us=7000.0, p50_ms=45.0, p99_ms=100.0, relay_p99_ms=12.0, resident_kib=250 << 10)
HOUR = [CALM] * 60


def after(begin: int, **changed: Any) -> list[Window]:
    """The hour with every window from ``begin`` on changed."""
    return [*HOUR[:begin], *(replace(one, **changed) for one in HOUR[begin:])]


def test_an_hour_that_ends_as_it_began_has_no_fault() -> None:
    assert judge(HOUR) == []


def test_a_broker_that_became_slower_dearer_or_larger_is_found() -> None:
    (slower,) = judge(after(40, p99_ms=210.0))
    assert slower.startswith("the p99 is 2.1 times what it was")
    (dearer,) = judge(after(40, cpu_us=9000.0))
    assert dearer.startswith("an exchange costs 1.29 times")
    (larger,) = judge(after(40, resident_kib=280 << 10))
    assert larger.startswith("30.0 MiB more")


def test_what_slows_the_relay_too_is_not_the_brokers() -> None:
    assert judge(after(40, p99_ms=210.0, relay_p99_ms=26.0)) == []


def test_some_windows_that_others_spoiled_say_nothing() -> None:
    busy = replace(CALM, p99_ms=7000.0, cpu_us=4900.0)
    assert judge([*HOUR[:10], *[busy] * 5, *HOUR[15:45], *[busy] * 5, *HOUR[50:]]) == []
