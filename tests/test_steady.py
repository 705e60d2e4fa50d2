"""The steady load of ``make soak`` in a short form, and what it would call a fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from clients.demo.stage import Stage
from tests.bench.world import open_world
from tests.soak.steady import BYTES_AN_EXCHANGE, LOAD, WINDOWS, Window, judge, measure

QUIET = [Window(20_000, 400.0, 10.0, 40.0, 8.0, 200_000 + place) for place in range(9)]
LATER = range(6, 9)


def with_last(**changed: Any) -> list[Window]:
    return [replace(one, **changed) if place in LATER else one for place, one in enumerate(QUIET)]


def test_open_arrivals_at_half_of_the_capacity_window_by_window(tmp_path: Path) -> None:
    stage, said = Stage(tmp_path), list[str]()
    try:
        found = uvloop.run(measure(open_world(stage, hospitals=1, patients=8), 3.0, said.append))
    finally:
        stage.stop()
    assert len(found.windows) == WINDOWS
    assert len(said) == WINDOWS + 1
    wanted = round(found.capacity * LOAD * 3.0 / WINDOWS)
    assert {one.exchanges for one in found.windows} == {wanted}, "as many as were due, and each was answered"
    assert all(one.p99_ms >= one.p50_ms > 0 < one.relay_p99_ms for one in found.windows)


def test_what_does_not_stay_as_it_was_is_a_fault() -> None:
    assert judge(QUIET) == []
    (slower,) = judge(with_last(p99_ms=81.0))
    assert "p99 is 2.0 times" in slower
    assert judge(with_last(p99_ms=120.0, relay_p99_ms=16.0)) == [], "the computer was slower for the relay as well"
    bursts = [replace(one, p99_ms=900.0) if place == 7 else one for place, one in enumerate(QUIET)]
    assert judge(bursts) == [], "one bad window is noise"
    (dearer,) = judge(with_last(cpu_us=520.0))
    assert "1.30 times the CPU" in dearer


@pytest.mark.parametrize(("bytes_each", "faults"), [(BYTES_AN_EXCHANGE // 2, 0), (6 * BYTES_AN_EXCHANGE, 1)])
def test_memory_that_grows_with_the_exchanges_is_a_fault(bytes_each: int, faults: int) -> None:
    each = 20_000 * bytes_each // 1024
    grown = [replace(one, resident_kib=200_000 + place * each) for place, one in enumerate(QUIET)]
    assert len(judge(grown)) == faults
