"""Many short texts looked for at once, in any spelling: one pass over the compact text, linear time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers.spelling import compact_places, digits, fold

_KEY: Final = 2


class Needle(NamedTuple):
    """``text`` is compact, two characters at least; ``start`` to ``end`` of it are replaced, all of it by default.

    ``alone``: no letter or digit of ASCII may touch it. ``fresh``: no letter at all may stand before it. ``proper``: it
    must start with a capital.
    """

    text: str
    kind: str
    confidence: int
    start: int = 0
    end: int = 0
    alone: bool = False
    fresh: bool = False
    proper: bool = False

    def __repr__(self) -> str:
        # It is of a person.
        return "Needle"


class Needles:
    """An index over needles by their first two characters."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self._words: dict[str, list[Needle]] = {}
        self._numbers: dict[str, list[Needle]] = {}
        for needle in dict.fromkeys(needles):
            if len(needle.text) >= _KEY:
                index = self._numbers if needle.text.isdigit() else self._words
                index.setdefault(needle.text[:_KEY], []).append(needle)

    def find(self, text: str) -> Iterator[Finding]:
        """Every place where a needle stands in ``text``, overlapping ones too, in whatever spelling."""
        if not self._words and not self._numbers:
            return
        bare, where = compact_places(text)
        shown = fold(text)
        yield from _search(bare, where, shown, self._words)
        # Numbers are also written in Chinese numerals; names are not searched so, or 王一 would be 王1.
        yield from _search(digits(bare), where, shown, self._numbers)


def _search(bare: str, where: Sequence[int], shown: str, index: dict[str, list[Needle]]) -> Iterator[Finding]:
    if not index:
        return
    for at in range(len(bare) - 1):
        for needle in index.get(bare[at : at + _KEY], ()):
            if bare.startswith(needle.text, at):
                start, end = where[at], where[at + len(needle.text) - 1] + 1
                if _fits(needle, shown, start, end):
                    yield _finding(needle, where, at)


def _finding(needle: Needle, where: Sequence[int], at: int) -> Finding:
    last = at + (needle.end or len(needle.text)) - 1
    return Finding(needle.kind, where[at + needle.start], where[last] + 1, How.KNOWN, needle.confidence)


def _fits(needle: Needle, shown: str, start: int, end: int) -> bool:
    before, after = shown[start - 1 : start], shown[end : end + 1]
    if needle.alone and (_is_word(before) or _is_word(after)):
        return False
    if needle.fresh and before.isalpha():
        return False
    return not needle.proper or shown[start].isupper()


def _is_word(character: str) -> bool:
    return character.isascii() and character.isalnum()
