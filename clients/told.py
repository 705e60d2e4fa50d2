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
        self._waited = False

    def keep(self, frame: exchange_pb2.NoticeFrame) -> bool:
        """Keep a frame that `can_wait`; whether it is the first: then it is `ripen`ed after `WAIT_S`."""
        is_first = not self._kept.notices
        self._kept.notices.extend(frame.notices)
        return is_first

    def ripen(self) -> None:
        """What is kept has waited long enough. Said by the timer: it may fire before its time by the loop's clock."""
        self._waited = True

    def is_due(self) -> bool:
        """Whether what is kept waited long enough, or is as much as a frame holds."""
        return bool(self._kept.notices) and (self._waited or len(self._kept.notices) >= _MOST)

    def take(self) -> exchange_pb2.NoticeFrame | None:
        """What is kept, as one frame; None if nothing is."""
        kept, self._kept, self._waited = self._kept, exchange_pb2.NoticeFrame(), False
        return kept if kept.notices else None
