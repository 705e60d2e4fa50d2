"""A recipient that is away for thirty hours, in a short form of what ``make soak`` does."""

from __future__ import annotations

import shutil

from tests.conftest import absent
from tests.soak import offline


def test_what_waited_for_thirty_hours_comes_once_and_in_order() -> None:
    if shutil.which("cc") is None:
        absent("a C compiler")
    found = offline.run(count=32, step=6)
    assert found["faults"] == []
    assert (found["queued"], found["delivered"], found["expired"], found["anew"]) == (32, 24, 8, 8)
    assert isinstance(found["connections"], int)
    assert 0 < found["connections"] <= offline.CONNECTIONS


def test_what_can_not_be_presented_anew_ends_the_wait_at_once_with_the_reason() -> None:
    if shutil.which("cc") is None:
        absent("a C compiler")
    found = offline.run(count=32, step=6, code="from clients import outbox\noutbox.MAX_ATTEMPTS = 1")
    assert found["faults"] == ["ended before its time: exchange.expired, so nothing more will come"]
