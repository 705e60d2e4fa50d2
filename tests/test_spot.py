"""Spot audit: an honest record has no violation; every way to tell recipients different stories is found."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from clients.hospital.record import claim
from clients.hospital.sample import sample_bill
from zhifu import bill, leaf, schema, sealed, spot
from zhifu.cbor import Value
from zhifu.errors import Malformed
from zhifu.sealed import SealedRecord

KIND = schema.load("inpatient-claim")


@pytest.fixture(scope="module")
def honest() -> SealedRecord:
    return sealed.seal(KIND, claim(bill.parse(sample_bill(4)), os.urandom(32)), bytes(32), 1)


def lie(record: SealedRecord, unit: str, rank: int, value: Value) -> SealedRecord:
    """The record with one level sealed over another value, and a manifest that says so: what a liar would sign."""
    at = KIND.leaves.index((KIND.unit(unit).index, rank))
    cut = sealed.slices(KIND, record.manifest.size_class, record.leaves)
    size = KIND.units[KIND.leaves[at][0]].levels[rank].sizes[record.manifest.size_class]
    secret = leaf.secret(record.key, record.manifest.rid, *KIND.leaves[at])
    cut[at] = leaf.seal(value, size, secret, record.manifest.rid, *KIND.leaves[at], KIND.hash)
    digests = list(record.manifest.digests)
    digests[at] = leaf.digest(cut[at], record.manifest.rid, *KIND.leaves[at], KIND.hash)
    return SealedRecord(replace(record.manifest, digests=tuple(digests)), b"".join(cut), record.key)


def found(record: SealedRecord) -> list[tuple[str, str, str]]:
    return [(one.unit, one.level, one.reason) for one in spot.audit(record.manifest, record.leaves, record.key)]


def test_an_honest_record_passes(honest: SealedRecord) -> None:
    assert found(honest) == []


def test_a_milder_diagnosis_for_the_insurer_is_found(honest: SealedRecord) -> None:
    assert found(lie(honest, "diagnosis", 1, ["J06"])) == [("diagnosis", "category", "leaf.ladder")]


def test_a_younger_decade_is_found(honest: SealedRecord) -> None:
    assert found(lie(honest, "birth-date", 2, 1990)) == [("birth-date", "ten-years", "leaf.ladder")]


def test_a_level_left_out_is_found(honest: SealedRecord) -> None:
    assert found(lie(honest, "item-charges", 1, None)) == [("item-charges", "by-type", "leaf.ladder")]


def test_a_lie_at_the_finest_level_shows_in_every_coarser_one(honest: SealedRecord) -> None:
    wrong = found(lie(honest, "birth-date", 0, "1890-01-01"))
    assert wrong == [("birth-date", "year", "leaf.ladder"), ("birth-date", "ten-years", "leaf.ladder")]


def test_a_value_of_another_grammar_is_found(honest: SealedRecord) -> None:
    assert found(lie(honest, "birth-date", 1, "1956")) == [("birth-date", "year", "leaf.grammar")]


def test_another_key_or_another_leaf_is_found(honest: SealedRecord) -> None:
    every = spot.audit(honest.manifest, honest.leaves, bytes(32))
    assert {one.reason for one in every} == {"leaf.commitment"}
    assert len(every) == len(KIND.leaves)
    flipped = bytes([honest.leaves[0] ^ 1]) + honest.leaves[1:]
    assert found(replace(honest, leaves=flipped)) == [("encounter", "full", "leaf.set")]


def test_what_is_no_record_is_malformed(honest: SealedRecord) -> None:
    with pytest.raises(Malformed, match=r"leaf\.set"):
        spot.audit(honest.manifest, honest.leaves[:-1], honest.key)
    with pytest.raises(Malformed, match=r"malformed\.field"):
        spot.audit(honest.manifest, honest.leaves, honest.key[:-1])
