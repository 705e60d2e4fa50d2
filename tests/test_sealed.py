"""The sealed record: known answers, and seal ∘ gate ∘ open for any values, ceilings and policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.formats import CLAIM, HOSPITAL, INSURER, NOW, PATIENT, bill, normal, records, refused, seed, some_levels
from tests.vectors import make, second
from zhifu import capsule, cbor, ladder, leaf, manifest, schema, sealed
from zhifu.errors import Malformed
from zhifu.manifest import Manifest
from zhifu.schema import ABSENT, Schema, coarser, within
from zhifu.sealed import SealedRecord

FOLDER = Path(__file__).parent / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "formats.json").read_text("utf-8"))
RECORD, GATE = VECTORS["record"], VECTORS["gate"]


def known_record() -> SealedRecord:
    """The vector's record, sealed by us from its finest values."""
    values = {
        one["unit"]: cbor.decode(bytes.fromhex(one["value_cbor"]), 1 << 16) for one in RECORD["leaves"] if one["l"] == 0
    }
    return sealed.seal_with(
        CLAIM, values, bytes.fromhex(RECORD["sealer"]), RECORD["sealed_at_ms"], manifest.NO_AMENDMENT,
        rid=bytes.fromhex(RECORD["rid"]), key=bytes.fromhex(RECORD["key"]),
    )  # fmt: skip


# --- known answers ----------------------------------------------------------------------------------------------------


def test_the_vectors_are_what_the_second_implementation_makes() -> None:
    """After a change to a packaged schema: python -m tests.vectors.make."""
    assert make.text() == (FOLDER / "formats.json").read_text("utf-8")


def test_the_example_of_the_specification_is_the_vector(repo_root: Path) -> None:
    text = (repo_root / "proto" / "README.md").read_text("utf-8")
    (one,) = (leaf for leaf in RECORD["leaves"] if (leaf["unit"], leaf["level"]) == ("birth-date", "year"))
    for value in (one["secret"], one["key"], one["kc"], one["leaf"][64:], one["digest"], RECORD["rid"]):
        assert value in text, value


@pytest.mark.parametrize("vector", json.loads((FOLDER / "hkdf.json").read_text("utf-8"))["expand"])
def test_hkdf_of_rfc_5869(vector: dict[str, Any]) -> None:
    key, info, length = bytes.fromhex(vector["prk"]), bytes.fromhex(vector["info"]), vector["length"]
    assert second.hkdf_extract(bytes.fromhex(vector["salt"]), bytes.fromhex(vector["ikm"])) == key
    assert second.hkdf_expand(key, info, length).hex() == vector["okm"]
    for short in (16, 32, 33, 42, 64):
        assert leaf.expand(key, info, short).hex() == (
            vector["okm"] if short == length else second.hkdf_expand(key, info, short).hex()
        )


@pytest.mark.parametrize("vector", RECORD["leaves"], ids=lambda one: f"{one['unit']}.{one['level']}")
def test_known_leaves(vector: dict[str, Any]) -> None:
    rid, key, place = bytes.fromhex(RECORD["rid"]), bytes.fromhex(RECORD["key"]), (vector["u"], vector["l"])
    secret = leaf.secret(key, rid, *place)
    assert secret.hex() == vector["secret"]
    header = b"zhifu/v1 leaf\0" + leaf.place(rid, *place)
    assert (header + CLAIM.hash).hex() == vector["aad"]
    assert leaf.expand(secret, header, 64).hex() == vector["key"] + vector["kc"]
    value = cbor.decode(bytes.fromhex(vector["value_cbor"]), 1 << 16)
    made = leaf.seal(value, vector["padded_bytes"], secret, rid, *place, CLAIM.hash)
    assert made.hex() == vector["leaf"]
    assert leaf.digest(made, rid, *place, CLAIM.hash).hex() == vector["digest"]
    assert leaf.open_leaf(bytes.fromhex(vector["leaf"]), secret, rid, *place, CLAIM.hash) == value


def test_known_record() -> None:
    """Coarser values come out of our ladder; in the vector they were written by hand."""
    record = known_record()
    assert record.leaves.hex() == "".join(one["leaf"] for one in RECORD["leaves"])
    assert record.encoded_manifest.hex() == RECORD["manifest"]
    assert manifest.hash_of(record.encoded_manifest).hex() == RECORD["manifest_hash"]
    assert manifest.parse(bytes.fromhex(RECORD["manifest"])) == record.manifest
    assert record.manifest.size_class == RECORD["size_class"]


