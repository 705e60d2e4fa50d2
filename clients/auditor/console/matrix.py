"""Who could see what: the policies at hand as a matrix, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients import plain
from policies import analyse, load
from policies.analyse import Change
from policies.bundle import Bundle
from policies.decide import finest
from zhifu import schema
from zhifu.errors import Error
from zhifu.schema import ABSENT, Schema, Unit

FOLDER: Final = "policies"
"""In the auditor's folder: one policy bundle a folder, as the registrar handed them out."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The finest level: its name, and its rank from 0 (all of it) up; None where it is absent."""

    level: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """``columns`` are (purpose, recipient role); each row is a unit with a cell for each column."""

    schema: Schema
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def bundles(folder: Path) -> Mapping[str, Bundle]:
    """By hash (hex): the packaged policy, and those of the auditor's folder that can be read."""
    found = {}
    places: list[Path | None] = [None, *sorted((folder / FOLDER).glob("*/"))]
    for place in places:
        try:
            bundle = load.load(place)
        except Error:
            continue
        found[bundle.hash.hex()] = bundle
    return found


def matrices(bundle: Bundle, language: str) -> list[Matrix]:
    """One for each schema that the policy's tables name."""
    places = sorted({(purpose, role, digest) for purpose, role, digest in bundle.tables})
    kinds = sorted({digest for _, _, digest in places}, key=lambda digest: (schema.by_hash(digest).name, digest))
    return [
        _matrix(bundle, schema.by_hash(kind), [(p, r) for p, r, d in places if d == kind], language) for kind in kinds
    ]


def _matrix(bundle: Bundle, kind: Schema, columns: Sequence[tuple[str, str]], language: str) -> Matrix:
    levels = [finest(bundle, purpose, role, kind) for purpose, role in columns]
    rows = [(unit.title(language), [_cell(unit, one[unit.index], language) for one in levels]) for unit in kind.units]
    return Matrix(kind, columns, rows)


def _cell(unit: Unit, rank: int, language: str) -> Cell:
    return Cell(plain.level_name(unit, rank, language), None if rank == ABSENT else rank)


def changes(before: Bundle, after: Bundle) -> list[Change]:
    """What is finer or coarser in the newer one."""
    return analyse.difference(before, after)
