"""How well free text is scrubbed: recall and precision over both halves of the labelled set, with and without known
values. It needs no clock; it stands here because it is printed with the other figures.

The untouched half is only measured: no rule and no word list was fitted to it. ``python -m tests.bench.free_text``
prints this alone, by kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.data.free_text import labelled


@dataclass(frozen=True, slots=True)
class Quality:
    """Spans marked in ``sentences``; recall: wholly replaced; precision: replaced places that are mostly marked."""

    half: str
    known_values: bool
    sentences: int
    marked: int
    recall: float
    precision: float
    recall_characters: float
    precision_characters: float


def measure() -> Iterator[Quality]:
    """Both halves, with the patient's known values and without."""
    for half in labelled.HALVES:
        given = labelled.sentences(half)
        for known in (True, False):
            scores = labelled.measure(given, with_known=known)
            spans, characters = scores["all"], scores["characters"]
            yield Quality(
                half, known, len(given), spans.marked, spans.recall, spans.precision,
                characters.recall, characters.precision,
            )  # fmt: skip


def main() -> None:
    """Every score by kind."""
    for half in labelled.HALVES:
        for known in (True, False):
            given = labelled.sentences(half)
            print(f"{half} half, {len(given)} sentences, {'with' if known else 'without'} known values")
            print("\n".join(labelled.table(labelled.measure(given, with_known=known))), end="\n\n")


if __name__ == "__main__":
    main()
