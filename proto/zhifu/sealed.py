"""The sealed record: seal once, gate for each recipient, open what was released (DESIGN 4.1 to 4.3).

Every leaf's secret is split in two: the recipient's share travels in its capsule, the gate share is derived by the
broker from an
epoch secret. The broker, which holds no capsule key, decides with its share how much can be opened and cannot
open anything itself.
"""

from __future__ import annotations

import hashlib
import hmac
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from zhifu import ladder, leaf
from zhifu import schema as schemas
from zhifu.cbor import Value
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE
from zhifu.manifest import NO_AMENDMENT, Manifest
from zhifu.schema import ABSENT, Schema

SHARE_BYTES: Final = 32
_PLANS: Final = 1024
_ROOT: Final = b"zhifu/v1 root\0"
_SHARES: Final = b"zhifu/v1 shares\0"
_GATE: Final = b"zhifu/v1 gate\0"
_ENCOUNTER: Final = b"zhifu/v1 encounter\0"


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record sealed once for all recipients: ``leaves`` is every leaf in schema order; ``key`` is K, 32 bytes."""

    manifest: Manifest
    leaves: bytes
    key: bytes

    @property
    def encoded_manifest(self) -> bytes:
        return self.manifest.to_bytes()


def ladders(schema: Schema, values: Mapping[str, Value]) -> Iterator[Value]:
    """The value of every leaf in schema order, coarsened from the finest; units not in ``values`` are absent.

    Raises `Malformed` (schema.value): a value that does not fit its grammar, or a name the schema does not have.
    """
    unknown = set(values) - {unit.name for unit in schema.units}
    if unknown:
        raise Malformed("schema.value", f"schema {schema.name} has no unit {sorted(unknown)[0]}")
    for unit in schema.units:
        finest = values.get(unit.name)
        for rank, level in enumerate(unit.levels):
            value = finest if rank == 0 else ladder.coarsen(unit.levels[0].form, level.form, finest)
            if not ladder.conforms(level.form, value):
                raise Malformed("schema.value", f"unit {unit.name}, level {level.name}: not of form {level.form}")
            yield value


def seal(
    schema: Schema, values: Mapping[str, Value], sealer: bytes, sealed_at: int, amends: bytes = NO_AMENDMENT
) -> SealedRecord:
    """Seal every level of every unit under a fresh record key (DESIGN 4.2).

    ``values`` maps unit names to finest values, ``sealed_at`` is Unix ms. Raises `Malformed` (schema.value,
    schema.overflow).
    """
    return seal_with(schema, values, sealer, sealed_at, amends, rid=os.urandom(16), key=os.urandom(32))


def seal_with(
    schema: Schema, values: Mapping[str, Value], sealer: bytes, sealed_at: int, amends: bytes, *, rid: bytes, key: bytes
) -> SealedRecord:
    """`seal` with a given rid (16) and K (32): for known-answer vectors. Never reuse either."""
    plain = [leaf.marked(value) for value in ladders(schema, values)]
    size_class = _smallest(schema, plain)
    labels, sizes = leaf_labels(schema.leaves), schema.plain_sizes[size_class]
    sealed = [
        leaf.seal_padded(one.ljust(size, b"\0"), s, rid, at, schema.hash)
        for one, size, s, at in zip(plain, sizes, leaf.secrets(key, rid, labels), labels, strict=True)
    ]
    digests = tuple(leaf.digests(sealed, rid, labels, schema.hash))
    manifest = Manifest(rid, schema.hash, sealer, size_class, sealed_at, digests, amends)
    return SealedRecord(manifest, b"".join(sealed), key)


@lru_cache(_PLANS)
def leaf_labels(leaves: tuple[tuple[int, int], ...]) -> tuple[bytes, ...]:
    """`leaf.label` of each of a schema's leaves, in its order."""
    return tuple(leaf.label(*at) for at in leaves)


def smallest_class(schema: Schema, contents: list[Value]) -> int:
    """The class of a whole record, an index into `SIZE_CLASSES`: no leaf's length says which unit was long.

    ``contents`` is the value of every leaf in schema order. Raises `Malformed` (schema.overflow).
    """
    return _smallest(schema, [leaf.marked(value) for value in contents])


