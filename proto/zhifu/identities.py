"""The four identities of every bill and statement, in and out (SETTLEMENT 2). All amounts are fen.

A violation is refused with the identity's name, and with the line where one is at fault; never with an amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from zhifu.errors import Malformed
from zhifu.pricing import PricedLine, Split, line_amount

IDENTITIES: Final = MappingProxyType(
    {
        1: "total = own + over + pre + inscp",
        2: "total = pool + other funds + commercial + account + cash + hospital",
        3: "copayment + out-of-catalog = commercial + account + cash + hospital",
        4: "deposit + top-up - refund = cash",
    }
)


@dataclass(frozen=True, slots=True)
class Deposit:
    """What the patient paid at the desk: 预交金, 补交, 退费, and the cash that remains with the hospital."""

    deposit: int
    topup: int
    refund: int
    cash: int


@dataclass(frozen=True, slots=True)
class Statement:
    """Who pays what for one bill. ``copayment`` is 自付 (一 and 二), ``out_of_catalog`` 自费, ``hospital`` 医院负担.

    ``other_funds`` excludes the personal account even where a city prints it inside the fund total: `funds_paid`.
    """

    split: Split
    pool: int
    other_funds: int
    copayment: int
    out_of_catalog: int
    commercial: int
    account: int
    cash: int
    hospital: int = 0
    deposit: Deposit | None = None


def check_line(line: PricedLine, number: int) -> None:
    """The line's ``amt`` is price times count, half up; its ``number`` counts from 1.

    Raises `Malformed` (bill.identity).
    """
    if line.amt != line_amount(line.pric, line.cnt):
        raise violation(1, "amt is not pric × cnt", number)


def check_declared(field: str, declared: int | None, computed: int, number: int | None = None) -> None:
    """A part that the file declares is the computed one; None was not declared. Raises `Malformed` (bill.identity)."""
    if declared is not None and declared != computed:
        raise violation(1, f"{field} is not what the {'line gives' if number else 'lines add up to'}", number)


def check_split(split: Split) -> None:
    """Identity 1 over a whole bill, each part zero or more. Raises `Malformed` (bill.identity)."""
    _check_whole(1, _amounts(split))
    if split.total != split.own + split.over + split.pre + split.inscp:
        raise violation(1)


def check_deposit(deposit: Deposit) -> None:
    """Identity 4. Raises `Malformed` (bill.identity)."""
    _check_whole(4, _amounts(deposit))
    if deposit.deposit + deposit.topup - deposit.refund != deposit.cash:
        raise violation(4)


def check_statement(statement: Statement, *, public: bool = False) -> None:
    """All identities of a statement; ``public``: the public payer's own, where commercial must still be zero.

    Raises `Malformed` (bill.identity) with the first one that does not hold.
    """
    check_split(statement.split)
    _check_whole(2, {n: v for n, v in _amounts(statement).items() if n not in ("split", "deposit")})
    personal = statement.commercial + statement.account + statement.cash + statement.hospital
    if statement.split.total != statement.pool + statement.other_funds + personal:
        raise violation(2)
    if statement.copayment + statement.out_of_catalog != personal:
        raise violation(3)
    if statement.out_of_catalog != statement.split.own + statement.split.over:
        raise violation(3, "out-of-catalog is not own + over")
    if public and statement.commercial:
        raise violation(3, "commercial is not zero on the public payer's statement")
    _check_cash(statement)


def funds_paid(fund_total: int, account: int, *, account_inside: bool) -> int:
    """The funds alone, from a fund total that some cities print with the personal account inside (a table's flag).

    Raises `Malformed` (bill.identity) where the account would be more than the total that contains it.
    """
    if account_inside and account > fund_total:
        raise violation(2, "the personal account is more than the fund total that contains it")
    return fund_total - account if account_inside else fund_total


def violation(identity: int, why: str = "", number: int | None = None) -> Malformed:
    """The refusal for an identity (1 to 4); ``number`` is the line's, from 1, ``why`` carries no amount."""
    where = f" at line {number} (feedetail[{number - 1}])" if number else ""
    return Malformed("bill.identity", f"identity {identity}: {IDENTITIES[identity]}{': ' if why else ''}{why}{where}")


def _check_cash(statement: Statement) -> None:
    if statement.deposit is None:
        return
    check_deposit(statement.deposit)
    if statement.deposit.cash != statement.cash:
        raise violation(4, "its cash is not the statement's")


def _amounts(parts: Split | Deposit | Statement) -> dict[str, object]:
    return {name: getattr(parts, name) for name in parts.__dataclass_fields__}


def _check_whole(identity: int, amounts: Mapping[str, object]) -> None:
    for name, amount in amounts.items():
        if type(amount) is not int or amount < 0:
            raise violation(identity, f"{name} is not a whole number of fen, zero or more")
