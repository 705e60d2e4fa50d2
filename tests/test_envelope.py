"""Envelopes and frames: what is signed, one signature for many payloads, and every place where a bit can be turned."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import HOSPITAL, INSURER, refused, seed
from tests.vectors import second
from zhifu import envelope, schema
from zhifu.envelope import (
    ACKNOWLEDGEMENT,
    ATTESTATION,
    DELETION,
    EPOCH_OFFER,
    ERASURE,
    GRANT,
    HOLD,
    KEY_STATEMENT,
    MAX_FRAME,
    POLICY,
    PRESENTATION,
    QUOTA,
    REQUEST,
    REVOCATION,
    STANDING,
    SUBJECT_KEY,
    TICKET,
    WALLET,
    Envelope,
    Kind,
)
from zhifu.errors import CATALOGUE, Malformed, NotAuthentic
from zhifu.v1 import signed_pb2

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))
KINDS = {
    "presentation": PRESENTATION, "grant": GRANT, "consent_request": REQUEST, "ticket": TICKET, "policy": POLICY,
    "revocation": REVOCATION, "key_statement": KEY_STATEMENT, "epoch_offer": EPOCH_OFFER, "attestation": ATTESTATION,
    "acknowledgement": ACKNOWLEDGEMENT, "wallet": WALLET, "pseudonym_quota": QUOTA, "erasure_order": ERASURE,
    "legal_hold": HOLD, "subject_key": SUBJECT_KEY, "deletion": DELETION,
    "standing": STANDING,
}  # fmt: skip
KEY = HOSPITAL.signing
PUBLIC = bytes(KEY.verify_key)


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# --- known answers ----------------------------------------------------------------------------------------------------


def test_every_kind_has_a_vector() -> None:
    declared = {one for one in vars(envelope).values() if isinstance(one, Kind)}
    assert declared == set(KINDS.values())
    assert set(VECTORS["signed"]) == set(KINDS)
    assert len({one.label for one in declared}) == len({one.media_type for one in declared}) == len(declared)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_known_answers(name: str) -> None:
    kind, vector = KINDS[name], VECTORS["signed"][name]
    payload, key = bytes.fromhex(vector["payload"]), SigningKey(bytes.fromhex(vector["seed"]))
    assert kind.label == f"zhifu/v1 {vector['kind']}\0".encode()
    assert kind.signed_bytes(payload).hex() == vector["signed_bytes"]
    signed = envelope.seal_one(kind, payload, key)
    assert signed.signature.hex() == vector["signature"]
    assert signed.key_id.hex() == vector["key_id"]
    assert signed.to_bytes().hex() == vector["envelope"]
    read = envelope.from_bytes(kind, bytes.fromhex(vector["envelope"]))
    assert read == signed
    assert envelope.verify(read, bytes.fromhex(vector["public"])) == payload
    assert len(payload) <= kind.cap


def test_known_frame() -> None:
    vector = VECTORS["frame"]
    payloads = [bytes.fromhex(one) for one in vector["payloads"]]
    signature, made = envelope.seal_frame(PRESENTATION, payloads, SigningKey(bytes.fromhex(vector["seed"])))
    assert signature.hex() == vector["signature"]
    assert [[one.hex() for one in member.path] for member in made] == vector["paths"]
    assert envelope.verify_frame(PRESENTATION, payloads, signature, bytes.fromhex(vector["public"])) == made
    for member in made:
        assert envelope.verify(member, bytes.fromhex(vector["public"])) == member.payload


# --- the specification ------------------------------------------------------------------------------------------------


def written_labels(folder: Path) -> list[bytes]:
    """Labels as they stand in the modules, each as often as it is written down, and those of the kinds."""
    labels = [kind.label for kind in KINDS.values()]
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and node.value.startswith(b"zhifu/v1 "):
                labels.append(node.value)
    return labels


def specified(repo_root: Path, heading: str) -> list[list[str]]:
    """The rows of the table below a heading of the specification."""
    text = (repo_root / "proto" / "README.md").read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_label_is_specified_and_has_one_use(repo_root: Path) -> None:
    written = written_labels(repo_root / "proto" / "zhifu")
    assert len(set(written)) == len(written)
    listed = [row[0].strip("`").replace("\\0", "\0").encode() for row in specified(repo_root, "Labels")]
    assert sorted(listed) == sorted(written)


def test_every_reason_is_specified(repo_root: Path) -> None:
    listed = [(row[0].strip("`"), row[1], int(row[2]), row[3] == "yes") for row in specified(repo_root, "Reasons")]
    assert listed == [(one.name, one.meaning, int(one.exit), one.retryable) for one in CATALOGUE.values()]


def test_every_schema_is_specified(repo_root: Path) -> None:
    """The table of sizes: units, leaves, and the record's bytes in each class."""
    listed = {row[0].replace("`", ""): row[1:] for row in specified(repo_root, "Schemas, levels, sizes")}
    made = {
        name if len(schema.versions(name)) == 1 else f"{name}, version {one.version}": one
        for name in schema.names()
        for one in schema.versions(name)
    }
    assert listed == {
        name: [str(len(one.units)), str(len(one.leaves)), *(f"{sum(sizes):,}" for sizes in one.sizes)]
        for name, one in made.items()
    }


