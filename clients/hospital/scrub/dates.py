"""Dates, in every form that notes use. A whole date is replaced, a month or a year alone is not (DESIGN 4.7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Final

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers.spelling import digits

_KNOWN, _WHOLE, _DAY = 95, 85, 70

_Reading = tuple[int | None, int, int]
"""Year if there is one, month, day."""
_Reads = Callable[[re.Match[str]], list[_Reading]]

_MONTHS: Final = "january february march april may june july august september october november december".split()
_NAMED: Final = r"(?i:(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?)"
_YEAR: Final = r"(?P<year>(?:18|19|20)[0-9]{2})"
_NO_YEAR: Final = r"(?P<year>(?!))?"
_MONTH: Final = r"(?P<month>[0-9]{1,2})"
_DAY_OF: Final = r"(?P<day>[0-9]{1,2})"
_TH: Final = "(?:st|nd|rd|th)?"
_END: Final = r"(?![0-9])"
# What a ratio, a time or a decimal has before and after it.
_FREE: Final = r"(?<![0-9./:%-])"
_FREE_END: Final = r"(?![0-9/%-]|\.[0-9])"
_EVENT: Final = " ?(?=入院|出院|手术|复诊|复查|就诊|转入|转出)"


def _parts(year: str | None, month: str, day: str) -> list[_Reading]:
    return [(int(year) if year else None, int(month), int(day))]


def _ordered(hit: re.Match[str]) -> list[_Reading]:
    return _parts(hit["year"], hit["month"], hit["day"])


def _either(hit: re.Match[str]) -> list[_Reading]:
    """04/05/2026: nobody can tell which is the month, so both are tried."""
    return [*_parts(hit["year"], hit["a"], hit["b"]), *_parts(hit["year"], hit["b"], hit["a"])]


def _by_name(hit: re.Match[str]) -> list[_Reading]:
    month = next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(hit["name"].lower()[:3]))
    return _parts(hit["year"], str(month), hit["day"])


# Pattern, how it reads, and whether it counts where the date is not known.
_FORMS: Final[tuple[tuple[re.Pattern[str], _Reads, bool], ...]] = tuple(
    (re.compile(pattern), reads, always)
    for pattern, reads, always in (
        (rf"(?<![0-9.]){_YEAR} ?[-/.年] ?{_MONTH} ?[-/.月] ?{_DAY_OF}(?: ?[日号]|{_END})", _ordered, True),
        (rf"(?<![0-9年]){_NO_YEAR}{_MONTH} ?月 ?{_DAY_OF} ?[日号]", _ordered, True),
        (rf"(?<![0-9./-])(?P<a>[0-9]{{1,2}})[-/.](?P<b>[0-9]{{1,2}})[-/.]{_YEAR}{_END}", _either, True),
        (rf"\b{_NAMED} {{1,2}}{_DAY_OF}{_TH}(?:,? {{1,2}}{_YEAR})?{_END}", _by_name, True),
        (rf"(?<![0-9.]){_DAY_OF}{_TH}(?: of)?[ -]{{1,2}}{_NAMED}(?:,?[ -]{{1,2}}{_YEAR}{_END})?\b", _by_name, True),
        (rf"{_FREE}{_NO_YEAR}{_MONTH}/{_DAY_OF}{_EVENT}", _ordered, True),
        (rf"{_FREE}{_NO_YEAR}{_MONTH}/{_DAY_OF}{_FREE_END}", _ordered, False),
        (rf"{_FREE}{_NO_YEAR}(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}}){_FREE_END}", _ordered, False),
        (rf"(?<![0-9A-Za-z]){_YEAR}(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})(?![0-9A-Za-z-])", _ordered, False),
    )
)


def find(text: str, known: frozenset[date]) -> Iterator[Finding]:
    """Dates in ``text``, folded; ``known`` are the record's own.

    Month and day in figures without a year (9/7) may be any ratio, so they count only where they are known or an event
    follows.
    """
    plain = digits(text)
    days = {(day.month, day.day) for day in known}
    for form, reads, always in _FORMS:
        for hit in form.finditer(plain):
            readings = [one for one in reads(hit) if _exists(one)]
            if any(_is_known(one, known, days) for one in readings):
                yield Finding("date", *hit.span(), How.KNOWN, _KNOWN)
            elif readings and always:
                whole = readings[0][0] is not None
                how = How.CHECKED if whole else How.UNCHECKED
                yield Finding("date", *hit.span(), how, _WHOLE if whole else _DAY)


def _exists(reading: _Reading) -> bool:
    year, month, day = reading
    try:
        date(2000 if year is None else year, month, day)
    except ValueError:
        return False
    return True


def _is_known(reading: _Reading, known: frozenset[date], days: set[tuple[int, int]]) -> bool:
    year, month, day = reading
    return (month, day) in days if year is None else date(year, month, day) in known
