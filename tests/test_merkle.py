"""The Merkle tree against the published reference tree, a public log, and a naive tree written from RFC 9162."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zhifu import merkle
from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import EMPTY, MAX_SIZE, Frontier, Node

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "merkle.json").read_text())
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(3000)]
SMALL = 70
FETCH = merkle.in_memory(LEAVES)


def unhex(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(hash_) for hash_ in hashes]


# --- the naive tree: RFC 9162 sections 2.1.1, 2.1.3.1 and 2.1.4.1, word for word -----------------------------------


def split(begin: int, end: int) -> int:
    """Where RFC 9162 splits: the largest power of two smaller than the number of leaves."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


@cache
def naive_root(begin: int, end: int) -> bytes:
    if begin == end:
        return sha256(b"").digest()
    if end - begin == 1:
        return LEAVES[begin]
    middle = split(begin, end)
    return sha256(b"\x01" + naive_root(begin, middle) + naive_root(middle, end)).digest()


def naive_path(index: int, begin: int, end: int) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = split(begin, end)
    if index < middle:
        return [*naive_path(index, begin, middle), naive_root(middle, end)]
    return [*naive_path(index, middle, end), naive_root(begin, middle)]


def naive_subproof(old: int, begin: int, end: int, is_known: bool) -> list[bytes]:
    if old == end:
        return [] if is_known else [naive_root(begin, end)]
    middle = split(begin, end)
    if old <= middle:
        return [*naive_subproof(old, begin, middle, is_known), naive_root(middle, end)]
    return [*naive_subproof(old, middle, end, False), naive_root(begin, middle)]


def naive_sides(first: int, last: int, begin: int, end: int) -> str:
    """The way from the subtree [first, last) to the root: on which side each sibling stands."""
    if (first, last) == (begin, end):
        return ""
    middle = split(begin, end)
    if last <= middle:
        return naive_sides(first, last, begin, middle) + "R"
    return naive_sides(first, last, middle, end) + "L"


# --- known answers --------------------------------------------------------------------------------------------------


def test_roots_of_the_reference_tree() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in unhex(VECTORS["leaves"])]
    roots = unhex(VECTORS["roots"])
    assert roots[0] == EMPTY
    assert [merkle.root(hashes[:size]) for size in range(9)] == roots


def test_nodes_of_the_reference_tree() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in unhex(VECTORS["leaves"])]
    stored = merkle.completed_nodes(Frontier(), hashes)
    levels = [unhex(level) for level in VECTORS["nodes"]]
    assert stored == [(level, index, hash_) for level, row in enumerate(levels) for index, hash_ in enumerate(row)]


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda vector: f"{vector['index']}-of-{vector['size']}")
def test_inclusion_in_the_reference_tree(vector: dict[str, Any]) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in unhex(VECTORS["leaves"])]
    index, size, proof = vector["index"], vector["size"], unhex(vector["proof"])
    assert merkle.inclusion_proof(index, size, merkle.in_memory(hashes[:size])) == proof
    merkle.verify_inclusion(hashes[index], index, size, proof, unhex(VECTORS["roots"])[size])


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda vector: f"{vector['old']}-to-{vector['new']}")
def test_consistency_of_the_reference_tree(vector: dict[str, Any]) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in unhex(VECTORS["leaves"])]
    old, new, proof, roots = vector["old"], vector["new"], unhex(vector["proof"]), unhex(VECTORS["roots"])
    assert merkle.consistency_proof(old, new, merkle.in_memory(hashes[:new])) == proof
    merkle.verify_consistency(old, new, roots[old], roots[new], proof)


def test_proofs_of_a_public_log() -> None:
    log = VECTORS["large"]
    leaf, root, old_root = unhex([log["leaf_hash"], log["root"], log["old_root"]])
    merkle.verify_inclusion(leaf, log["index"], log["size"], unhex(log["inclusion"]), root)
    merkle.verify_consistency(log["old"], log["size"], old_root, root, unhex(log["consistency"]))


# --- agreement with the naive tree ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(SMALL + 1))
def test_every_small_tree_agrees_with_the_naive_one(size: int) -> None:
    root = merkle.root(LEAVES[:size])
    assert root == naive_root(0, size)
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, FETCH)
        assert proof == naive_path(index, 0, size)
        merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
        assert merkle.root_from_inclusion(LEAVES[index], index, size, proof) == root
    for old in range(size + 1):
        proof = merkle.consistency_proof(old, size, FETCH)
        assert proof == (naive_subproof(old, 0, size, True) if old else [])
        merkle.verify_consistency(old, size, naive_root(0, old), root, proof)


@given(st.data())
def test_larger_trees_agree_with_the_naive_one(data: st.DataObject) -> None:
    size = data.draw(st.integers(SMALL, len(LEAVES)))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert merkle.root(LEAVES[:size]) == naive_root(0, size)
    assert merkle.inclusion_proof(index, size, FETCH) == naive_path(index, 0, size)
    assert merkle.consistency_proof(old, size, FETCH) == naive_subproof(old, 0, size, True)