# --- frames -----------------------------------------------------------------------------------------------------------

PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=MAX_FRAME)


@given(PAYLOADS, st.data())
def test_every_member_of_a_frame_is_provable_by_itself(payloads: list[bytes], data: st.DataObject) -> None:
    signature, members = envelope.seal_frame(PRESENTATION, payloads, KEY)
    assert envelope.verify_frame(PRESENTATION, payloads, signature, PUBLIC) == members
    leaves = [second.leaf_hash(PRESENTATION.signed_bytes(payload)) for payload in payloads]
    at = data.draw(st.integers(0, len(payloads) - 1))
    assert members[at].path == tuple(second.tree_path(at, leaves))
    sent = envelope.from_bytes(PRESENTATION, members[at].to_bytes())
    assert envelope.verify(sent, PUBLIC) == payloads[at]


@given(PAYLOADS, st.data())
def test_one_changed_payload_refuses_the_frame(payloads: list[bytes], data: st.DataObject) -> None:
    signature, _ = envelope.seal_frame(PRESENTATION, payloads, KEY)
    at = data.draw(st.integers(0, len(payloads) - 1))
    changed = [*payloads[:at], payloads[at] + b"!", *payloads[at + 1 :]]
    for other in (changed, payloads[:-1], [*payloads, b"more"], payloads[::-1]):
        if other == payloads or not 1 <= len(other) <= MAX_FRAME:
            continue
        refused("signature.invalid", envelope.verify_frame, PRESENTATION, other, signature, PUBLIC)


def test_frames_are_bounded() -> None:
    payloads = [b"%d" % i for i in range(MAX_FRAME + 1)]
    signature, members = envelope.seal_frame(PRESENTATION, payloads[:-1], KEY)
    assert len(members) == MAX_FRAME
    for wrong in ([], payloads):
        refused("malformed.size", envelope.seal_frame, PRESENTATION, wrong, KEY)
        refused("malformed.size", envelope.verify_frame, PRESENTATION, wrong, signature, PUBLIC)
    refused("malformed.size", envelope.verify_frame, PRESENTATION, payloads[:-1], signature[:-1], PUBLIC)
    refused("malformed.size", envelope.verify_frame, PRESENTATION, [bytes(PRESENTATION.cap + 1)], signature, PUBLIC)


def test_a_root_does_not_pass_for_another_size() -> None:
    """Two leaves make the same root as one leaf that is their parent: the size is signed beside it."""
    _, members = envelope.seal_frame(PRESENTATION, [b"a", b"b", b"c"], KEY)
    refused("signature.invalid", envelope.verify, replace(members[2], index=1, size=2), PUBLIC)
    refused("signature.invalid", envelope.verify, replace(members[0], size=4), PUBLIC)
    refused("signature.invalid", envelope.verify, replace(members[0], index=1), PUBLIC)
    refused("signature.invalid", envelope.verify, replace(members[0], path=members[0].path[:1]), PUBLIC)
    refused("signature.invalid", envelope.verify, replace(members[0], path=(*members[0].path, bytes(32))), PUBLIC)
    swapped = replace(members[0], path=members[0].path[::-1])
    refused("signature.invalid", envelope.verify, swapped, PUBLIC)


