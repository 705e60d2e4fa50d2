"""Chapters of ICD-10 and ICD-9-CM-3: the coarsest thing that a diagnosis or a procedure can be called."""

from __future__ import annotations

from typing import Final

from zhifu.errors import Malformed

_CHAPTERS: Final = (
    ("A00", "B99", 1), ("C00", "D48", 2), ("D50", "D89", 3), ("E00", "E90", 4), ("F00", "F99", 5), ("G00", "G99", 6),
    ("H00", "H59", 7), ("H60", "H95", 8), ("I00", "I99", 9), ("J00", "J99", 10), ("K00", "K93", 11), ("L00", "L99", 12),
    ("M00", "M99", 13), ("N00", "N99", 14), ("O00", "O99", 15), ("P00", "P96", 16), ("Q00", "Q99", 17),
    ("R00", "R99", 18), ("S00", "T98", 19), ("V01", "Y98", 20), ("Z00", "Z99", 21), ("U00", "U99", 22),
)  # fmt: skip
# ICD-9-CM-3, first two digits. 3A (17, other operations) came later; it has the number that no chapter had.
_PROCEDURE_CHAPTERS: Final = (
    (0, 0, 0), (1, 5, 1), (6, 7, 2), (8, 16, 3), (17, 17, 17), (18, 20, 4), (21, 29, 5), (30, 34, 6), (35, 39, 7),
    (40, 41, 8), (42, 54, 9), (55, 59, 10), (60, 64, 11), (65, 71, 12), (72, 75, 13), (76, 84, 14), (85, 86, 15),
    (87, 99, 16),
)  # fmt: skip


def chapter(code: str) -> int:
    """The ICD-10 chapter, 1 to 22, of a code that starts with its three characters. Raises `Malformed`."""
    category = code[:3]
    for first, last, number in _CHAPTERS:
        if first <= category <= last:
            return number
    raise Malformed("schema.value", "a diagnosis code is in no ICD-10 chapter")


def procedure_chapter(code: str) -> int:
    """The chapter, 0 to 16, or 17 for chapter 3A, of a code that starts with its two digits."""
    two = int(code[:2])
    return next(number for first, last, number in _PROCEDURE_CHAPTERS if first <= two <= last)
