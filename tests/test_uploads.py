"""Files on their way from the page: whole, in order, bounded, and forgotten."""

from __future__ import annotations

import pytest

from clients.patient.web.uploads import IDLE_S, MOST_BYTES, MOST_FILES, PIECE, Uploads
from zhifu.errors import Malformed, Refused
from zhifu.parcel import Document


def test_a_file_arrives_piece_by_piece_and_is_then_gone() -> None:
    found = Uploads()
    name = found.begin("a.pdf", "application/pdf", PIECE + 3)
    with pytest.raises(Refused, match="whole"):
        found.take([name])
    assert found.add(name, 0, bytes(PIECE)) == PIECE
    assert found.add(name, 0, bytes(PIECE)) == PIECE, "sent again, it changes nothing"
    assert found.add(name, PIECE + 1, b"x") == PIECE, "a gap is not filled with it"
    assert found.add(name, PIECE, b"end") == PIECE + 3
    assert found.take([name]) == [Document("a.pdf", "application/pdf", bytes(PIECE) + b"end")]
    with pytest.raises(Refused):
        found.add(name, 0, b"")


def test_no_more_than_one_parcel_holds() -> None:
    found = Uploads()
    for size in (-1, MOST_BYTES + 1):
        with pytest.raises(Malformed):
            found.begin("a", "", size)
    first = found.begin("a", "", MOST_BYTES)
    with pytest.raises(Malformed):
        found.begin("b", "", 1)
    for piece in (bytes(PIECE + 1),):
        with pytest.raises(Malformed):
            found.add(first, 0, piece)
    found.drop(first)
    small = [found.begin("c", "", 1) for _ in range(MOST_FILES)]
    with pytest.raises(Malformed):
        found.begin("d", "", 1)
    with pytest.raises(Malformed):
        found.add(small[0], 0, b"12")


def test_what_a_page_left_is_forgotten() -> None:
    now = [0.0]
    found = Uploads(lambda: now[0])
    left = found.begin("a", "", MOST_BYTES)
    now[0] = IDLE_S + 1
    found.begin("b", "", MOST_BYTES)
    with pytest.raises(Refused):
        found.add(left, 0, b"x")