# --- what else can be wrong -------------------------------------------------------------------------------------------


def test_another_key_another_kind_another_bit() -> None:
    signed = envelope.seal_one(GRANT, b"payload", KEY)
    refused("key.unknown", envelope.verify, signed, bytes(INSURER.signing.verify_key))
    forged = replace(envelope.seal_one(GRANT, b"payload", INSURER.signing), key_id=signed.key_id)
    refused("signature.invalid", envelope.verify, forged, PUBLIC)
    refused("signature.invalid", envelope.verify, replace(signed, kind=REQUEST), PUBLIC)
    refused("signature.invalid", envelope.verify, replace(signed, payload=b"payloae"), PUBLIC)
    for at in range(64):
        turned = replace(signed, signature=flipped(signed.signature, at))
        refused("signature.invalid", envelope.verify, turned, PUBLIC)


def test_labels_keep_kinds_apart() -> None:
    """No signed bytes of one kind are signed bytes of another, even under one key."""
    texts = {kind.signed_bytes(b"same")[: len(kind.label)] for kind in KINDS.values()}
    assert len(texts) == len(KINDS)
    assert all(text.endswith(b"\0") and text.isascii() and text.count(b"\0") == 1 for text in texts)


def outer(**changed: Any) -> bytes:
    message = envelope.seal_one(TICKET, b"payload", KEY).to_proto()
    for name, value in changed.items():
        setattr(message, name, value)
    return message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"payload_type": GRANT.media_type}, "malformed.field"),
        ({"payload_type": ""}, "malformed.field"),
        ({"key_id": bytes(31)}, "malformed.field"),
        ({"key_id": b""}, "malformed.field"),
        ({"signature": bytes(65)}, "malformed.field"),
        ({"path": bytes(31)}, "malformed.field"),
        ({"path": bytes(32 * 8)}, "malformed.size"),
        ({"index": 1}, "malformed.field"),
        ({"size": 0}, "malformed.field"),
        ({"index": 64, "size": 65}, "malformed.field"),
        ({"payload": bytes(TICKET.cap + 1)}, "malformed.size"),
        ({"payload": bytes(TICKET.cap + 2000)}, "malformed.size"),
    ],
)
def test_the_outer_shape_is_checked_first(changed: dict[str, Any], reason: str) -> None:
    refused(reason, envelope.from_bytes, TICKET, outer(**changed))


def test_one_encoding() -> None:
    good = outer()
    assert envelope.from_bytes(TICKET, good).to_bytes() == good
    fields = signed_pb2.Envelope.FromString(good)
    swapped = second.protobuf((2, fields.payload)) + second.protobuf((1, fields.payload_type)) + good[-102:]
    for other in (
        good + b"\x28\x00",  # explicit zero index
        good + second.protobuf((9, b"unknown")),
        good + second.protobuf((2, fields.payload)),  # twice
        second.protobuf((2, b"first")) + good,
        swapped,
        good[:-2] + b"\x30\x81\x00",  # size as a long varint
        good[:-1],
        b"",
        b"\xff" * 20,
    ):
        assert refused_as_malformed(other)


def refused_as_malformed(data: bytes) -> bool:
    with pytest.raises(Malformed):
        envelope.from_bytes(TICKET, data)
    return True


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_turned_bit_survives(at: int, mask: int) -> None:
    """Of a stored envelope every byte is covered: by its own form, by the key id or by the signature."""
    _, members = envelope.seal_frame(TICKET, [b"a", b"payload", b"c"], KEY)
    whole = members[1].to_bytes()
    at %= len(whole)
    turned = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
    with pytest.raises((Malformed, NotAuthentic)):
        envelope.verify(envelope.from_bytes(TICKET, turned), PUBLIC)


def test_the_wrong_seed_is_another_key() -> None:
    other = SigningKey(seed("another"))
    signed: Envelope = envelope.seal_one(TICKET, b"payload", other)
    refused("key.unknown", envelope.verify, signed, PUBLIC)
