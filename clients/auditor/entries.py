"""The lines of an export, read strictly: they come from a database that anyone may have changed.

A line is ``head``, ``entry``, ``node``, ``checkpoint`` or ``unreadable``, in that order, each kind ascending; byte
strings are in hex. Every refusal here is `Malformed`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhifu import merkle
from zhifu.checkpoint import MAX_NOTE
from zhifu.errors import Malformed
from zhifu.merkle import HASH_BYTES, MAX_SIZE
from zhifu.receipt import MAX_DETAIL, MAX_META, Entry, Erased, statement_leaf

MAX_LINE: Final = 2 * (MAX_META + MAX_DETAIL + MAX_NOTE) + 4096
"""Bytes of a line."""
_COMMITTED: Final = 0
_PLAIN: Final = 1
_ERASED: Final = 2
_KEY_BYTES: Final = 32
_MAX_TIME_MS: Final = 2**48
_MAX_LEVEL: Final = 63
_MAX_DETAIL_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Published:
    """A plain entry: a key statement that stands in the log for all to read (DESIGN 4.4)."""

    index: int
    time_ms: int
    document: bytes

    @property
    def leaf_hash(self) -> bytes:
        return merkle.leaf_hash(statement_leaf(self.index, self.time_ms, self.document))


@dataclass(frozen=True, slots=True)
class HeadLine:
    """The head as stored."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A complete subtree as stored."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """A signed head as stored; ``time_ms`` is of the commit that made it."""

    size: int
    root: bytes
    note: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """The export could not read on in this table."""

    table: str
    detail: str


EntryLine = Entry | Published | Erased
Line = HeadLine | EntryLine | NodeLine | CheckpointLine | UnreadableLine
_Values = Mapping[str, Any]


def parse(line: bytes) -> Line:
    """One line of an export, at most `MAX_LINE` bytes. Raises `Malformed`."""
    if len(line) > MAX_LINE:
        raise Malformed("malformed.size", "the line is too long")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed("malformed.encoding", "not a line of JSON") from error
    kind = values.get("line") if type(values) is dict else None
    if type(kind) is not str or kind not in _READ:
        raise Malformed("malformed.encoding", "not a line of an export")
    names, read = _READ[kind]
    if values.keys() != names:
        raise Malformed("malformed.encoding", f"not the columns of a line of kind {kind}")
    return read(values)


def _head(values: _Values) -> HeadLine:
    size, root = _number(values, "size", MAX_SIZE), _bytes(values, "root", HASH_BYTES)
    if not size and not root:  # a broker that never wrote an entry has no head
        return HeadLine(0, merkle.EMPTY)
    return HeadLine(size, _exactly(root, "root", HASH_BYTES))


def _entry(values: _Values) -> EntryLine:
    index, time_ms = _number(values, "index", MAX_SIZE - 1), _number(values, "time_ms", _MAX_TIME_MS)
    keys = [_bytes(values, name, _KEY_BYTES) for name in ("meta_key", "detail_key")]
    meta, detail = _bytes(values, "meta", MAX_META), _bytes(values, "detail", MAX_DETAIL)
    kind = _number(values, "kind", _ERASED)
    if kind == _PLAIN:
        if any(keys) or meta:
            raise Malformed("malformed.field", "a plain entry has no keys and no meta")
        return Published(index, time_ms, detail)
    if kind == _ERASED:
        if keys[1]:
            raise Malformed("malformed.field", "an erased detail has no key")
        meta_key = _exactly(keys[0], "a commitment's key", _KEY_BYTES)
        return Erased(index, time_ms, meta_key, meta, _exactly(detail, "a commitment", HASH_BYTES))
    meta_key, detail_key = (_exactly(key, "a commitment's key", _KEY_BYTES) for key in keys)
    return Entry(index, time_ms, meta_key, meta, detail_key, detail)


def _node(values: _Values) -> NodeLine:
    return NodeLine(
        _number(values, "level", _MAX_LEVEL),
        _number(values, "index", MAX_SIZE - 1),
        _exactly(_bytes(values, "hash", HASH_BYTES), "hash", HASH_BYTES),
    )


def _checkpoint(values: _Values) -> CheckpointLine:
    return CheckpointLine(
        _number(values, "size", MAX_SIZE),
        _exactly(_bytes(values, "root", HASH_BYTES), "root", HASH_BYTES),
        _bytes(values, "note", MAX_NOTE),
        _number(values, "time_ms", _MAX_TIME_MS),
    )


def _unreadable(values: _Values) -> UnreadableLine:
    table, detail = values["table"], values["detail"]
    if type(table) is not str or type(detail) is not str or not (table + detail).isprintable():
        raise Malformed("malformed.field", "the export failed in a way it does not say")
    return UnreadableLine(table[:_MAX_DETAIL_TEXT], detail[:_MAX_DETAIL_TEXT])


def _number(values: _Values, name: str, most: int) -> int:
    value = values[name]
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed("malformed.field", f"{name} is not a number from 0 to {most}")
    return value


def _bytes(values: _Values, name: str, most: int) -> bytes:
    value = values[name]
    if type(value) is not str or len(value) > 2 * most:
        raise Malformed("malformed.field", f"{name} is not at most {most} bytes in hex")
    try:
        raw = bytes.fromhex(value)
    except ValueError as error:
        raise Malformed("malformed.encoding", f"{name} is not hex") from error
    if raw.hex() != value:  # spaces and capitals are read too, but never written
        raise Malformed("malformed.encoding", f"{name} is not canonical hex")
    return raw


def _exactly(value: bytes, name: str, length: int) -> bytes:
    if len(value) != length:
        raise Malformed("malformed.field", f"{name} is {len(value)} bytes, not {length}")
    return value


_READ: Final[Mapping[str, tuple[frozenset[str], Callable[[_Values], Line]]]] = {
    kind: (frozenset(("line", *names.split())), read)
    for kind, names, read in (
        ("head", "size root", _head),
        ("entry", "index kind time_ms meta_key meta detail_key detail", _entry),
        ("node", "level index hash", _node),
        ("checkpoint", "size root note time_ms", _checkpoint),
        ("unreadable", "table detail", _unreadable),
    )
}
