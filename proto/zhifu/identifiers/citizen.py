"""Citizen IDs: 18 digits (GB 11643-1999) and the 15 digits that came before; residence permits have the same form."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from zhifu.identifiers.checks import citizen_check_digit
from zhifu.identifiers.spelling import compact

_ID18: Final = re.compile(r"[1-9][0-9]{16}[0-9X]")
_ID15: Final = re.compile(r"[1-9][0-9]{14}")
# GB/T 2260, first two digits; 81 to 83 residence permits of Hong Kong, Macau and Taiwan, 9 foreign residents' cards.
_PROVINCES: Final = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)
# In the older form these sequence numbers were for people over a hundred, born before 1900.
_CENTENARIANS: Final = ("996", "997", "998", "999")
_YEARS: Final = range(1850, 2100)


def is_citizen_id(number: str) -> bool:
    """Whether ``number`` has 18 characters, X upper case, a birth date of the calendar and the right check digit.

    The region is not checked: codes are retired, and foreign residents' cards start with 9.
    """
    return (
        _ID18.fullmatch(number) is not None
        and birth_date(number) is not None
        and citizen_check_digit(number[:17]) == number[17]
    )


def is_older_id(number: str) -> bool:
    """Whether ``number`` has the 15 digits of the older form: a province's code and a birth date; no check digit."""
    return _ID15.fullmatch(number) is not None and in_province(number) and birth_date(number) is not None


def normal(text: str) -> str:
    """One spelling of many: half width, no spaces and separators, X upper case, 15 digits as the 18 of 1999.

    What is no citizen ID comes back compacted; `is_citizen_id` tells.
    """
    found = compact(text).upper()
    return to_18(found) if is_older_id(found) else found


def birth_date(number: str) -> date | None:
    """The birth date in 18 or 15 characters; None where it is not a date."""
    digits = number[6:14] if len(number) == 18 else _century(number) + number[6:12]
    try:
        found = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
    return found if found.year in _YEARS else None


def in_province(number: str) -> bool:
    """Whether the first two digits are a code of GB/T 2260."""
    return number[:2] in _PROVINCES


def to_18(older: str) -> str:
    """The 18 characters that 15 digits became in 1999: the century and the check digit were added.

    Raises `ValueError` for anything but 15 digits.
    """
    if _ID15.fullmatch(older) is None:
        raise ValueError("15 digits")
    first17 = older[:6] + _century(older) + older[6:]
    return first17 + citizen_check_digit(first17)


def to_15(number: str) -> str:
    """The older form of 18 characters: without the century and the check digit. Raises `ValueError`."""
    if _ID18.fullmatch(number) is None:
        raise ValueError("18 characters")
    return number[:6] + number[8:17]


def _century(older: str) -> str:
    return "18" if older[12:15] in _CENTENARIANS else "19"
