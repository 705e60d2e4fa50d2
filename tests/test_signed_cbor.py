"""A payer's day and a patient's parcel against known answers that another implementation made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey

from tests.vectors import make_cbor
from zhifu import daybook, envelope, parcel
from zhifu.daybook import LEDGER, DayStatement, Row
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import Alg, KemPrivate, key_id
from zhifu.parcel import PARCEL, Document, Message, Parcel

FOLDER: Final = Path(__file__).parent / "vectors"
VECTORS: Final[dict[str, Any]] = json.loads((FOLDER / "signed_cbor.json").read_text("utf-8"))
DAY: Final = VECTORS["day"]
PARCEL_VECTOR: Final = VECTORS["parcel"]
SUBJECT: Final = bytes.fromhex(PARCEL_VECTOR["subject"])


def octets(one: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(one[name])


def read(kind: envelope.Kind, one: dict[str, Any]) -> Envelope:
    return envelope.from_bytes(kind, octets(one["signed"], "envelope"))


def public(one: dict[str, Any]) -> bytes:
    return octets(one["signed"], "public")


def test_the_vectors_are_what_the_second_implementation_makes() -> None:
    """python -m tests.vectors.make_cbor"""
    assert make_cbor.text() == (FOLDER / "signed_cbor.json").read_text("utf-8")


# --- a day ------------------------------------------------------------------------------------------------------------


def the_day() -> DayStatement:
    rows = tuple(Row(bytes.fromhex(one), state, pay, since) for one, state, pay, since in DAY["rows"])
    return DayStatement(octets(DAY, "payer"), octets(DAY, "hospital"), date.fromisoformat(DAY["day"]), rows)


def test_a_days_statement_is_read_and_made_to_the_byte() -> None:
    assert daybook.verify(read(LEDGER, DAY), public(DAY)) == the_day()
    made = the_day().sign(SigningKey(octets(DAY["signed"], "seed")))
    assert made.to_bytes() == octets(DAY["signed"], "envelope")
    assert {row.state for row in the_day().rows} == set(daybook.STATES)


@pytest.mark.parametrize("wrong", DAY["refused"], ids=lambda one: one["why"])
def test_a_day_that_is_none_is_refused_though_it_is_signed(wrong: dict[str, str]) -> None:
    signed = envelope.seal_one(LEDGER, bytes.fromhex(wrong["payload"]), SigningKey(octets(DAY["signed"], "seed")))
    with pytest.raises(Malformed):
        daybook.verify(signed, public(DAY))


# --- a parcel ---------------------------------------------------------------------------------------------------------


def the_parcel() -> Parcel:
    one = PARCEL_VECTOR
    return Parcel(
        one["aud"],
        octets(one, "recipient"),
        b"",
        "report",
        key_id(Alg.X25519, KemPrivate(Alg.X25519, octets(one, "recipient_private")).public.raw),
        octets(one, "sealed_key"),
        (octets(one, "chunk_hash"),),
        one["erase_at"],
        one["issued_at"],
    )


def the_message() -> Message:
    files = tuple(Document(name, kind, bytes.fromhex(data)) for name, kind, data in PARCEL_VECTOR["documents"])
    return Message(dict(PARCEL_VECTOR["fields"]), files)


def test_a_parcels_payload_and_content_to_the_byte() -> None:
    found = parcel.verify(read(PARCEL, PARCEL_VECTOR), public(PARCEL_VECTOR))
    assert found == the_parcel()
    assert found.to_bytes() == octets(PARCEL_VECTOR["signed"], "payload")
    assert parcel.hash_of(found.to_bytes()) == octets(PARCEL_VECTOR["signed"], "payload_hash")
    content = octets(PARCEL_VECTOR, "content")
    assert parcel.encode(the_message()) == content
    assert parcel.decode(content) == the_message()


def chunk_of_one() -> bytes:
    """As the vector describes it, by a library that the second implementation does not use."""
    content = octets(PARCEL_VECTOR, "content")
    plain = len(content).to_bytes(5, "big") + content
    key = make_cbor.chunk_key(octets(PARCEL_VECTOR, "content_key"), 0, 1)
    return AESGCM(key).encrypt(bytes(12), plain + bytes(-len(plain) % make_cbor.STEP), None)


def test_a_recipient_opens_what_the_other_implementation_sealed() -> None:
    chunk, shown = chunk_of_one(), the_parcel()
    assert (len(chunk), chunk[:64], chunk[-16:]) == (
        PARCEL_VECTOR["chunk_bytes"], octets(PARCEL_VECTOR, "chunk_begins"), octets(PARCEL_VECTOR, "chunk_tag")
    )  # fmt: skip
    secret = parcel.secret_of(shown, KemPrivate(Alg.X25519, octets(PARCEL_VECTOR, "recipient_private")), SUBJECT)
    assert secret == octets(PARCEL_VECTOR, "content_key")
    assert parcel.unpack(shown, secret, [chunk]) == octets(PARCEL_VECTOR, "content")
    with pytest.raises(NotAuthentic):
        parcel.secret_of(shown, KemPrivate(Alg.X25519, octets(PARCEL_VECTOR, "recipient_private")), bytes(32))


def test_two_chunks_have_the_keys_of_their_places() -> None:
    content = bytes(make_cbor.CHUNK)
    plain = len(content).to_bytes(5, "big") + content
    plain += bytes(-len(plain) % make_cbor.STEP)
    parts = plain[: make_cbor.CHUNK], plain[make_cbor.CHUNK :]
    keys = map(bytes.fromhex, PARCEL_VECTOR["keys_of_two"])
    chunks = [AESGCM(key).encrypt(bytes(12), part, None) for key, part in zip(keys, parts, strict=True)]
    shown = replace(the_parcel(), digests=tuple(hashlib.sha256(one).digest() for one in chunks))
    assert parcel.unpack(shown, octets(PARCEL_VECTOR, "content_key"), chunks) == content
