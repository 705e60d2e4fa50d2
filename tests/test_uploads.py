"""Files on their way from the page: whole, in order, bounded, and forgotten."""

from __future__ import annotations

import hashlib

import pytest

from clients.patient.web.uploads import IDLE_S, MOST_BYTES, MOST_FILES, PIECE, YIELDS_S, Uploads
from zhifu.errors import Malformed, Refused
from zhifu.parcel import Document


def begin(found: Uploads, name: str, content: bytes, size: int | None = None) -> str:
    whole = len(content) if size is None else size
    return found.begin("c1", name, "application/pdf", whole, hashlib.sha256(content).digest())[0]


def test_a_file_arrives_piece_by_piece_and_is_then_gone() -> None:
    found = Uploads()
    content = bytes(PIECE) + b"end"
    name = begin(found, "a.pdf", content)
    with pytest.raises(Refused, match="whole"):
        found.read([name])
    assert found.add(name, 0, bytes(PIECE)) == PIECE
    assert found.add(name, 0, bytes(PIECE)) == PIECE, "sent again, it changes nothing"
    assert found.add(name, PIECE + 1, b"x") == PIECE, "a gap is not filled with it"
    digest = hashlib.sha256(content).digest()
    assert found.begin("c1", "a.pdf", "", PIECE + 3, digest) == (name, PIECE), "chosen again, it goes on"
    assert found.halfway("c1") == [("a.pdf", 99)]
    assert found.halfway("c2") == []
    assert found.begin("c2", "a.pdf", "", PIECE + 3, digest)[1] == 0, "for another claim it is another file"
    assert found.add(name, PIECE, b"end") == PIECE + 3
    for _ in range(2):
        assert found.read([name]) == [Document("a.pdf", "application/pdf", content)], "until it is sealed"
    found.drop(name)
    with pytest.raises(Refused):
        found.add(name, 0, b"")


def test_another_file_than_was_announced_is_not_sent() -> None:
    found = Uploads()
    name = begin(found, "a.pdf", b"one")
    found.add(name, 0, b"two")
    with pytest.raises(Refused, match="announced"):
        found.read([name])


def test_no_more_than_one_parcel_holds() -> None:
    found = Uploads()
    for size in (-1, MOST_BYTES + 1):
        with pytest.raises(Malformed):
            begin(found, "a", b"", size)
    first = begin(found, "a", b"a", MOST_BYTES)
    with pytest.raises(Malformed):
        begin(found, "b", b"b", 1)
    with pytest.raises(Malformed):
        found.add(first, 0, bytes(PIECE + 1))
    found.drop(first)
    small = [begin(found, "c", bytes([n]), 1) for n in range(MOST_FILES)]
    with pytest.raises(Malformed):
        begin(found, "d", b"d", 1)
    with pytest.raises(Malformed):
        found.add(small[0], 0, b"12")


@pytest.mark.parametrize(("after_s", "wanted"), [(IDLE_S + 1, 1), (YIELDS_S + 1, MOST_BYTES)])
def test_what_a_page_left_is_forgotten_and_before_that_gives_way(after_s: float, wanted: int) -> None:
    now = [0.0]
    found = Uploads(lambda: now[0])
    left = begin(found, "a", b"a", MOST_BYTES)
    now[0] = after_s
    begin(found, "b", b"b", wanted)
    with pytest.raises(Refused):
        found.add(left, 0, b"x")