@given(st.lists(st.integers(0, 200), max_size=8))
def test_growing_in_batches_completes_each_subtree_once(batches: list[int]) -> None:
    frontier, seen = Frontier(), list[tuple[int, int, bytes]]()
    for length in batches:
        leaves = LEAVES[frontier.size : frontier.size + length]
        grown, stored = merkle.grow(frontier, leaves)
        assert stored == merkle.completed_nodes(frontier, leaves)
        frontier, seen = grown, seen + stored
    complete = {
        (level, index): naive_root(index << level, (index + 1) << level)
        for level in range(frontier.size.bit_length())
        for index in range(frontier.size >> level)
    }
    assert {(level, index): hash_ for level, index, hash_ in seen} == complete
    assert len(seen) == len(complete)
    assert frontier.root() == naive_root(0, frontier.size)


def test_the_frontier_one_leaf_at_a_time() -> None:
    frontier = Frontier()
    for size in range(1, SMALL + 1):
        frontier = frontier.append(LEAVES[size - 1])
        assert frontier == Frontier().extend(LEAVES[:size])
        assert frontier.nodes == tuple(FETCH(merkle.frontier_nodes(size)))
        assert frontier.root() == naive_root(0, size)


def test_a_batch_and_the_old_frontier_answer_for_every_place_within_the_batch() -> None:
    old = Frontier().extend(LEAVES[:37])
    new, stored = merkle.grow(old, LEAVES[37:60])
    fetch = merkle.fetch_from(old, stored)
    for begin in range(37, 60):
        for end in range(begin + 1, 61):
            nodes = merkle.range_nodes(begin, end, new.size)
            assert merkle.fetched(nodes, fetch) == FETCH(nodes)


@pytest.mark.parametrize("size", range(1, SMALL + 1))
def test_proofs_need_complete_subtrees_only(size: int) -> None:
    needed: list[Node] = [*merkle.frontier_nodes(size), *merkle.range_nodes(size // 2, size // 2 + 1, size)]
    for place in range(size):
        needed += merkle.inclusion_nodes(place, size) + merkle.consistency_nodes(place, size)
    assert all((index + 1) << level <= size for level, index in needed)


# --- whatever is altered is refused ---------------------------------------------------------------------------------


def flip(hash_: bytes, bit: int) -> bytes:
    return (int.from_bytes(hash_, "big") ^ 1 << bit).to_bytes(len(hash_), "big")


@st.composite
def altered(
    draw: Callable[[st.SearchStrategy[Any]], Any], proof: Sequence[bytes], spare: Sequence[bytes]
) -> list[bytes]:
    """The proof with one hash flipped, dropped, added, shortened or exchanged for another."""
    changed = list(proof)
    place = draw(st.integers(0, len(changed)))
    kinds = ["add", "add-empty"] + (["flip", "drop", "cut", "replace"] if changed else [])
    kind = draw(st.sampled_from(kinds + (["swap"] if len(changed) > 1 else [])))
    other, at = draw(st.sampled_from([*spare, EMPTY])), min(place, len(changed) - 1)
    if kind.startswith("add"):
        changed.insert(place, other if kind == "add" else b"")
    elif kind == "drop":
        del changed[at]
    elif kind == "swap":
        changed[at], changed[at - 1] = changed[at - 1], changed[at]
    else:
        cut = changed[at][: draw(st.integers(0, 31))]
        changed[at] = {"flip": flip(changed[at], draw(st.integers(0, 255))), "cut": cut, "replace": other}[kind]
    assume(changed != list(proof))
    return changed


@given(st.data())
def test_altered_inclusion_proofs_are_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(index, size, FETCH), naive_root(0, size)
    wrong = data.draw(altered(proof, [LEAVES[index], root]))
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(LEAVES[index], index, size, wrong, root)


@given(st.integers(1, 300), st.integers(-2, 400), st.integers(-2, 400))
def test_inclusion_at_another_place_is_refused(size: int, index: int, place: int) -> None:
    assume(0 <= index < size and place != index)
    proof, root = merkle.inclusion_proof(index, size, FETCH), naive_root(0, size)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(LEAVES[index], place, size, proof, root)


@given(st.integers(1, 300), st.integers(0, 299), st.integers(-2, 400))
def test_inclusion_in_a_tree_of_another_shape_is_refused(size: int, index: int, other: int) -> None:
    """Trees in which the way to the leaf is the same cannot be told apart: the checkpoint signs size and root."""
    assume(index < size and not (index < other and _way(index, other) == _way(index, size)))
    proof, root = merkle.inclusion_proof(index, size, FETCH), naive_root(0, size)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(LEAVES[index], index, other, proof, root)


def _way(index: int, size: int) -> str:
    return naive_sides(index, index + 1, 0, size)


@given(st.integers(1, 300), st.data())
def test_another_leaf_or_root_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(index, size, FETCH), naive_root(0, size)
    bit = data.draw(st.integers(0, 255))
    for leaf, head in ((flip(LEAVES[index], bit), root), (LEAVES[index], flip(root, bit)), (b"", root), (root, b"")):
        with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
            merkle.verify_inclusion(leaf, index, size, proof, head)


@given(st.data())
def test_altered_consistency_proofs_are_refused(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 300))
    old = data.draw(st.integers(0, new))
    proof = merkle.consistency_proof(old, new, FETCH)
    old_root, new_root = naive_root(0, old), naive_root(0, new)
    wrong = data.draw(altered(proof, [old_root, new_root]))
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        merkle.verify_consistency(old, new, old_root, new_root, wrong)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(-2, 400))
def test_consistency_from_another_size_is_refused(new: int, old: int, other: int) -> None:
    assume(old <= new and other != old)
    proof, old_root, new_root = merkle.consistency_proof(old, new, FETCH), naive_root(0, old), naive_root(0, new)
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        merkle.verify_consistency(other, new, old_root, new_root, proof)