def _smallest(schema: Schema, plain: Sequence[bytes]) -> int:
    lengths = [len(one) for one in plain]
    for size_class, sizes in enumerate(schema.plain_sizes):
        if all(map(operator.le, lengths, sizes)):
            return size_class
    raise Malformed("schema.overflow")


def slices(schema: Schema, size_class: int, leaves: bytes) -> list[bytes]:
    """Cut a record's leaves apart. Raises `Malformed` (leaf.set) where the total is not what schema and class fix."""
    sizes = schema.sizes[size_class]
    if len(leaves) != sum(sizes):
        raise Malformed("leaf.set", "the leaves do not have the schema's length")
    found, offset = [], 0
    for size in sizes:
        found.append(leaves[offset : offset + size])
        offset += size
    return found


# The gate


def gate_root(epoch_secret: bytes | leaf.Mac, rid: bytes, recipient: bytes, nonce: bytes) -> bytes:
    """``G = Expand(E, "zhifu/v1 root\\0" || suite || rid || recipient id || nonce, 32)``: one for each presentation.

    From the secret E, or from the MAC under it that is kept where it serves for many.
    """
    mac = epoch_secret if isinstance(epoch_secret, leaf.Mac) else leaf.Mac(epoch_secret)
    return mac.expand(_ROOT + bytes([SUITE]) + rid + recipient + nonce, 32)


def gate_commitment(rid: bytes, root: bytes) -> bytes:
    """``SHA-256("zhifu/v1 gate\\0" || rid || G)``: signed by the sender, recomputed by the broker."""
    return hashlib.sha256(_GATE + rid + root).digest()


def check_gate_root(commitment: bytes, rid: bytes, root: bytes) -> None:
    """Raises `NotAuthentic` (gate.root)."""
    if not hmac.compare_digest(commitment, gate_commitment(rid, root)):
        raise NotAuthentic("gate.root")


def gate_shares(root: bytes, schema: Schema) -> list[bytes]:
    """``g[u,l]`` of every leaf in schema order: one wide Expand of G, cut (DESIGN 4.2)."""
    wide = HKDFExpand(SHA256(), SHARE_BYTES * len(schema.leaves), _SHARES).derive(root)
    return [wide[i : i + SHARE_BYTES] for i in range(0, len(wide), SHARE_BYTES)]


def released_shares(root: bytes, schema: Schema, released: bytes) -> bytes:
    """The shares of the released leaves, 32 bytes each in schema order."""
    length, cuts = _share_cuts(schema.hash, released)
    if not length:
        return b""
    wide = HKDFExpand(SHA256(), length, _SHARES).derive(root)
    return b"".join([wide[begin:end] for begin, end in cuts])


