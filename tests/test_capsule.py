"""Capsules: known answers, what they are bound to, and contents that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import (
    CEILINGS,
    CLAIM,
    HOSPITAL,
    INSURER,
    PAYER,
    bill,
    claim,
    refused,
    seed,
    some_levels,
    terms,
)
from tests.vectors import second
from zhifu import capsule, leaf, manifest, sealed
from zhifu.capsule import Capsule, Terms
from zhifu.keys import Alg, KemPrivate
from zhifu.schema import ABSENT

FORMATS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))
VECTOR = FORMATS["capsule"]
KEY = KemPrivate(Alg.X25519, seed("a recipient"))
HASH = manifest.hash_of(bill().encoded_manifest)
BOUND = CLAIM.levels(CEILINGS)
OWN = b"".join(capsule.own_shares(bill(), BOUND, seed("root")).values())


def info(sender: bytes = HOSPITAL.id, manifest_hash: bytes = HASH) -> bytes:
    return capsule.info(bill().manifest.rid, manifest_hash, sender, KEY.public.id)


def opened(content: Any) -> Capsule:
    """Any content, sealed by the second implementation (CBOR bytes as they are) and opened by ours."""
    plain = content if isinstance(content, bytes) else second.cbor(content)
    sealed_capsule = second.hpke_seal(KEY.public.raw, seed("ephemeral"), info(), plain)
    return capsule.open_capsule(sealed_capsule, KEY, bill().manifest, HASH, HOSPITAL.id)


def content(**changed: Any) -> list[Any]:
    fields = {
        "version": 1, "ceilings": BOUND, "shares": OWN, "pseudonym": seed("p"), "tokens": [["visit-number", seed("t")]],
        "terms": [terms().salt, terms().content], "attestations": [b"one", b"two"],
    }  # fmt: skip
    return list((fields | changed).values())


# --- known answers ----------------------------------------------------------------------------------------------------


def known() -> tuple[KemPrivate, bytes, bytes, bytes]:
    """(recipient's key, rid, manifest hash, sender) of the vector."""
    private = KemPrivate(Alg.X25519, bytes.fromhex(VECTOR["recipient_private"]))
    record = FORMATS["record"]
    return (
        private,
        bytes.fromhex(record["rid"]),
        bytes.fromhex(record["manifest_hash"]),
        bytes.fromhex(record["sealer"]),
    )


def test_known_capsule_opens() -> None:
    private, rid, manifest_hash, sender = known()
    assert private.public.raw.hex() == VECTOR["recipient_public"]
    assert private.public.id.hex() == VECTOR["recipient_key_id"]
    assert capsule.info(rid, manifest_hash, sender, private.public.id).hex() == VECTOR["info"]
    record = manifest.parse(bytes.fromhex(FORMATS["record"]["manifest"]))
    found = capsule.open_capsule(bytes.fromhex(VECTOR["sealed"]), private, record, manifest_hash, sender)
    assert found.ceilings.hex() == FORMATS["gate"]["ceilings"]
    assert b"".join(found.shares.values()).hex() == VECTOR["own_shares"]
    assert list(found.shares) == [CLAIM.leaves[i] for i in VECTOR["own_leaves"]]
    assert found.pseudonym is not None
    assert found.pseudonym.hex() == VECTOR["pseudonym"]
    assert [[name, token.hex()] for name, token in found.tokens] == VECTOR["tokens"]
    assert found.terms == Terms(bytes.fromhex(VECTOR["terms_salt"]), bytes.fromhex(VECTOR["terms"]))
    assert found.terms is not None
    assert found.terms.digest.hex() == VECTOR["terms_digest"]
    assert [one.hex() for one in found.attestations] == VECTOR["attestations"]


def test_what_we_seal_the_second_implementation_opens() -> None:
    private, rid, manifest_hash, sender = known()
    record = manifest.parse(bytes.fromhex(FORMATS["record"]["manifest"]))
    found = capsule.open_capsule(bytes.fromhex(VECTOR["sealed"]), private, record, manifest_hash, sender)
    made = capsule.seal(found, private.public, rid, manifest_hash, sender)
    assert second.hpke_open(private.raw, bytes.fromhex(VECTOR["info"]), made).hex() == VECTOR["plaintext"]


def test_known_shares_open_the_known_leaves() -> None:
    """a XOR g is the leaf's secret, and it opens."""
    own = bytes.fromhex(VECTOR["own_shares"])
    for i, place in enumerate(VECTOR["own_leaves"]):
        vector = FORMATS["record"]["leaves"][place]
        joined = sealed.xor(own[32 * i : 32 * i + 32], bytes.fromhex(FORMATS["gate"]["shares"][place]))
        assert joined.hex() == vector["secret"]
        leaf.open_leaf(
            bytes.fromhex(vector["leaf"]), joined, bytes.fromhex(FORMATS["record"]["rid"]), vector["u"], vector["l"],
            CLAIM.hash,
        )  # fmt: skip


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(some_levels(CLAIM), st.binary(min_size=32, max_size=32))
def test_shares_are_for_the_ceiling_and_every_coarser_level(ceilings: bytes, root: bytes) -> None:
    own = capsule.own_shares(bill(), ceilings, root)
    assert set(own) == {(u, rank) for u, rank in CLAIM.leaves if ceilings[u] != ABSENT and rank >= ceilings[u]}
    shares = sealed.gate_shares(root, CLAIM)
    for (u, rank), share in own.items():
        secret = leaf.secret(bill().key, bill().manifest.rid, u, rank)
        assert sealed.xor(share, shares[CLAIM.leaves.index((u, rank))]) == secret
    found = opened(content(ceilings=ceilings, shares=b"".join(own.values())))
    assert found.shares == own


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_xor_splits_and_joins(secret: bytes, share: bytes) -> None:
    assert sealed.xor(sealed.xor(secret, share), share) == secret
    assert sealed.xor(secret, bytes(32)) == secret


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_capsule_is_bound_to_record_sender_and_key() -> None:
    made = capsule.seal(claim().contents(), KEY.public, bill().manifest.rid, HASH, HOSPITAL.id)
    assert capsule.open_capsule(made, KEY, bill().manifest, HASH, HOSPITAL.id).ceilings == BOUND
    other = sealed.seal(CLAIM, {}, HOSPITAL.id, 1).manifest
    refused("capsule.open", capsule.open_capsule, made, KEY, other, HASH, HOSPITAL.id)
    refused("capsule.open", capsule.open_capsule, made, KEY, bill().manifest, seed("m"), HOSPITAL.id)
    refused("capsule.open", capsule.open_capsule, made, KEY, bill().manifest, HASH, PAYER.id)
    refused("capsule.open", capsule.open_capsule, made, INSURER.kem, bill().manifest, HASH, HOSPITAL.id)
    refused("malformed.size", capsule.open_capsule, bytes(capsule.MAX_BYTES + 1), KEY, bill().manifest, HASH, b"")


def test_optional_parts() -> None:
    found = opened(content(pseudonym=None, tokens=[], terms=None, attestations=[]))
    assert (found.pseudonym, found.tokens, found.terms, found.attestations) == (None, (), None, ())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": 2}, "malformed.version"),
        ({"version": True}, "malformed.version"),
        ({"version": None}, "malformed.version"),
        ({"ceilings": "x"}, "malformed.field"),
        ({"ceilings": BOUND[:-1]}, "malformed.field"),
        ({"ceilings": bytes([9]) + BOUND[1:]}, "malformed.field"),
        ({"ceilings": bytes([ABSENT]) + BOUND[1:]}, "capsule.units"),
        ({"shares": 1}, "malformed.field"),
        ({"shares": OWN[:-1]}, "capsule.units"),
        ({"shares": OWN + bytes(32)}, "capsule.units"),
        ({"shares": b""}, "capsule.units"),
        ({"pseudonym": bytes(31)}, "malformed.field"),
        ({"pseudonym": "x" * 32}, "malformed.field"),
        ({"tokens": None}, "malformed.field"),
        ({"tokens": [["visit-number"]]}, "malformed.field"),
        ({"tokens": [[b"visit-number", bytes(32)]]}, "malformed.field"),
        ({"tokens": [["visit-number", bytes(31)]]}, "malformed.field"),
        ({"tokens": [["a", bytes(32)], ["a", seed("t")]]}, "malformed.field"),
        ({"tokens": [["a", bytes(32)]] * 65}, "malformed.field"),
        ({"terms": [bytes(31), b""]}, "malformed.field"),
        ({"terms": [bytes(32)]}, "malformed.field"),
        ({"terms": [bytes(32), "text"]}, "malformed.field"),
        ({"terms": b"x"}, "malformed.field"),
        ({"attestations": ["x"]}, "malformed.field"),
        ({"attestations": b"x"}, "malformed.field"),
        ({"attestations": [b"x"] * 65}, "malformed.field"),
    ],
)
def test_contents_that_are_refused(changed: dict[str, Any], reason: str) -> None:
    refused(reason, opened, content(**changed))


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xf6", b"\x80", second.cbor(content()[:-1]), second.cbor([*content(), 1]), second.cbor(content()) + b"\0"],
)
def test_contents_that_are_no_capsule(plain: bytes) -> None:
    refused("malformed.encoding", opened, plain)


def test_terms_are_hidden_by_their_salt() -> None:
    """The grant shows only the digest: caps are few, so without a salt it could be guessed."""
    one, two = Terms(seed("a"), b"same"), Terms(seed("b"), b"same")
    assert one.digest != two.digest
    assert one.digest == second.sha256(b"zhifu/v1 terms\0", seed("a"), b"same")
