"""Tickets and codes as bytes: what a phone shows, who signed it, for whom, when, and that there is one spelling."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.formats import CEILINGS, CLAIM, HOSPITAL, INSURER, NOW, PAYER, claim, grant_for, refused, seed, subject_key
from tests.formats import recipient as as_recipient
from zhifu import consent, envelope, ticket
from zhifu import subject_key as subject_keys
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error, Malformed
from zhifu.keys import Alg, KemPrivate
from zhifu.receive import receive
from zhifu.ticket import Code
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

SEED = seed("code")[:16]
VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))


def direct_pay(pair: str = "insurer", **changed: Any) -> tuple[Grant, SigningKey, bytes]:
    """A direct-pay grant, its key and its hash."""
    key = subject_key(pair)
    grant = grant_for(INSURER.id, CLAIM.levels(CEILINGS), claim().encounter, key)
    grant = replace(grant, mode=GRANT_MODE_DIRECT_PAY, **changed)
    return grant, key, consent.hash_of(grant.sign(key).payload)


def code_of(*pairs: str, at: int = NOW, hospital: bytes = HOSPITAL.id) -> Code:
    signed = []
    for pair in pairs:
        _, key, digest = direct_pay(pair)
        one = ticket.make(digest, hospital, SEED, at)
        signed.append((one, one.sign(key).signature))
    return ticket.assemble(signed, SEED)


def shown(grant: Grant, key: SigningKey, digest: bytes, at: int = NOW, **changed: Any) -> Envelope:
    return replace(ticket.make(digest, grant.cnf, SEED, at), **changed).sign(key)


# --- the format, from the specification's text -----------------------------------------------------------------------


def test_a_code_is_laid_out_as_specified() -> None:
    code = code_of("insurer", "second", "third")
    data = code.to_bytes()
    assert len(data) == 55 + 3 * 96 == 343
    assert data[:2] == b"\x01\x01"
    assert data[2:7] == NOW.to_bytes(5, "big")
    assert data[7:23] == SEED
    assert data[23:55] == HOSPITAL.id
    assert code.text() == "ZHIFU1:" + base64.b32encode(data).decode().rstrip("=")
    assert set(code.text()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567:1")
    assert ticket.parse_text(code.text()) == code


def test_a_ticket_has_the_bytes_of_its_proto_and_its_own_nonce() -> None:
    grant, key, digest = direct_pay()
    made = ticket.make(digest, HOSPITAL.id, SEED, NOW)
    assert made.nonce == hashlib.sha256(b"zhifu/v1 ticket nonce\0" + SEED + digest).digest()[:16]
    time_ = b""
    left = NOW
    while left:
        time_ += bytes([left & 0x7F | (0x80 if left > 0x7F else 0)])
        left >>= 7
    by_hand = (
        b"\x08\x01\x10\x01\x1a\x20" + digest + b"\x22\x10" + made.nonce + b"\x2a\x20" + HOSPITAL.id + b"\x30" + time_
    )
    assert made.to_bytes() == by_hand
    assert ticket.verify(made.sign(key), grant, digest) == made


def test_tickets_of_one_code_have_no_nonce_in_common() -> None:
    code = code_of("insurer", "second", "third")
    assert len({code.ticket(digest).nonce for digest, _ in code.signed}) == 3


def test_a_recovery_code_gives_the_keys_that_are_specified() -> None:
    spelled = subject_keys.draw_code()
    assert [len(group) for group in spelled.split("-")] == [4] * 9
    bits = base64.b32decode(spelled.replace("-", "")[:32])
    secret = hmac.digest(bits.ljust(32, b"\0"), b"zhifu/v1 recovery\0" + HOSPITAL.id + INSURER.id + b"\x01", "sha256")
    key = subject_keys.recovery_key(spelled, HOSPITAL.id, INSURER.id)
    assert bytes(key) == secret
    assert subject_keys.recovery_key(spelled.lower().replace("-", " "), HOSPITAL.id, INSURER.id) == key
    assert subject_keys.recovery_key(spelled, HOSPITAL.id, PAYER.id) != key, "a code links no two pairs"


def test_a_slip_in_a_recovery_code_is_found() -> None:
    spelled = subject_keys.draw_code()
    for at in (0, 5, 43):
        wrong = spelled[:at] + ("B" if spelled[at] != "B" else "C") + spelled[at + 1 :]
        refused("usage.argument", subject_keys.recovery_key, wrong, HOSPITAL.id, INSURER.id)
    refused("usage.argument", subject_keys.recovery_key, "", HOSPITAL.id, INSURER.id)


@pytest.mark.parametrize(
    ("digits", "check"), [("7992739871", "3"), ("400000000000000", "2"), ("00000000000000000", "0")]
)
def test_the_check_digit_is_luhns(digits: str, check: str) -> None:
    assert ticket.luhn(digits) == check


@given(st.text("0123456789", min_size=17, max_size=17), st.integers(0, 16), st.integers(1, 9))
def test_any_wrong_digit_is_found(body: str, at: int, by: int) -> None:
    code = body + ticket.luhn(body)
    assert ticket.check_digits(f"{code[:6]} {code[6:]}") == code
    wrong = code[:at] + str((int(code[at]) + by) % 10) + code[at + 1 :]
    refused("malformed.field", ticket.check_digits, wrong)


CODE_VECTOR: dict[str, Any] = VECTORS["code"]


def test_the_published_code_is_read_and_made() -> None:
    found = ticket.parse_text(CODE_VECTOR["text"])
    assert found.to_bytes().hex() == CODE_VECTOR["bytes"]
    assert found.text() == CODE_VECTOR["text"]
    assert [digest.hex() for digest, _ in found.signed] == [one["grant_hash"] for one in CODE_VECTOR["tickets"]]
    for one in CODE_VECTOR["tickets"]:
        digest = bytes.fromhex(one["grant_hash"])
        assert found.ticket(digest).nonce.hex() == one["nonce"]
        assert found.ticket(digest).to_bytes().hex() == one["payload"]
        grant = replace(direct_pay()[0], subject_key=bytes.fromhex(one["public"]), cnf=found.hospital)
        ticket.verify(found.envelope(digest, grant), grant, digest)
    key = KemPrivate(Alg.X25519, bytes.fromhex(CODE_VECTOR["online_private"]))
    sealed = bytes.fromhex(CODE_VECTOR["online_sealed"])
    assert ticket.open_online(sealed, key, bytes.fromhex(CODE_VECTOR["hospital"])) == found


@pytest.mark.parametrize("why", CODE_VECTOR["refused"])
def test_the_published_codes_that_are_none(why: str) -> None:
    with pytest.raises(Malformed):
        ticket.parse_text(CODE_VECTOR["refused"][why])


def test_the_published_recovery_code_gives_its_key() -> None:
    one = VECTORS["recovery"]
    key = subject_keys.recovery_key(one["code"], bytes.fromhex(one["hospital"]), bytes.fromhex(one["recipient"]))
    assert (bytes(key).hex(), bytes(key.verify_key).hex()) == (one["seed"], one["public"])


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_another_key_another_grant_or_another_hospital() -> None:
    grant, key, digest = direct_pay()
    refused("consent.signature", ticket.verify, shown(grant, subject_key("rival"), digest), grant, digest)
    refused("ticket.grant", ticket.verify, shown(grant, key, seed("other grant")), grant, digest)
    refused("ticket.hospital", ticket.verify, shown(grant, key, digest, hospital=PAYER.id), grant, digest)
    plain = replace(grant, mode=claim().grant.mode)  # type: ignore[union-attr]
    refused("ticket.grant", ticket.verify, shown(grant, key, digest), plain, digest)


def test_no_other_signed_thing_passes_for_a_ticket() -> None:
    grant, key, digest = direct_pay()
    as_ticket = envelope.seal_one(envelope.REVOCATION, ticket.make(digest, grant.cnf, SEED, NOW).to_bytes(), key)
    refused("consent.signature", ticket.verify, replace(as_ticket, kind=envelope.TICKET), grant, digest)


@pytest.mark.parametrize(("age", "words"), [(-121, "121 s ahead"), (91, "91 s old"), (3600, "3600 s old")])
def test_a_phone_outside_the_window_is_told_its_offset(age: int, words: str) -> None:
    with pytest.raises(Error) as caught:
        ticket.check_window(NOW, NOW + age)
    assert caught.value.reason == "ticket.window"
    assert words in caught.value.detail


@pytest.mark.parametrize("age", [-120, 0, 90])
def test_a_phone_within_the_window(age: int) -> None:
    ticket.check_window(NOW, NOW + age)


def test_a_code_has_one_spelling() -> None:
    text = code_of("insurer").text()
    for other in (
        text.lower(),
        text + "A",
        text + "=",
        " " + text,
        text[:-1],
        text.replace("ZHIFU1", "ZHIFU2"),
        "",
        "ZHIFU1:",
    ):
        with pytest.raises(Error):
            ticket.parse_text(other)
    data = code_of("insurer", "second").to_bytes()
    first, second = data[55:151], data[151:]
    for parts in (second + first, first + first):  # reordered, repeated
        refused("malformed.field", ticket.parse, data[:55] + max(parts, parts))
    refused("malformed.version", ticket.parse, b"\x02" + data[1:])
    refused("malformed.size", ticket.parse, data[:55] + 9 * first)


@settings(max_examples=60)
@given(st.integers(0, 342), st.integers(1, 255))
def test_a_changed_code_pays_nothing(at: int, by: int) -> None:
    data = bytearray(code_of("insurer", "second", "third").to_bytes())
    data[at] ^= by
    grants = {digest: grant for grant, _, digest in map(direct_pay, ("insurer", "second", "third"))}

    def pay() -> None:
        found = ticket.parse(bytes(data))
        for digest, grant in grants.items():
            ticket.verify(found.envelope(digest, grant), grant, digest)

    with pytest.raises(Error):
        pay()


def test_an_online_code_opens_for_its_hospital_only() -> None:
    mine, other = KemPrivate.generate(Alg.X25519), KemPrivate.generate(Alg.X25519)
    code = code_of("insurer")
    sealed = ticket.seal_online(code, mine.public)
    assert ticket.open_online(sealed, mine, HOSPITAL.id) == code
    refused("capsule.open", ticket.open_online, sealed, other, HOSPITAL.id)
    refused("capsule.open", ticket.open_online, sealed, mine, PAYER.id)
    elsewhere = ticket.seal_online(replace(code, hospital=PAYER.id), mine.public)
    refused("capsule.open", ticket.open_online, elsewhere, mine, HOSPITAL.id)


# --- the recipient asks too -------------------------------------------------------------------------------------------


def test_a_recipient_takes_a_direct_pay_grant_with_its_ticket_only() -> None:
    """Hospital and broker together cannot use the grant without the patient."""
    grant, key, digest = direct_pay()
    signed = shown(grant, key, digest)
    exchange = replace(claim(), grant=grant, subject=key)
    sent = exchange.send()
    with_ticket = replace(sent, shown=replace(sent.shown, ticket_hash=consent.hash_of(signed.payload)))
    me = as_recipient(INSURER)
    delivered = with_ticket.deliver()
    assert receive(replace(delivered, ticket=signed), me, NOW).grant == grant
    refused("ticket.missing", receive, delivered, me, NOW)
    refused("ticket.missing", receive, sent.deliver(), me, NOW)
    refused("ticket.missing", receive, replace(delivered, ticket=shown(grant, key, digest, NOW - 1)), me, NOW)
    forged = shown(grant, subject_key("rival"), digest)
    forged_sent = replace(sent, shown=replace(sent.shown, ticket_hash=consent.hash_of(forged.payload)))
    refused("consent.signature", receive, replace(forged_sent.deliver(), ticket=forged), me, NOW)
    old = shown(grant, key, digest, NOW - 991)
    old_sent = replace(sent, shown=replace(sent.shown, ticket_hash=consent.hash_of(old.payload)))
    refused("ticket.window", receive, replace(old_sent.deliver(), ticket=old), me, NOW)
    refused("ticket.grant", receive, replace(claim().send().deliver(), ticket=signed), me, NOW)


def test_drawn_codes_differ() -> None:
    assert len({subject_keys.draw_code() for _ in range(50)}) == 50
    assert os.urandom(16) != SEED
