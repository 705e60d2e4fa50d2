"""The way in: a free text, what is known of the patient, and out comes a text without either (DESIGN 4.1, 4.7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.hospital.scrub import (
    addresses,
    chinese_names,
    contacts,
    cued,
    dates,
    latin_names,
    numbers,
    tails,
)
from clients.hospital.scrub.found import Finder, Finding, merge
from clients.hospital.scrub.known import NOTHING, Known
from clients.hospital.scrub.tokens import token
from zhifu.errors import Malformed
from zhifu.identifiers.spelling import visible_places

MAX_CHARACTERS: Final = 1 << 20

_PATTERNS: Final[tuple[Finder, ...]] = (
    numbers.find,
    cued.find,
    contacts.find,
    addresses.find,
    chinese_names.find,
    latin_names.find,
)


@dataclass(frozen=True, slots=True, repr=False)
class Scrubbed:
    """The text after replacing, and what was replaced where: places are of the text given, and hold no value."""

    text: str
    replaced: tuple[Finding, ...]


def scrub(text: str, known: Known = NOTHING, language: str = "zh", extra: Sequence[Finder] = ()) -> Scrubbed:
    """``text`` (at most `MAX_CHARACTERS`) with everything that identifies a person replaced by a token of its kind.

    ``known`` holds the record's own values; ``extra`` are further finders, such as a name model. The same arguments
    give the same answer. Takes linear time. Raises `Malformed` (malformed.size, usage.argument).
    """
    if len(text) > MAX_CHARACTERS:
        raise Malformed("malformed.size", f"a text of more than {MAX_CHARACTERS} characters")
    seen, where = visible_places(text)
    by_pattern = _in_text(_find(seen, known, extra), where)
    replaced = tuple(merge([*known.find(text), *by_pattern]))
    return Scrubbed("".join(_pieces(text, replaced, language)), replaced)


def _find(seen: str, known: Known, extra: Sequence[Finder]) -> Iterator[Finding]:
    yield from dates.find(seen, known.days)
    yield from tails.find(seen, known.ends)
    for finder in (*_PATTERNS, *extra):
        yield from finder(seen)


def _in_text(findings: Iterable[Finding], where: Sequence[int]) -> Iterator[Finding]:
    """From places among the visible characters to places in the text."""
    for one in findings:
        if one.start < one.end:
            yield replace(one, start=where[one.start], end=where[one.end - 1] + 1)


def _pieces(text: str, replaced: Iterable[Finding], language: str) -> Iterator[str]:
    done = 0
    for one in replaced:
        yield text[done : one.start]
        yield token(one.kind, language)
        done = one.end
    yield text[done:]
