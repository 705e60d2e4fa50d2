"""The chart of the benchmark's rows that have a budget."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.bench import plot

ROWS = [
    {"what": "bare unary relay", "in_flight": 64, "ratio": 1.0, "floor": None},
    {"what": "exchange", "in_flight": 1, "ratio": 20.158, "floor": 3.0},
    {"what": "exchange, frame signatures (≤ 64)", "in_flight": 64, "ratio": 3.99, "floor": 1.0},
]


def test_every_row_with_a_budget_is_a_bar_with_it() -> None:
    lines = plot.chart(ROWS).splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("```mermaid", "xychart-beta", "```")
    assert '    x-axis ["1: exchange", "64: frame signatures"]' in lines
    assert '    y-axis "times" 0 --> 21' in lines
    assert "    bar [20.16, 3.99]" in lines
    assert "    line [3.00, 1.00]" in lines


def test_it_reads_what_the_benchmark_prints() -> None:
    asked = json.dumps({"exchanges": ROWS, "hardware": "any"})
    done = subprocess.run([sys.executable, "-m", "tests.bench.plot"], input=asked, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, plot.chart(ROWS) + "\n")


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ValueError, match="budget"):
        plot.chart(ROWS[:1])