@lru_cache(_PLANS)
def _share_cuts(schema_hash: bytes, released: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Up to the last released leaf, how many bytes of shares there are; and where those of released leaves are."""
    places = released_places(schemas.by_hash(schema_hash), released)
    # What HKDF expands first does not depend on how much is asked for (RFC 5869, section 2.3).
    length = SHARE_BYTES * (places[-1] + 1) if places else 0
    return length, [(SHARE_BYTES * place, SHARE_BYTES * (place + 1)) for place in places]


def released_places(schema: Schema, released: bytes) -> list[int]:
    """Positions in schema order of the leaves that ``released`` names: one a unit, none for absent units."""
    return [i for i, (u, rank) in enumerate(schema.leaves) if released[u] == rank and rank != ABSENT]


def gate(manifest: Manifest, leaves: bytes, released: bytes) -> bytes:
    """The released leaves, each checked against the manifest; every other leaf is dropped (DESIGN 4.3).

    ``leaves`` is the whole record. Raises `Malformed` (leaf.set), `NotAuthentic` (leaf.digest).
    """
    plan = _plan(manifest.schema_hash, manifest.size_class, released)
    if len(leaves) != plan.length:
        raise Malformed("leaf.set", "the leaves do not have the schema's length")
    kept = [leaves[begin:end] for begin, end in plan.cuts]
    found = leaf.digests(kept, manifest.rid, plan.labels, manifest.schema_hash)
    for place, digest in zip(plan.places, found, strict=True):
        _check_digest(manifest, place, digest)
    return b"".join(kept)


class _Plan(NamedTuple):
    """What is released of a whole record: places in schema order, their labels, where each leaf begins and ends."""

    length: int
    places: list[int]
    labels: list[bytes]
    cuts: list[tuple[int, int]]


@lru_cache(_PLANS)
def _plan(schema_hash: bytes, size_class: int, released: bytes) -> _Plan:
    # The same few for every record: a policy has a few dozen releases.
    schema = schemas.by_hash(schema_hash)
    ends = [0, *accumulate(schema.sizes[size_class])]
    places = released_places(schema, released)
    labels = [leaf.label(*schema.leaves[place]) for place in places]
    return _Plan(ends[-1], places, labels, [(ends[place], ends[place + 1]) for place in places])


def _check_digest(manifest: Manifest, place: int, digest: bytes) -> None:
    if not hmac.compare_digest(digest, manifest.digests[place]):
        u, rank = manifest.schema.leaves[place]
        raise NotAuthentic("leaf.digest", f"unit {manifest.schema.units[u].name}, level {rank}")


# Opening


def xor(left: bytes, right: bytes) -> bytes:
    """``left XOR right``, 32 bytes each: splits a secret and joins it again."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(SHARE_BYTES, "big")


def open_released(
    manifest: Manifest, released: bytes, leaves: bytes, shares: bytes, own: Mapping[tuple[int, int], bytes]
) -> dict[str, Value]:
    """The released values by unit name (DESIGN 4.3, step 7).

    ``leaves`` and ``shares`` are the released leaves and the broker's shares in schema order; ``own`` are the
    recipient's shares from its capsule. Checks digest, kc, GCM, padding, strict CBOR and the level's grammar.
    Raises `Malformed` (leaf.set, leaf.padding, malformed.encoding, leaf.grammar), `NotAuthentic` (leaf.*).
    """
    plan = _plan(manifest.schema_hash, manifest.size_class, released)
    ends = [0, *accumulate(end - begin for begin, end in plan.cuts)]
    if len(leaves) != ends[-1] or len(shares) != SHARE_BYTES * len(plan.places):
        raise Malformed("leaf.set", "not the leaves and shares of the released levels")
    sealed = [leaves[begin:end] for begin, end in pairwise(ends)]
    digests = leaf.digests(sealed, manifest.rid, plan.labels, manifest.schema_hash)
    schema, values = manifest.schema, dict[str, Value]()
    for i, (place, one) in enumerate(zip(plan.places, sealed, strict=True)):
        _check_digest(manifest, place, digests[i])
        share = shares[SHARE_BYTES * i : SHARE_BYTES * (i + 1)]
        values.update(_open_one(manifest, schema.leaves[place], one, share, own))
    return values


def _open_one(
    manifest: Manifest, at: tuple[int, int], sealed: bytes, share: bytes, own: Mapping[tuple[int, int], bytes]
) -> dict[str, Value]:
    unit = manifest.schema.units[at[0]]
    level = unit.levels[at[1]]
    if at not in own:
        raise NotAuthentic("capsule.units", f"no share of unit {unit.name}, level {level.name}")
    value = leaf.open_leaf(sealed, xor(own[at], share), manifest.rid, *at, manifest.schema_hash)
    if not ladder.conforms(level.form, value):
        raise Malformed("leaf.grammar", f"unit {unit.name}, level {level.name}")
    return {unit.name: value}


def encounter_handle(encounter_secret: bytes, recipient: bytes) -> bytes:
    """The 16-byte handle of an encounter for one recipient.

    HMAC-SHA256 under the sealed encounter secret: handles of one encounter do not match between recipients,
    and each recipient recomputes its own after opening (proto/README.md, Divergences).
    """
    return hmac.digest(encounter_secret, _ENCOUNTER + recipient, "sha256")[:16]
