"""What the hospital checks of a payer's decision before it believes it: the identities, to the fen (SETTLEMENT 2)."""

from __future__ import annotations

from typing import Final

from clients.decision import Decision
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

    Raises `NotAuthentic` (ledger.mismatch), `Malformed` (bill.identity).
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
    if split != bill.split:
        raise NotAuthentic("ledger.mismatch", "the public payer split another bill")
    return statement.pool + statement.other_funds


def commercial(bill: Bill, found: Decision, public_fen: int, cap: int | None) -> int:
    """What the insurer pays, fen: within what is left, and within the patient's cap.

    Raises `NotAuthentic` (ledger.mismatch), `Refused` (consent.cap).
    """
    pay, left = found.amounts.get("pay", -1), bill.split.total - public_fen
    if not 0 <= pay <= left or found.amounts.get("patient") != left - pay:
        raise NotAuthentic("ledger.mismatch", "the insurer's amounts do not add up with the bill")
    if cap is not None and pay > cap:
        raise Refused("consent.cap")
    return pay


def committed(found: Decision, action: str, amount: int) -> None:
    """The payer took the notice: the same amount. Raises `NotAuthentic` (ledger.mismatch), `Refused`."""
    expected = {"confirm": "committed", "cancel": "cancelled", "reverse": "reversed"}[action]
    if found.outcome != expected:
        raise Refused("settlement.refused", f"{action}: {found.outcome}")
    if found.amounts.get("pay") != amount:
        raise NotAuthentic("ledger.mismatch", f"{action}: the payer holds another amount")
