"""Range proofs against a naive tree: every small range, random larger ones, and every alteration refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zhifu import merkle
from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import EMPTY, Frontier
from zhifu.ranges import Range, build_range, inclusion_of, inclusions, verify_range

LEAVES = [merkle.leaf_hash(b"delivery %d" % number) for number in range(1200)]
FETCH = merkle.in_memory(LEAVES)


@cache
def naive_root(begin: int, end: int) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if end - begin == 1:
        return LEAVES[begin]
    middle = begin + (1 << (end - begin - 1).bit_length() - 1)
    return sha256(b"\x01" + naive_root(begin, middle) + naive_root(middle, end)).digest()


@st.composite
def places(draw: st.DrawFn, largest: int = len(LEAVES)) -> tuple[int, int, int]:
    """begin < end <= size"""
    size = draw(st.integers(1, largest))
    begin = draw(st.integers(0, size - 1))
    return begin, draw(st.integers(begin + 1, size)), size


@pytest.mark.parametrize("size", range(1, 26))
def test_every_range_of_a_small_tree(size: int) -> None:
    for begin in range(size):
        for end in range(begin + 1, size + 1):
            _agrees(begin, end, size)


@pytest.mark.parametrize("size", range(26, 71))
def test_ranges_of_middling_trees(size: int) -> None:
    for begin in range(size):
        _agrees(begin, begin + 1, size)
        _agrees(begin, size, size)
        _agrees(0, begin + 1, size)


@given(places())
def test_ranges_of_larger_trees(place: tuple[int, int, int]) -> None:
    _agrees(*place)


def _agrees(begin: int, end: int, size: int) -> None:
    proof, root = build_range(begin, end, size, FETCH), naive_root(0, size)
    assert (proof.begin, proof.end, proof.size) == (begin, end, size)
    assert list(proof.leaves) == LEAVES[begin:end]
    verify_range(proof, size, root)
    paths = inclusions(proof)
    assert [merkle.inclusion_proof(index, size, FETCH) for index in range(begin, end)] == paths
    assert inclusion_of(proof, begin) == paths[0]
    assert inclusion_of(proof, end - 1) == paths[-1]


def test_one_frame_of_one_commit_needs_no_lookup() -> None:
    """The broker's case (DESIGN section 6): the old frontier and the batch are the proof."""
    old = Frontier().extend(LEAVES[:777])
    new = old.extend(LEAVES[777:841])
    proof = Range(old.size, old.nodes, tuple(LEAVES[777:841]), (), new.size)
    assert proof == build_range(777, 841, 841, FETCH)
    verify_range(proof, new.size, new.root())


def test_several_frames_of_one_commit() -> None:
    old = Frontier().extend(LEAVES[:300])
    new, stored = merkle.grow(old, LEAVES[300:400])
    fetch = merkle.fetch_from(old, stored)
    for begin, end in ((300, 364), (364, 365), (365, 400)):
        verify_range(build_range(begin, end, new.size, fetch), new.size, new.root())


def test_the_cut_out_proof_verifies_by_itself() -> None:
    proof, root = build_range(100, 164, 1000, FETCH), naive_root(0, 1000)
    for index, path in zip(range(100, 164), inclusions(proof), strict=True):
        merkle.verify_inclusion(LEAVES[index], index, 1000, path, root)


@given(places(largest=200), st.data())
def test_altered_hashes_are_refused(place: tuple[int, int, int], data: st.DataObject) -> None:
    begin, end, size = place
    proof, root = build_range(begin, end, size, FETCH), naive_root(0, size)
    parts = {"left": proof.left, "leaves": proof.leaves, "right": proof.right}
    name = data.draw(st.sampled_from([name for name, hashes in parts.items() if hashes]))
    hashes = list(parts[name])
    at = data.draw(st.integers(0, len(hashes) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "add", "swap", "cut"]))
    if kind == "flip":
        bit = data.draw(st.integers(0, 255))
        hashes[at] = (int.from_bytes(hashes[at], "big") ^ 1 << bit).to_bytes(32, "big")
    elif kind == "drop":
        del hashes[at]
    elif kind == "add":
        hashes.insert(at, data.draw(st.sampled_from([EMPTY, root, hashes[at]])))
    elif kind == "swap":
        hashes[at], hashes[at - 1] = hashes[at - 1], hashes[at]
    else:
        hashes[at] = hashes[at][:31]
    assume(tuple(hashes) != parts[name])
    parts[name] = tuple(hashes)
    wrong = Range(begin, parts["left"], parts["leaves"], parts["right"], size)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify_range(wrong, size, root)


@given(places(largest=200), st.integers(-3, 210), st.integers(-3, 210))
def test_another_place_or_size_is_refused(place: tuple[int, int, int], begin: int, size: int) -> None:
    proof, root = build_range(*place, FETCH), naive_root(0, place[2])
    moved = replace(proof, begin=begin)
    if begin != proof.begin:
        with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
            verify_range(moved, place[2], root)
    if size != proof.size:
        for wrong, stated in ((replace(proof, size=size), proof.size), (proof, size)):
            with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
                verify_range(wrong, stated, root)


def test_a_root_alone_does_not_bind_a_place() -> None:
    """Why `verify_range` takes the size: the same hashes, read as a tree of 7, lead to the root of the tree of 4."""
    honest = build_range(3, 4, 4, FETCH)
    left = (naive_root(0, 2), LEAVES[2])
    assert honest == Range(3, left, (LEAVES[3],), (), 4)
    # In a tree of 7, leaf 6 hangs below the root at the same place as leaf 3 of 4; the frontier of 6 has two nodes.
    forged = Range(6, left, (LEAVES[3],), (), 7)
    assert forged.root() == naive_root(0, 4)
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify_range(forged, 4, naive_root(0, 4))


def test_a_split_between_the_parts_is_determined() -> None:
    """Hashes that move from one part to another leave the counts wrong, though their sequence is the same."""
    proof = build_range(5, 10, 21, FETCH)
    assert merkle.cover(10, 21)[0] == (1, 5)  # not a leaf: a range that took in a leaf hash would be a good one
    shifted = replace(proof, left=(*proof.left, proof.leaves[0]), leaves=proof.leaves[1:])
    widened = replace(proof, leaves=(*proof.leaves, proof.right[0]), right=proof.right[1:])
    for wrong in (shifted, widened, replace(proof, leaves=())):
        with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
            verify_range(wrong, 21, naive_root(0, 21))


def test_bytes_cannot_move_between_neighbouring_leaves() -> None:
    proof = build_range(4, 6, 21, FETCH)
    first, second = proof.leaves
    moved = replace(proof, leaves=(first[:-1], first[-1:] + second))
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify_range(moved, 21, naive_root(0, 21))


def test_a_range_without_leaves_proves_nothing() -> None:
    left, right = (tuple(FETCH(merkle.cover(*part))) for part in ((0, 4), (4, 21)))
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify_range(Range(4, left, (), right, 21), 21, naive_root(0, 21))


def test_a_leaf_outside_the_range_has_no_proof_in_it() -> None:
    proof = build_range(5, 9, 21, FETCH)
    for index in (-1, 4, 9, 21):
        with pytest.raises(Malformed, match=r"malformed\.field"):
            inclusion_of(proof, index)


def test_a_log_that_lost_nodes_is_corrupt() -> None:
    with pytest.raises(NotAuthentic, match=r"log\.corrupt"):
        build_range(5, 9, 21, merkle.in_memory(LEAVES[:8]))
