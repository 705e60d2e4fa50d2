"""A node's clock: its computer's, moved by the broker's as far as signed times bear (DESIGN section 6)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from zhifu.errors import Refused

MAX_SKEW_MS: Final = 300_000
_NOISE_MS: Final = 1000


def _passed_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Clock:
    """Unix ms. Called like a function; `learn` sets its offset, never to more than `MAX_SKEW_MS`.

    ``passed_ms`` counts ms that no setting of a clock changes.
    """

    def __init__(self, own_ms: Callable[[], int], passed_ms: Callable[[], int] = _passed_ms) -> None:
        self._own_ms = own_ms
        self._passed_ms = passed_ms
        self._learnt: int | None = None
        self.offset_ms = 0

    def __call__(self) -> int:
        return self._own_ms() + self.offset_ms

    def learn(self, broker_ms: int) -> None:
        """Go by the broker's clock from here on; less than a second is the way that its word took.

        Raises `Refused` (unavailable.clock) with the offset, where the difference is more than signed times bear: a
        broker must not date a node's signatures as it likes.
        """
        behind = broker_ms - self._own_ms()
        if abs(behind) > MAX_SKEW_MS:
            side = "behind" if behind > 0 else "ahead of"
            raise Refused("unavailable.clock", f"this clock is {abs(behind) // 1000} s {side} the broker's")
        self.offset_ms = behind if abs(behind) >= _NOISE_MS else 0
        self._learnt = self._own_ms() - self._passed_ms()

    def check(self) -> None:
        """For what cannot be undone: nobody set this clock by more than signed times bear since it was compared.

        Raises `Refused` (unavailable.clock).
        """
        moved = 0 if self._learnt is None else self._own_ms() - self._passed_ms() - self._learnt
        if abs(moved) > MAX_SKEW_MS:
            raise Refused("unavailable.clock", f"this clock was moved by {abs(moved) // 1000} s")
