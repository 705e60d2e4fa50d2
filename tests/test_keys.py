"""Keys: identifiers, Ed25519 and HPKE against published vectors, key statements, attestations, policy statements."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import DAY, EVERYONE, HOSPITAL, INSURER, NOW, PAYER, Party, refused, seed
from tests.vectors import second
from zhifu import envelope, keys, statement
from zhifu.envelope import Envelope
from zhifu.errors import Malformed
from zhifu.keys import Alg, KemPrivate, KemPublic
from zhifu.statement import Attestation, KeyStatement, PolicyStatement, PseudonymKey
from zhifu.v1 import signed_pb2
from zhifu.voprf import KeyPair

FOLDER = Path(__file__).parent / "vectors"


def vectors(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


def test_the_second_implementation_shares_no_code() -> None:
    """It would repeat our errors otherwise."""
    for name in ("second.py", "make.py", "make_cbor.py"):
        tree = ast.parse((FOLDER / name).read_text("utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & {"zhifu", "cryptography", "nacl", "cbor2", "google"}


# --- Ed25519 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("ed25519.json")["signatures"], ids=lambda vector: vector["case"])
def test_rfc_8032(vector: dict[str, str]) -> None:
    private, public, message, signature = (bytes.fromhex(vector[n]) for n in ("seed", "public", "message", "signature"))
    assert keys.sign(SigningKey(private), message) == signature == second.ed25519_sign(private, message)
    assert bytes(SigningKey(private).verify_key) == public
    keys.verify_signature(public, message, signature)
    refused("signature.invalid", keys.verify_signature, public, message + b"x", signature)


@pytest.mark.parametrize("encoded", vectors("ed25519.json")["small_order"])
def test_small_order_keys_are_refused(encoded: str) -> None:
    """Under such a key a signature of zeros verifies for many messages."""
    weak = bytes.fromhex(encoded)
    point = second.decode_point(weak)
    assert point is not None
    assert second.times(8, point) == (0, 1)
    refused("consent.weak_key", keys.check_signing_key, weak)
    identity = second.encode_point((0, 1))
    for attempt in range(8):
        refused("signature.invalid", keys.verify_signature, weak, b"%d" % attempt, identity + bytes(32))


def test_all_encodings_of_small_order_are_listed() -> None:
    """The eight points, with both signs of x and y + p where these fit: no ninth is forgotten."""
    listed = {bytes.fromhex(one) for one in vectors("ed25519.json")["small_order"]}
    ys = {second.decode_point(one)[1] for one in listed if second.decode_point(one)}  # type: ignore[index]
    every = {
        (y | sign << 255).to_bytes(32, "little") for low in ys for y in (low, low + second.P) for sign in (0, 1)
        if y < 2**255
    }  # fmt: skip
    assert listed == every
    assert len({second.decode_point(one) for one in listed}) == 8


def test_keys_off_the_prime_order_group_are_refused() -> None:
    """A good key plus a point of order 8: on the curve, not in the group."""
    good = second.decode_point(bytes(HOSPITAL.identity.verify_key))
    listed = (second.decode_point(bytes.fromhex(one)) for one in vectors("ed25519.json")["small_order"])
    small = next(point for point in listed if point and second.times(4, point) != (0, 1))
    assert good
    mixed = second.encode_point(second.add(good, small))
    refused("consent.weak_key", keys.check_signing_key, mixed)
    keys.check_signing_key(second.encode_point(good))
    for other in (b"", bytes(31), bytes(33), (2).to_bytes(32, "little"), b"\xff" * 32):
        refused("consent.weak_key", keys.check_signing_key, other)


def test_signatures_are_not_malleable() -> None:
    key = HOSPITAL.signing
    signature = keys.sign(key, b"message")
    scalar = int.from_bytes(signature[32:], "little") + second.L
    other = signature[:32] + scalar.to_bytes(32, "little")
    refused("signature.invalid", keys.verify_signature, bytes(key.verify_key), b"message", other)
    for cut in (b"", signature[:63], signature + b"\0"):
        refused("signature.invalid", keys.verify_signature, bytes(key.verify_key), b"message", cut)
    refused("signature.invalid", keys.verify_signature, b"short", b"message", signature)


@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_both_implementations_sign_alike(message: bytes) -> None:
    assert keys.sign(HOSPITAL.signing, message) == second.ed25519_sign(seed("hospital signing"), message)


# --- identifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("formats.json")["key_ids"], ids=lambda vector: f"alg {vector['alg']}")
def test_key_ids(vector: dict[str, Any]) -> None:
    assert keys.key_id(Alg(vector["alg"]), bytes.fromhex(vector["public"])).hex() == vector["key_id"]


def test_participant_ids() -> None:
    assert HOSPITAL.id == second.sha256(bytes(HOSPITAL.identity.verify_key))
    assert len({one.id for one in EVERYONE}) == len(EVERYONE)


# --- HPKE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("hpke.json")["vectors"], ids=lambda vector: f"aead {vector['aead_id']}")
def test_second_implementation_against_published_hpke(vector: dict[str, Any]) -> None:
    def of(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    assert second.x25519_public(of("skEm")) == of("enc")
    shared = second.dhkem_x25519(second.x25519(of("skEm"), of("pkRm")), of("enc"), of("pkRm"))
    assert shared == of("shared_secret")
    key, nonce = second.key_schedule(vector["kem_id"], vector["aead_id"], shared, of("info"))
    assert (key, nonce) == (of("key"), of("base_nonce"))
    one = vector["encryptions"][0]
    sealed = second.gcm_seal(key, nonce, bytes.fromhex(one["pt"]), bytes.fromhex(one["aad"]))
    assert sealed.hex() == one["ct"]


def test_ours_opens_under_the_published_key() -> None:
    """The published ciphertexts have an aad, which our library does not take: this one is sealed under their key."""
    (vector,) = (one for one in vectors("hpke.json")["vectors"] if one["aead_id"] == second.AES_256_GCM)
    sealed = second.gcm_seal(bytes.fromhex(vector["key"]), bytes.fromhex(vector["base_nonce"]), b"known", b"")
    private = KemPrivate(Alg.X25519, bytes.fromhex(vector["skRm"]))
    assert private.public.raw.hex() == vector["pkRm"]
    assert private.open(bytes.fromhex(vector["enc"]) + sealed, bytes.fromhex(vector["info"])) == b"known"


@pytest.mark.parametrize("vector", vectors("xwing.json")["vectors"], ids=["hpke-pq"])
def test_x_wing_decapsulates_the_published_secret(vector: dict[str, Any]) -> None:
    def of(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    private = KemPrivate(Alg.MLKEM768_X25519, second.x_wing_private(of("skRm")))
    assert private.public.raw == of("pkRm")
    published = second.key_schedule(second.X_WING_KEM, vector["aead_id"], of("shared_secret"), of("info"))
    assert published == (of("key"), of("base_nonce"))
    key, nonce = second.key_schedule(second.X_WING_KEM, second.AES_256_GCM, of("shared_secret"), b"our info")
    assert private.open(of("enc") + second.gcm_seal(key, nonce, b"known", b""), b"our info") == b"known"


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_sealing_in_both_directions(plaintext: bytes, info: bytes) -> None:
    private = KemPrivate(Alg.X25519, seed("kem"))
    assert second.hpke_open(private.raw, info, private.public.seal(plaintext, info)) == plaintext
    assert private.open(second.hpke_seal(private.public.raw, seed("ephemeral"), info, plaintext), info) == plaintext


@pytest.mark.parametrize("alg", [Alg.X25519, Alg.MLKEM768_X25519])
def test_opening_fails_alike_whatever_is_wrong(alg: Alg) -> None:
    private = KemPrivate.generate(alg)
    sealed = private.public.seal(b"secret", b"info")
    assert private.open(sealed, b"info") == b"secret"
    flips = (sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in (0, 31, 40, len(sealed) - 1))
    cuts = (sealed[:length] for length in (0, 1, 31, 32, 33, 47, 1119, 1120, 1136, len(sealed) - 1))
    for other in (*flips, *(cut for cut in cuts if len(cut) < len(sealed)), bytes(len(sealed)), sealed + b"\0"):
        refused("capsule.open", private.open, other, b"info")
    refused("capsule.open", private.open, sealed, b"other info")
    refused("capsule.open", KemPrivate.generate(alg).open, sealed, b"info")


@pytest.mark.parametrize("alg", [Alg.X25519, Alg.MLKEM768_X25519])
def test_unusable_public_keys_are_refused_not_crashed_on(alg: Alg) -> None:
    """A wallet's key stands in its grant; zeros there must not take the hospital's node down."""
    usable = KemPrivate.generate(alg).public.raw
    low_order = (usable[:-32] + u.to_bytes(32, "little") for u in (0, 1, second.P - 1, second.P, second.P + 1))
    for raw in (*low_order, bytes(len(usable)), usable[:-1], usable + b"\0", b""):
        with pytest.raises(Malformed) as caught:
            KemPublic(alg, raw).seal(b"x", b"")
        assert caught.value.reason == "malformed.field"


def test_kem_keys_from_the_wire() -> None:
    good = KemPrivate.generate(Alg.X25519).public
    assert keys.check_kem_public(2, good.raw) == good
    for alg, raw in ((1, good.raw), (4, good.raw), (0, good.raw), (3, good.raw), (2, good.raw + b"x"), (2, b"")):
        refused("malformed.field", keys.check_kem_public, alg, raw)


def test_the_strongest_kem_is_used() -> None:
    weak, strong = KemPrivate.generate(Alg.X25519).public, KemPrivate.generate(Alg.MLKEM768_X25519).public
    assert keys.strongest([weak, strong]) == strong == keys.strongest([strong, weak])
    refused("key.unknown", keys.strongest, [])


# --- key statements ---------------------------------------------------------------------------------------------------


def signed_statement(by: SigningKey = HOSPITAL.identity, **changed: Any) -> Envelope:
    return replace(HOSPITAL.statement(), **changed).sign(by)


def verified(signed: Envelope, now: int = NOW, who: Party = HOSPITAL) -> KeyStatement:
    again = envelope.from_bytes(envelope.KEY_STATEMENT, signed.to_bytes())
    return statement.verify_key_statement(again, who.id, now)


def test_a_key_statement_round_trips() -> None:
    found = verified(signed_statement())
    assert found == HOSPITAL.statement()
    assert found.kem == HOSPITAL.kem.public == found.kem_by_id(HOSPITAL.kem.public.id)
    assert found.signing_key_id == keys.key_id(Alg.ED25519, bytes(HOSPITAL.signing.verify_key))
    refused("key.unknown", found.kem_by_id, bytes(32))


def test_the_broker_cannot_invent_a_statement() -> None:
    """Its own identity in the hospital's name; the hospital's identity, signed by another; another's statement."""
    forger = SigningKey(seed("forger"))
    own = {"identity_key": bytes(forger.verify_key), "signing_key": bytes(forger.verify_key)}
    refused("key.not_pinned", verified, signed_statement(forger, **own))
    refused("key.unknown", verified, signed_statement(forger))
    named = replace(signed_statement(forger), key_id=keys.key_id(Alg.ED25519, bytes(HOSPITAL.identity.verify_key)))
    refused("signature.invalid", verified, named)
    refused("key.not_pinned", verified, signed_statement(), who=INSURER)
    refused("key.not_pinned", verified, signed_statement(participant=INSURER.id))
    refused("key.unknown", verified, signed_statement(HOSPITAL.signing))


