"""Numbers that show by themselves what they are: check digits, ranges, and the stars of a half-hidden number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers import checks, citizen, phones
from zhifu.identifiers.spelling import digits

_CHECKED, _LIKELY, _SHAPE, _WEAK = 97, 85, 65, 55

_Answer = tuple[str, How, int] | None

_BEFORE: Final = r"(?<![0-9A-Za-z])"
_AFTER: Final = r"(?![0-9A-Za-z])"
_GAP: Final = "[ -]?"
# A number that such a word names is not a person's, however it looks.
_NAMELESS: Final = re.compile(
    r"(?:标本|条码|批|病理|检查|检验|样本|序列?|流水|项目|药品|耗材|编码|代码|产品|设备|追溯码|"
    r"specimen|barcode|batch|lot|sample|accession|item|code)(?:编?号|码|id|no|number)?[.: #]{0,3}$",
    re.IGNORECASE,
)


def _citizen(number: str) -> _Answer:
    if citizen.is_citizen_id(number):
        return "citizen-id", How.CHECKED, _CHECKED
    if citizen.birth_date(number) is not None and citizen.in_province(number):
        # One digit mistyped, or read out wrongly, is still nearly the person's.
        return "citizen-id", How.UNCHECKED, _SHAPE
    return None


def _older(number: str) -> _Answer:
    return ("citizen-id", How.UNCHECKED, _WEAK) if citizen.is_older_id(number) else None


def _mobile(number: str) -> _Answer:
    bare = phones.bare(number)
    if not phones.is_mobile_shape(bare):
        return None
    return ("phone", How.CHECKED, _LIKELY) if phones.is_mobile(bare) else ("phone", How.UNCHECKED, _SHAPE)


def _landline(number: str) -> _Answer:
    return ("phone", How.CHECKED, _LIKELY) if phones.is_landline(number) else None


def _card(number: str) -> _Answer:
    if not checks.has_luhn(number):
        return None
    issued = number.startswith(("62", "4", "5", "35", "37", "9999"))
    return "bank-account", How.CHECKED, _LIKELY if issued else _WEAK


def _credit_code(code: str) -> _Answer:
    return ("organisation", How.CHECKED, _LIKELY) if checks.has_credit_code(code) else None


def _abroad(number: str) -> _Answer:
    return ("phone", How.UNCHECKED, _SHAPE) if 8 <= len(number) <= 15 else None


def _ten_digits(number: str) -> _Answer:
    return "phone", How.UNCHECKED, _WEAK


def _starred(number: str) -> _Answer:
    """The stars are dropped by then, so only the first digits and the count are left to tell by."""
    return ("phone" if number[0] == "1" and len(number) <= 7 else "citizen-id"), How.UNCHECKED, _SHAPE


# Each is tried wherever it may start, also within another, so that 12 999999… is not missed for the 12.
_SOLID: Final = tuple(
    (rf"{_BEFORE}(?=(?P<number>{pattern}){_AFTER})", judge)
    for pattern, judge in (
        (rf"[1-9](?:{_GAP}[0-9]){{16}}{_GAP}[0-9Xx]", _citizen),
        (rf"[1-9](?:{_GAP}[0-9]){{14}}", _older),
        (rf"(?:\+?(?:00)?86{_GAP})?1[3-9](?:{_GAP}[0-9]){{9}}", _mobile),
        (r"0(?:10|2[0-9]|[3-9][0-9]{2})[ )-]{0,2}[2-8][0-9]{2,3} ?-?[0-9]{4}", _landline),
        (rf"[1-9][0-9]{{3}}(?:{_GAP}[0-9]{{4}}){{3}}(?:{_GAP}[0-9]{{1,3}})?", _card),
        (r"[0-9A-HJ-NPQRTUWXY]{18}", _credit_code),
    )
)
_LOOSE: Final = (
    (rf"{_BEFORE}(?P<number>\+[1-9][0-9]{{0,2}}(?:[ -]?\(?[0-9]{{1,4}}\)?){{2,5}})(?![0-9])", _abroad),
    (r"(?<![0-9A-Za-z.-])(?P<number>(?:\([0-9]{3}\) ?|[0-9]{3}[ -])[0-9]{3}-[0-9]{4})(?![0-9A-Za-z-])", _ten_digits),
    (rf"(?<![0-9A-Za-z.])(?P<number>[0-9]{{2,10}}[*×Xx•]{{3,14}}[0-9]{{0,6}}[Xx]?){_AFTER}", _starred),
)
_SHAPES: Final = tuple((re.compile(pattern), judge) for pattern, judge in (*_SOLID, *_LOOSE))
_NOISE: Final = re.compile(r"[^0-9A-Za-z]")
_LOOK_BACK: Final = 12


def find(text: str) -> Iterator[Finding]:
    """Numbers in ``text``, folded, with or without spaces and hyphens in them, in Chinese numerals too."""
    plain = digits(text)
    for shape, judge in _SHAPES:
        for hit in shape.finditer(plain):
            start, end = hit.span("number")
            answer = judge(_NOISE.sub("", hit["number"]).upper())
            if answer is not None and not _nameless(plain, start, answer[1]):
                start -= plain[start - 1 : start] == "(" and ")" in hit["number"]
                yield Finding(answer[0], start, end, answer[1], answer[2])


def _nameless(text: str, start: int, how: How) -> bool:
    return how is not How.CHECKED and _NAMELESS.search(text[max(0, start - _LOOK_BACK) : start]) is not None
