"""Ends of numbers: 尾号1234, 后四位, last four digits. Together with a birth date they point at one person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers.spelling import compact

_KNOWN, _CUED = 95, 75

_TAIL: Final = re.compile(
    r"(?:尾号|末尾|[后末前][四六4-6]位(?:数字?)?|(?i:last (?:four|six|4|6)(?: digits)?|ending(?: in| with)?|first six))"
    r"(?: ?(?:为|是|of|are|is|:|：))? ?(?P<digits>[0-9]{3,6}[Xx]?)(?![0-9A-Za-z.])"
)
# What the words before it speak of; an ID where they are silent.
_KINDS: Final = (
    ("phone", re.compile(r"手机|电话|(?i:phone|mobile|cell)")),
    ("bank-account", re.compile(r"银行|卡|账|(?i:card|account)")),
    ("plate", re.compile(r"车牌|(?i:plate)")),
)
_LOOK_BACK: Final = 32


def find(text: str, known: Mapping[str, str]) -> Iterator[Finding]:
    """Ends of numbers in ``text``, folded; ``known`` maps the ends of the record's own numbers to their kind."""
    for hit in _TAIL.finditer(text):
        start, end = hit.span("digits")
        kind = known.get(compact(hit["digits"]))
        if kind is not None:
            yield Finding(kind, start, end, How.KNOWN, _KNOWN)
        else:
            yield Finding(_kind(text[max(0, start - _LOOK_BACK) : start]), start, end, How.UNCHECKED, _CUED)


def _kind(before: str) -> str:
    return next((kind for kind, words in _KINDS if words.search(before)), "citizen-id")
