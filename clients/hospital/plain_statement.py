"""The settlement in plain words, Chinese and English: made from reason codes and figures, never invented.

What each payer pays and why, what is left and why, what to do next. A reason that has no words here is shown as its
clause, which the payer wrote; nothing is said that no row says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clients.plain import yuan
from clients.reasons import reason
from zhifu.explain import Explanation

_SAYS: Final = {
    "pays": ("{name}：支付 {y} 元。", "{name} pays {y}."),
    "why": ("依据：", "Because: "),
    "order": ("支付顺序按规则 {name}。", "They pay in the order of rule {name}."),
    "left": ("您需支付 {y} 元。", "You pay {y}."),
    "nothing": ("您无需支付。", "You pay nothing."),
    "account": ("其中个人账户支付 {y} 元，现金 {z} 元。", "{y} of it from the personal account, {z} in cash."),
    "refund": ("预交金退还 {y} 元。", "{y} of your deposit is returned."),
    "topup": ("预交金之外还需补交 {y} 元。", "{y} is due beyond your deposit."),
    "paid": ("本次费用共 {y} 元。", "The bill is {y} in all."),
    "next": ("如有疑问，请向相应支付方申请复核。", "If you disagree, ask the payer in question to look again."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Payer:
    """One payer of a settlement: its name, what it pays (fen), and the rows of its decision."""

    name: str
    fen: int
    rows: Sequence[Explanation]


@dataclass(frozen=True, slots=True)
class Sums:
    """What the patient is told, in fen."""

    total: int
    patient: int
    account: int
    cash: int
    deposit: int


def words(sums: Sums, payers: Sequence[Payer], order: str, language: str) -> list[str]:
    """The statement's sentences, from the bill's total to what to do next; ``language`` is zh or en."""
    said = [_say("paid", language, y=yuan(sums.total))]
    for payer in payers:
        said += _payer(payer, language)
    if len(payers) > 1:
        said.append(_say("order", language, name=order))
    return [*said, *_left(sums, language), _say("next", language)]


def _payer(payer: Payer, language: str) -> Iterator[str]:
    yield _say("pays", language, name=payer.name, y=yuan(payer.fen))
    shown = [reason(row, language) for row in payer.rows if row.amount or row.field == "pay"]
    if shown:
        mark = "；" if language == "zh" else "; "
        yield _say("why", language) + mark.join(dict.fromkeys(shown)) + ("。" if language == "zh" else ".")


def _left(sums: Sums, language: str) -> Iterator[str]:
    if not sums.patient:
        yield _say("nothing", language)
    else:
        yield _say("left", language, y=yuan(sums.patient))
    if sums.account:
        yield _say("account", language, y=yuan(sums.account), z=yuan(sums.cash))
    if sums.deposit > sums.cash:
        yield _say("refund", language, y=yuan(sums.deposit - sums.cash))
    elif 0 < sums.deposit < sums.cash:
        yield _say("topup", language, y=yuan(sums.cash - sums.deposit))


def _say(key: str, language: str, **places: str) -> str:
    return _pick(_SAYS[key], language).format(**places)


def _pick(pair: tuple[str, str], language: str) -> str:
    return pair[0] if language == "zh" else pair[1]
