"""Grants, requests, revocations: who signed, what they allow, and that nothing is ever widened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import (
    CEILINGS,
    CLAIM,
    DAY,
    HOSPITAL,
    INSURER,
    NOW,
    ORIGIN,
    PAYER,
    RIVAL,
    claim,
    grant_for,
    refused,
    seed,
    some_levels,
    subject_key,
    terms,
)
from tests.vectors import second
from zhifu import consent, envelope, keys, schema, strict
from zhifu.consent import ConsentRequest, Grant, Revocation
from zhifu.envelope import GRANT, REQUEST, REVOCATION, Envelope
from zhifu.errors import Refused
from zhifu.keys import Alg
from zhifu.presentation import Presentation
from zhifu.schema import ABSENT, within
from zhifu.v1 import signed_pb2

FOLDER = Path(__file__).parent / "vectors"
SIGNED: dict[str, Any] = json.loads((FOLDER / "formats.json").read_text("utf-8"))["signed"]
SMALL_ORDER: list[str] = json.loads((FOLDER / "ed25519.json").read_text("utf-8"))["small_order"]
HANDLE = seed("handle")[:16]
BOUND = CLAIM.levels(CEILINGS)
KEY = subject_key()
HONEST = grant_for(INSURER.id, BOUND, HANDLE, KEY)


def parsed(kind: envelope.Kind, signed: Envelope) -> Envelope:
    """As it came over the wire."""
    return envelope.from_bytes(kind, signed.to_bytes())


def verified(grant: Grant, key: SigningKey = KEY, known: bytes | None = None) -> Grant:
    return consent.verify_grant(parsed(GRANT, grant.sign(key)), known)


# --- who signed -------------------------------------------------------------------------------------------------------


def test_a_grant_round_trips() -> None:
    assert verified(HONEST) == HONEST
    assert verified(HONEST, known=HONEST.subject_key) == HONEST
    assert HONEST.subject == keys.participant_id(bytes(KEY.verify_key))
    assert HONEST.levels(CLAIM.hash) == BOUND
    assert HONEST.levels(bytes(32)) is None


@pytest.mark.parametrize(("name", "kind"), [("grant", GRANT), ("consent_request", REQUEST), ("revocation", REVOCATION)])
def test_known_answers(name: str, kind: envelope.Kind) -> None:
    vector = SIGNED[name]
    signed, public = envelope.from_bytes(kind, bytes.fromhex(vector["envelope"])), bytes.fromhex(vector["public"])
    found: Grant | ConsentRequest | Revocation
    if kind is GRANT:
        found = consent.verify_grant(signed)
        assert found.terms == terms_of_vectors()
        assert found.request_hash.hex() == SIGNED["consent_request"]["payload_hash"]
    elif kind is REQUEST:
        found = consent.verify_request(signed, public)
    else:
        found = consent.verify_revocation(signed, public, ORIGIN)
        assert found.grant_hash.hex() == SIGNED["grant"]["payload_hash"]
    assert consent.hash_of(signed.payload).hex() == vector["payload_hash"]
    assert found.sign(SigningKey(bytes.fromhex(vector["seed"]))).to_bytes().hex() == vector["envelope"]


def terms_of_vectors() -> bytes:
    vector = json.loads((FOLDER / "formats.json").read_text("utf-8"))["capsule"]
    return bytes.fromhex(vector["terms_digest"])


def test_forged_grants() -> None:
    thief = SigningKey(seed("thief"))
    refused("consent.signature", verified, HONEST, thief)
    refused("consent.signature", verified, HONEST, KEY, bytes(thief.verify_key))
    # The thief's signature under the patient's key id, and the patient's payload edited.
    forged = replace(HONEST.sign(thief), key_id=keys.key_id(Alg.ED25519, HONEST.subject_key))
    refused("consent.signature", consent.verify_grant, forged)
    edited = replace(HONEST.sign(KEY), payload=replace(HONEST, max_uses=9).sign(KEY).payload)
    refused("consent.signature", consent.verify_grant, edited)
    # An enrolled key signs a grant that names another subject's key.
    signed = replace(HONEST, subject_key=bytes(thief.verify_key)).sign(KEY)
    refused("consent.signature", consent.verify_grant, signed, bytes(KEY.verify_key))


@pytest.mark.parametrize("encoded", SMALL_ORDER)
def test_small_order_subject_keys(encoded: str) -> None:
    """Whoever "signs" under such a key would be a patient that nobody enrolled."""
    weak = bytes.fromhex(encoded)
    payload = replace(HONEST, subject_key=weak).sign(KEY).payload
    forged = Envelope(GRANT, payload, keys.key_id(Alg.ED25519, weak), second.encode_point((0, 1)) + bytes(32))
    refused("consent.weak_key", consent.verify_grant, forged)


def test_a_payload_that_is_no_grant() -> None:
    refused("malformed.encoding", consent.verify_grant, envelope.seal_one(GRANT, b"\xff\xff", KEY))
    refused("malformed.field", consent.verify_grant, envelope.seal_one(GRANT, b"", KEY))
    too_long = Envelope(GRANT, bytes(GRANT.cap + 1), bytes(32), bytes(64))
    refused("malformed.size", consent.verify_grant, too_long)
    unknown = HONEST.sign(KEY).payload + second.protobuf((99, b"x"))
    refused("malformed.encoding", consent.verify_grant, envelope.seal_one(GRANT, unknown, KEY))


SCOPE = (CLAIM.hash, BOUND)
DECISION = schema.load("decision")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"purpose": "research"}, "malformed.field"),
        ({"purpose": ""}, "malformed.field"),
        ({"mode": signed_pb2.GRANT_MODE_UNSPECIFIED}, "malformed.field"),
        ({"mode": 9}, "malformed.field"),
        ({"grant_id": b""}, "malformed.field"),
        ({"grant_id": bytes(17)}, "malformed.field"),
        ({"encounter": bytes(15)}, "malformed.field"),
        ({"sender": bytes(31)}, "malformed.field"),
        ({"recipient": b""}, "malformed.field"),
        ({"cnf": b""}, "malformed.field"),
        ({"terms": b""}, "malformed.field"),
        ({"request_hash": b""}, "malformed.field"),
        ({"wallet_key": b""}, "malformed.field"),
        ({"max_uses": 0}, "malformed.field"),
        ({"max_uses": consent.MAX_USES + 1}, "malformed.field"),
        ({"not_before": 0}, "malformed.field"),
        ({"expiry": 0}, "malformed.field"),
        ({"issued_at": 0}, "malformed.field"),
        ({"data_erase_at": 0}, "malformed.field"),
        ({"data_erase_at": strict.MAX_TIME + 1}, "malformed.field"),
        ({"expiry": NOW - 60}, "malformed.field"),
        ({"expiry": NOW - 60 + consent.MAX_LIFETIME_S + 1}, "malformed.field"),
        ({"scopes": ()}, "malformed.field"),
        ({"scopes": (SCOPE, SCOPE)}, "malformed.field"),
        ({"scopes": tuple(sorted((SCOPE, (DECISION.hash, DECISION.finest)), reverse=True))}, "malformed.field"),
        ({"scopes": ((bytes(31), BOUND),)}, "malformed.field"),
        ({"scopes": ((bytes(32), BOUND),)}, "schema.unknown"),
        ({"scopes": ((CLAIM.hash, BOUND[:-1]),)}, "malformed.field"),
        ({"scopes": ((CLAIM.hash, BOUND + b"\0"),)}, "malformed.field"),
        ({"scopes": ((CLAIM.hash, b"\x07" + BOUND[1:]),)}, "malformed.field"),
        ({"aud": "e\u0301"}, "malformed.field"),
    ],
)
def test_grants_that_no_wallet_makes(changed: dict[str, Any], reason: str) -> None:
    refused(reason, verified, replace(HONEST, **changed))


# --- what it allows ---------------------------------------------------------------------------------------------------

SHOWN = replace(claim().send().shown, encounter=HANDLE)


@pytest.mark.parametrize(
    ("changed", "now", "reason"),
    [
        ({}, NOW - 61, "consent.not_yet"),
        ({}, NOW + DAY + 1, "consent.expired"),
        ({"aud": "other.example/log"}, NOW, "consent.wrong_audience"),
        ({"sender": PAYER.id}, NOW, "consent.wrong_sender"),
        ({"recipient": RIVAL.id}, NOW, "consent.wrong_recipient"),
        ({"purpose": "statement"}, NOW, "consent.wrong_purpose"),
        ({"encounter": bytes(16)}, NOW, "consent.wrong_encounter"),
        ({"ceilings": CLAIM.levels({**CEILINGS, "birth-date": 0})}, NOW, "consent.exceeded"),
        ({"ceilings": CLAIM.levels({**CEILINGS, "phone": 0})}, NOW, "consent.exceeded"),
        ({"ceilings": CLAIM.finest}, NOW, "consent.exceeded"),
        ({"ceilings": BOUND[:-1]}, NOW, "consent.exceeded"),
    ],
)
def test_uses_beyond_the_grant(changed: dict[str, Any], now: int, reason: str) -> None:
    refused(reason, consent.check_use, HONEST, replace(SHOWN, **changed), CLAIM.hash, now)


def test_uses_within_the_grant() -> None:
    for now in (NOW - 60, NOW, NOW + DAY):
        consent.check_use(HONEST, SHOWN, CLAIM.hash, now)
    coarser = replace(SHOWN, ceilings=CLAIM.levels({"encounter": 0}))
    consent.check_use(HONEST, coarser, CLAIM.hash, NOW)
    refused("consent.exceeded", consent.check_use, HONEST, SHOWN, schema.load("decision").hash, NOW)


def test_only_the_holder_may_present() -> None:
    """The grant names its sender and, as `cnf`, who may present it: both must be the one who does."""
    refused("consent.wrong_sender", consent.check_use, replace(HONEST, cnf=PAYER.id), SHOWN, CLAIM.hash, NOW)
    refused("consent.wrong_sender", consent.check_use, replace(HONEST, sender=PAYER.id), SHOWN, CLAIM.hash, NOW)
    insurer_shows = replace(SHOWN, sender=INSURER.id)
    refused("consent.wrong_sender", consent.check_use, HONEST, insurer_shows, CLAIM.hash, NOW)


@settings(max_examples=60)
@given(some_levels(CLAIM), some_levels(CLAIM))
def test_no_ceiling_finer_than_the_grant_is_ever_allowed(allowed: bytes, ceilings: bytes) -> None:
    grant, shown = replace(HONEST, scopes=((CLAIM.hash, allowed),)), replace(SHOWN, ceilings=ceilings)
    finer = any(c < a for c, a in zip(ceilings, allowed, strict=True))
    try:
        consent.check_use(grant, shown, CLAIM.hash, NOW)
    except Refused as error:
        assert (error.reason, finer) == ("consent.exceeded", True)  # noqa: PT017
    else:
        assert not finer


# --- narrowing --------------------------------------------------------------------------------------------------------

KINDS = [schema.load(name) for name in schema.names()]


@st.composite
def scopes(draw: st.DrawFn) -> consent.Scopes:
    chosen = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique_by=lambda kind: kind.name))
    return tuple(sorted((kind.hash, draw(some_levels(kind))) for kind in chosen))


@given(scopes(), scopes())
def test_narrowing_never_widens(requested: consent.Scopes, wanted: consent.Scopes) -> None:
    asked = dict(requested)
    narrower = all(kind in asked and within(levels, asked[kind]) for kind, levels in wanted)
    if narrower:
        assert consent.narrow(requested, wanted) == wanted
    else:
        refused("consent.exceeded", consent.narrow, requested, wanted)


@given(scopes(), st.data())
def test_whatever_is_coarser_is_a_narrowing(requested: consent.Scopes, data: st.DataObject) -> None:
    wanted = tuple(
        (kind, bytes(data.draw(st.sampled_from([level, ABSENT])) for level in levels)) for kind, levels in requested
    )
    assert consent.narrow(requested, wanted) == wanted
    assert consent.narrow(requested, requested) == requested


# --- requests and revocations -----------------------------------------------------------------------------------------

ASKED = ConsentRequest(
    request_id=seed("request")[:16], aud=ORIGIN, purpose="commercial-settlement", sender=HOSPITAL.id,
    recipient=INSURER.id, encounter=HANDLE, scopes=(SCOPE,), max_uses=2, issued_at=NOW, expiry=NOW + DAY,
    data_erase_at=NOW + 180 * DAY, terms_salt=terms().salt, terms=terms().content, subject_key=HONEST.subject_key,
)  # fmt: skip


def asked(**changed: Any) -> ConsentRequest:
    signed = replace(ASKED, **changed).sign(HOSPITAL.signing)
    return consent.verify_request(parsed(REQUEST, signed), bytes(HOSPITAL.signing.verify_key))


def test_requests_round_trip() -> None:
    assert asked() == ASKED
    signed = ASKED.sign(INSURER.signing)
    refused("key.unknown", consent.verify_request, signed, bytes(HOSPITAL.signing.verify_key))


@pytest.mark.parametrize(
    "changed",
    [
        {"purpose": "research"}, {"request_id": b""}, {"sender": b""}, {"recipient": bytes(33)}, {"terms_salt": b""},
        {"subject_key": b""}, {"encounter": b""}, {"scopes": ()}, {"max_uses": 0}, {"issued_at": 0}, {"expiry": 0},
        {"data_erase_at": 0}, {"scopes": ((CLAIM.hash, BOUND[1:]),)},
    ],
)  # fmt: skip
def test_requests_that_no_wallet_shows(changed: dict[str, Any]) -> None:
    refused("malformed.field", asked, **changed)


def test_revocations() -> None:
    grant_hash = consent.hash_of(HONEST.sign(KEY).payload)
    stop = Revocation(ORIGIN, grant_hash, NOW)
    public = bytes(KEY.verify_key)
    assert consent.verify_revocation(parsed(REVOCATION, stop.sign(KEY)), public, ORIGIN) == stop
    refused("consent.signature", consent.verify_revocation, stop.sign(HOSPITAL.signing), public, ORIGIN)
    refused("consent.wrong_audience", consent.verify_revocation, stop.sign(KEY), public, "other.example/log")
    short = replace(stop, grant_hash=b"short").sign(KEY)
    refused("malformed.field", consent.verify_revocation, short, public, ORIGIN)
    # A grant is not a revocation, though the same key signed it.
    as_stop = replace(HONEST.sign(KEY), kind=REVOCATION)
    refused("consent.signature", consent.verify_revocation, as_stop, public, ORIGIN)
    assert isinstance(SHOWN, Presentation)
