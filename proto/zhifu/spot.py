"""Spot audit: with a record's key, open every level of every unit and recompute the coarser ones from the finest
(DESIGN 4.6).

A hospital can lie about values; it signs what it says. What it cannot do unseen is tell one recipient another
story than the next: all levels are sealed once, under one manifest, and here they are laid beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zhifu import ladder, leaf
from zhifu.cbor import Value
from zhifu.errors import Error, Malformed
from zhifu.manifest import Manifest
from zhifu.schema import Unit
from zhifu.sealed import slices

KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Violation:
    """A level that is not what the finest one gives; ``reason`` is of the catalogue. It carries no value."""

    unit: str
    level: str
    reason: str


def audit(manifest: Manifest, leaves: bytes, key: bytes) -> list[Violation]:
    """Every level that does not follow from the finest of its unit, in schema order; none for an honest record.

    ``leaves`` is the whole record, ``key`` is K. A leaf that is not the one in the manifest, or does not open
    under K, counts too.
    Raises `Malformed` (leaf.set, malformed.field) where the leaves are not a record of this schema.
    """
    if len(key) != KEY_BYTES:
        raise Malformed("malformed.field", "a record key has 32 bytes")
    cut = slices(manifest.schema, manifest.size_class, leaves)
    places = {place: at for at, place in enumerate(manifest.schema.leaves)}
    found: list[Violation] = []
    for unit in manifest.schema.units:
        sealed = [cut[places[unit.index, rank]] for rank in range(len(unit.levels))]
        found += _unit(manifest, unit, sealed, key)
    return found


def _unit(manifest: Manifest, unit: Unit, sealed: list[bytes], key: bytes) -> Iterator[Violation]:
    finest: Value = None
    for rank, level in enumerate(unit.levels):
        try:
            value = _open(manifest, unit, rank, sealed[rank], key)
            if rank == 0:
                finest = value
            elif value != _frozen(ladder.coarsen(unit.levels[0].form, level.form, finest)):
                yield Violation(unit.name, level.name, "leaf.ladder")
        except Error as error:
            yield Violation(unit.name, level.name, error.reason)


def _open(manifest: Manifest, unit: Unit, rank: int, sealed: bytes, key: bytes) -> Value:
    at = (unit.index, rank)
    place = manifest.schema.leaves.index(at)
    if leaf.digest(sealed, manifest.rid, *at, manifest.schema_hash) != manifest.digests[place]:
        raise Malformed("leaf.set", "not the leaf in the manifest")
    value = leaf.open_leaf(sealed, leaf.secret(key, manifest.rid, *at), manifest.rid, *at, manifest.schema_hash)
    if not ladder.conforms(unit.levels[rank].form, value):
        raise Malformed("leaf.grammar")
    return value


def _frozen(value: Value) -> Value:
    """Lists as tuples, as decoding gives them."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
