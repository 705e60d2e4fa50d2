"""Which telephone numbers exist: mobile ranges and area codes of the national numbering plan (2025)."""

from __future__ import annotations

import re
from typing import Final

_MOBILE: Final = re.compile(r"1[3-9][0-9]{9}")
_PREFIXES: Final = frozenset(
    [f"13{n}" for n in range(10)]
    + [f"14{n}" for n in (5, 6, 7, 8, 9)]
    + [f"15{n}" for n in (0, 1, 2, 3, 5, 6, 7, 8, 9)]
    + [f"16{n}" for n in (2, 5, 6, 7)]
    + [f"17{n}" for n in range(9)]
    + [f"18{n}" for n in range(10)]
    + [f"19{n}" for n in (0, 1, 2, 3, 5, 6, 7, 8, 9)]
)
_LANDLINE: Final = re.compile(r"(?P<area>0(?:10|2[0-9]|[3-9][0-9]{2}))(?P<local>[2-8][0-9]{6,7})")
# Three digits after the leading 0: single codes, and runs of them.
_AREAS: Final = (
    "310-319 335 349-359 370-379 391-398 410-419 421 427 429 431-439 440 451-459 464 467-479 482 483 510-519 523 527 "
    "530-539 543 546 550-559 561-566 570-580 591-599 631-635 660 662 663 668 691 692 701 710-719 722 724 728 730-739 "
    "743-746 750-760 762 763 766 768-779 790-799 812 813 816-818 825-827 830-839 851-859 870-879 883 886-888 891-898 "
    "901-903 906 908-919 930-939 941 943 951-955 970-977 979 990-999"
)


def _spread(runs: str) -> frozenset[str]:
    found: set[str] = set()
    for run in runs.split():
        first, _, last = run.partition("-")
        found.update(f"0{n}" for n in range(int(first), int(last or first) + 1))
    return frozenset(found)


_AREA_CODES: Final = _spread(_AREAS) | {"010", "020", "021", "022", "023", "024", "025", "027", "028", "029"}


def is_mobile_shape(number: str) -> bool:
    """Whether ``number`` is 11 digits as mobile numbers are, of whatever range."""
    return _MOBILE.fullmatch(number) is not None


def is_mobile(number: str) -> bool:
    """Whether ``number`` is 11 digits of a range that is given out to an operator."""
    return is_mobile_shape(number) and number[:3] in _PREFIXES


def is_landline(number: str) -> bool:
    """Whether ``number``, digits only, is an area code that exists and 7 or 8 digits from 2 to 8 on."""
    found = _LANDLINE.fullmatch(number)
    return found is not None and found["area"] in _AREA_CODES


def bare(number: str) -> str:
    """Digits without the country's prefix (+86, 0086, 86 before a mobile number)."""
    digits = re.sub(r"[^0-9]", "", number)
    for prefix in ("0086", "86"):
        if digits.startswith(prefix) and is_mobile_shape(digits[len(prefix) :]):
            return digits[len(prefix) :]
    return digits
