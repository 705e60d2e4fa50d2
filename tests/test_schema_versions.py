"""A changed schema is another one: it opens no old record wrongly and widens no old grant (issue: Deliver 1)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import finest
from policies.load import load
from tests import formats
from tests.formats import HOSPITAL, INSURER, NOW, PATIENT, claim, refused, some_levels
from zhifu import manifest, schema, sealed
from zhifu.errors import Error
from zhifu.receive import receive
from zhifu.schema import ABSENT, within

VECTORS = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))
"""As another implementation recorded them."""
OLD, NEW = schema.versions("inpatient-claim")
BUNDLE: Final = load()
RECIPIENTS: Final = [("public-settlement", "public-payer"), ("commercial-settlement", "insurer")]


def test_versions_stand_beside_each_other() -> None:
    assert (OLD.version, NEW.version) == (1, 2)
    assert schema.load("inpatient-claim") is NEW
    assert schema.by_hash(OLD.hash) is OLD
    assert OLD.hash.hex() == VECTORS["schema"]["hash"], "the file of version 1 is never edited"


def test_a_version_stands_there_once() -> None:
    refused("malformed.field", schema.in_order, [OLD, NEW, replace(OLD, hash=bytes(32))])
    for wrong in (b"version = 0\n", b"version = true\n", b'version = "2"\n', b"version = 1.5\n"):
        refused("malformed.encoding", schema.parse, b'name = "x"\n' + wrong + SMALL)
    assert schema.parse(b'name = "x"\n' + SMALL).version == 1


SMALL: Final = b"""[[unit]]
name = "born"
zh = "x"
en = "x"
[[unit.level]]
name = "full"
form = "date"
bytes = 16
"""


@pytest.mark.parametrize(
    "change", [(b"bytes = 16", b"bytes = 17"), (b'en = "x"', b'en = "y"'), (b"[[unit]]", b"\n[[unit]]")]
)
def test_any_edit_makes_another_schema(change: tuple[bytes, bytes]) -> None:
    source = b'name = "x"\n' + SMALL
    assert schema.parse(source.replace(*change, 1)).hash != schema.parse(source).hash


def test_an_old_grant_does_not_cover_a_record_of_the_new_schema() -> None:
    """Played against the recipient's eight checks: sealed and presented whole under version 2, the grant is of 1."""
    under_new = sealed.seal(NEW, dict(PATIENT), HOSPITAL.id, NOW * 1000)
    honest = claim()
    assert honest.grant is not None
    wider = replace(honest, record=under_new, ceilings=NEW.finest, released=NEW.finest)
    with pytest.raises(Error) as caught:
        receive(wider.send().deliver(), formats.recipient(INSURER), NOW)
    assert caught.value.reason == "consent.exceeded"


def test_a_record_is_read_by_its_own_schema_only() -> None:
    """Whoever says that an old record is of the new schema has another manifest, and leaves that do not open."""
    record = sealed.seal(OLD, dict(PATIENT), HOSPITAL.id, NOW * 1000)
    found = manifest.parse(record.encoded_manifest)
    assert found.schema is OLD
    renamed = replace(found, schema_hash=NEW.hash)
    refused("malformed.field", manifest.parse, renamed.to_bytes())
    padded = replace(renamed, digests=(*found.digests, *found.digests[: len(NEW.leaves) - len(OLD.leaves)]))
    assert manifest.hash_of(padded.to_bytes()) != manifest.hash_of(record.encoded_manifest)
    refused("leaf.set", sealed.gate, padded, record.leaves, NEW.finest)
    everything = record.leaves.ljust(sum(NEW.sizes[found.size_class]), b"\0")
    refused("leaf.digest", sealed.gate, padded, everything, NEW.levels({"encounter": 0}))


@pytest.mark.parametrize(("purpose", "role"), RECIPIENTS)
def test_a_table_releases_no_more_of_an_older_version(purpose: str, role: str) -> None:
    newest, old = finest(BUNDLE, purpose, role, NEW), finest(BUNDLE, purpose, role, OLD)
    assert old != bytes([ABSENT]) * len(OLD.units), "records of version 1 still flow"
    for unit, rank in zip(OLD.units, old, strict=True):
        now = newest[NEW.unit(unit.name).index]
        name = None if rank == ABSENT else unit.levels[rank].name
        assert name == (None if now == ABSENT else NEW.units[NEW.unit(unit.name).index].levels[now].name)


@given(st.data(), st.sampled_from(RECIPIENTS), st.sampled_from(schema.names()))
def test_what_is_released_lies_within_ceilings_policy_and_grant(
    data: st.DataObject, to: tuple[str, str], name: str
) -> None:
    """Over every schema and version: the coarser of the three, unit by unit, and never finer than any."""
    kind = data.draw(st.sampled_from(schema.versions(name)))
    ceilings, granted = data.draw(some_levels(kind)), data.draw(some_levels(kind))
    policy = finest(BUNDLE, *to, kind)
    found = schema.coarser(schema.coarser(ceilings, granted), policy)
    assert all(within(found, bound) for bound in (ceilings, granted, policy))
    assert all(level in (a, b, c) for level, a, b, c in zip(found, ceilings, granted, policy, strict=True))