@pytest.mark.parametrize(
    ("changed", "now", "reason"),
    [
        ({}, NOW + 7 * DAY, "key.expired"),
        ({}, NOW - 3600 - statement.SKEW_S - 1, "key.expired"),
        ({"not_after": NOW - 3600 + 8 * DAY + 1}, NOW, "malformed.field"),
        ({"not_after": NOW - 3600}, NOW - 3600, "malformed.field"),
        ({"serial": 0}, NOW, "malformed.field"),
        ({"serial": 2**63}, NOW, "malformed.field"),
        ({"issued_at": 0}, NOW, "malformed.field"),
        ({"signing_key": bytes(32)}, NOW, "consent.weak_key"),
        ({"cosigning_key": bytes.fromhex(vectors("ed25519.json")["small_order"][3])}, NOW, "consent.weak_key"),
        ({"signing_key": bytes(31)}, NOW, "consent.weak_key"),
        ({"participant": bytes(31)}, NOW, "malformed.field"),
        ({"kem_keys": ()}, NOW, "malformed.field"),
        ({"kem_keys": (KemPublic(Alg.X25519, b"short"),)}, NOW, "malformed.field"),
        ({"kem_keys": (HOSPITAL.kem.public, PAYER.kem.public)}, NOW, "malformed.field"),
        ({"kem_keys": (HOSPITAL.kem.public, KemPrivate(Alg.X25519, seed("k")).public)}, NOW, "malformed.field"),
        ({"tls_spki": (b"short",)}, NOW, "malformed.field"),
        ({"tls_spki": (seed("spki"), seed("spki"))}, NOW, "malformed.field"),
    ],
)
def test_statements_that_are_refused(changed: dict[str, Any], now: int, reason: str) -> None:
    refused(reason, verified, signed_statement(**changed), now)


