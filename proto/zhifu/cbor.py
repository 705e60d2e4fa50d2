"""Strict CBOR: arrays, integers, NFC text, bytes, booleans and null; one encoding a value (RFC 8949, section 4.2.1).

The decoder accepts exactly what the encoder writes: the bytes are re-encoded and must be the same, which refuses
trailing bytes, long integers and indefinite lengths; maps, floats and tags are refused by type.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import cbor2

from zhifu.errors import Malformed

MAX_DEPTH: Final = 8
_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**63 - 1
_PLAIN: Final = frozenset((bytes, bool, type(None)))
_ARRAYS: Final = frozenset((list, tuple))

# A recursive alias needs PEP 695, which is newer than our oldest Python; the decoder checks every node.
Value = Any


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tag")


# The tags that the library would act on: references, of which a few bytes expand to gigabytes when they are re-encoded,
# regular expressions, mail, big numbers. None is ever acted on; `tag_hook` refuses the others.
_ACTED_ON: Final = (
    0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
_NO_TAGS: Final = dict.fromkeys(_ACTED_ON, _refuse_tag)


def encode(value: Value) -> bytes:
    """The canonical encoding of ``value``: nested sequences of int, str (NFC), bytes, bool and None.

    Raises `Malformed` (malformed.encoding) for any other type, non-NFC text or an integer beyond 64 bits.
    """
    _check((value,), 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, cap: int) -> Value:
    """The value of ``data``, at most ``cap`` bytes; arrays come back as tuples.

    Raises `Malformed` (malformed.size, malformed.encoding). Re-encoding reproduces ``data`` exactly.
    """
    if len(data) > cap:
        raise Malformed("malformed.size", f"{len(data)} bytes of CBOR, at most {cap}")
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH + 1,
            allow_indefinite=False,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse_tag,
            immutable=True,
        )
    except Exception as error:  # the library raises many types on hostile bytes; each means the same here
        raise Malformed("malformed.encoding", "not CBOR") from error
    _check((value,), 0)
    if cbor2.dumps(value, canonical=True) != data:
        raise Malformed("malformed.encoding", "not the canonical CBOR")
    return value


def array(data: bytes, cap: int, length: int) -> Sequence[Value]:
    """Decode an array of exactly ``length`` items. Raises `Malformed`."""
    value = decode(data, cap)
    if not isinstance(value, tuple) or len(value) != length:
        raise Malformed("malformed.encoding", f"not an array of {length}")
    return value


def _check(values: Sequence[Value], depth: int) -> None:
    for value in values:
        kind = type(value)
        if kind is str:
            _check_text(value)
        elif kind is int:
            if not _MIN_INT <= value <= _MAX_INT:
                raise Malformed("malformed.encoding", "integer beyond 64 bits")
        elif kind in _ARRAYS:
            if depth >= MAX_DEPTH:
                raise Malformed("malformed.encoding", "nested too deeply")
            # Most of what is encoded are short arrays of bytes: to look at their types one after the other is no cost.
            if not _PLAIN.issuperset(map(type, value)):
                _check(value, depth + 1)
        elif kind not in _PLAIN:
            raise Malformed("malformed.encoding", f"type {kind.__name__} is not allowed")


def _check_text(value: str) -> None:
    if value.isascii() and "\0" not in value:
        return
    if "\0" in value or not unicodedata.is_normalized("NFC", value):
        raise Malformed("malformed.encoding", "text is not NFC or contains NUL")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Malformed("malformed.encoding", "text is not Unicode") from error
