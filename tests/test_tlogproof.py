"""Portable proofs: the format of C2SP tlog-proof, its verification, and what is refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from zhifu import merkle
from zhifu.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    SignatureType,
    VerifierKey,
    cosign,
    sign,
    verify_cosignatures,
    with_cosignatures,
)
from zhifu.errors import Malformed, NotAuthentic
from zhifu.ranges import build_range, inclusion_of
from zhifu.tlogproof import MAX_EXTRA, MAX_PROOF, Proof, verify

ORIGIN = "log.example/zhifu"
LOG = SigningKey(bytes(range(32)))
WITNESS = SigningKey(bytes(range(1, 33)))
KEY = VerifierKey(ORIGIN, SignatureType.ED25519, bytes(LOG.verify_key))
LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(100)]
FETCH = merkle.in_memory(LEAVES)
NOTE = sign(Checkpoint(ORIGIN, 100, merkle.root(LEAVES)), ORIGIN, LOG)


def proof_of(index: int, extra: bytes = b"") -> Proof:
    return Proof(index, tuple(merkle.inclusion_proof(index, 100, FETCH)), NOTE, extra)


@pytest.mark.parametrize("extra", [b"", b"\0", b"opaque"])
def test_the_text_is_that_of_the_specification(extra: bytes) -> None:
    """c2sp.org/tlog-proof, Format: header, extra if any, index, hashes, empty line, checkpoint verbatim."""
    proof = proof_of(73, extra)
    lines = ["c2sp.org/tlog-proof@v1"]
    lines += [f"extra {b64encode(extra).decode()}"] if extra else []
    lines += ["index 73", *(b64encode(hash_).decode() for hash_ in proof.hashes), ""]
    assert proof.encode() == "".join(f"{line}\n" for line in lines).encode() + NOTE
    assert Proof.parse(proof.encode()) == proof


def test_a_log_of_one_entry_has_an_empty_path() -> None:
    note = sign(Checkpoint(ORIGIN, 1, LEAVES[0]), ORIGIN, LOG)
    proof = Proof(0, (), note)
    assert proof.encode() == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + note
    assert verify(Proof.parse(proof.encode()), LEAVES[0], KEY).size == 1


@given(st.integers(0, 99), st.binary(max_size=50))
def test_every_entry_is_proved(index: int, extra: bytes) -> None:
    proof = Proof.parse(proof_of(index, extra).encode())
    assert proof == proof_of(index, extra)
    assert verify(proof, LEAVES[index], KEY).size == 100


def test_a_proof_cut_out_of_a_range() -> None:
    delivered = build_range(36, 100, 100, FETCH)
    proof = Proof(50, tuple(inclusion_of(delivered, 50)), NOTE)
    assert proof == proof_of(50)


def test_cosignatures_travel_with_the_checkpoint() -> None:
    head = Checkpoint(ORIGIN, 100, merkle.root(LEAVES))
    line = cosign(head, "witness.example/w1", WITNESS, 1_790_000_000)
    proof = Proof.parse(replace(proof_of(7), checkpoint=with_cosignatures(NOTE, [line])).encode())
    witness = VerifierKey("witness.example/w1", SignatureType.COSIGNATURE_V1, bytes(WITNESS.verify_key))
    assert verify(proof, LEAVES[7], KEY) == head
    assert verify_cosignatures(proof.checkpoint, [witness]) == {witness: 1_790_000_000}


# --- forgeries ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.data())
def test_altered_proofs_are_refused(index: int, data: st.DataObject) -> None:
    proof = proof_of(index)
    at = data.draw(st.integers(0, len(proof.hashes) - 1))
    wrong_hash = bytes(byte ^ 1 for byte in proof.hashes[at])
    wrong = data.draw(
        st.sampled_from(
            [
                replace(proof, index=index ^ 1),
                replace(proof, index=index + 100),
                replace(proof, hashes=proof.hashes[:at] + proof.hashes[at + 1 :]),
                replace(proof, hashes=(*proof.hashes[:at], wrong_hash, *proof.hashes[at + 1 :])),
                replace(proof, hashes=(*proof.hashes, wrong_hash)),
                replace(proof, hashes=proof.hashes[::-1]),
            ]
        )
    )
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify(wrong, LEAVES[index], KEY)


def test_another_leaf_is_refused() -> None:
    with pytest.raises(NotAuthentic, match=r"receipt\.invalid"):
        verify(proof_of(5), LEAVES[6], KEY)


def test_a_checkpoint_that_the_pinned_log_did_not_sign_is_refused() -> None:
    head = Checkpoint(ORIGIN, 100, merkle.root(LEAVES))
    elsewhere = Checkpoint("other.example/log", 100, merkle.root(LEAVES))
    for note in (sign(head, ORIGIN, WITNESS), sign(elsewhere, ORIGIN, LOG), sign(head, "other.example/log", LOG)):
        with pytest.raises(NotAuthentic, match=r"log\.signature"):
            verify(replace(proof_of(5), checkpoint=note), LEAVES[5], KEY)


# --- strictness -----------------------------------------------------------------------------------------------------

GOOD = proof_of(5).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda text: text.replace(b"@v1", b"@v2"),
        lambda text: text.replace(b"c2sp.org", b"C2SP.org"),
        lambda text: b"\n" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"index 5\n", b""),
        lambda text: text.replace(b"index 5\n", b"index 5\nindex 5\n"),
        lambda text: text.replace(b"index 5", b"index 05"),
        lambda text: text.replace(b"index 5", b"index -5"),
        lambda text: text.replace(b"index 5", b"index notanumber"),
        lambda text: text.replace(b"index 5", b"index  5"),
        lambda text: text.replace(b"index 5", b"index 5 "),
        lambda text: text.replace(b"index 5", b"index 9223372036854775807"),
        lambda text: text.replace(b"index 5", b"index 99999999999999999999"),
        lambda text: text.replace(b"index 5", b"extra \nindex 5"),
        lambda text: text.replace(b"index 5", b"extra !!notbase64!!\nindex 5"),
        lambda text: text.replace(b"index 5", b"extra AA==\nextra AA==\nindex 5"),
        lambda text: text.replace(b"index 5\n", b"index 5\nextra AA==\n"),
        lambda text: text.replace(b"index 5\n", b"index 5\n!!notbase64!!\n"),
        lambda text: text.replace(b"index 5\n", b"index 5\n" + b64encode(bytes(64)) + b"\n"),
        lambda text: text.replace(b"index 5\n", b"index 5\n" + b64encode(bytes(31)) + b"\n"),
        lambda text: text.replace(b"index 5\n", b"index 5\n" + (b64encode(bytes(32)) + b"\n") * 64),
        lambda text: text[: text.index(b"\n\n")],
        lambda text: text[: text.index(b"\n\n") + 2],
        lambda text: text[:-1],
        lambda text: text + b"\n",
        lambda text: text.replace(b"index 5", b"extra " + b64encode(bytes(MAX_EXTRA + 1)) + b"\nindex 5"),
        lambda text: text + b"x" * MAX_PROOF,
        lambda text: text + b"x" * MAX_NOTE,
    ],
)
def test_what_is_no_proof_is_malformed(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        Proof.parse(change(GOOD))


def test_proofs_are_bounded_before_they_are_parsed() -> None:
    path = (b64encode(bytes(32)) + b"\n") * (MAX_PROOF // 45)
    with pytest.raises(Malformed, match=r"malformed\.size"):
        Proof.parse(GOOD.replace(b"index 5\n", b"index 5\n" + path))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Proof(-1, (), NOTE),
        lambda: Proof(2**63, (), NOTE),
        lambda: Proof(0, (b"short",), NOTE),
        lambda: Proof(0, tuple(LEAVES[:64]), NOTE),
        lambda: Proof(0, (), NOTE, bytes(MAX_EXTRA + 1)),
    ],
)
def test_what_must_not_be_made_is_malformed(make: Callable[[], object]) -> None:
    with pytest.raises(Malformed):
        make()


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    start = draw(st.integers(0, len(GOOD)))
    stop = draw(st.integers(start, min(start + 50, len(GOOD))))
    pieces = [b"\n", b"\n\n", b"extra AA==\n", b"index 5\n", b"A", b"=", b"\xff", b""]
    return GOOD[:start] + draw(st.one_of(st.sampled_from(pieces), st.binary(max_size=4))) + GOOD[stop:]


@given(st.one_of(st.binary(max_size=200), mangled()))
def test_fuzzed_proofs(data: bytes) -> None:
    """Only Malformed; what is accepted re-encodes to itself."""
    try:
        proof = Proof.parse(data)
    except Malformed:
        return
    assert proof.encode() == data