def test_clock_skew_and_the_last_second_are_allowed() -> None:
    assert verified(signed_statement(), NOW - 3600 - statement.SKEW_S)
    assert verified(signed_statement(), HOSPITAL.statement().not_after)


def test_pseudonym_keys_are_read_as_they_were_signed() -> None:
    one, two = (PseudonymKey(INSURER.id, epoch, KeyPair.derive(seed("pid"), bytes([epoch])).public) for epoch in (1, 2))
    assert verified(signed_statement(pseudonym_keys=(one, two))).pseudonym_keys == (one, two)


@pytest.mark.parametrize(
    ("epochs", "public"),
    [
        ((1,), b"x" * 32),
        ((1,), bytes(32)),
        ((1,), b"short"),
        ((0,), None),
        ((2, 1), None),
        ((1, 1), None),
        ((1, 2, 3), None),
    ],
)
def test_pseudonym_keys_that_leave_a_choice_are_refused(epochs: tuple[int, ...], public: bytes | None) -> None:
    """No element, the identity, no epoch, out of order, two for one epoch, three for one recipient."""
    keys = [
        PseudonymKey(INSURER.id, epoch, public or KeyPair.derive(seed("pid"), bytes([i])).public)
        for i, epoch in enumerate(epochs)
    ]
    refused("malformed.field", verified, signed_statement(pseudonym_keys=tuple(keys)))


