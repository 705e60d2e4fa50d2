"""Strict parsing: one encoding a message, and every trick that protobuf parsers let through."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tests.formats import refused
from tests.vectors import second
from zhifu import strict
from zhifu.errors import Malformed
from zhifu.v1 import signed_pb2 as pb

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_text("utf-8"))["signed"]
MESSAGES: dict[str, type[Message]] = {
    "presentation": pb.Presentation, "grant": pb.Grant, "consent_request": pb.ConsentRequest, "ticket": pb.Ticket,
    "revocation": pb.Revocation, "key_statement": pb.KeyStatement, "epoch_offer": pb.EpochOffer,
    "attestation": pb.Attestation, "acknowledgement": pb.Acknowledgement, "policy": pb.PolicyStatement,
    "wallet": pb.WalletProof, "pseudonym_quota": pb.PseudonymQuota,
}  # fmt: skip
CAP = 1 << 16


def payload(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["payload"])


def split(data: bytes) -> list[bytes]:
    """The top-level fields of a message, each with its tag."""
    fields, at = [], 0
    while at < len(data):
        begin = at
        tag, at = read_varint(data, at)
        number, at = read_varint(data, at)
        at += number if tag & 7 == 2 else 0
        fields.append(data[begin:at])
    return fields


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 0x80:
        number, shift, at = number | (data[at] & 0x7F) << shift, shift + 7, at + 1
    return number | data[at] << shift, at + 1


def long(field: bytes) -> bytes:
    """The field's tag as a varint of one byte too many."""
    _, end = read_varint(field, 0)
    return field[: end - 1] + bytes([field[end - 1] | 0x80, 0]) + field[end:]


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_what_the_second_implementation_wrote_is_canonical(name: str) -> None:
    message = strict.parse(MESSAGES[name], payload(name), CAP)
    assert message.SerializeToString(deterministic=True) == payload(name)
    assert b"".join(split(payload(name))) == payload(name)


TRICKS: dict[str, Callable[[list[bytes]], bytes]] = {
    "unknown field": lambda fields: b"".join(fields) + second.protobuf((99, b"x")),
    "unknown number field": lambda fields: b"".join(fields) + second.protobuf((99, 1)),
    "unknown field first": lambda fields: second.protobuf((99, b"x")) + b"".join(fields),
    "empty unknown field": lambda fields: b"".join(fields) + second.varint(99 << 3 | 2) + b"\0",
    "unknown group": lambda fields: b"".join(fields) + second.varint(99 << 3 | 3) + second.varint(99 << 3 | 4),
    "duplicate field at the end": lambda fields: b"".join([*fields, fields[2]]),
    "duplicate field in place": lambda fields: b"".join([*fields[:3], *fields[2:]]),
    "reordered": lambda fields: b"".join([*fields[:2], fields[3], fields[2], *fields[4:]]),
    "reversed": lambda fields: b"".join(fields[::-1]),
    "long varint tag": lambda fields: b"".join([long(fields[0]), *fields[1:]]),
    "long varint value": lambda fields: b"\x08\x81\x00" + b"".join(fields[1:]),
    "trailing byte": lambda fields: b"".join(fields) + b"\0",
    "trailing tag": lambda fields: b"".join(fields) + b"\x08",
    "cut short": lambda fields: b"".join(fields)[:-1],
    "version as bytes": lambda fields: second.protobuf((1, b"\x01")) + b"".join(fields[1:]),
    "version beyond 32 bits": lambda fields: b"\x08" + second.varint(2**32 + 1) + b"".join(fields[1:]),
    "explicit zero": lambda fields: b"".join(fields) + b"\x10\x00",
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
@pytest.mark.parametrize("trick", sorted(TRICKS))
def test_other_encodings_are_refused(name: str, trick: str) -> None:
    data = TRICKS[trick](split(payload(name)))
    assert data != payload(name)
    refused("malformed.encoding", strict.parse, MESSAGES[name], data, CAP)


@pytest.mark.parametrize(
    "field", [second.protobuf((9, b"\xff")), second.protobuf((9, b"\xed\xa0\x80")), b"\x4a\x02\xc3("]
)
def test_text_that_is_not_utf8(field: bytes) -> None:
    fields = split(payload("presentation"))
    data = b"".join([*fields[:8], field, *fields[9:]])
    refused("malformed.encoding", strict.parse, pb.Presentation, data, CAP)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("e\u0301", "malformed.field"),  # not NFC
        ("a\0b", "malformed.field"),
        ("x" * 257, "malformed.field"),
        ("\u1100\u1161", "malformed.field"),  # Hangul that composes
    ],
)
def test_text_is_short_nfc_without_nul(text: str, reason: str) -> None:
    message = pb.Presentation.FromString(payload("presentation"))
    message.aud = text
    refused(reason, strict.parse, pb.Presentation, message.SerializeToString(deterministic=True), CAP)


