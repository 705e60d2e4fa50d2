"""Hostile bytes: every strict decoder raises `Malformed` or returns what encodes to the very bytes it was given."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import (
    HOSPITAL,
    INSURER,
    NOW,
    ORIGIN,
    PAYER,
    Log,
    bill,
    claim,
    further_key,
    recipient,
    refused,
    seed,
    subject_key,
)
from tests.test_capsule import content, opened
from tests.test_consent import ASKED
from tests.test_ticket import code_of, direct_pay, shown
from tests.vectors import second
from zhifu import (
    acknowledgement,
    cbor,
    checkpoint,
    consent,
    deletion,
    envelope,
    epoch,
    leaf,
    manifest,
    presentation,
    receipt,
    schema,
    statement,
    strict,
    ticket,
    tlogproof,
)
from zhifu import subject_key as subject_keys
from zhifu.envelope import Envelope, Kind
from zhifu.errors import Error, Malformed
from zhifu.keys import Alg, KemPrivate
from zhifu.receive import receive
from zhifu.statement import Attestation, PolicyStatement
from zhifu.v1 import signed_pb2

CAP = 1 << 18


@dataclass(frozen=True, slots=True)
class Decoder:
    """Reads bytes; ``encode`` gives back the bytes of what was read; ``sample`` is something it reads."""

    read: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    sample: bytes


def by_fields(value: Any) -> bytes:
    made: bytes = value.to_bytes()
    return made


def of_message(kind: Kind, message: type[Any], signed: Envelope) -> Decoder:
    return Decoder(
        lambda data: strict.parse(message, data, kind.cap),
        lambda found: found.SerializeToString(deterministic=True),
        signed.payload,
    )


SENT = claim().send()
RECEIVED = SENT.deliver()
GATE = KemPrivate(Alg.X25519, seed("gate"))
OFFER = epoch.Epoch(bytes(16), seed("E"), NOW, NOW + 3600).offer(HOSPITAL.id, GATE.public, HOSPITAL.signing)
GRANT = claim().grant_envelope
assert GRANT
PAYING, PAYER_KEY, PAYING_HASH = direct_pay()
CODE, TICKET = code_of("insurer", "second"), shown(PAYING, PAYER_KEY, PAYING_HASH)
FURTHER = further_key(subject_key())
STOP = consent.Revocation(ORIGIN, b"", NOW, seed("subject"), signed_pb2.REVOKER_HOTLINE, "lost phone")
DELETED = deletion.Deletion(
    ORIGIN, INSURER.id, seed("exchange"), signed_pb2.DELETION_OUTCOME_KEPT, "payment.committed", NOW + 9, NOW
)
DECODERS = {
    "cbor": Decoder(lambda data: cbor.decode(data, CAP), cbor.encode, cbor.encode(content())),
    "envelope": Decoder(
        lambda data: envelope.from_bytes(envelope.PRESENTATION, data), by_fields, SENT.envelope.to_bytes()
    ),
    "presentation": Decoder(presentation.parse, by_fields, SENT.shown.to_bytes()),
    "acknowledgement": Decoder(acknowledgement.parse, by_fields, SENT.acknowledged(RECEIVED, "leaf.open").to_bytes()),
    "manifest": Decoder(manifest.parse, by_fields, bill().encoded_manifest),
    "meta": Decoder(receipt.parse_meta, by_fields, SENT.meta().to_bytes()),
    "detail": Decoder(receipt.parse_detail, by_fields, SENT.detail().to_bytes()),
    "grant": of_message(envelope.GRANT, signed_pb2.Grant, GRANT),
    "code": Decoder(ticket.parse, by_fields, CODE.to_bytes()),
    "code's text": Decoder(
        lambda data: ticket.parse_text(data.decode("ascii", errors="replace")),
        lambda found: found.text().encode(),
        CODE.text().encode(),
    ),
    "deletion": Decoder(deletion.parse, by_fields, DELETED.to_bytes()),
    "ticket": of_message(envelope.TICKET, signed_pb2.Ticket, TICKET),
    "subject key": of_message(envelope.SUBJECT_KEY, signed_pb2.SubjectKey, FURTHER.change),
    "revocation": of_message(envelope.REVOCATION, signed_pb2.Revocation, STOP.sign(subject_key())),
    "request": of_message(envelope.REQUEST, signed_pb2.ConsentRequest, ASKED.sign(HOSPITAL.signing)),
    "key statement": of_message(
        envelope.KEY_STATEMENT, signed_pb2.KeyStatement, HOSPITAL.statement().sign(HOSPITAL.identity)
    ),
    "epoch offer": of_message(envelope.EPOCH_OFFER, signed_pb2.EpochOffer, OFFER),
    "checkpoint": Decoder(
        checkpoint.Checkpoint.parse, lambda found: found.body(), checkpoint.Checkpoint(ORIGIN, 7, seed("r")).body()
    ),
    "note": Decoder(checkpoint.Note.parse, lambda found: found.encode(), Log().fill(3).note()),
    "tlog-proof": Decoder(
        tlogproof.Proof.parse,
        lambda found: found.encode(),
        tlogproof.Proof(1, (seed("a"), seed("b")), Log().fill(3).note(), b"extra").encode(),
    ),
}


# --- bytes ------------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, sample: bytes) -> bytes:
    """One to three small changes: bits turned, bytes put in, taken out, doubled, moved, the end cut."""
    data = sample
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 40)))
        kind = draw(st.integers(0, 5))
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + draw(st.binary(min_size=1, max_size=6)) + data[at:]
        elif kind == 2:
            data = data[:at] + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:to] + data[to:]
        elif kind == 4:
            data = data[at:to] + data[:at] + data[to:]
        else:
            data = data[:at]
    return data


def only_malformed(decoder: Decoder, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = decoder.read(data)
        except Malformed:
            return
    assert decoder.encode(found) == data


@pytest.mark.parametrize("name", DECODERS)
def test_samples_are_read(name: str) -> None:
    decoder = DECODERS[name]
    assert decoder.encode(decoder.read(decoder.sample)) == decoder.sample


@settings(max_examples=75)
@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    only_malformed(DECODERS[name], data)


@settings(max_examples=125)
@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_nearly_valid_bytes(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]
    only_malformed(decoder, data.draw(mutated(decoder.sample)))


@settings(max_examples=100)
@given(st.data())
def test_contents_of_a_capsule(data: st.DataObject) -> None:
    """What a sender can put into a capsule that opens: any bytes."""
    changed = data.draw(mutated(cbor.encode(content())))
    try:
        found = opened(changed)
    except Malformed:
        return
    terms = found.terms and [found.terms.salt, found.terms.content]
    shares = b"".join(found.shares.values())
    fields = [1, found.ceilings, shares, found.pseudonym, found.tokens, terms, found.attestations]
    assert second.cbor(fields) == changed


ITEM = st.none() | st.booleans() | st.integers(-3, 300) | st.binary(max_size=33) | st.text(max_size=5)
NESTED = st.recursive(ITEM, lambda inner: st.lists(inner, max_size=8), max_leaves=15)


@settings(max_examples=100)
@given(st.lists(NESTED, min_size=4, max_size=11))
def test_well_formed_cbor_of_any_shape(items: list[Any]) -> None:
    try:
        data = cbor.encode([1, *items])
    except Malformed:
        return
    for name in ("meta", "detail"):
        only_malformed(DECODERS[name], data)
    try:
        opened([1, *items])
    except Malformed as error:
        assert error.reason in {"malformed.encoding", "malformed.field", "capsule.units"}  # noqa: PT017


@settings(max_examples=100)
@given(st.binary(max_size=64))
def test_padded_plaintexts(plain: bytes) -> None:
    try:
        value = leaf.unpad(plain)
    except Malformed:
        return
    assert leaf.pad(value, len(plain)) == plain


@settings(max_examples=50)
@given(st.text(max_size=120))
def test_schema_files(text: str) -> None:
    with pytest.raises(Malformed):
        schema.parse(text.encode(errors="surrogatepass"))


TOML = st.recursive(
    st.booleans() | st.integers(-5, 70) | st.text("ab", max_size=2) | st.just("date"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "zh", "en", "level", "form", "bytes"]), inner)
    ),
    max_leaves=12,
)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


@settings(max_examples=75)
@given(TOML, TOML)
def test_schema_documents_of_any_shape(name: Any, units: Any) -> None:
    source = f"name = {toml(name)}\nunit = {toml(units)}\n"
    try:
        found = schema.parse(source.encode())
    except Malformed:
        return
    assert found.name == name


# --- signed documents -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reader:
    """A signed document as it comes, what verifies it, and the key that an honest one is signed with."""

    signed: Envelope
    verify: Callable[[Envelope], object]
    key: SigningKey


SUBJECT = bytes(subject_key().verify_key)
SIGNING = bytes(HOSPITAL.signing.verify_key)
READERS = {
    "grant": Reader(GRANT, consent.verify_grant, subject_key()),
    "request": Reader(
        ASKED.sign(HOSPITAL.signing), lambda signed: consent.verify_request(signed, SIGNING), HOSPITAL.signing
    ),
    "key statement": Reader(
        HOSPITAL.statement().sign(HOSPITAL.identity),
        lambda signed: statement.verify_key_statement(signed, HOSPITAL.id, NOW),
        HOSPITAL.identity,
    ),
    "epoch offer": Reader(OFFER, lambda signed: epoch.verify_offer(signed, HOSPITAL.id, SIGNING), HOSPITAL.signing),
    "attestation": Reader(
        Attestation(SUBJECT, HOSPITAL.id, "hospital", NOW + 9).sign(HOSPITAL.signing),
        lambda signed: statement.verify_attestation(signed, {HOSPITAL.id: SIGNING}, NOW),
        HOSPITAL.signing,
    ),
    "policy": Reader(
        PolicyStatement(HOSPITAL.id, seed("bundle"), NOW, NOW + 9).sign(HOSPITAL.identity),
        lambda signed: statement.verify_policy(signed, bytes(HOSPITAL.identity.verify_key), seed("bundle"), NOW),
        HOSPITAL.identity,
    ),
    "ticket": Reader(TICKET, lambda signed: ticket.verify(signed, PAYING, PAYING_HASH), PAYER_KEY),
    "subject key": Reader(
        FURTHER.change,
        lambda signed: subject_keys.verify(subject_keys.SignedChange(signed, FURTHER.accepted), SUBJECT, ORIGIN),
        subject_key(),
    ),
    "deletion": Reader(
        envelope.seal_one(envelope.DELETION, DELETED.to_bytes(), INSURER.signing),
        lambda signed: deletion.parse(envelope.verify(signed, bytes(INSURER.signing.verify_key))),
        INSURER.signing,
    ),
    "hotline": Reader(
        STOP.sign(HOSPITAL.signing),
        lambda signed: consent.verify_revocation(signed, SIGNING, ORIGIN),
        HOSPITAL.signing,
    ),
    "revocation": Reader(
        consent.Revocation(ORIGIN, bytes(32), NOW).sign(subject_key()),
        lambda signed: consent.verify_revocation(signed, SUBJECT, ORIGIN),
        subject_key(),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_honest_documents_verify(name: str) -> None:
    reader = READERS[name]
    assert reader.verify(envelope.from_bytes(reader.signed.kind, reader.signed.to_bytes()))


@settings(max_examples=60)
@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_no_change_of_a_signed_document_passes(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    changed = data.draw(mutated(reader.signed.to_bytes()))
    try:
        reader.verify(envelope.from_bytes(reader.signed.kind, changed))
    except Error:
        return
    assert changed == reader.signed.to_bytes()


@settings(max_examples=75)
@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_hostile_payloads_under_the_right_key(name: str, data: st.DataObject) -> None:
    """The signer itself is hostile: whatever it signs is read or refused, and nothing else is raised."""
    reader = READERS[name]
    changed = data.draw(mutated(reader.signed.payload))
    with contextlib.suppress(Error):
        reader.verify(envelope.seal_one(reader.signed.kind, changed, reader.key))


# --- offers of epochs -------------------------------------------------------------------------------------------------


def offered(**changed: Any) -> epoch.EpochOffer:
    made = replace(epoch.Epoch(seed("e")[:16], seed("E"), NOW, NOW + 3600), **changed)
    offer = made.offer(HOSPITAL.id, GATE.public, HOSPITAL.signing)
    again = envelope.from_bytes(envelope.EPOCH_OFFER, offer.to_bytes())
    return epoch.verify_offer(again, HOSPITAL.id, bytes(HOSPITAL.signing.verify_key))


def test_epoch_offers() -> None:
    assert epoch.unwrap(offered(), GATE) == seed("E")
    refused("gate.unwrap", epoch.unwrap, offered(), KemPrivate.generate(Alg.X25519))
    refused("gate.unwrap", epoch.unwrap, replace(offered(), node=PAYER.id), GATE)
    refused("gate.unwrap", epoch.unwrap, replace(offered(), gate_key_id=bytes(32)), GATE)
    refused("gate.unwrap", epoch.unwrap, replace(offered(), sealed_secret=b""), GATE)
    refused("gate.unwrap", epoch.unwrap, offered(secret=b"short"), GATE)
    refused("malformed.field", offered, epoch_id=b"short")
    refused("malformed.field", offered, not_before=0)
    refused("malformed.field", offered, not_after=NOW)
    refused("malformed.field", offered, not_after=NOW + epoch.MAX_LIFETIME_S + 1)
    key = bytes(HOSPITAL.signing.verify_key)
    refused("presentation.sender", epoch.verify_offer, OFFER, PAYER.id, key)
    refused("key.unknown", epoch.verify_offer, OFFER, HOSPITAL.id, bytes(PAYER.signing.verify_key))


# --- whole deliveries -------------------------------------------------------------------------------------------------

PARTS = ("manifest", "released", "leaves", "shares", "capsule")


@settings(max_examples=75)
@given(st.sampled_from(PARTS), st.data())
def test_no_changed_part_of_a_delivery_opens(part: str, data: st.DataObject) -> None:
    """Whatever the broker changes on the way, the recipient refuses with a reason and nothing else happens."""
    whole = getattr(RECEIVED, part)
    changed = data.draw(mutated(whole))
    if changed == whole:
        return
    tampered: dict[str, Any] = {part: changed}
    with pytest.raises(Error):
        receive(replace(RECEIVED, **tampered), recipient(INSURER), NOW)


def test_the_unchanged_delivery_opens() -> None:
    assert receive(RECEIVED, recipient(INSURER), NOW).values
