"""Sentences with what identifies a person marked in them, and how well the scrubber finds it.

``cases.jsonl`` are made-up patients: their values are what the scrubber may know. In ``tuning.jsonl`` (even ids) and
``untouched.jsonl`` (odd ids) ``⟦kind:text⟧`` marks a span. Rules and words are fitted to the tuning half alone; the
untouched half was written first and is only measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from clients.hospital import sample
from clients.hospital.scrub.found import Finding
from clients.hospital.scrub.known import NOTHING, Known, from_bill
from clients.hospital.scrub.text import scrub
from zhifu import bill
from zhifu.bill import Bill

HALVES: Final = ("tuning", "untouched")
_FOLDER: Final = Path(__file__).parent
_MARK: Final = re.compile(r"⟦([a-z-]+):([^⟦⟧]*)⟧")

Span = tuple[str, int, int]
"""Kind, first character, character after the last one."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """``case`` is the patient it speaks of, "" where it is nobody; ``spans`` are in order and do not overlap."""

    id: int
    lang: str
    source: str
    case: str
    text: str
    spans: tuple[Span, ...]


@dataclass(slots=True)
class Score:
    """Spans marked and wholly replaced; places replaced and those that are mostly marked; the same in characters."""

    marked: int = 0
    found: int = 0
    replaced: int = 0
    right: int = 0

    @property
    def recall(self) -> float:
        return self.found / self.marked if self.marked else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.replaced if self.replaced else 1.0


def sentences(half: str) -> list[Sentence]:
    """The sentences of one half."""
    return [_sentence(row) for row in _rows(half)]


def bill_file(case: str) -> bytes:
    """The bill of a made-up patient as a file: the sample bill with this person's values."""
    (row,) = (row for row in _rows("cases") if row["case"] == case)
    document = json.loads(sample.sample_bill(1))
    document["setlinfo"] |= row["setlinfo"]
    for line in document["feedetail"]:
        line["fee_ocur_time"] = row["setlinfo"]["begndate"]
    return json.dumps(document).encode()


@cache
def patient(case: str) -> Bill:
    """`bill_file`, parsed."""
    return bill.parse(bill_file(case))


@cache
def known(case: str) -> Known:
    """What the scrubber may know of a made-up patient."""
    return from_bill(patient(case)) if case else NOTHING


def measure(given: Iterable[Sentence], *, with_known: bool) -> dict[str, Score]:
    """Scores by kind; "all" is the sum, "characters" counts characters instead of spans."""
    scores: dict[str, Score] = {"all": Score(), "characters": Score()}
    for one in given:
        replaced = scrub(one.text, known(one.case) if with_known else NOTHING).replaced
        _count(one, replaced, scores)
    return scores


def _count(one: Sentence, replaced: Iterable[Finding], scores: dict[str, Score]) -> None:
    marked = [kind for kind, start, end in one.spans for _ in range(start, end)]
    labelled = {at for _, start, end in one.spans for at in range(start, end)}
    places = list(replaced)
    gone = {at for place in places for at in range(place.start, place.end)}
    for kind, start, end in one.spans:
        for score in (scores["all"], scores.setdefault(kind, Score())):
            score.marked += 1
            score.found += gone.issuperset(range(start, end))
    for place in places:
        hits = sum(at in labelled for at in range(place.start, place.end))
        for score in (scores["all"], scores.setdefault(place.kind, Score())):
            score.replaced += 1
            score.right += 2 * hits >= place.end - place.start
    total = scores["characters"]
    total.marked += len(marked)
    total.replaced += len(gone)
    total.found += len(labelled & gone)
    total.right += len(labelled & gone)


def table(scores: Mapping[str, Score]) -> Iterator[str]:
    """Lines for people: kind, spans marked, recall, places replaced, precision."""
    yield f"{'kind':<18} {'marked':>7} {'recall':>7} {'replaced':>9} {'precision':>10}"
    kinds = sorted(scores, key=lambda kind: (kind not in ("all", "characters"), -scores[kind].marked))
    for kind in kinds:
        one = scores[kind]
        yield f"{kind:<18} {one.marked:>7} {one.recall:>7.1%} {one.replaced:>9} {one.precision:>10.1%}"


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (_FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _sentence(row: Mapping[str, Any]) -> Sentence:
    text, spans, done = "", [], 0
    for mark in _MARK.finditer(row["text"]):
        text += row["text"][done : mark.start()]
        spans.append((mark[1], len(text), len(text) + len(mark[2])))
        text, done = text + mark[2], mark.end()
    text += row["text"][done:]
    return Sentence(row["id"], row["lang"], row["source"], row.get("case", ""), text, tuple(spans))
