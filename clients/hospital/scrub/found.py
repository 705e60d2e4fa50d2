"""What a finder finds, and what becomes of places that several of them found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class How(StrEnum):
    """By what right something was replaced, the surest first."""

    KNOWN = "known value"
    CHECKED = "checked pattern"
    UNCHECKED = "unchecked pattern"
    MODEL = "model"


_RANKS: Final = {how: rank for rank, how in enumerate(How)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters ``start`` to ``end`` of a text are of ``kind`` (a key of `tokens.TOKENS`).

    ``confidence`` is 1 to 99. It is fixed by the rule and orders rules by how rarely they err; it is no probability.
    """

    kind: str
    start: int
    end: int
    how: How
    confidence: int


Finder = Callable[[str], Iterable[Finding]]
"""Reads a text and says where in it something stands. A name model is one more of these."""


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that do not overlap, in order; overlapping ones become one place, so that no part of any is left.

    Its kind is the longest one's; how and confidence are the surest one's.
    """
    merged: list[Finding] = []
    group: list[Finding] = []
    end = 0
    for finding in sorted(findings, key=lambda one: (one.start, one.end)):
        if group and finding.start >= end:
            merged.append(_one(group))
            group = []
        end = max(end, finding.end) if group else finding.end
        group.append(finding)
    return [*merged, _one(group)] if group else merged


def _one(group: list[Finding]) -> Finding:
    surest = min(group, key=_doubt)
    longest = min(group, key=lambda one: (one.start - one.end, *_doubt(one)))
    start, end = min(one.start for one in group), max(one.end for one in group)
    return Finding(longest.kind, start, end, surest.how, surest.confidence)


def _doubt(one: Finding) -> tuple[int, int]:
    return _RANKS[one.how], -one.confidence
