"""Times of a log as people read them. They are the broker's word: one that no calendar has is shown as the number."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(time_ms: int) -> str:
    """Unix ms by ISO 8601, in UTC."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def local(time_ms: int) -> str:
    """Unix ms to the second, in this computer's zone."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
