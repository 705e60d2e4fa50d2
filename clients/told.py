"""Notices that can wait a moment: what a recipient opened is only to be known, and comes just when an answer does too.

They are taken together, in one transaction, once nobody is kept waiting by it. What the log proves is taken in the
order of the stream, since each proof starts where the one before it ended; so is a refusal, which somebody waits for.
"""

from __future__ import annotations

from typing import Final

from zhifu.v1 import exchange_pb2

WAIT_S: Final = 0.05
_MOST: Final = 64


def can_wait(frame: exchange_pb2.NoticeFrame) -> bool:
    """Whether nothing of it is proven by the log or ends an exchange."""
    return not frame.HasField("proof") and all(notice.state == "delivered" for notice in frame.notices)


class Told:
    """One stream's notices, in the order in which they came. Lost with the stream: the broker tells them again."""

    def __init__(self) -> None:
        self._kept = exchange_pb2.NoticeFrame()
        self._due = 0.0

    def keep(self, frame: exchange_pb2.NoticeFrame, now: float) -> bool:
        """Keep a frame that `can_wait`; whether it is the first: then look again in `WAIT_S`. ``now`` is the loop's."""
        is_first = not self._kept.notices
        if is_first:
            self._due = now + WAIT_S
        self._kept.notices.extend(frame.notices)
        return is_first

    def is_due(self, now: float) -> bool:
        """Whether what is kept waited long enough, or is as much as a frame holds."""
        return bool(self._kept.notices) and (now >= self._due or len(self._kept.notices) >= _MOST)

    def take(self) -> exchange_pb2.NoticeFrame | None:
        """What is kept, as one frame; None if nothing is."""
        kept, self._kept = self._kept, exchange_pb2.NoticeFrame()
        return kept if kept.notices else None
