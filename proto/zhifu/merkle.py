"""The audit log's Merkle tree: hashes, frontier, proofs, verification (RFC 9162 section 2.1, DESIGN section 7).

Hashes are `HASH_BYTES` bytes. A **node** ``(level, index)`` is the complete subtree over the leaves
``[index << level, (index + 1) << level)``; level 0 is the leaf hash. Only complete subtrees are stored, since their
hashes never change; the ragged right edge of a tree is folded from them when a proof needs it. A log kept in a
database stores the nodes that `grow` completes and answers a `Fetch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, count, repeat
from typing import Final, TypeAlias

from zhifu.errors import Malformed, NotAuthentic

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**63 - 1
"""Largest tree size: indexes and sizes fit a signed 64-bit column."""
EMPTY: Final = sha256(b"").digest()
"""Root of the tree without leaves."""

Node: TypeAlias = tuple[int, int]
"""(level, index) of a complete subtree."""
StoredNode: TypeAlias = tuple[int, int, bytes]
"""(level, index, hash) of a complete subtree: one row of the broker's table."""
Fetch: TypeAlias = Callable[[Sequence[Node]], Sequence[bytes]]
"""Hashes of the named nodes, in the order asked."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over these leaf hashes; `EMPTY` for none (RFC 9162 section 2.1.1)."""
    return Frontier().extend(leaf_hashes).root()


def are_hashes(candidates: Sequence[bytes]) -> bool:
    """Whether every element is `HASH_BYTES` long."""
    return set(map(len, candidates)) <= {HASH_BYTES}


@dataclass(frozen=True, slots=True)
class Frontier:
    """The complete subtrees that make up the leaves [0, size): all that appending needs.

    ``nodes`` runs left to right, the largest subtree first, one for each bit set in ``size``, as `frontier_nodes`
    names them. Raises Malformed("malformed.field") when the parts do not fit each other.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_bounds(self.size, MAX_SIZE)
        if len(self.nodes) != self.size.bit_count() or not are_hashes(self.nodes):
            raise Malformed("malformed.field", "the frontier does not fit its size")

    def append(self, leaf: bytes) -> Frontier:
        """The frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaf_hashes: Sequence[bytes]) -> Frontier:
        """The frontier after more leaf hashes."""
        return grow(self, leaf_hashes)[0]

    def root(self) -> bytes:
        """Root of the tree of ``size`` leaves."""
        return fold(self.nodes) if self.nodes else EMPTY