@pytest.mark.parametrize("name", ["key_statement", "attestation", "policy"])
def test_known_answers(name: str) -> None:
    """What the second implementation wrote is read; what was read is written as the same bytes."""
    vector = vectors("formats.json")["signed"][name]
    kinds = {"key_statement": envelope.KEY_STATEMENT, "attestation": envelope.ATTESTATION, "policy": envelope.POLICY}
    signed = envelope.from_bytes(kinds[name], bytes.fromhex(vector["envelope"]))
    public, signer = bytes.fromhex(vector["public"]), SigningKey(bytes.fromhex(vector["seed"]))
    found: KeyStatement | Attestation | PolicyStatement
    if name == "key_statement":
        found = statement.verify_key_statement(signed, keys.participant_id(public), NOW)
    elif name == "attestation":
        attester = signed_pb2.Attestation.FromString(signed.payload).attester
        found = statement.verify_attestation(signed, {attester: public}, NOW)
    else:
        policy_hash = signed_pb2.PolicyStatement.FromString(signed.payload).policy_hash
        found = statement.verify_policy(signed, public, policy_hash, NOW)
    assert found.sign(signer).to_bytes().hex() == vector["envelope"]


# --- attestations and policy statements -------------------------------------------------------------------------------

SUBJECT = bytes(SigningKey(seed("some subject")).verify_key)
PINNED = {one.id: bytes(one.signing.verify_key) for one in (HOSPITAL, PAYER)}


def attestation(by: Party = PAYER, key: SigningKey | None = None, **changed: Any) -> Envelope:
    return replace(Attestation(SUBJECT, by.id, "public-payer", NOW + DAY), **changed).sign(key or by.signing)


def test_attestations() -> None:
    found = statement.verify_attestation(attestation(), PINNED, NOW)
    assert found == Attestation(SUBJECT, PAYER.id, "public-payer", NOW + DAY)
    for signed, reason in (
        (attestation(INSURER), "key.not_pinned"),
        (attestation(key=INSURER.signing), "key.not_pinned"),
        (attestation(key=HOSPITAL.signing), "key.not_pinned"),  # pinned, but in the payer's name
        (attestation(attester=HOSPITAL.id), "key.not_pinned"),
        (attestation(subject_key=b"short"), "malformed.field"),
        (replace(attestation(), signature=bytes(64)), "signature.invalid"),
    ):
        refused(reason, statement.verify_attestation, signed, PINNED, NOW)
    refused("key.expired", statement.verify_attestation, attestation(), PINNED, NOW + DAY + 1)


def test_policy_statements() -> None:
    registrar = HOSPITAL.identity
    bundle = seed("bundle")
    honest = PolicyStatement(HOSPITAL.id, bundle, NOW, NOW + DAY)
    public = bytes(registrar.verify_key)
    assert statement.verify_policy(honest.sign(registrar), public, bundle, NOW) == honest
    for signed, now, reason in (
        (honest.sign(PAYER.identity), NOW, "key.unknown"),
        (replace(honest, policy_hash=seed("other")).sign(registrar), NOW, "policy.invalid"),
        (replace(honest, registrar=PAYER.id).sign(registrar), NOW, "key.not_pinned"),
        (honest.sign(registrar), NOW + DAY + 1, "key.expired"),
        (honest.sign(registrar), NOW - statement.SKEW_S - 1, "key.expired"),
    ):
        refused(reason, statement.verify_policy, signed, public, bundle, now)
