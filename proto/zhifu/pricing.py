"""A bill line as the payers price it: what is paid in full, over the limit, in advance, and in scope (SETTLEMENT 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zhifu import money
from zhifu.errors import Malformed

CLASS_A: Final = "01"
CLASS_B: Final = "02"
CLASS_C: Final = "03"
CLASS_C_PAYABLE: Final = "04"
_CLASSES: Final = frozenset((CLASS_A, CLASS_B, CLASS_C, CLASS_C_PAYABLE))
# price x count is in ten-thousandths of ten-thousandths of a yuan
_PER_FEN: Final = money.ONE * money.ONE // 100


@dataclass(frozen=True, slots=True, repr=False)
class PricedLine:
    """What a payer needs of a line; no repr, because amounts are patient data.

    ``chrgitm_lv`` 01甲 02乙 03丙 04可报丙; ``amt`` in fen; ``pric``, ``cnt``, ``pric_uplmt`` (None: no limit) and
    ``selfpay_prop`` in ten-thousandths. A line that takes another back has a negative ``cnt`` and ``amt``.
    """

    chrgitm_lv: str
    amt: int
    pric: int
    cnt: int
    pric_uplmt: int | None
    selfpay_prop: int

    def __post_init__(self) -> None:
        """Refuse a value outside its range, wherever the columns come from. Raises `Malformed` (bill.syntax)."""
        limit = 1 if self.pric_uplmt is None else self.pric_uplmt
        whole = all(type(value) is int for value in (self.amt, self.pric, self.cnt, limit, self.selfpay_prop))
        if not whole or self.chrgitm_lv not in _CLASSES:
            raise Malformed("bill.syntax", "a line's columns do not make a priced line")
        if self.pric < 0 or limit <= 0 or not 0 <= self.selfpay_prop <= money.ONE:
            raise Malformed("bill.syntax", "a line's price, limit or ratio is out of range")

    @classmethod
    def of(
        cls, chrgitm_lv: str, amt: int, pric: str, cnt: str, pric_uplmt: str | None, selfpay_prop: str
    ) -> PricedLine:
        """From ``amt`` in fen and decimal strings. Raises `Malformed` (bill.syntax)."""
        price, count, prop = (money.ten_thousandths(text) for text in (pric, cnt, selfpay_prop))
        limit = None if pric_uplmt is None else money.ten_thousandths(pric_uplmt)
        if price is None or count is None or prop is None or (limit is None and pric_uplmt is not None):
            raise Malformed("bill.syntax", "a line's columns are not decimals with up to four places")
        return PricedLine(chrgitm_lv, amt, price, count, limit, prop)


@dataclass(frozen=True, slots=True)
class Split:
    """An expense and its four parts, in fen.

    ``own`` fulamt_ownpay_amt 全自费, ``over`` overlmt_selfpay 超限价, ``pre`` preselfpay_amt 先行自付, ``inscp``
    inscp_scp_amt 符合政策范围.
    """

    total: int
    own: int
    over: int
    pre: int
    inscp: int

    def __add__(self, other: Split) -> Split:
        return Split(
            self.total + other.total,
            self.own + other.own,
            self.over + other.over,
            self.pre + other.pre,
            self.inscp + other.inscp,
        )


NOTHING: Final = Split(0, 0, 0, 0, 0)


def line_amount(pric: int, cnt: int) -> int:
    """Price times count (ten-thousandths each) in fen, half up."""
    return money.half_up(pric * cnt, _PER_FEN)


def split_line(line: PricedLine, *, payable_c: bool = False) -> Split:
    """The parts of one line; each is rounded half up and they add up to ``amt`` exactly (SETTLEMENT 1).

    ``payable_c`` is the city's flag for 04可报丙: False counts it as 丙, True treats it like 乙, at its own ratio.
    """
    payable = line.chrgitm_lv == CLASS_C_PAYABLE and payable_c
    if line.chrgitm_lv in (CLASS_C, CLASS_C_PAYABLE) and not payable:
        return Split(line.amt, line.amt, 0, 0, 0)
    over = _over(line)
    shared = payable or line.chrgitm_lv == CLASS_B
    pre = money.share(line.amt - over, line.selfpay_prop) if shared else 0
    return Split(line.amt, 0, over, pre, line.amt - over - pre)


def _over(line: PricedLine) -> int:
    if line.pric_uplmt is None or line.pric <= line.pric_uplmt:
        return 0
    return line_amount(line.pric - line.pric_uplmt, line.cnt)
