"""Checkpoints against published notes, a public log and its witnesses; strictness; forgeries refused."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from zhifu.checkpoint import (
    MAX_NOTE,
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    Signature,
    SignatureType,
    VerifierKey,
    cosign,
    open_note,
    parse_base64,
    parse_decimal,
    sign,
    sign_note,
    verify,
    verify_cosignature,
    verify_cosignatures,
    with_cosignatures,
)
from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import EMPTY, MAX_SIZE

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "checkpoint.json").read_text("utf-8"))
ORIGIN = "log.example/zhifu"
LOG = SigningKey(bytes(range(32)))
WITNESS = SigningKey(bytes(range(1, 33)))
HEAD = Checkpoint(ORIGIN, 841, sha256(b"some root").digest())
TIME = 1_790_000_000


def log_key(name: str = ORIGIN, key: SigningKey = LOG) -> VerifierKey:
    return VerifierKey(name, SignatureType.ED25519, bytes(key.verify_key))


def witness_key(name: str = "witness.example/w1", key: SigningKey = WITNESS) -> VerifierKey:
    return VerifierKey(name, SignatureType.COSIGNATURE_V1, bytes(key.verify_key))


# --- known answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["notes"], ids=lambda vector: vector["origin"])
def test_published_notes_open(vector: dict[str, str]) -> None:
    key, note = VerifierKey.parse(vector["key"]), vector["note"].encode()
    assert key.encode() == vector["key"]
    assert open_note(note, key) == vector["text"].encode()
    assert Note.parse(note).encode() == note


def test_signing_gives_the_published_note() -> None:
    vector = VECTORS["notes"][0]
    name, _, material = vector["signer"].removeprefix("PRIVATE+KEY+").split("+", 2)
    seed = SigningKey(b64decode(material)[1:])
    assert sign_note(vector["text"].encode(), name, seed) == vector["note"].encode()


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["name"])
def test_published_verifier_keys_parse(vector: dict[str, Any]) -> None:
    key = VerifierKey.parse(vector["key"])
    assert (key.name, key.kind, key.encode()) == (vector["name"], vector["type"], vector["key"])


@pytest.mark.parametrize("vector", VECTORS["bad_keys"], ids=lambda vector: vector["origin"])
def test_published_bad_verifier_keys_are_malformed(vector: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        VerifierKey.parse(vector["key"])


def test_no_part_and_no_neighbour_of_a_verifier_key_parses() -> None:
    text = VECTORS["notes"][0]["key"]
    parts = {text[i:j] for i in range(len(text) + 1) for j in range(i + 1, len(text) + 1)} - {text}
    neighbours = {text[:i] + chr(ord(text[i]) + 1) + text[i + 1 :] for i in range(len(text))}
    for wrong in parts | neighbours | {text.replace("c74f20a3", "C74F20A3")}:
        with pytest.raises(Malformed):
            VerifierKey.parse(wrong)


def test_a_checkpoint_of_a_public_log() -> None:
    vector = VECTORS["checkpoint"]
    key, note = VerifierKey.parse(vector["key"]), vector["note"].encode()
    head = verify(note, key, vector["log"])
    assert head == Checkpoint(vector["log"], vector["size"], bytes.fromhex(vector["root"]))
    with pytest.raises(NotAuthentic, match=r"log\.signature"):
        verify(note, key)  # the origin is not the key's name, and nothing said that it may be another


def test_witnesses_of_a_public_log() -> None:
    vector = VECTORS["cosigned"]
    witnesses = [VerifierKey.parse(key) for key in vector["witnesses"]]
    note = vector["note"].encode()
    assert verify_cosignatures(note, [*witnesses, witness_key()]) == dict.fromkeys(witnesses, vector["time"])
    head = Checkpoint.parse(Note.parse(note).text)
    assert head == Checkpoint(vector["log"], vector["size"], bytes.fromhex(vector["root"]))
    with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
        verify_cosignatures(note.replace(b"\n1432088532\n", b"\n1432088533\n"), witnesses)


# --- signing and verifying ------------------------------------------------------------------------------------------

TEXT_LINES = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=40)
HEADS = st.builds(
    Checkpoint,
    TEXT_LINES,
    st.integers(1, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(TEXT_LINES, max_size=3).map(tuple),
)


@given(HEADS)
def test_what_is_signed_is_what_is_read(head: Checkpoint) -> None:
    note = sign(head, ORIGIN, LOG)
    assert Checkpoint.parse(head.body()) == head
    assert verify(note, log_key(), head.origin) == head
    assert Note.parse(note).encode() == note


@given(HEADS, st.integers(0, 2**63 - 1))
def test_a_cosignature_covers_body_and_time(head: Checkpoint, time: int) -> None:
    line = cosign(head, "witness.example/w1", WITNESS, time)
    assert verify_cosignature(head, line, witness_key()) == time
    note = with_cosignatures(sign(head, ORIGIN, LOG), [line])
    assert verify(note, log_key(), head.origin) == head
    assert verify_cosignatures(note, [witness_key()]) == {witness_key(): time}


def test_the_cosigned_message_is_the_one_of_the_specification() -> None:
    """tlog-cosignature, Ed25519 signed message: its example, signed here with PyNaCl alone."""
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    signed = WITNESS.sign(b"cosignature/v1\ntime 1679315147\n" + body.encode()).signature
    line = cosign(Checkpoint.parse(body.encode()), "witness.example.com/w1", WITNESS, 1679315147)
    assert Signature.parse(line).value == (1679315147).to_bytes(8, "big") + signed
    assert Signature.parse(line).key_id == witness_key("witness.example.com/w1").key_id


def test_a_newer_cosignature_replaces_the_older() -> None:
    older, newer = (cosign(HEAD, "witness.example/w1", WITNESS, time) for time in (TIME, TIME + 1))
    note = with_cosignatures(with_cosignatures(sign(HEAD, ORIGIN, LOG), [older]), [newer])
    assert verify_cosignatures(note, [witness_key()]) == {witness_key(): TIME + 1}
    assert len(Note.parse(note).signatures) == 2


def test_one_key_pair_of_two_types_makes_two_signatures() -> None:
    line = cosign(HEAD, ORIGIN, LOG, TIME)
    note = with_cosignatures(sign(HEAD, ORIGIN, LOG), [line])
    assert len(Note.parse(note).signatures) == 2
    assert verify(note, log_key()) == HEAD
    assert verify_cosignatures(note, [witness_key(ORIGIN, LOG)]) == {witness_key(ORIGIN, LOG): TIME}


def test_an_empty_log_has_a_checkpoint() -> None:
    head = Checkpoint(ORIGIN, 0, EMPTY)
    assert verify(sign(head, ORIGIN, LOG), log_key()) == head


# --- forgeries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [log_key(key=WITNESS), log_key("other.example/log"), witness_key(ORIGIN, LOG)],
    ids=["another key", "another name", "another type"],
)
def test_without_the_pinned_keys_signature_there_is_no_checkpoint(key: VerifierKey) -> None:
    note = with_cosignatures(sign(HEAD, ORIGIN, LOG), [cosign(HEAD, ORIGIN, LOG, TIME)])
    with pytest.raises(NotAuthentic, match=r"log\.signature"):
        verify(note, key)


def test_a_log_key_does_not_speak_for_another_origin() -> None:
    note = sign(Checkpoint("other.example/log", 841, HEAD.root), ORIGIN, LOG)
    with pytest.raises(NotAuthentic, match=r"log\.signature"):
        verify(note, log_key())


def _both_believed(note: bytes) -> bool:
    try:
        return verify(note, log_key()) == HEAD and witness_key() in verify_cosignatures(note, [witness_key()])
    except (Malformed, NotAuthentic):
        return False


def test_no_flipped_bit_is_believed() -> None:
    note = with_cosignatures(sign(HEAD, ORIGIN, LOG), [cosign(HEAD, "witness.example/w1", WITNESS, TIME)])
    assert _both_believed(note)
    for place in range(len(note)):
        for bit in range(8):
            flipped = note[:place] + bytes((note[place] ^ 1 << bit,)) + note[place + 1 :]
            assert not _both_believed(flipped), (place, bit)


@pytest.mark.parametrize("value", [b"\0" * 64, b"\1" * 63, b"\1" * 65, b"\1"])
def test_a_wrong_signature_by_a_known_key_refuses_the_note(value: bytes) -> None:
    forged = Note(HEAD.body(), (Signature(ORIGIN, log_key().key_id, value),)).encode()
    with pytest.raises(NotAuthentic, match=r"log\.signature"):
        verify(forged, log_key())


@pytest.mark.parametrize("value", [b"\0" * 72, b"\1" * 8, b"\xff" * 72, b"\1"])
def test_a_wrong_cosignature_by_a_known_witness_is_refused(value: bytes) -> None:
    line = Signature(witness_key().name, witness_key().key_id, value).encode()
    with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
        verify_cosignature(HEAD, line, witness_key())
    with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
        verify_cosignatures(with_cosignatures(sign(HEAD, ORIGIN, LOG), [line]), [witness_key()])


def test_a_cosignature_of_another_head_time_or_key_is_refused() -> None:
    line = cosign(HEAD, "witness.example/w1", WITNESS, TIME)
    extended = Checkpoint(ORIGIN, HEAD.size, HEAD.root, ("extension",))
    parsed = Signature.parse(line)
    later = Signature(parsed.name, parsed.key_id, (TIME + 1).to_bytes(8, "big") + parsed.value[8:]).encode()
    cases = [
        (Checkpoint(ORIGIN, HEAD.size + 1, HEAD.root), line, witness_key()),
        (extended, line, witness_key()),
        (HEAD, later, witness_key()),
        (HEAD, line, witness_key(key=LOG)),
        (HEAD, line, witness_key("witness.example/w2")),
        (HEAD, line, log_key("witness.example/w1", WITNESS)),
    ]
    for head, wrong, key in cases:
        with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
            verify_cosignature(head, wrong, key)


def test_the_two_types_of_signature_do_not_stand_for_each_other() -> None:
    """Key ids tell the types apart; here a forger puts the right bytes behind the wrong id."""
    plain = LOG.sign(HEAD.body()).signature
    timed = Signature.parse(cosign(HEAD, ORIGIN, LOG, TIME)).value
    for key, value in ((log_key(), timed), (log_key(), timed[8:]), (witness_key(ORIGIN, LOG), plain)):
        with pytest.raises(NotAuthentic, match=r"log\.signature"):
            verify(Note(HEAD.body(), (Signature(ORIGIN, key.key_id, value),)).encode(), key)
    for key, value in ((log_key(), timed), (witness_key(ORIGIN, LOG), plain), (log_key(), plain)):
        with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
            verify_cosignature(HEAD, Signature(ORIGIN, key.key_id, value).encode(), key)


def test_a_cosignature_from_beyond_time_is_refused() -> None:
    """tlog-cosignature: the timestamp MUST NOT exceed 2^63 - 1, though a witness signed it."""
    signed = WITNESS.sign(b"cosignature/v1\ntime %d\n" % 2**63 + HEAD.body()).signature
    line = Signature(witness_key().name, witness_key().key_id, (2**63).to_bytes(8, "big") + signed).encode()
    with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
        verify_cosignature(HEAD, line, witness_key())


# --- strictness -----------------------------------------------------------------------------------------------------

GOOD = sign(HEAD, ORIGIN, LOG)
BODY = HEAD.body()
LINE = GOOD[len(BODY) + 1 :]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        BODY,
        BODY + b"\n",
        BODY + LINE,
        GOOD[:-1],
        GOOD + b"\n",
        GOOD + b"Unexpected line.\n",
        b"\x01" + GOOD,
        b"\xff" + GOOD,
        b"\xed\xa0\x80" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD + LINE,
        BODY + b"\n" + LINE.replace("—".encode(), b"--"),
        BODY + b"\n" + LINE.replace(ORIGIN.encode(), b"bad name"),
        BODY + b"\n" + LINE.replace(ORIGIN.encode(), "bad\u3000name".encode()),
        BODY + b"\n" + LINE.replace(ORIGIN.encode(), b"bad+name"),
        BODY + b"\n" + LINE.replace(ORIGIN.encode(), b""),
        BODY + b"\n" + LINE.replace(ORIGIN.encode(), b"n" * 256),
        BODY + b"\n" + "— name\n".encode(),
        BODY + b"\n" + "— name \n".encode(),
        BODY + b"\n" + "— name AAAA\n".encode(),
        BODY + b"\n" + "— name AAAAAA==\n".encode(),
        BODY + b"\n" + "— name AAAAAAB=\n".encode(),
        BODY + b"\n" + "— name AAAAAAA\n".encode(),
        BODY + b"\n" + "— name AAAA-AA=\n".encode(),
        BODY + b"\n" + "— name AAAAAAA= \n".encode(),
    ],
)
def test_what_is_no_note_is_malformed(note: bytes) -> None:
    with pytest.raises(Malformed):
        verify(note, log_key())


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:2],
        lambda lines: ["", *lines[1:]],
        lambda lines: ["n" * 256, *lines[1:]],
        lambda lines: [lines[0], "", lines[2]],
        lambda lines: [lines[0], "0841", lines[2]],
        lambda lines: [lines[0], "+841", lines[2]],
        lambda lines: [lines[0], "-841", lines[2]],
        lambda lines: [lines[0], " 841", lines[2]],
        lambda lines: [lines[0], "8_41", lines[2]],
        lambda lines: [lines[0], "٨٤١", lines[2]],
        lambda lines: [lines[0], "0", lines[2]],
        lambda lines: [lines[0], str(2**63), lines[2]],
        lambda lines: [lines[0], "9" * 5000, lines[2]],
        lambda lines: [*lines[:2], lines[2][:-1]],
        lambda lines: [*lines[:2], lines[2] + "="],
        lambda lines: [*lines[:2], b64encode(bytes(31)).decode()],
        lambda lines: [*lines[:2], b64encode(bytes(33)).decode()],
        lambda lines: [*lines[:2], lines[2].rstrip("=")],
        lambda lines: [*lines, ""],
        lambda lines: [*lines, "extension", "", "extension"],
    ],
)
def test_what_is_signed_but_no_checkpoint_is_malformed(change: Callable[[list[str]], list[str]]) -> None:
    text = "".join(f"{line}\n" for line in change(BODY.decode().split("\n")[:3]))
    with pytest.raises(Malformed):
        verify(sign_note(text.encode(), ORIGIN, LOG), log_key())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Checkpoint("", 1, HEAD.root),
        lambda: Checkpoint("a\nb", 1, HEAD.root),
        lambda: Checkpoint("a\tb", 1, HEAD.root),
        lambda: Checkpoint("\ud800", 1, HEAD.root),
        lambda: Checkpoint("保" * 86, 1, HEAD.root),
        lambda: Checkpoint(ORIGIN, -1, HEAD.root),
        lambda: Checkpoint(ORIGIN, 2**63, HEAD.root),
        lambda: Checkpoint(ORIGIN, 1, b"short"),
        lambda: Checkpoint(ORIGIN, 0, HEAD.root),
        lambda: Checkpoint(ORIGIN, 1, HEAD.root, ("",)),
        lambda: Checkpoint(ORIGIN, 1, HEAD.root, ("a\n\n— x",)),
        lambda: sign(HEAD, "a b", LOG),
        lambda: sign(HEAD, "a+b", LOG),
        lambda: sign(HEAD, "", LOG),
        lambda: sign(HEAD, "\ud800", LOG),
        lambda: sign_note(b"no newline", ORIGIN, LOG),
        lambda: sign_note(b"tab\t\n", ORIGIN, LOG),
        lambda: cosign(HEAD, ORIGIN, LOG, -1),
        lambda: cosign(HEAD, ORIGIN, LOG, 2**63),
        lambda: VerifierKey(ORIGIN, SignatureType.ED25519, b"short"),
        lambda: VerifierKey.parse(VerifierKey(ORIGIN, SignatureType.ED25519, bytes(32)).encode()),
        lambda: VerifierKey.parse(VerifierKey(ORIGIN, SignatureType.ED25519, b"\1" + bytes(31)).encode()),
        lambda: VerifierKey.parse("n" * 600),
    ],
)
def test_what_must_not_be_made_is_malformed(make: Callable[[], object]) -> None:
    with pytest.raises(Malformed):
        make()


def test_an_origin_may_hold_spaces_and_plus() -> None:
    head = Checkpoint("go.sum database tree + 医保", 1, HEAD.root)
    assert Checkpoint.parse(head.body()) == head


def test_notes_are_bounded() -> None:
    lines = [Signature(f"w{number}", bytes(4), bytes(70)).encode() for number in range(MAX_SIGNATURES)]
    full = BODY + b"\n" + b"".join(lines)
    assert len(Note.parse(full).signatures) == MAX_SIGNATURES
    for note in (full + LINE, BODY + b"x" * MAX_NOTE + b"\n\n" + LINE):
        with pytest.raises(Malformed, match=r"malformed\.size"):
            Note.parse(note)
    with pytest.raises(Malformed, match=r"malformed\.size"):
        Checkpoint.parse(BODY + b"x" * MAX_NOTE + b"\n")


def test_sixteen_post_quantum_signatures_fit() -> None:
    """signed-note: verifiers MUST accept 16 signatures, which can be nearly 5 kB each."""
    lines = [Signature("w" * 200 + str(number), bytes(4), bytes(5000)).encode() for number in range(16)]
    assert verify(GOOD + b"".join(lines), log_key()) == HEAD


@pytest.mark.parametrize(
    "encoded", [b"A", b"AA", b"AB==", b"AAB=", b"AA==AA==", b"A A=", b"AA=", "é".encode(), b"_w=="]
)
def test_base64_is_canonical(encoded: bytes) -> None:
    with pytest.raises(Malformed, match=r"malformed\.encoding"):
        parse_base64(encoded)


@given(st.binary(max_size=60))
def test_base64_of_bytes(raw: bytes) -> None:
    assert parse_base64(b64encode(raw)) == raw


@given(st.integers(0, MAX_SIZE))
def test_decimals(number: int) -> None:
    assert parse_decimal(str(number).encode()) == number


def test_a_decimal_above_the_largest_tree_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"malformed\.encoding"):
        parse_decimal(str(MAX_SIZE + 1).encode())


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"extension", b"", b"\n\n\n"])
def test_a_body_ends_with_its_last_line(body: bytes) -> None:
    with pytest.raises(Malformed):
        Checkpoint.parse(body)


# --- fuzz: decoders raise Malformed and nothing else, and what they accept re-encodes to itself -----------------------

PIECES = st.sampled_from(
    [
        b"\n",
        b"\n\n",
        "— ".encode(),
        b"+",
        b" ",
        b"=",
        b"0",
        b"841",
        b"AAAAAAA=",
        LINE,
        BODY,
        ORIGIN.encode(),
        b"\xff",
        b"\r",
    ]
)
SOUP = st.one_of(st.binary(max_size=120), st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=12).map(b"".join))


@st.composite
def mangled(draw: st.DrawFn, good: bytes) -> bytes:
    """A good encoding with one stretch replaced."""
    start = draw(st.integers(0, len(good)))
    stop = draw(st.integers(start, min(start + 4, len(good))))
    return good[:start] + draw(st.one_of(PIECES, st.binary(max_size=3))) + good[stop:]


@given(st.one_of(SOUP, mangled(GOOD)))
def test_fuzzed_notes(data: bytes) -> None:
    try:
        note = Note.parse(data)
    except Malformed:
        return
    assert note.encode() == data


@given(st.one_of(SOUP, mangled(BODY)))
def test_fuzzed_checkpoints(data: bytes) -> None:
    try:
        head = Checkpoint.parse(data)
    except Malformed:
        return
    assert head.body() == data


@given(st.one_of(SOUP, mangled(LINE)))
def test_fuzzed_signature_lines(data: bytes) -> None:
    try:
        signature = Signature.parse(data)
    except Malformed:
        return
    assert signature.encode() == data


@given(
    st.one_of(st.text(), mangled(log_key().encode().encode()).map(lambda data: data.decode("utf-8", "surrogateescape")))
)
def test_fuzzed_verifier_keys(text: str) -> None:
    try:
        key = VerifierKey.parse(text)
    except Malformed:
        return
    assert key.encode() == text


@given(st.one_of(SOUP, mangled(GOOD)))
def test_fuzzed_notes_are_never_believed(data: bytes) -> None:
    assume(not (BODY in data and LINE in data))
    with pytest.raises((Malformed, NotAuthentic)):
        verify(data, log_key())
