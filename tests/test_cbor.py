"""Strict CBOR: one encoding a value, and nothing but arrays, integers, NFC text, bytes, booleans and null."""

from __future__ import annotations

import contextlib
import time
import unicodedata
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats import normal, words
from tests.vectors import second
from zhifu import cbor
from zhifu.errors import Malformed

SIMPLE = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40) | words(20)
VALUE = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=4), max_leaves=20)


def refused(data: bytes, reason: str = "malformed.encoding") -> None:
    with pytest.raises(Malformed) as caught:
        cbor.decode(data, 1 << 16)
    assert caught.value.reason == reason


def depth(value: Any) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list | tuple) else 0


@given(VALUE.filter(lambda value: depth(value) <= cbor.MAX_DEPTH))
def test_round_trip_and_second_implementation_agree(value: Any) -> None:
    encoded = cbor.encode(value)
    assert encoded == second.cbor(value)
    decoded = cbor.decode(encoded, len(encoded))
    assert decoded == normal(value)
    assert cbor.encode(decoded) == encoded


# The examples of RFC 8949, appendix A, that lie within the subset.
EXAMPLES: list[tuple[str, Any]] = [
    ("00", 0), ("01", 1), ("0a", 10), ("17", 23), ("1818", 24), ("1819", 25), ("1864", 100), ("1903e8", 1000),
    ("1a000f4240", 1_000_000), ("1b000000e8d4a51000", 1_000_000_000_000), ("20", -1), ("29", -10), ("3863", -100),
    ("3903e7", -1000), ("f4", False), ("f5", True), ("f6", None), ("40", b""), ("4401020304", b"\1\2\3\4"), ("60", ""),
    ("6161", "a"), ("6449455446", "IETF"), ("62225c", '"\\'), ("62c3bc", "ü"), ("63e6b0b4", "水"),
    ("64f0908591", "\U00010151"), ("80", ()), ("83010203", (1, 2, 3)), ("8301820203820405", (1, (2, 3), (4, 5))),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", tuple(range(1, 26))),
]  # fmt: skip


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES)
def test_examples_of_the_rfc(encoded: str, value: Any) -> None:
    assert cbor.decode(bytes.fromhex(encoded), 100) == value
    assert cbor.encode(value).hex() == encoded


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "nothing"), ("8001", "trailing bytes"), ("1800", "long integer"), ("190001", "long integer"),
        ("1b0000000000000001", "long integer"), ("3800", "long negative"), ("580141", "long byte length"),
        ("780161", "long text length"), ("9800", "long array length"), ("9fff", "indefinite array"),
        ("5fff", "indefinite bytes"), ("7fff", "indefinite text"), ("81", "short array"), ("42 01", "short bytes"),
        ("a0", "map"), ("a10102", "map"), ("a201020103", "duplicate keys"), ("f90000", "half float"),
        ("fa00000000", "float"), ("fb3ff0000000000000", "double"), ("f97e00", "NaN"), ("f7", "undefined"),
        ("f0", "simple value"), ("f820", "simple value"), ("ff", "break"), ("1c", "reserved"), ("fc", "reserved"),
        ("62c328", "not UTF-8"), ("63eda080", "surrogate"), ("6100", "NUL"), ("63 61cc81", "not NFC"),
        ("1b8000000000000000", "above 63 bits"), ("3b8000000000000000", "below 63 bits"),
        ("5bffffffffffffffff", "a length beyond memory"), ("9bffffffffffffffff", "a length beyond memory"),
        ("7b7fffffffffffffff", "a length beyond memory"),
    ],
)  # fmt: skip
def test_other_encodings_are_refused(data: str, why: str) -> None:
    refused(bytes.fromhex(data))


TAGS = [0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 32, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("content", ["00", "80", "6161", "4101", "820102"])
def test_no_tag_is_acted_on(tag: int, content: str) -> None:
    """Refused by the decoder itself, before the library makes anything of it."""
    head = second.cbor_head(6, tag)
    for data in (head + bytes.fromhex(content), b"\x82\x00" + head + bytes.fromhex(content)):
        with pytest.raises(Malformed) as caught:
            cbor.decode(data, 100)
        assert "tag" in causes(caught.value)


def causes(error: BaseException | None) -> list[str]:
    """Texts of the errors that led to this one."""
    return [str(error), *causes(error.__cause__ or error.__context__)] if error else []


def test_every_tag_that_the_library_acts_on_is_named() -> None:
    """A newer cbor2 may know more tags; each must be added to the list, or hostile bytes reach its decoder."""
    left = set()
    for tag in range(1 << 16):
        asked: list[object] = []
        with contextlib.suppress(Exception):
            cbor2.loads(second.cbor_head(6, tag) + b"\x61a", tag_hook=lambda *hooked, asked=asked: asked.append(hooked))
        if not asked:
            left.add(tag)
    assert left == set(cbor._ACTED_ON)


def test_shared_references_do_not_expand() -> None:
    """40 levels of "twice the one before" in 300 bytes would be a terabyte when re-encoded."""
    data = b"\xd8\x1c\x80"
    for level in range(40):
        data = b"\xd8\x1c\x82" + data + b"\xd8\x1d" + second.cbor(level)
    began = time.perf_counter()
    refused(data)
    assert time.perf_counter() - began < 1


def test_nesting_is_bounded() -> None:
    deepest = b"\x81" * (cbor.MAX_DEPTH - 1) + b"\x80"
    assert cbor.decode(deepest, 100) is not None
    refused(b"\x81" + deepest)
    refused(b"\x81" * 60_000 + b"\x00")
    nested: list[Any] = []
    for _ in range(cbor.MAX_DEPTH):
        nested = [nested]
    with pytest.raises(Malformed):
        cbor.encode(nested)


def test_size_cap_comes_first() -> None:
    assert cbor.decode(b"\x43abc", 4) == b"abc"
    with pytest.raises(Malformed) as caught:
        cbor.decode(b"\xff\xff\xff\xff\xff", 4)
    assert caught.value.reason == "malformed.size"


@pytest.mark.parametrize(
    "value",
    [1.0, {}, {"a": 1}, {1}, object(), "e\u0301", "a\0", "\ud800", 2**63, -(2**63) - 1, [1.5], bytearray(b"x")],
    ids=lambda value: type(value).__name__,
)
def test_encoder_writes_nothing_that_the_decoder_refuses(value: Any) -> None:
    with pytest.raises(Malformed) as caught:
        cbor.encode(value)
    assert caught.value.reason == "malformed.encoding"


@given(st.text(max_size=8))
def test_text_is_nfc_and_without_nul(text: str) -> None:
    good = "\0" not in text and unicodedata.is_normalized("NFC", text)
    data = second.cbor(text)
    if good:
        assert cbor.decode(data, 100) == text
    else:
        refused(data)


def test_array_has_the_length_asked_for() -> None:
    assert tuple(cbor.array(b"\x82\x01\x02", 10, 2)) == (1, 2)
    for data in (b"\x81\x01", b"\x83\x01\x02\x03", b"\x01", b"\x42\x01\x02"):
        with pytest.raises(Malformed):
            cbor.array(data, 10, 2)
