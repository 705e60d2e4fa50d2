"""What this process has done so far, as plain numbers: the hot path adds to them, `broker.metrics` tells them.

Numbers of the process, as its memory and its open files are; prometheus_client's own counters take a lock for each
addition and 140 ms to import, so that only what tells them imports it. No name of a person or a record is ever a key:
purposes, reasons and states are closed lists.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.stages import Outcome, Recorded, Refusal
from zhifu.presentation import Presentation

OTHER: Final = "other"
"""The purpose of what was refused before a purpose of ours could be read."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EXCHANGES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(slots=True)
class Histogram:
    """How often a value fell below each bound (and, last, above all), and the sum of all values."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Counts:
    """Everything that is counted. Keys of ``exchanges`` are (outcome, purpose)."""

    exchanges: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    calls_refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    streams_ended: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    redeliveries: int = 0
    commits: Histogram = field(default_factory=lambda: Histogram(_EXCHANGES))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    frame_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    commit_failures: int = 0

    def answered(self, outcomes: Iterable[Outcome], shown: Iterable[Presentation | None]) -> None:
        """A frame's results, durable; with what could be read of each submission."""
        for outcome, read in zip(outcomes, shown, strict=True):
            if isinstance(outcome, Refusal):
                self.refusals[outcome.error.reason] += 1
                said = "refused"
            else:
                said = "accepted" if isinstance(outcome, Recorded) else "repeated"
            purpose = read.purpose if read is not None else OTHER
            self.exchanges[said, purpose] += 1


COUNTS: Final = Counts()
