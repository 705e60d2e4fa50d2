"""Range proofs: one proof for a whole batch of neighbouring leaves (DESIGN sections 6 and 7).

The leaves [begin, end) of a tree of ``size`` are proved by the complete subtrees left of them, the leaf hashes
themselves and the complete subtrees right of them; together they recompute the root. A batch of k deliveries costs
k + 2 log n hashes instead of k log n, and the node cuts out of it the RFC 9162 inclusion proof of each leaf.
"""

from __future__ import annotations

from dataclasses import dataclass

from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import MAX_SIZE, Fetch, are_hashes, cover, fetched, fold, node_hash, range_nodes


@dataclass(frozen=True, slots=True)
class Range:
    """A range proof; every sequence runs left to right.

    ``left`` is the frontier of the tree of ``begin`` leaves; ``right`` covers [end, size) with the fewest complete
    subtrees (`zhifu.merkle.cover`). Given begin, end and size, all three lengths are determined.
    """

    begin: int
    left: tuple[bytes, ...]
    leaves: tuple[bytes, ...]
    right: tuple[bytes, ...]
    size: int

    @property
    def end(self) -> int:
        """Index after the last leaf of the range."""
        return self.begin + len(self.leaves)

    def root(self) -> bytes:
        """Root of the tree that this range claims to lie in. Raises NotAuthentic("receipt.invalid")."""
        return _rows(self)[-1][1][0]


def build_range(begin: int, end: int, size: int, fetch: Fetch) -> Range:
    """Range proof of the leaves [begin, end) in the tree of ``size``.

    Raises Malformed("malformed.field") unless 0 <= begin < end <= size; NotAuthentic("log.corrupt") when a node is
    missing.
    """
    hashes = tuple(fetched(range_nodes(begin, end, size), fetch))
    start = begin.bit_count()
    stop = start + end - begin
    return Range(begin, hashes[:start], hashes[start:stop], hashes[stop:], size)


def verify_range(proof: Range, size: int, root_hash: bytes) -> None:
    """Check that the leaves stand at [begin, end) of the tree of this size and root, both of one signed checkpoint.

    A root alone does not bind places: leaf 3 of 4 proves itself leaf 6 of a made-up tree of 7 with the same root.
    Raises NotAuthentic("receipt.invalid").
    """
    if proof.size != size or proof.root() != root_hash:
        raise NotAuthentic("receipt.invalid", "the range does not lead to the root")


def inclusion_of(proof: Range, index: int) -> list[bytes]:
    """Inclusion proof (RFC 9162 section 2.1.3) of the leaf at ``index`` of the log, cut out of a range that holds it.

    Raises Malformed("malformed.field") for an index outside the range, NotAuthentic("receipt.invalid") for a range
    whose lengths do not fit. It does not compare roots: `verify_range` does.
    """
    if not proof.begin <= index < proof.end:
        raise Malformed("malformed.field", "the leaf is not in the range")
    return _path(_rows(proof), index)


def inclusions(proof: Range) -> list[list[bytes]]:
    """`inclusion_of` for every leaf of the range, in order; hashes the range only once."""
    rows = _rows(proof)
    return [_path(rows, index) for index in range(proof.begin, proof.end)]


def _path(rows: list[tuple[int, list[bytes]]], index: int) -> list[bytes]:
    path = []
    for level, (first, row) in enumerate(rows):
        sibling = ((index >> level) - first) ^ 1
        if sibling < len(row):
            path.append(row[sibling])
    return path


def _rows(proof: Range) -> list[tuple[int, list[bytes]]]:
    """The part of the tree above the range, level by level: (index of the first node, hashes); the last is the root."""
    remaining = _right_part(proof)
    left, row, first = list(proof.left), list(proof.leaves), proof.begin
    rows: list[tuple[int, list[bytes]]] = []
    while left or remaining or len(row) > 1:
        if first & 1:
            row.insert(0, left.pop())
            first -= 1
        if len(row) & 1:
            row += _right_sibling(len(rows), remaining)
        rows.append((first, row))
        row, first = _parents(row), first >> 1
    return [*rows, (first, row)]


def _right_part(proof: Range) -> list[tuple[int, bytes]]:
    """(level, hash) of the nodes right of the range, after the counts are checked."""
    if not 0 <= proof.begin < proof.end <= proof.size <= MAX_SIZE:
        raise NotAuthentic("receipt.invalid", "the range is out of bounds")
    nodes = cover(proof.end, proof.size)
    fits = len(proof.left) == proof.begin.bit_count() and len(proof.right) == len(nodes)
    if not fits or not are_hashes((*proof.left, *proof.leaves, *proof.right)):
        raise NotAuthentic("receipt.invalid", "the range has too many or too few hashes")
    return [(level, hash_) for (level, _), hash_ in zip(nodes, proof.right, strict=True)]


def _right_sibling(level: int, remaining: list[tuple[int, bytes]]) -> list[bytes]:
    """Take the sibling of a row's last node off ``remaining``; none when the node ends the tree."""
    if not remaining:
        return []
    if remaining[0][0] == level:
        return [remaining.pop(0)[1]]
    # What remains is narrower than this level: it is the tree's ragged edge, one ephemeral subtree.
    edge = fold([hash_ for _, hash_ in remaining])
    remaining.clear()
    return [edge]


def _parents(row: list[bytes]) -> list[bytes]:
    """The level above; a last node without a sibling moves up as it is."""
    paired = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)]
    return paired + row[-1:] if len(row) & 1 else paired
