"""The hospital's code tables: files in a folder that its settings name, read once (`zhifu.icd` says what they are for).

``ZD_INFO.dat`` and ``SS_INFO.dat`` name the codes of diagnoses and procedures, ``ZD_MAP.dat`` and ``SS_MAP.dat`` map
other editions' codes to them. A map may be missing; gaps in any of them fall back on the prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients import durable
from zhifu.errors import Malformed
from zhifu.icd import NO_TABLE, CodeTable, parse_table

_MAX_FILE: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Tables:
    """Diagnoses (ICD-10) and procedures (ICD-9-CM-3)."""

    diagnoses: CodeTable
    procedures: CodeTable


NO_TABLES: Final = Tables(NO_TABLE, NO_TABLE)
"""What a hospital without tables has: every answer is by prefix."""


def load(folder: Path) -> Tables:
    """The tables in ``folder``. Raises `Malformed` (usage.file) naming the file that cannot be read."""
    return Tables(_table(folder, "ZD"), _table(folder, "SS"))


def _table(folder: Path, kind: str) -> CodeTable:
    moved = folder / f"{kind}_MAP.dat"
    return parse_table(_text(folder / f"{kind}_INFO.dat"), _text(moved) if moved.exists() else "")


def _text(path: Path) -> str:
    try:
        return durable.read(path, _MAX_FILE).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("usage.file", f"{path.name} is not UTF-8") from None
