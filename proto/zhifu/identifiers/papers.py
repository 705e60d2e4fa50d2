"""Travel papers and plates: their grammar; none of them has a check digit outside its machine-readable zone."""

from __future__ import annotations

import re
from typing import Final

# Ordinary (E, EA to EZ without I and O, older G), diplomatic and service (D, S, P), Hong Kong (H, K) and Macau (M).
_PASSPORT: Final = re.compile(
    r"E[0-9A-HJ-NP-Z][0-9]{7}|G[0-9]{8}|[DSP]E?[0-9]{7}|[HK][A-Z]?[0-9]{7,8}|M[AB]?[0-9]{7,8}"
)
# A foreign passport: whatever the country, up to two letters and six to nine digits (ICAO 9303 allows nine in all).
_FOREIGN: Final = re.compile(r"(?=.{6,9}$)[A-Z]{0,2}[0-9]{6,9}")
# To Hong Kong and Macau (C, W), of their residents (H, M), to Taiwan (T, L), of its residents (8 digits, or 10).
_PERMIT: Final = re.compile(r"C[A-Z0-9][0-9]{7}|W[0-9]{8}|[HM][0-9]{8}(?:[0-9]{2})?|[TL][0-9]{8}|[0-9]{8}(?:[0-9]{2})?")
_PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_LETTERS: Final = "A-HJ-NP-Z"
PLATE: Final = (
    rf"[{_PROVINCES}][{_LETTERS}][ ·]?(?:[{_LETTERS}0-9]{{4}}[{_LETTERS}0-9挂学警港澳]|"
    rf"[A-HJK][{_LETTERS}0-9][0-9]{{4}}|[0-9]{{5}}[A-HJK]|使[0-9]{{5}})"
)
"""A regular expression for plates (GA 36-2018), blue, yellow and new-energy, with or without a dot; upper case."""

_PLATE: Final = re.compile(PLATE)


def is_passport(number: str) -> bool:
    """Whether ``number``, upper case, has the form of a passport of China, Hong Kong or Macau."""
    return _PASSPORT.fullmatch(number) is not None


def is_foreign_passport(number: str) -> bool:
    """Whether ``number``, upper case, may be any country's passport."""
    return _FOREIGN.fullmatch(number) is not None


def is_permit(number: str) -> bool:
    """Whether ``number``, upper case, has the form of a permit between the mainland, Hong Kong, Macau and Taiwan."""
    return _PERMIT.fullmatch(number) is not None


def is_plate(text: str) -> bool:
    """Whether ``text`` is a whole number plate."""
    return _PLATE.fullmatch(text) is not None
