"""The disclosure tables: purpose x recipient role -> schema -> unit -> finest level (DESIGN 4.3, 4.7).

One TOML file a purpose, named like it; `[role.schema]` tables whose keys are units and whose values are level names.
What is not named is absent. A table speaks of a schema in every version that this package has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies import purposes
from policies.bundle import ROLES, Files, Tables
from zhifu import schema
from zhifu.errors import Refused
from zhifu.schema import ABSENT, Schema

ENCOUNTER: Final = "encounter"
"""The unit that names the exchange: it goes with every record, or its recipient refuses it (DESIGN section 5)."""


def parse(files: Files) -> Tables:
    """All tables of ``files``. Raises `Refused` (policy.invalid) with the file at fault.

    Refused are: an unknown purpose, role, schema, unit, level or key, a table that withholds the encounter, and a
    purpose that is not the file's name.
    """
    return purposes.read(files, _purpose)


def _purpose(purpose: str, by_role: dict[str, Any]) -> Tables:
    found = {}
    for role, by_schema in by_role.items():
        if role not in ROLES:
            raise Refused("policy.invalid", f"{role} is no role; there is: {', '.join(ROLES)}")
        for name, units in _table(role, by_schema).items():
            path = f"{role}.{name}"
            newest, *older = reversed(schema.versions(name))
            levels = _levels(newest, path, _table(path, units))
            found[purpose, role, newest.hash] = levels
            for one in older:
                found[purpose, role, one.hash] = _as_before(one, newest, levels)
    return found


def _as_before(one: Schema, newest: Schema, levels: bytes) -> bytes:
    """The table for records of an older version: where it has no unit or level of that name, nothing goes."""
    named = {
        (unit.name, unit.levels[rank].name) for unit, rank in zip(newest.units, levels, strict=True) if rank != ABSENT
    }
    return one.levels(
        {
            unit.name: rank
            for unit in one.units
            for rank, level in enumerate(unit.levels)
            if (unit.name, level.name) in named
        }
    )


def _levels(one: Schema, path: str, units: Mapping[str, Any]) -> bytes:
    levels = bytearray([ABSENT]) * len(one.units)
    for name, level in units.items():
        unit = one.unit(name)
        levels[unit.index] = unit.level_named(level)
    if any(unit.name == ENCOUNTER and levels[unit.index] == ABSENT for unit in one.units):
        raise Refused("policy.invalid", f"{path} withholds the unit {ENCOUNTER}, without which no recipient opens it")
    return bytes(levels)


def _table(path: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refused("policy.invalid", f"{path} must be a table")
    return value