def test_known_gate() -> None:
    rid, recipient, nonce = (bytes.fromhex(one) for one in (RECORD["rid"], GATE["recipient"], GATE["nonce"]))
    root = sealed.gate_root(bytes.fromhex(GATE["epoch_secret"]), rid, recipient, nonce)
    assert root.hex() == GATE["root"]
    assert sealed.gate_commitment(rid, root).hex() == GATE["commitment"]
    shares = sealed.gate_shares(root, CLAIM)
    assert [one.hex() for one in shares] == GATE["shares"]
    released = coarser(bytes.fromhex(GATE["ceilings"]), bytes.fromhex(GATE["policy"]))
    assert released.hex() == GATE["released"]
    places = sealed.released_places(CLAIM, released)
    assert places == GATE["released_leaves"]
    assert b"".join(shares[i] for i in places).hex() == GATE["delivered_shares"]
    kept = sealed.gate(known_record().manifest, known_record().leaves, released)
    assert kept.hex() == "".join(RECORD["leaves"][i]["leaf"] for i in places)


def test_known_encounter_handle() -> None:
    vector = VECTORS["encounter"]
    made = sealed.encounter_handle(bytes.fromhex(vector["secret"]), bytes.fromhex(vector["recipient"]))
    assert made.hex() == vector["handle"]
    assert made != sealed.encounter_handle(bytes.fromhex(vector["secret"]), HOSPITAL.id)


# --- seal, gate, open -------------------------------------------------------------------------------------------------

SCHEMAS = [schema.load(name) for name in schema.names()]


def sealed_or_overflow(kind: Schema, values: dict[str, Any]) -> SealedRecord:
    try:
        return sealed.seal(kind, values, HOSPITAL.id, NOW * 1000)
    except Malformed as error:
        assume(error.reason != "schema.overflow")
        raise


def coarsened(kind: Schema, values: dict[str, Any], released: bytes) -> dict[str, Any]:
    """What the recipient must read, from the ladder alone."""
    found = {}
    for unit, level in zip(kind.units, released, strict=True):
        if level != ABSENT:
            finest, form = unit.levels[0].form, unit.levels[level].form
            value = values.get(unit.name)
            found[unit.name] = normal(value if level == 0 else ladder.coarsen(finest, form, value))
    return found


@settings(max_examples=60)
@given(st.sampled_from(SCHEMAS), st.data())
def test_what_is_released_opens_as_the_coarsened_values(kind: Schema, data: st.DataObject) -> None:
    values = data.draw(records(kind))
    ceilings, policy = data.draw(some_levels(kind)), data.draw(some_levels(kind))
    record = sealed_or_overflow(kind, values)
    root = sealed.gate_root(seed("epoch"), record.manifest.rid, INSURER.id, seed("nonce")[:16])
    own = capsule.own_shares(record, ceilings, root)
    released = coarser(ceilings, policy)
    assert within(released, ceilings)
    assert within(released, policy)
    kept = sealed.gate(record.manifest, record.leaves, released)
    shares = sealed.gate_shares(root, kind)
    delivered = b"".join(shares[i] for i in sealed.released_places(kind, released))
    opened = sealed.open_released(record.manifest, released, kept, delivered, own)
    assert opened == coarsened(kind, values, released)


@settings(max_examples=40)
@given(some_levels(CLAIM))
def test_the_gate_never_adds(released: bytes) -> None:
    record = bill()
    every = sealed.slices(CLAIM, record.manifest.size_class, record.leaves)
    places = sealed.released_places(CLAIM, released)
    assert sealed.gate(record.manifest, record.leaves, released) == b"".join(every[i] for i in places)
    units = [CLAIM.leaves[i][0] for i in places]
    assert len(set(units)) == len(units), "one level a unit"
    assert all(released[u] == rank for u, rank in (CLAIM.leaves[i] for i in places))


