"""Strict parsing of signed protobuf payloads (DESIGN section 5).

Verify first, then parse: known version and suite, no unknown or duplicate field, canonical bytes, NFC text without NUL,
no unknown enum value. Re-serialising and comparing catches reordered and duplicate fields and explicit zeros, once
unknown fields are discarded (upb would carry them along); enum values and text are checked by hand.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from zhifu.errors import Malformed
from zhifu.keys import SUITE, VERSION

M = TypeVar("M", bound=Message)
MAX_TEXT: Final = 256
MAX_TIME: Final = 2**40


def parse(kind: type[M], data: bytes, cap: int) -> M:
    """``data`` as a message of ``kind`` in its one canonical form. Raises `Malformed`.

    Every message has ``version`` and ``suite`` as its first fields; other values of them are refused.
    """
    if len(data) > cap:
        raise Malformed("malformed.size", f"{len(data)} bytes, at most {cap}")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Malformed("malformed.encoding", "not a protobuf message") from error
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise Malformed("malformed.encoding", "not the canonical form, or an unknown field")
    if getattr(message, "version", None) != VERSION or getattr(message, "suite", None) != SUITE:
        raise Malformed("malformed.version")
    _check_fields(message)
    return message


class _Field(NamedTuple):
    """A field whose values the encoding alone does not settle; ``known`` are an enum's numbers."""

    name: str
    repeated: bool
    text: bool
    known: frozenset[int]


@cache
def _checked(kind: Descriptor) -> tuple[_Field, ...]:
    # Asking the descriptors each time would take as long as to parse.
    return tuple(
        _Field(
            field.name,
            field.is_repeated,
            field.type == FieldDescriptor.TYPE_STRING,
            frozenset(field.enum_type.values_by_number) if field.enum_type is not None else frozenset(),
        )
        for field in kind.fields
        if field.enum_type is not None or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
    )


def _check_fields(message: Message) -> None:
    for field in _checked(message.DESCRIPTOR):
        value = getattr(message, field.name)
        for item in value if field.repeated else (value,):
            if field.text:
                _check_text(field.name, item)
            elif not field.known:
                _check_fields(item)
            elif item not in field.known:
                raise Malformed("malformed.field", f"{field.name} has an unknown value")


def _check_text(name: str, value: str) -> None:
    if len(value) > MAX_TEXT or "\0" in value or not (value.isascii() or unicodedata.is_normalized("NFC", value)):
        raise Malformed("malformed.field", f"{name} is not NFC text of at most {MAX_TEXT} characters")


def exactly(name: str, value: bytes, length: int) -> bytes:
    """``value`` if it has ``length`` bytes. Raises `Malformed` (malformed.field)."""
    if len(value) != length:
        raise Malformed("malformed.field", f"{name} is {len(value)} bytes, not {length}")
    return value


class Fields:
    """Two or more fields that one call reads, for messages of which very many are parsed."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.of = attrgetter(*names)


def all_exactly(message: Message, fields: Fields, length: int) -> None:
    """Each of the fields has ``length`` bytes. Raises `Malformed` (malformed.field)."""
    found = fields.of(message)
    if set(map(len, found)) != {length}:
        for name, value in zip(fields.names, found, strict=True):
            exactly(name, value, length)


def optional(name: str, value: bytes, length: int) -> bytes:
    """``value`` if it is empty or has ``length`` bytes. Raises `Malformed` (malformed.field)."""
    return value if not value else exactly(name, value, length)


def positive(name: str, value: int, most: int = MAX_TIME) -> int:
    """``value`` if it is 1 to ``most``. Raises `Malformed` (malformed.field)."""
    if not 1 <= value <= most:
        raise Malformed("malformed.field", f"{name} is not 1 to {most}")
    return value