def grow(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> tuple[Frontier, list[StoredNode]]:
    """Append a batch: the new frontier, and each complete subtree that it creates (level 0 included, lowest first).

    This is the sequencer's one call: it stores the nodes in the transaction that stores the leaves (DESIGN section 7).
    Raises Malformed("malformed.field") for an element that is no hash or a tree above `MAX_SIZE`.
    """
    if not are_hashes(leaf_hashes):
        raise Malformed("malformed.field", "a leaf hash has the wrong length")
    stored: list[StoredNode] = []
    carried, kept = list(frontier.nodes), list[bytes]()
    row, first, level = list(leaf_hashes), frontier.size, 0
    while row:
        stored += zip(repeat(level), count(first), row, strict=False)
        if first & 1:
            row.insert(0, carried.pop())
        if len(row) & 1:
            kept.append(row.pop())
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
        first, level = first >> 1, level + 1
    return Frontier(frontier.size + len(leaf_hashes), (*carried, *reversed(kept))), stored


def completed_nodes(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> list[StoredNode]:
    """The nodes that appending completes, as `grow` gives them."""
    return grow(frontier, leaf_hashes)[1]


def fetch_from(frontier: Frontier, stored: Iterable[StoredNode]) -> Fetch:
    """A Fetch that knows the old frontier and what a batch completed: enough for any range within that batch."""
    table = dict(zip(frontier_nodes(frontier.size), frontier.nodes, strict=True))
    table |= {(level, index): hash_ for level, index, hash_ in stored}
    return lambda nodes: [table.get(node, b"") for node in nodes]


def in_memory(leaf_hashes: Sequence[bytes]) -> Fetch:
    """A Fetch over a whole small tree, such as the presentations of one frame (DESIGN section 4.2)."""
    return fetch_from(Frontier(), completed_nodes(Frontier(), leaf_hashes))


def levels(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Every level of a small tree of one leaf or more, the leaves first and the root last: a node without a sibling
    stands on the level above as it is.
    """
    found = [list(leaf_hashes)]
    while len(row := found[-1]) > 1:
        above = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]
        found.append(above + row[-1:] if len(row) & 1 else above)
    return found


def path(tree: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """Inclusion path of a leaf in a tree of `levels`, sibling of the leaf first (RFC 9162 section 2.1.3.1)."""
    return tuple(row[sibling] for level, row in enumerate(tree[:-1]) if (sibling := (index >> level) ^ 1) < len(row))


def cover(begin: int, end: int) -> list[Node]:
    """The fewest complete subtrees that cover the leaves [begin, end), left to right (a compact range)."""
    nodes = []
    while begin < end:
        widest = (end - begin).bit_length() - 1
        level = min(widest, (begin & -begin).bit_length() - 1) if begin else widest
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def frontier_nodes(size: int) -> list[Node]:
    """Names of the nodes of a frontier, in its order. Raises Malformed("malformed.field") for a size out of bounds."""
    _check_bounds(size, MAX_SIZE)
    return cover(0, size)


def range_nodes(begin: int, end: int, size: int) -> list[Node]:
    """Nodes of the range proof of [begin, end) in a tree of ``size``: left part, leaves, right part (`zhifu.ranges`).

    Raises Malformed("malformed.field") unless 0 <= begin < end <= size.
    """
    _check_bounds(size, MAX_SIZE)
    _check_bounds(end, size)
    _check_bounds(begin, end - 1)
    return [*cover(0, begin), *((0, index) for index in range(begin, end)), *cover(end, size)]


def inclusion_nodes(index: int, size: int) -> list[Node]:
    """Nodes that the inclusion proof of leaf ``index`` is folded from. Raises Malformed("malformed.field")."""
    return list(chain.from_iterable(_inclusion(index, size)))


def inclusion_proof(index: int, size: int, fetch: Fetch) -> list[bytes]:
    """Inclusion path of a leaf, sibling of the leaf first (RFC 9162 section 2.1.3.1).

    Raises Malformed("malformed.field") unless 0 <= index < size; NotAuthentic("log.corrupt") when a node is missing.
    """
    return _folded(_inclusion(index, size), fetch)


def consistency_nodes(old: int, new: int) -> list[Node]:
    """Nodes that the consistency proof between two sizes is folded from. Raises Malformed("malformed.field")."""
    return list(chain.from_iterable(_consistency(old, new)))


def consistency_proof(old: int, new: int, fetch: Fetch) -> list[bytes]:
    """Proof that the tree of ``new`` leaves extends that of ``old`` (RFC 9162 section 2.1.4.1); empty from size 0.

    Raises Malformed("malformed.field") unless 0 <= old <= new; NotAuthentic("log.corrupt") when a node is missing.
    """
    return _folded(_consistency(old, new), fetch)


def fetched(nodes: Sequence[Node], fetch: Fetch) -> Sequence[bytes]:
    """Hashes of the nodes. Raises NotAuthentic("log.corrupt") when the log lacks one."""
    hashes = fetch(nodes) if nodes else ()
    if len(hashes) != len(nodes) or not are_hashes(hashes):
        raise NotAuthentic("log.corrupt", "a node of the tree is missing")
    return hashes


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root over adjacent complete subtrees of falling size, given left to right; at least one."""
    folded = hashes[-1]
    for left in hashes[-2::-1]:
        folded = node_hash(left, folded)
    return folded


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Check that the leaf hash stands at ``index`` of the tree of ``size`` with this root (RFC 9162 section 2.1.3.2).

    Raises NotAuthentic("receipt.invalid").
    """
    if root_from_inclusion(leaf, index, size, proof) != root_hash:
        raise NotAuthentic("receipt.invalid", "the inclusion proof does not lead to the root")


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2); for a root that is signed, not stated.

    Raises NotAuthentic("receipt.invalid") for a place out of bounds or too many or too few hashes.
    """
    if not 0 <= index < size <= MAX_SIZE or not are_hashes((leaf, *proof)):
        raise NotAuthentic("receipt.invalid", "the inclusion proof is out of bounds")
    siblings = _siblings(0, index, size)
    if len(proof) != len(siblings):
        raise NotAuthentic("receipt.invalid", "the inclusion proof has too many or too few hashes")
    computed = leaf
    for (_, place), sibling in zip(siblings, proof, strict=True):
        computed = node_hash(computed, sibling) if place & 1 else node_hash(sibling, computed)
    return computed


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of ``new`` leaves extends the tree of ``old`` (RFC 9162 section 2.1.4.2).

    From size 0, or between equal sizes, the proof is empty. Raises NotAuthentic("log.inconsistent").
    """
    if not 0 <= old <= new <= MAX_SIZE or not are_hashes((old_root, new_root, *proof)):
        raise NotAuthentic("log.inconsistent", "the sizes or hashes are out of bounds")
    if (old == 0 and old_root != EMPTY) or (old == new and old_root != new_root):
        raise NotAuthentic("log.inconsistent", "two roots for one size")
    if old in {0, new}:
        if proof:
            raise NotAuthentic("log.inconsistent", "a proof where none is due")
        return
    # A complete old tree is itself where the path starts, so RFC 9162 leaves it out of the proof.
    path = (old_root, *proof) if old & (old - 1) == 0 else tuple(proof)
    siblings = _siblings(*_last_node(old), new)
    if len(path) != 1 + len(siblings):
        raise NotAuthentic("log.inconsistent", "the consistency proof has too many or too few hashes")
    if _both_roots(path, siblings) != (old_root, new_root):
        raise NotAuthentic("log.inconsistent", "the consistency proof does not lead to both roots")


def _both_roots(path: Sequence[bytes], siblings: Sequence[Node]) -> tuple[bytes, bytes]:
    """Roots before and after: what stands right of the old tree's last node was not in the old tree."""
    before = after = path[0]
    for (_, place), sibling in zip(siblings, path[1:], strict=True):
        if place & 1:
            after = node_hash(after, sibling)
        else:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
    return before, after


def _inclusion(index: int, size: int) -> list[list[Node]]:
    _check_bounds(size, MAX_SIZE)
    _check_bounds(index, size - 1)
    return _complete(_siblings(0, index, size), size)


def _consistency(old: int, new: int) -> list[list[Node]]:
    _check_bounds(new, MAX_SIZE)
    _check_bounds(old, new)
    if old in {0, new}:
        return []
    start = _last_node(old)
    siblings = _complete(_siblings(*start, new), new)
    return siblings if start[1] == 0 else [[start], *siblings]


def _last_node(size: int) -> Node:
    """The rightmost node of a frontier; size above 0."""
    level = (size & -size).bit_length() - 1
    return level, (size >> level) - 1


def _siblings(level: int, index: int, size: int) -> list[Node]:
    """Siblings on the way from a node to the root; one on the right edge may reach past ``size``."""
    found, last = [], (size - 1) >> level
    while last:
        if index ^ 1 <= last:
            found.append((level, index ^ 1))
        level, index, last = level + 1, index >> 1, last >> 1
    return found


def _complete(siblings: Sequence[Node], size: int) -> list[list[Node]]:
    """Each sibling as the complete subtrees that it folds from."""
    return [cover(index << level, min((index + 1) << level, size)) for level, index in siblings]


def _folded(groups: Sequence[Sequence[Node]], fetch: Fetch) -> list[bytes]:
    hashes = iter(fetched(list(chain.from_iterable(groups)), fetch))
    return [fold([next(hashes) for _ in group]) for group in groups]


def _check_bounds(value: int, limit: int) -> None:
    if not 0 <= value <= limit:
        raise Malformed("malformed.field", "a size or index of the tree is out of bounds")
