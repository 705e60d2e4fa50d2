"""The retention tables: purpose x recipient role -> for how many days a unit is kept after it arrived (DESIGN 7).

One TOML file a purpose, named like it; a table a role, with `default` and units by name. A unit's name means the unit
in every schema that has it. Where no table speaks of a role, only the grant bounds what it keeps.
"""

from __future__ import annotations

from typing import Any, Final

from policies import purposes
from policies.bundle import ROLES, Files, Period, Retention
from policies.tables import ENCOUNTER
from zhifu import schema
from zhifu.errors import Refused

MOST_DAYS: Final = 36_500
_DEFAULT: Final = "default"
_OWN: Final = "patient"


def parse(files: Files) -> Retention:
    """All tables of ``files``. Raises `Refused` (policy.invalid) with the file at fault.

    Refused are: an unknown purpose, role, unit or key, days that are no whole number from 1 to 36,500, a table without
    a default, one for the patient (what is hers she keeps), a time of its own for the unit that names the exchange, and
    a purpose that is not the file's name.
    """
    return purposes.read(files, _purpose)


def _purpose(purpose: str, by_role: dict[str, Any]) -> Retention:
    return {(purpose, role): _period(role, table) for role, table in by_role.items()}


def _period(role: str, table: object) -> Period:
    if role not in ROLES or role == _OWN:
        known = ", ".join(one for one in ROLES if one != _OWN)
        raise Refused("policy.invalid", f"{role} is no role that others' data are kept by; there is: {known}")
    if not isinstance(table, dict) or _DEFAULT not in table:
        raise Refused("policy.invalid", f"{role} must be a table with {_DEFAULT}")
    units = {unit: _days(f"{role}.{unit}", days) for unit, days in table.items()}
    default = units.pop(_DEFAULT)
    for unit in units.keys() - _units():
        raise Refused("policy.invalid", f"{role}.{unit} is no unit of any schema")
    if ENCOUNTER in units:
        raise Refused("policy.invalid", f"{role}.{ENCOUNTER} names the exchange: it goes with the last of the others")
    return Period(default, units)


def _days(path: str, days: object) -> int:
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MOST_DAYS:
        raise Refused("policy.invalid", f"{path} must be a whole number of days, 1 to {MOST_DAYS}")
    return days


def _units() -> set[str]:
    return {unit.name for name in schema.names() for kind in schema.versions(name) for unit in kind.units}
