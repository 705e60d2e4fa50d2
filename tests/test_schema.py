"""Schemas: identity by exact bytes, levels as bytes, the one size class, and files that are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats import CLAIM, refused, some_levels
from zhifu import ladder, schema
from zhifu.errors import Malformed
from zhifu.schema import ABSENT, coarser, within

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))
SMALL = """
name = "small"
[[unit]]
name = "born"
zh = "出生"
en = "Born"
[[unit.level]]
name = "full"
form = "date"
bytes = 16
[[unit.level]]
name = "year"
form = "year"
bytes = [8, 8, 9, 10]
"""


def file_refused(source: str | bytes, reason: str | None = None) -> None:
    with pytest.raises(Malformed) as caught:
        schema.parse(source.encode() if isinstance(source, str) else source)
    assert reason is None or caught.value.reason == reason


@pytest.mark.parametrize("name", schema.names())
def test_packaged_schemas(name: str) -> None:
    found = schema.load(name)
    assert found is schema.by_hash(found.hash)
    assert len(found.leaves) == len(found.sizes[0]) <= schema.MAX_LEAVES
    assert [unit.index for unit in found.units] == list(range(len(found.units)))
    assert found.units[0].name == "encounter", "every record tells its recipient which encounter it is about"
    for unit in found.units:
        assert {"zh", "en"} <= set(unit.titles)
        assert all(ladder.can_coarsen(unit.levels[0].form, level.form) for level in unit.levels[1:])


def test_the_hash_covers_the_exact_bytes(repo_root: Path) -> None:
    source = (repo_root / "proto" / "zhifu" / "schemas" / "inpatient-claim.toml").read_bytes()
    assert schema.schema_hash(source) == CLAIM.hash == hashlib.sha256(b"zhifu/v1 schema\0" + source).digest()
    assert schema.schema_hash(source + b"\n") != CLAIM.hash
    assert VECTORS["schema"]["hash"] == CLAIM.hash.hex()
    assert [tuple(leaf) for leaf in VECTORS["schema"]["leaves"]] == list(CLAIM.leaves)


def test_a_schema_as_parsed() -> None:
    found = schema.parse(SMALL.encode())
    assert found.leaves == ((0, 0), (0, 1))
    assert found.sizes == ((64, 56), (64, 56), (64, 57), (64, 58)), "padded plaintext and 48 bytes of kc and tag"
    assert found.unit("born").level_named("year") == 1
    assert found.unit("born").level_named("absent") == ABSENT
    assert found.unit("born").title("zh") == "出生"
    assert found.unit("born").title("fr") == "born"
    assert found.levels({"born": 1}) == b"\x01"
    assert found.by_name(b"\xff") == {"born": None}
    refused("policy.invalid", found.unit, "x")
    refused("policy.invalid", found.unit("born").level_named, "x")
    refused("policy.invalid", found.levels, {"x": 0})


@pytest.mark.parametrize("levels", [b"", b"\x00\x00", b"\x02", b"\xfe"])
def test_levels_of_another_shape(levels: bytes) -> None:
    refused("malformed.field", schema.parse(SMALL.encode()).check_levels, levels)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('form = "year"', 'form = "sex"'),  # no coarser form of a date
        ('form = "date"', 'form = "no such form"'),
        ('form = "date"', "form = []"),
        ("bytes = 16", "bytes = 0"),
        ("bytes = 16", "bytes = 2000000"),
        ("bytes = 16", "bytes = 1.5"),
        ("bytes = 16", "bytes = true"),
        ("bytes = 16", "bytes = [16, 8, 16, 16]"),
        ("bytes = 16", "bytes = [16, 16, 16]"),
        ("bytes = 16", "bytes = [16.0, 16.0, 16.0, 16.0]"),
        ("bytes = 16", 'bytes = "1234"'),
        ('name = "year"', 'name = "full"'),
        ('name = "year"', 'name = "absent"'),
        ('name = "year"', "name = 1"),
        ('name = "born"', "name = ['born']"),
        ('name = "small"', "name = 1"),
        ('name = "small"', ""),
        ('zh = "出生"', ""),
        ("[[unit]]", "[unit]"),
        ("[[unit.level]]", "[unit.level]"),
    ],
)
def test_files_that_are_refused(old: str, new: str) -> None:
    assert old in SMALL
    file_refused(SMALL.replace(old, new, 1))


def test_units_are_listed_once_and_leaves_are_counted() -> None:
    unit = SMALL[SMALL.index("[[unit]]") :]
    file_refused(SMALL + unit, "malformed.field")
    many = "".join(unit.replace('"born"', f'"born{i}"') for i in range(127))
    assert len(schema.parse(('name = "many"\n' + many).encode()).leaves) == 254
    file_refused('name = "many"\n' + many + unit, "malformed.field")
    for source in (b"\xff", b"", b"name = 'x'", b"name = 'x'\nunit = 1", b"name = 'x'\nunit = ['a']"):
        file_refused(source)
    file_refused('name = "x"\n[[unit]]\nname="a"\nzh="a"\nen="a"\nlevel = []\n', "malformed.encoding")


def test_unknown_schemas() -> None:
    refused("schema.unknown", schema.load, "no such schema")
    refused("schema.unknown", schema.by_hash, bytes(32))


LEVELS = some_levels(CLAIM)


@given(LEVELS, LEVELS, LEVELS)
def test_the_coarser_of_levels_is_the_least_that_lies_within_all(one: bytes, two: bytes, bound: bytes) -> None:
    both = coarser(one, two)
    assert within(both, one)
    assert within(both, two)
    assert coarser(two, one) == both
    assert coarser(both, one) == both
    assert (within(bound, one) and within(bound, two)) == within(bound, both)
    CLAIM.check_levels(both)


@given(LEVELS)
def test_absent_is_coarser_than_every_level(levels: bytes) -> None:
    absent = bytes([ABSENT]) * len(levels)
    assert coarser(levels, absent) == absent
    assert within(absent, levels)
    assert within(levels, CLAIM.finest)


@given(LEVELS, st.integers(0, 5))
def test_levels_of_another_length_lie_within_nothing(levels: bytes, cut: int) -> None:
    assert not within(levels[:cut], levels)
    assert not within(levels, levels[:cut])
