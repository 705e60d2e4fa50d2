"""Record schemas: which units a record has, their ladders, and how long every leaf is (DESIGN 4.1).

A schema is a TOML file of this package. Its hash covers the file's exact bytes, and grants, manifests and
leaves name it by that hash, so a changed schema neither opens an old record nor widens an old grant. A change is
therefore a new file, one version more, beside the old one: what was sealed under that stays readable by its hash.
"""

from __future__ import annotations

import hashlib
import operator
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

from zhifu import ladder
from zhifu.errors import Malformed, Refused

ABSENT: Final = 0xFF
"""The level that is coarser than every other: the unit is not there."""
_ABSENT_AS_FINEST: Final = bytes(range(ABSENT)) + b"\0"

SIZE_CLASSES: Final = ("S", "M", "L", "XL")
KC_BYTES: Final = 32
TAG_BYTES: Final = 16
MAX_LEAVES: Final = 255
_LABEL: Final = b"zhifu/v1 schema\0"


@dataclass(frozen=True, slots=True)
class Level:
    """One rung: its name in policies, its grammar, and the padded plaintext's bytes in each size class."""

    name: str
    form: str
    sizes: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Unit:
    """A group of fields that policy treats alike; ``levels[0]`` is the finest."""

    index: int
    name: str
    titles: Mapping[str, str]
    levels: tuple[Level, ...]

    def level_named(self, name: str) -> int:
        """The rank of the level called ``name`` ("absent" is `ABSENT`). Raises `Refused` (policy.invalid)."""
        if name == "absent":
            return ABSENT
        for rank, level in enumerate(self.levels):
            if level.name == name:
                return rank
        raise Refused("policy.invalid", f"unit {self.name} has no level {name}")

    def title(self, language: str) -> str:
        return self.titles.get(language, self.name)


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed schema. ``leaves`` lists (unit, level) in schema order; ``sizes[c]`` their bytes in class c.

    ``plain_sizes[c]`` are those of the padded plaintexts.
    """

    name: str
    version: int
    hash: bytes
    units: tuple[Unit, ...]
    leaves: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, ...], ...]
    plain_sizes: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    _counts: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = tuple(tuple(size - KC_BYTES - TAG_BYTES for size in sizes) for sizes in self.sizes)
        object.__setattr__(self, "plain_sizes", plain)
        object.__setattr__(self, "_counts", bytes(len(unit.levels) for unit in self.units))

    def unit(self, name: str) -> Unit:
        """The unit called ``name``. Raises `Refused` (policy.invalid)."""
        for unit in self.units:
            if unit.name == name:
                return unit
        raise Refused("policy.invalid", f"schema {self.name} has no unit {name}")

    def check_levels(self, levels: bytes) -> None:
        """One byte a unit, each a rank of that unit or `ABSENT`. Raises `Malformed` (malformed.field)."""
        if len(levels) != len(self.units):
            raise Malformed("malformed.field", f"{len(levels)} levels for {len(self.units)} units")
        if all(map(operator.lt, levels.translate(_ABSENT_AS_FINEST), self._counts)):
            return
        for unit, level in zip(self.units, levels, strict=True):
            if level != ABSENT and level >= len(unit.levels):
                raise Malformed("malformed.field", f"unit {unit.name} has no level {level}")

    def by_name(self, levels: bytes) -> dict[str, int | None]:
        """Levels as ``{unit name: rank}``; None where absent."""
        return {u.name: None if level == ABSENT else level for u, level in zip(self.units, levels, strict=True)}

    def levels(self, ranks: Mapping[str, int]) -> bytes:
        """Levels from ``{unit name: rank}``; every unit not named is `ABSENT`. Raises `Refused` (policy.invalid)."""
        found = bytearray([ABSENT]) * len(self.units)
        for name, rank in ranks.items():
            found[self.unit(name).index] = rank
        self.check_levels(bytes(found))
        return bytes(found)

    @property
    def finest(self) -> bytes:
        return bytes(len(self.units))


def coarser(*levels: bytes) -> bytes:
    """Unit by unit the coarser of several levels (DESIGN 4.3): `ABSENT` is the largest byte, so it is the maximum."""
    return bytes(map(max, zip(*levels, strict=True)))


def within(levels: bytes, bound: bytes) -> bool:
    """Whether no unit of ``levels`` is finer than in ``bound``."""
    return len(levels) == len(bound) and all(map(operator.ge, levels, bound))


def schema_hash(source: bytes) -> bytes:
    """``SHA-256("zhifu/v1 schema\\0" || the file's exact bytes)`` (DESIGN 4.1)."""
    return hashlib.sha256(_LABEL + source).digest()


def parse(source: bytes) -> Schema:
    """Read a schema file. Raises `Malformed` (malformed.encoding, malformed.field)."""
    try:
        document = tomllib.loads(source.decode())
        units = tuple(_unit(index, table) for index, table in enumerate(document["unit"]))
        name, version = _name(document), _version(document)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Malformed("malformed.encoding", "not a schema file") from error
    leaves = tuple((unit.index, rank) for unit in units for rank in range(len(unit.levels)))
    if len(leaves) > MAX_LEAVES or len({unit.name for unit in units}) != len(units):
        raise Malformed("malformed.field", f"schema {name}: too many leaves, or a unit twice")
    sizes = tuple(
        tuple(KC_BYTES + units[u].levels[rank].sizes[size_class] + TAG_BYTES for u, rank in leaves)
        for size_class in range(len(SIZE_CLASSES))
    )
    return Schema(name, version, schema_hash(source), units, leaves, sizes)


def _unit(index: int, table: Mapping[str, Any]) -> Unit:
    levels = tuple(_level(level) for level in table["level"])
    finest = levels[0].form
    for level in levels[1:]:
        if not ladder.can_coarsen(finest, level.form):
            raise ValueError(level.form)
    if len({"absent", *(level.name for level in levels)}) != len(levels) + 1:
        raise ValueError("a level's name twice, or a level called absent")
    return Unit(index, _name(table), {"zh": table["zh"], "en": table["en"]}, levels)


def _level(table: Mapping[str, Any]) -> Level:
    if table["form"] not in ladder.FORMS:
        raise ValueError(table["form"])
    return Level(_name(table), table["form"], _sizes(table["bytes"]))


def _name(table: Mapping[str, Any]) -> str:
    name = table["name"]
    if not isinstance(name, str):
        raise TypeError("name")
    return name


def _version(document: Mapping[str, Any]) -> int:
    version = document.get("version", 1)
    if type(version) is not int or version < 1:
        raise ValueError("version")
    return version


def _sizes(given: int | Sequence[int]) -> tuple[int, int, int, int]:
    s, m, x, xx = [given] * 4 if isinstance(given, int) else given
    if {type(size) for size in (s, m, x, xx)} != {int} or not 1 <= s <= m <= x <= xx <= 2**20:
        raise ValueError("sizes")
    return s, m, x, xx


@cache
def _all() -> Mapping[str, tuple[Schema, ...]]:
    folder = resources.files("zhifu") / "schemas"
    found: dict[str, list[Schema]] = {}
    for file in folder.iterdir():
        if file.name.endswith(".toml"):
            one = parse(file.read_bytes())
            found.setdefault(one.name, []).append(one)
    return {name: in_order(every) for name, every in found.items()}


def in_order(every: Sequence[Schema]) -> tuple[Schema, ...]:
    """The versions of one schema, the newest last. Raises `Malformed` (malformed.field) where one is there twice."""
    ordered = tuple(sorted(every, key=lambda one: one.version))
    if len({one.version for one in ordered}) != len(ordered):
        raise Malformed("malformed.field", f"schema {ordered[0].name}: a version twice")
    return ordered


@cache
def _by_hash() -> Mapping[bytes, Schema]:
    return {schema.hash: schema for name in _all() for schema in _all()[name]}


def names() -> list[str]:
    """The schemas of this package, sorted; each in one version or more."""
    return sorted(_all())


def versions(name: str) -> tuple[Schema, ...]:
    """Every version of the schema called ``name``, the newest last. Raises `Malformed` (schema.unknown)."""
    try:
        return _all()[name]
    except KeyError:
        raise Malformed("schema.unknown", f"no schema called {name}") from None


def load(name: str) -> Schema:
    """The newest version of the schema called ``name``: the one to seal under. Raises `Malformed` (schema.unknown)."""
    return versions(name)[-1]


def by_hash(digest: bytes) -> Schema:
    """The schema with this hash. Raises `Malformed` (schema.unknown)."""
    try:
        return _by_hash()[digest]
    except KeyError:
        raise Malformed("schema.unknown") from None
