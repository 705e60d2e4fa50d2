"""What the hospital checks of a payer's decision before it believes it: the identities, to the fen (SETTLEMENT 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clients.decision import Decision
from clients.hospital.coordination import Compensation
from clients.hospital.openbill import AnyBill, split_of
from zhifu import identities
from zhifu.bill import Bill
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.identities import Statement
from zhifu.pricing import Split

FUNDS: Final = ("hifob_pay", "hifmi_pay", "maf_pay", "cvlserv_pay", "hifes_pay", "oth_pay")


def reserved(found: Decision) -> Decision:
    """A decision that holds something. Raises `Refused` (settlement.undecided, settlement.refused)."""
    if found.outcome == "review":
        raise Refused("settlement.undecided", ", ".join(one.reason for one in found.clauses if "review" in one.reason))
    if found.outcome != "reserved":
        raise Refused("settlement.refused", found.outcome)
    return found


def public(bill: Bill, found: Decision) -> int:
    """What the public funds pay, fen: the split is of this bill and keeps the identities.

    Raises `NotAuthentic` (ledger.mismatch), `Malformed` (bill.identity): also where the bill left open how its city
    counts class 04, and was sealed with the usual reading; declared, it is sealed with the other.
    """
    amounts = found.amounts
    try:
        split = Split(
            *(
                amounts[name]
                for name in (
                    "medfee_sumamt", "fulamt_ownpay_amt", "overlmt_selfpay", "preselfpay_amt", "inscp_scp_amt",
                )
            )
        )  # fmt: skip
        statement = Statement(
            split=split,
            pool=amounts["hifp_pay"],
            other_funds=sum(amounts[name] for name in FUNDS),
            copayment=amounts["copay_one"] + amounts["copay_two"],
            out_of_catalog=split.own + split.over,
            commercial=0,
            account=amounts["acct_pay"],
            cash=amounts["psn_cash_pay"],
        )
    except KeyError as error:
        raise Malformed("schema.value", "the split is not complete") from error
    identities.check_statement(statement, public=True)
    if amounts.get("acct_left", 0) < 0:
        raise NotAuthentic("ledger.mismatch", "the personal account has less than nothing left")
    if split != bill.split:
        if split == bill.other_reading:
            raise Malformed("bill.identity", "the city counts class 04 otherwise: the file must declare its parts")
        raise NotAuthentic("ledger.mismatch", "the public payer split another bill")
    return statement.pool + statement.other_funds


def commercial(bill: AnyBill, found: Decision, paid: Compensation, cap: int | None) -> int:
    """What an insurer pays, fen: within what is left of each category, and within the patient's cap.

    Raises `NotAuthentic` (ledger.mismatch), `Refused` (consent.cap).
    """
    amounts, split = found.amounts, split_of(bill)
    left = split.total - paid.total
    inside, outside = amounts.get("pay_in_catalog", -1), amounts.get("pay_out_of_catalog", -1)
    pay = inside + outside
    if (
        min(inside, outside, amounts.get("late", 0)) < 0
        or amounts.get("pay") != pay
        or amounts.get("patient") != left - pay
    ):
        raise NotAuthentic("ledger.mismatch", "the insurer's amounts do not add up with the bill")
    within = split.inscp + split.pre - paid.public - paid.in_catalog
    if inside > within or outside > split.own + split.over - paid.out_of_catalog:
        raise NotAuthentic("ledger.mismatch", "the insurer pays more than what is left")
    if cap is not None and pay > cap:
        raise Refused("consent.cap")
    return pay


def pays(found: Decision) -> int:
    """What a payer holds by its decision, fen: an insurer's payment, or all public funds of a split."""
    return found.amounts.get("pay", sum(found.amounts.get(name, 0) for name in ("hifp_pay", *FUNDS)))


def owes(found: Decision) -> int:
    """All that a payer owes under one reservation, fen: what it pays, and a compensation for being late."""
    return pays(found) + found.amounts.get("late", 0)


def holds(found: Decision) -> dict[str, int]:
    """The amounts of a notice that frees what a decision holds."""
    late = found.amounts.get("late", 0)
    return {"pay": pays(found)} | ({"late": late} if late else {})


def committed(found: Decision, action: str, amounts: Mapping[str, int]) -> None:
    """The payer took the notice: the same amounts. Raises `NotAuthentic` (ledger.mismatch), `Refused`."""
    expected = {"confirm": "committed", "cancel": "cancelled", "reverse": "reversed"}[action]
    if found.outcome != expected:
        raise Refused("settlement.refused", f"{action}: {found.outcome}")
    if any(found.amounts.get(token) != fen for token, fen in amounts.items()):
        raise NotAuthentic("ledger.mismatch", f"{action}: the payer holds another amount")
    pay, account = amounts["pay"], amounts.get("acct_pay", 0)
    if found.amounts.get("fund_pay_sumamt", pay) not in (pay, pay + account):
        raise NotAuthentic("ledger.mismatch", f"{action}: the fund total is neither with the account nor without")