@settings(max_examples=60)
@given(some_levels(CLAIM), st.integers(0, len(CLAIM.leaves) - 1), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_leaf_is_found_where_it_is_kept(released: bytes, place: int, at: int, mask: int) -> None:
    record = bill()
    every = sealed.slices(CLAIM, record.manifest.size_class, record.leaves)
    at %= len(every[place])
    every[place] = every[place][:at] + bytes([every[place][at] ^ mask]) + every[place][at + 1 :]
    changed = b"".join(every)
    if place in sealed.released_places(CLAIM, released):
        refused("leaf.digest", sealed.gate, record.manifest, changed, released)
    else:
        assert sealed.gate(record.manifest, changed, released) == sealed.gate(record.manifest, record.leaves, released)


def test_what_the_capsule_has_no_share_of_does_not_open() -> None:
    record, levels = bill(), CLAIM.levels({"encounter": 0, "sex": 0})
    root = seed("root")
    shares = sealed.gate_shares(root, CLAIM)
    delivered = b"".join(shares[i] for i in sealed.released_places(CLAIM, levels))
    kept, own = sealed.gate(record.manifest, record.leaves, levels), capsule.own_shares(record, levels, root)
    assert sealed.open_released(record.manifest, levels, kept, delivered, own)["sex"] == 2
    del own[4, 0]
    refused("capsule.units", sealed.open_released, record.manifest, levels, kept, delivered, own)


def test_the_gate_wants_the_whole_record() -> None:
    record, nothing = bill(), bytes([ABSENT]) * len(CLAIM.units)
    assert sealed.gate(record.manifest, record.leaves, nothing) == b""
    for other in (b"", record.leaves[:-1], record.leaves + b"\0"):
        refused("leaf.set", sealed.gate, record.manifest, other, nothing)
        refused("leaf.set", sealed.slices, CLAIM, record.manifest.size_class, other)


def test_the_gate_root_is_the_signed_one() -> None:
    rid, root = bill().manifest.rid, seed("root")
    sealed.check_gate_root(sealed.gate_commitment(rid, root), rid, root)
    refused("gate.root", sealed.check_gate_root, sealed.gate_commitment(rid, root), rid, seed("other"))
    refused("gate.root", sealed.check_gate_root, sealed.gate_commitment(rid, root), bytes(16), root)


# --- records ----------------------------------------------------------------------------------------------------------


def test_every_leaf_is_always_sealed_and_lengths_say_nothing() -> None:
    """An empty bill and a full one of the same class are the same to who cannot open them."""
    empty = sealed.seal(CLAIM, {}, HOSPITAL.id, NOW * 1000)
    assert len(empty.leaves) == len(bill().leaves)
    assert len(empty.manifest.digests) == len(bill().manifest.digests) == len(CLAIM.leaves)


@pytest.mark.parametrize(("lines", "size_class"), [(1, 0), (60, 1), (200, 2), (900, 3)])
def test_one_size_class_for_the_whole_record(lines: int, size_class: int) -> None:
    charges = [["09"] * lines, [100] * lines]
    record = sealed.seal(CLAIM, {**PATIENT, "item-charges": charges}, HOSPITAL.id, NOW * 1000)
    assert record.manifest.size_class == size_class
    assert len(record.leaves) == sum(CLAIM.sizes[size_class])


def test_what_does_not_fit_is_refused() -> None:
    charges = [["09"] * 9000, [100] * 9000]
    refused("schema.overflow", sealed.seal, CLAIM, {"item-charges": charges}, HOSPITAL.id, 0)
    refused("schema.value", sealed.seal, CLAIM, {"birth-date": "1984"}, HOSPITAL.id, 0)
    refused("schema.value", sealed.seal, CLAIM, {"birth-date": "0001-01-01"}, HOSPITAL.id, 0)  # no such year level
    refused("schema.value", sealed.seal, CLAIM, {"narrative": "x"}, HOSPITAL.id, 0)
    refused("schema.value", sealed.seal, CLAIM, {"diagnosis": [["D49.9", "x", 1]]}, HOSPITAL.id, 0)


def test_records_share_nothing() -> None:
    """The same values twice: no leaf, digest or secret in common, so equal records cannot be recognised."""
    one, two = (sealed.seal(CLAIM, PATIENT, HOSPITAL.id, NOW * 1000) for _ in range(2))
    assert one.manifest.rid != two.manifest.rid
    assert not set(one.manifest.digests) & set(two.manifest.digests)
    slices = [sealed.slices(CLAIM, record.manifest.size_class, record.leaves) for record in (one, two)]
    assert len({*slices[0], *slices[1]}) == 2 * len(CLAIM.leaves)


def test_secrets_depend_on_every_input() -> None:
    base = leaf.secret(seed("k"), seed("rid")[:16], 1, 2)
    others = {
        leaf.secret(seed("l"), seed("rid")[:16], 1, 2), leaf.secret(seed("k"), seed("dir")[:16], 1, 2),
        leaf.secret(seed("k"), seed("rid")[:16], 2, 2), leaf.secret(seed("k"), seed("rid")[:16], 1, 1),
    }  # fmt: skip
    assert len(others) == 4
    assert base not in others
    rid, nonce = seed("rid")[:16], bytes(16)
    root = sealed.gate_root(seed("e"), rid, INSURER.id, nonce)
    roots = {
        sealed.gate_root(seed("f"), rid, INSURER.id, nonce), sealed.gate_root(seed("e"), rid, HOSPITAL.id, nonce),
        sealed.gate_root(seed("e"), rid, INSURER.id, b"x" * 16), sealed.gate_root(seed("e"), nonce, INSURER.id, nonce),
    }  # fmt: skip
    assert len(roots) == 4
    assert root not in roots


# --- leaves -----------------------------------------------------------------------------------------------------------


def opened(sealed_leaf: bytes, secret: bytes = seed("s"), rid: bytes = bytes(16), u: int = 3, rank: int = 1) -> Any:
    return leaf.open_leaf(sealed_leaf, secret, rid, u, rank, CLAIM.hash)


def test_a_leaf_is_bound_to_its_place_record_and_schema() -> None:
    made = leaf.seal(1984, 8, seed("s"), bytes(16), 3, 1, CLAIM.hash)
    assert opened(made) == 1984
    refused("leaf.commitment", opened, made, seed("t"))
    refused("leaf.commitment", opened, made, rid=b"\1" * 16)
    refused("leaf.commitment", opened, made, u=4)
    refused("leaf.commitment", opened, made, rank=0)
    refused("leaf.open", leaf.open_leaf, made, seed("s"), bytes(16), 3, 1, bytes(32))
    refused("leaf.open", opened, made[:-1] + bytes([made[-1] ^ 1]))
    refused("leaf.commitment", opened, bytes([made[0] ^ 1]) + made[1:])
    for length in (0, 31, 47):
        refused("leaf.commitment", opened, made[:length])


def raw_leaf(plain: bytes) -> bytes:
    """A leaf around any plaintext, by the second implementation."""
    header = b"zhifu/v1 leaf\0" + leaf.place(bytes(16), 3, 1)
    keys = second.hkdf_expand(seed("s"), header, 64)
    return keys[32:] + second.gcm_seal(keys[:32], bytes(12), plain, header + CLAIM.hash)


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"", "leaf.padding"),
        (b"\0" * 8, "leaf.padding"),
        (b"\x01\0\0\0", "leaf.padding"),
        (b"\x01\x80\0\x01", "leaf.padding"),
        (b"\x80\0\0\0", "malformed.encoding"),
        (b"\x01\x02\x80\0", "malformed.encoding"),
        (b"\x18\x01\x80\0", "malformed.encoding"),
        (b"\xa0\x80\0\0", "malformed.encoding"),
        (b"\x01\x80\x80\0", "malformed.encoding"),
    ],
)
def test_plaintexts_that_no_honest_sealer_makes(plain: bytes, reason: str) -> None:
    refused(reason, opened, raw_leaf(plain))


