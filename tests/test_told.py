"""Notices that can wait: which those are, and that none is lost or overtaken on its stream."""

from __future__ import annotations

import pytest

from clients.told import Told, can_wait
from zhifu.v1 import exchange_pb2 as pb


def frame(*numbers: int, state: str = "delivered", proof: bool = False) -> pb.NoticeFrame:
    notices = [pb.Notice(id=number, state=state) for number in numbers]
    return pb.NoticeFrame(notices=notices, proof=pb.LogProof() if proof else None)


@pytest.mark.parametrize("state", ["refused", "expired", "withdrawn", "granted", "anything"])
def test_what_ends_an_exchange_does_not_wait(state: str) -> None:
    assert can_wait(frame(1, 2))
    assert not can_wait(pb.NoticeFrame(notices=[*frame(1).notices, *frame(2, state=state).notices]))


def test_what_the_log_proves_does_not_wait() -> None:
    assert not can_wait(frame(1, proof=True))


def test_notices_are_taken_together_in_their_order_once_they_waited() -> None:
    told = Told()
    assert not told.is_due()
    assert told.keep(frame(1, 2))
    assert not told.keep(frame(3))
    assert not told.is_due()
    told.ripen()
    assert told.is_due()
    taken = told.take()
    assert taken is not None
    assert [notice.id for notice in taken.notices] == [1, 2, 3]
    assert told.take() is None
    assert told.keep(frame(4))
    assert not told.is_due()


def test_a_frame_of_them_does_not_wait() -> None:
    told = Told()
    for number in range(64):
        assert not told.is_due()
        told.keep(frame(number))
    assert told.is_due()
