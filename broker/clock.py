"""The one clock that a broker's parts are given."""

from __future__ import annotations

import time


def clock_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000
