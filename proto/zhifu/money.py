"""Money, prices and ratios as exact integers (SETTLEMENT, first paragraph).

Amounts are fen. Prices, counts and ratios are ten-thousandths: "12.5" is 125000, a copay ratio of 20 % is 2000.
Nothing here is a float, and every rounding is `half_up`.
"""

from __future__ import annotations

import re
from typing import Final

ONE: Final = 10_000
"""The ratio 100 %, the count 1 and the price of 1 yuan, in ten-thousandths."""

MAX_FEN: Final = 10**13
_AMOUNT: Final = re.compile(r"(-?)(0|[1-9][0-9]{0,10})\.([0-9]{2})")
_DECIMAL: Final = re.compile(r"(-?)(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,4}))?")


def half_up(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` as the nearest integer, halves away from zero; ``denominator`` > 0.

    Away from zero, so that a line that takes another back rounds to exactly its negative.
    """
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def share(amount: int, ratio: int) -> int:
    """``amount`` (fen) times ``ratio`` (ten-thousandths), in fen, half up."""
    return half_up(amount * ratio, ONE)


def fen(text: str) -> int | None:
    """Fen from yuan with exactly two places ("-12.50"); None where ``text`` is anything else, "-0.00" included."""
    found = _AMOUNT.fullmatch(text)
    return _signed(found[1], int(found[2] + found[3])) if found else None


def ten_thousandths(text: str) -> int | None:
    """Ten-thousandths from a decimal with up to four places ("3", "-0.125"); None where it is anything else."""
    found = _DECIMAL.fullmatch(text)
    return _signed(found[1], int(found[2] + (found[3] or "").ljust(4, "0"))) if found else None


def ratio(text: str) -> int | None:
    """Ten-thousandths from a ratio between "0" and "1"; None where it is anything else."""
    value = ten_thousandths(text)
    return value if value is not None and 0 <= value <= ONE else None


def yuan(amount: int) -> str:
    """Fen as yuan with two places: the inverse of `fen`."""
    return f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02d}"


def decimal(value: int) -> str:
    """Ten-thousandths as the shortest decimal: "12.5", "3", "0.2". `ten_thousandths` reads it back."""
    whole, part = divmod(abs(value), ONE)
    digits = f"{whole}.{part:04d}".rstrip("0").rstrip(".")
    return f"-{digits}" if value < 0 else digits


def _signed(sign: str, magnitude: int) -> int | None:
    if sign and not magnitude:
        return None
    return -magnitude if sign else magnitude
