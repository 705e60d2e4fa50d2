"""A bell that one task waits for: what `asyncio.Event` is for many, at a tenth of its memory.

Every silent stream has some (DESIGN section 10: what an idle node may cost).
"""

from __future__ import annotations

import asyncio


class Bell:
    """Rung or not; stays rung until it is cleared."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self, *, rung: bool = False) -> None:
        self._rung = rung
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._rung

    def set(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._rung = False

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is rung. One task at a time. Raises `TimeoutError` after ``seconds``."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        # A timer of its own, since `asyncio.wait_for` makes a task of what it waits for.
        timer = None if seconds is None else loop.call_later(seconds, _late, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
