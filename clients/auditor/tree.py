"""The tree, computed anew from the entries: each stored node is compared with what it must be (RFC 9162 section 2.1).

A leaf hash and a time stay in memory for each entry (40 bytes), and half as much while the levels above are compared.
"""

from __future__ import annotations

from array import array
from hashlib import sha256

from clients.auditor.faults import Fault, corrupt
from zhifu.merkle import HASH_BYTES, cover


class Leaves:
    """Leaf hash and time (Unix ms) of every entry that was read so far, in order."""

    def __init__(self) -> None:
        self.hashes = bytearray()
        self._times = array("q")

    def __len__(self) -> int:
        return len(self._times)

    def append(self, leaf_hash: bytes, time_ms: int) -> None:
        self.hashes += leaf_hash
        self._times.append(time_ms)

    def hash_at(self, index: int) -> bytes:
        return bytes(self.hashes[HASH_BYTES * index : HASH_BYTES * (index + 1)])

    def between(self, begin: int, end: int) -> list[bytes]:
        """Leaf hashes of the entries [begin, end)."""
        return [self.hash_at(index) for index in range(begin, end)]

    def have_time(self, begin: int, end: int, time_ms: int) -> bool:
        """Whether every entry of [begin, end) has this very time."""
        return self._times[begin:end].count(time_ms) == end - begin


class StoredNodes:
    """Compares the stored nodes, which come level by level, with those that the leaves give: no hole, no extra."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._row = leaves.hashes
        self._level = 0
        self._next = 0

    @property
    def place(self) -> int:
        """The first entry below the node that is due; 0 once all were there."""
        return self._next << self._level if self._row else 0

    def take(self, level: int, index: int, stored: bytes) -> None:
        """The next node. Raises `Fault`."""
        self._open_level()
        if (level, index) != (self._level, self._next) or not self._row:
            raise self._misplaced(level, index)
        at = HASH_BYTES * index
        if self._row[at : at + HASH_BYTES] != stored:
            what = (
                "the entry is not the leaf in the tree" if level == 0 else f"node {level}/{index} of the tree is wrong"
            )
            raise corrupt(index << level, what)
        self._next += 1

    def take_leaf(self, level: int, index: int, stored: bytes) -> None:
        """What of a torn log can still be compared: the entries before the tear. Raises `Fault`."""
        if level == 0 and index < len(self._leaves) and self._leaves.hash_at(index) != stored:
            raise corrupt(index, "the entry is not the leaf in the tree")

    def finish(self) -> None:
        """Every node was there. Raises `Fault`."""
        self._open_level()
        if self._row:
            raise self._missing()

    def _open_level(self) -> None:
        """Go up once a row is complete; the row above is empty over the root."""
        if self._row and self._next == len(self._row) // HASH_BYTES:
            pairs = range(0, len(self._row) - HASH_BYTES, 2 * HASH_BYTES)
            above = (sha256(b"\x01" + self._row[at : at + 2 * HASH_BYTES]).digest() for at in pairs)
            self._row = bytearray().join(above)
            self._level, self._next = self._level + 1, 0

    def _misplaced(self, level: int, index: int) -> Fault:
        if self._row and (level, index) > (self._level, self._next):
            return self._missing()
        last = max(0, len(self._leaves) - 1)
        return corrupt(min(index << level, last), f"node {level}/{index} of the tree is stored but not part of it")

    def _missing(self) -> Fault:
        return corrupt(self._next << self._level, f"node {self._level}/{self._next} of the tree is missing")


def first_difference(size: int, ours: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> tuple[int, int] | None:
    """The entries [begin, end) of the first complete subtree in which two trees of ``size`` differ; None if in none."""
    for (level, index), mine, other in zip(cover(0, size), ours, theirs, strict=True):
        if mine != other:
            return index << level, (index + 1) << level
    return None
