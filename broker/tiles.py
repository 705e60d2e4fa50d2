"""The log as tiles (C2SP tlog-tiles), read from the store: 256 hashes a tile, and the leaves in bundles.

A tile never changes once it is full. Nothing here needs a secret: leaves commit to their contents and show none.
"""

from __future__ import annotations

import re
from typing import Final

from broker.audit import stored_leaf
from broker.store import tables
from broker.store.interface import Reader
from zhifu.errors import Malformed, Refused

WIDTH: Final = 256
_HEIGHT: Final = 8
_PATH: Final = re.compile(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
"""Of an index of at most 21 digits: there is no larger log."""


def read(path: str, reader: Reader) -> tuple[bytes, bool]:
    """The tile or entry bundle behind ``/tile/``, and whether it is full and so never changes.

    Raises `Malformed` (malformed.field) for a path that is none, `Refused` (exchange.unknown) for what is not there
    yet, `NotAuthentic` (log.corrupt).
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise Malformed("malformed.field", "not the path of a tile")
    level, index = found[1], int(found[2].replace("x", "").replace("/", ""))
    width = int(found[3]) if found[3] else WIDTH
    if _encode(index) != found[2] or not 1 <= width <= WIDTH or (found[3] and width == WIDTH):
        raise Malformed("malformed.field", "not the canonical path of a tile")
    height = 0 if level == "entries" else _HEIGHT * int(level)
    first = index * WIDTH
    if first + width > _size(reader) >> height:
        raise Refused("exchange.unknown", "the log has no such tile yet")
    if level == "entries":
        return b"".join(_bundled(one, reader) for one in range(first, first + width)), width == WIDTH
    return b"".join(reader.nodes([(height, one) for one in range(first, first + width)])), width == WIDTH


def _size(reader: Reader) -> int:
    head = reader.get(tables.Head, 1)
    return head.size if head else 0


def _encode(index: int) -> str:
    """1234067 is x001/x234/067."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)


def _bundled(index: int, reader: Reader) -> bytes:
    leaf = stored_leaf(index, reader)
    return len(leaf).to_bytes(2, "big") + leaf