@given(st.integers(2, 300), st.integers(1, 299), st.integers(-2, 400))
def test_consistency_to_a_tree_of_another_shape_is_refused(new: int, old: int, other: int) -> None:
    first = old - (old & -old)
    assume(old < new and not (old < other and naive_sides(first, old, 0, other) == naive_sides(first, old, 0, new)))
    proof, old_root, new_root = merkle.consistency_proof(old, new, FETCH), naive_root(0, old), naive_root(0, new)
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        merkle.verify_consistency(old, other, old_root, new_root, proof)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 255))
def test_consistency_of_other_roots_is_refused(new: int, old: int, bit: int) -> None:
    assume(old <= new)
    proof, old_root, new_root = merkle.consistency_proof(old, new, FETCH), naive_root(0, old), naive_root(0, new)
    pairs = {(flip(old_root, bit), new_root), (old_root, flip(new_root, bit)), (b"", new_root), (old_root, b"")}
    if old != new:
        pairs.add((new_root, old_root))
    for before, after in pairs:
        with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
            merkle.verify_consistency(old, new, before, after, proof)


def test_bytes_cannot_move_between_neighbouring_hashes() -> None:
    """Without a check of each length these would hash to the very same root."""
    first, second, root = LEAVES[0], LEAVES[1], naive_root(0, 2)
    assert merkle.node_hash(first[:-1], first[-1:] + second) == root
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(first[:-1], 0, 2, [first[-1:] + second], root)
    with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
        merkle.verify_consistency(1, 2, first[:-1], root, [first[-1:] + second])
    with pytest.raises(Malformed, match=r"malformed\.field"):
        merkle.root([first[:-1], first[-1:] + second])


def test_a_negative_index_is_refused() -> None:
    """Seen through its bits, -1 is the last leaf of a complete tree."""
    proof = merkle.inclusion_proof(3, 4, FETCH)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(LEAVES[3], -1, 4, proof, naive_root(0, 4))


def test_the_empty_tree_has_one_root_and_no_proof() -> None:
    some = LEAVES[0]
    merkle.verify_consistency(0, 0, EMPTY, EMPTY, [])
    merkle.verify_consistency(0, 1, EMPTY, some, [])
    for arguments in ((0, 0, some, some, ()), (0, 1, some, some, ()), (0, 1, EMPTY, some, (some,))):
        with pytest.raises(NotAuthentic, match=r"log\.inconsistent"):
            merkle.verify_consistency(*arguments)


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda: merkle.inclusion_nodes(3, 3),
        lambda: merkle.inclusion_nodes(-1, 3),
        lambda: merkle.inclusion_nodes(0, MAX_SIZE + 1),
        lambda: merkle.consistency_nodes(4, 3),
        lambda: merkle.consistency_nodes(-1, 3),
        lambda: merkle.frontier_nodes(-1),
        lambda: merkle.frontier_nodes(MAX_SIZE + 1),
        lambda: merkle.range_nodes(2, 2, 3),
        lambda: merkle.range_nodes(2, 4, 3),
        lambda: merkle.range_nodes(-1, 1, 3),
        lambda: Frontier(3, (LEAVES[0],)),
        lambda: Frontier(1, (b"short",)),
        lambda: Frontier(-1, (LEAVES[0],)),
        lambda: Frontier(MAX_SIZE, tuple(LEAVES[:63])).append(LEAVES[0]),
        lambda: Frontier().append(b"short"),
    ],
)
def test_sizes_and_places_out_of_bounds_are_malformed(ask: Callable[[], object]) -> None:
    with pytest.raises(Malformed, match=r"malformed\.field"):
        ask()


def test_the_largest_tree_is_proved_in_63_steps() -> None:
    size = MAX_SIZE
    assert len(merkle.frontier_nodes(size)) == 63
    proof = merkle.inclusion_proof(12345, size, lambda nodes: [EMPTY] * len(nodes))
    assert len(proof) == 63
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        merkle.verify_inclusion(EMPTY, 12345, size, proof, EMPTY)


@pytest.mark.parametrize("answer", [[], [EMPTY], [EMPTY, b"short"], [EMPTY] * 3])
def test_a_log_that_lost_nodes_is_corrupt(answer: list[bytes]) -> None:
    with pytest.raises(NotAuthentic, match=r"log\.corrupt"):
        merkle.inclusion_proof(0, 4, lambda _nodes: answer)