def test_padding_is_unambiguous() -> None:
    assert opened(raw_leaf(b"\x01\x80")) == 1
    assert opened(raw_leaf(b"\x80\x80\0")) == ()
    assert leaf.unpad(leaf.pad([], 4)) == ()
    refused("schema.overflow", leaf.pad, "abcd", 5)
    assert len(leaf.pad("abcd", 6)) == 6


# --- manifests --------------------------------------------------------------------------------------------------------


def changed(**fields: Any) -> bytes:
    return replace(bill().manifest, **fields).to_bytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed.size"),
        (changed()[:-1], "malformed.field"),
        (changed() + b"\0", "malformed.field"),
        (changed() + bytes(32 * 255), "malformed.size"),
        (b"Z" + changed()[1:], "malformed.version"),
        (changed().replace(b"manifest\0\x01\x01", b"manifest\0\x02\x01"), "malformed.version"),
        (changed().replace(b"manifest\0\x01\x01", b"manifest\0\x01\x02"), "malformed.version"),
        (changed(size_class=4), "malformed.field"),
        (changed(schema_hash=bytes(32)), "schema.unknown"),
        (changed(digests=bill().manifest.digests[:-1]), "malformed.field"),
        (changed(digests=()), "malformed.field"),
    ],
)
def test_manifests_that_are_refused(data: bytes, reason: str) -> None:
    refused(reason, manifest.parse, data)


def test_manifests_round_trip_and_are_checked_against_the_signed_hash() -> None:
    encoded = changed(amends=seed("amended"))
    found = manifest.parse(encoded)
    assert found.to_bytes() == encoded
    assert found.amends == seed("amended")
    assert manifest.check_hash(encoded, manifest.hash_of(encoded)) == found
    refused("manifest.hash", manifest.check_hash, encoded, manifest.hash_of(changed()))
    assert isinstance(found, Manifest)
