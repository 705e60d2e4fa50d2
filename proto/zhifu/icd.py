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
    """One group of sensitive diagnoses, and the procedures that name one.

    ``codes`` and ``procedures`` are first and last of each run, both of one length.
    """

    reason: str
    titles: Mapping[str, str]
    why: str
    codes: tuple[tuple[str, str], ...]
    procedures: tuple[tuple[str, str], ...]
    words: tuple[str, ...]

    def holds(self, code: str, name: str) -> bool:
        """Whether a part of a diagnosis ``code`` is in one of the runs, or ``name`` has one of the words."""
        return self._says(name) or any(_within(part, self.codes) for part in code.split("+"))

    def holds_procedure(self, code: str, name: str) -> bool:
        """The same of a procedure."""
        return self._says(name) or _within(code, self.procedures)

    def _says(self, name: str) -> bool:
        said = name.upper()
        return any(word in said for word in self.words)


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
    return ladder.procedure_chapter(procedure_category(code, table))


def sensitivity(code: str, name: str = "", table: CodeTable = NO_TABLE) -> str | None:
    """The reason why a diagnosis is sensitive ("hiv", "psychiatric", …), None where it is not.

    Looks at the code, at the table's code for it, at the name given and at the table's name: one of them is enough.
    """
    names = f"{name}\n{table.name(code) or ''}"
    for group in sensitive_groups():
        if group.holds(code, names) or group.holds(table.standard(code), ""):
            return group.reason
    return None


def procedure_sensitivity(code: str, name: str = "", table: CodeTable = NO_TABLE) -> str | None:
    """Like `sensitivity`, of a procedure: one can tell the diagnosis that was withheld."""
    names = f"{name}\n{table.name(code) or ''}"
    for group in sensitive_groups():
        if group.holds_procedure(code, names) or group.holds_procedure(table.standard(code), ""):
            return group.reason
    return None


@cache
def sensitive_groups() -> tuple[Sensitive, ...]:
    """The groups of this version, as an officer can read them in ``sensitive-diagnoses.toml``."""
    document = tomllib.loads((resources.files("zhifu") / _DATA).read_text("utf-8"))
    return tuple(_group(table) for table in document["group"])


def _group(table: Mapping[str, Any]) -> Sensitive:
    runs, procedures = (tuple(_run(text) for text in table.get(name, ())) for name in ("codes", "procedures"))
    words = tuple(word.upper() for word in table["words"])
    return Sensitive(table["reason"], {"zh": table["zh"], "en": table["en"]}, table["why"], runs, procedures, words)


def _run(text: str) -> tuple[str, str]:
    first, _, last = text.partition("-")
    return first, last or first


def _within(code: str, runs: tuple[tuple[str, str], ...]) -> bool:
    return any(first <= code[: len(first)] <= last for first, last in runs)


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
