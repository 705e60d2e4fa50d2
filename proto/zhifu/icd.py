"""Diagnosis and procedure codes: code tables, three characters, chapters, and which diagnoses are sensitive.

Tables are text that the caller read (pure module): ``CODE NAME`` a line in an information table, ``CODE CODE`` in a map
from another edition's codes to this one's. Published tables have gaps, so every answer falls back on the code's prefix.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

from zhifu import ladder
from zhifu.errors import Malformed

_DATA: Final = "sensitive-diagnoses.toml"
_DIAGNOSIS: Final = re.compile(r"[A-Z][0-9]{2}")
_PROCEDURE: Final = re.compile(r"[0-9]{2}(?:\.|$)")
# ICD-9-CM-3, first two digits. 3A (17, other operations) came later; it has the number that no chapter had.
_PROCEDURE_CHAPTERS: Final = (
    (0, 0, 0), (1, 5, 1), (6, 7, 2), (8, 16, 3), (17, 17, 17), (18, 20, 4), (21, 29, 5), (30, 34, 6), (35, 39, 7),
    (40, 41, 8), (42, 54, 9), (55, 59, 10), (60, 64, 11), (65, 71, 12), (72, 75, 13), (76, 84, 14), (85, 86, 15),
    (87, 99, 16),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CodeTable:
    """One edition's codes: ``names`` by code, and ``moved`` from other editions' codes. Both may be empty."""

    names: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)

    def standard(self, code: str) -> str:
        """This edition's code for ``code``; ``code`` itself where the map has a gap."""
        return self.moved.get(code, code)

    def nearest(self, code: str) -> str | None:
        """The most exact entry: itself, without its extension, or its subcategory; None where there is none."""
        standard = self.standard(code)
        return next((one for one in _shorter(standard) if one in self.names), None)

    def name(self, code: str) -> str | None:
        """The name of `nearest`."""
        found = self.nearest(code)
        return None if found is None else self.names[found]


@dataclass(frozen=True, slots=True)
class Sensitive:
    """One group of sensitive diagnoses. ``codes`` are first and last of each run, both of one length."""

    reason: str
    titles: Mapping[str, str]
    why: str
    codes: tuple[tuple[str, str], ...]
    words: tuple[str, ...]

    def holds(self, code: str, name: str) -> bool:
        """Whether a part of ``code`` is in one of the runs, or ``name`` has one of the words, in whatever case."""
        said = name.upper()
        return any(word in said for word in self.words) or any(
            first <= part[: len(first)] <= last for part in code.split("+") for first, last in self.codes
        )


NO_TABLE: Final = CodeTable()


def parse_table(names: str, moved: str = "") -> CodeTable:
    """A table from the text of an information file and of a map. Raises `Malformed` (usage.file) with the line."""
    return CodeTable(dict(_pairs(names)), dict(_pairs(moved)))


def category(code: str, table: CodeTable = NO_TABLE) -> str:
    """The three characters of a diagnosis code, in the table's edition. Raises `Malformed` (schema.value)."""
    standard = table.standard(code)
    if _DIAGNOSIS.match(standard) is None:
        raise Malformed("schema.value", "not a diagnosis code")
    return standard[:3]


def chapter(code: str, table: CodeTable = NO_TABLE) -> int:
    """The ICD-10 chapter, 1 to 22, in the table's edition. Raises `Malformed` (schema.value)."""
    return ladder.chapter(category(code, table))


def procedure_category(code: str, table: CodeTable = NO_TABLE) -> str:
    """The two digits of an ICD-9-CM-3 code, in the table's edition. Raises `Malformed` (schema.value)."""
    standard = table.standard(code)
    if _PROCEDURE.match(standard) is None:
        raise Malformed("schema.value", "not a procedure code")
    return standard[:2]


def procedure_chapter(code: str, table: CodeTable = NO_TABLE) -> int:
    """The chapter of a procedure, 0 to 16, or 17 for chapter 3A. Raises `Malformed` (schema.value)."""
    two = int(procedure_category(code, table))
    return next(number for first, last, number in _PROCEDURE_CHAPTERS if first <= two <= last)


def sensitivity(code: str, name: str = "", table: CodeTable = NO_TABLE) -> str | None:
    """The reason why a diagnosis is sensitive ("hiv", "psychiatric", …), None where it is not.

    Looks at the code, at the table's code for it, at the name given and at the table's name: one of them is enough.
    """
    names = f"{name}\n{table.name(code) or ''}"
    for group in sensitive_groups():
        if group.holds(code, names) or group.holds(table.standard(code), ""):
            return group.reason
    return None


@cache
def sensitive_groups() -> tuple[Sensitive, ...]:
    """The groups of this version, as an officer can read them in ``sensitive-diagnoses.toml``."""
    document = tomllib.loads((resources.files("zhifu") / _DATA).read_text("utf-8"))
    return tuple(_group(table) for table in document["group"])


def _group(table: Mapping[str, Any]) -> Sensitive:
    runs = tuple(_run(text) for text in table["codes"])
    words = tuple(word.upper() for word in table["words"])
    return Sensitive(table["reason"], {"zh": table["zh"], "en": table["en"]}, table["why"], runs, words)


def _run(text: str) -> tuple[str, str]:
    first, _, last = text.partition("-")
    return first, last or first


def _shorter(code: str) -> Iterator[str]:
    """``K80.199x003``: itself, K80.199, K80.100; ``36.0799x003``: itself, 36.0799, 36.0700."""
    yield code
    # The x of A90.x00 stands for a fourth character that the category does not have.
    bare = code[:5] + code[5:].partition("x")[0]
    yield bare
    yield bare[:5] + "00"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        code, _, rest = line.strip().partition(" ")
        if code and not rest:
            raise Malformed("usage.file", f"line {number} is not a code and what it stands for")
        if code:
            yield code, rest.strip()