def test_enum_values_are_known() -> None:
    for kind, name, field in ((pb.Presentation, "presentation", "basis_kind"), (pb.Grant, "grant", "mode")):
        message = kind.FromString(payload(name))
        setattr(message, field, 7)
        data = message.SerializeToString(deterministic=True)
        refused("malformed.field", strict.parse, kind, data, CAP)


def test_negative_enum_values() -> None:
    fields = split(payload("presentation"))
    minus_one = second.varint(7 << 3) + second.varint(2**64 - 1)
    data = b"".join([*fields[:6], minus_one, *fields[7:]])
    refused("malformed.field", strict.parse, pb.Presentation, data, CAP)


@pytest.mark.parametrize("name", sorted(MESSAGES))
@pytest.mark.parametrize(("field", "value"), [("version", 0), ("version", 2), ("suite", 0), ("suite", 2)])
def test_version_and_suite(name: str, field: str, value: int) -> None:
    message = MESSAGES[name].FromString(payload(name))
    setattr(message, field, value)
    refused("malformed.version", strict.parse, MESSAGES[name], message.SerializeToString(deterministic=True), CAP)


def test_tricks_inside_an_inner_message() -> None:
    """A scope with an unknown or a repeated field is not the scope that was signed for."""
    fields = split(payload("grant"))
    at = next(i for i, field in enumerate(fields) if field[0] >> 3 == 10)
    length, start = read_varint(fields[at], 1)
    scope = fields[at][start:]
    assert len(scope) == length
    for inner in (scope + second.protobuf((9, b"x")), scope + scope[:34], b"".join(split(scope)[::-1]), scope[:-1]):
        data = b"".join([*fields[:at], second.protobuf((10, inner)), *fields[at + 1 :]])
        refused("malformed.encoding", strict.parse, pb.Grant, data, CAP)


def test_the_size_cap_comes_first() -> None:
    refused("malformed.size", strict.parse, pb.Ticket, b"\xff" * 100, 99)
    refused("malformed.encoding", strict.parse, pb.Ticket, b"\xff" * 100, 100)
    refused("malformed.version", strict.parse, pb.Ticket, b"", 0)


@given(st.binary(max_size=60))
def test_nothing_but_malformed_is_raised(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in MESSAGES.values():
            with pytest.raises(Malformed):
                strict.parse(kind, data, CAP)


def test_field_checks() -> None:
    assert strict.exactly("x", b"abc", 3) == b"abc"
    assert strict.optional("x", b"", 3) == b""
    assert strict.positive("x", 1) == 1
    assert strict.positive("x", strict.MAX_TIME) == strict.MAX_TIME
    refused("malformed.field", strict.exactly, "x", b"ab", 3)
    refused("malformed.field", strict.optional, "x", b"ab", 3)
    refused("malformed.field", strict.positive, "x", 0)
    refused("malformed.field", strict.positive, "x", strict.MAX_TIME + 1)
