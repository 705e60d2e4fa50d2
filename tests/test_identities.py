"""The four identities (SETTLEMENT 2): on the bill in, and on every statement out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.hospital.sample import sample_bill
from zhifu import bill, money
from zhifu.errors import Malformed
from zhifu.identities import (
    Deposit,
    Statement,
    check_deposit,
    check_line,
    check_split,
    check_statement,
    funds_paid,
)
from zhifu.pricing import PricedLine, Split, line_amount, split_line

VECTORS = json.loads((Path(__file__).parent / "vectors" / "settlement.json").read_text("utf-8"))


def fen(text: str) -> int:
    value = money.fen(text)
    assert value is not None
    return value


def receipt() -> Statement:
    given = {name: fen(amount) for name, amount in VECTORS["receipt"].items()}
    own = given["total"] - given["funds"]
    return Statement(
        split=Split(given["total"], own, 0, 0, given["funds"]),
        pool=given["funds"],
        other_funds=given["other"],
        copayment=0,
        out_of_catalog=own,
        commercial=0,
        account=given["account"],
        cash=given["cash"],
        deposit=Deposit(given["deposit"], given["topup"], given["refund"], given["cash"]),
    )


def worked() -> Statement:
    """SETTLEMENT 4A with the policy that pays everything."""
    return Statement(Split(2_000_000, 250_000, 0, 150_000, 1_600_000), 1_200_000, 0, 550_000, 250_000, 800_000, 0, 0)


def test_the_real_receipt_keeps_them() -> None:
    check_statement(receipt(), public=True)


def test_the_worked_example_keeps_them() -> None:
    check_statement(worked())
    check_statement(replace(worked(), commercial=550_000, account=100_000, cash=100_000, hospital=50_000))


@pytest.mark.parametrize("name", ["pool", "other_funds", "commercial", "account", "cash", "hospital"])
def test_a_fen_more_anywhere_breaks_the_second(name: str) -> None:
    statement = worked()
    with pytest.raises(Malformed, match="identity 2: total = pool") as caught:
        check_statement(replace(statement, **{name: getattr(statement, name) + 1}))
    assert caught.value.reason == "bill.identity"


@pytest.mark.parametrize("name", ["total", "own", "over", "pre", "inscp"])
def test_a_fen_more_in_a_part_breaks_the_first(name: str) -> None:
    split = worked().split
    with pytest.raises(Malformed, match="identity 1: total = own"):
        check_split(replace(split, **{name: getattr(split, name) + 1}))


@pytest.mark.parametrize("name", ["copayment", "out_of_catalog"])
def test_a_fen_more_of_the_patients_breaks_the_third(name: str) -> None:
    statement = worked()
    with pytest.raises(Malformed, match="identity 3: copayment"):
        check_statement(replace(statement, **{name: getattr(statement, name) + 1}))


def test_out_of_catalog_comes_from_the_items_not_from_the_face() -> None:
    face = replace(worked(), copayment=800_000, out_of_catalog=0)
    with pytest.raises(Malformed, match=r"identity 3: .*out-of-catalog is not own \+ over"):
        check_statement(face)


def test_commercial_is_still_zero_for_the_public_payer() -> None:
    with pytest.raises(Malformed, match=r"identity 3: .*commercial is not zero"):
        check_statement(worked(), public=True)


@pytest.mark.parametrize("name", ["deposit", "topup", "refund", "cash"])
def test_a_fen_more_at_the_desk_breaks_the_fourth(name: str) -> None:
    deposit = receipt().deposit
    assert deposit is not None
    check_deposit(deposit)
    with pytest.raises(Malformed, match="identity 4: deposit"):
        check_deposit(replace(deposit, **{name: getattr(deposit, name) + 1}))


def test_the_desks_cash_is_the_statements() -> None:
    with pytest.raises(Malformed, match=r"identity 4: .*its cash is not the statement's"):
        check_statement(replace(receipt(), deposit=Deposit(100, 0, 0, 100)))


@pytest.mark.parametrize("amount", [-1, True, 1.0, "1", None])
def test_an_amount_is_a_whole_number_of_fen(amount: Any) -> None:
    with pytest.raises(Malformed, match=r"identity 1: .*over is not a whole number"):
        check_split(Split(1, 0, amount, 0, 0))
    with pytest.raises(Malformed, match=r"identity 2: .*account is not a whole number"):
        check_statement(replace(worked(), account=amount))
    with pytest.raises(Malformed, match=r"identity 4: .*topup is not a whole number"):
        check_deposit(Deposit(1, amount, 0, 1))


def test_parts_that_add_up_with_one_below_zero_are_refused() -> None:
    with pytest.raises(Malformed, match=r"identity 2: .*cash is not"):
        check_statement(replace(worked(), cash=-1, account=1))


def test_a_city_may_print_the_account_inside_the_fund_total() -> None:
    assert funds_paid(1_250_000, 50_000, account_inside=True) == 1_200_000
    assert funds_paid(1_250_000, 50_000, account_inside=False) == 1_250_000
    with pytest.raises(Malformed, match="identity 2"):
        funds_paid(1, 2, account_inside=True)


# --- on the bill in -----------------------------------------------------------------------------------------------


def parsed(change: dict[str, dict[str, str]]) -> bill.Bill:
    """The sample bill with some values replaced: {"setlinfo" or the number of a line: {name: value}}."""
    document = json.loads(sample_bill())
    for where, values in change.items():
        (document["setlinfo"] if where == "setlinfo" else document["feedetail"][int(where) - 1]).update(values)
    return bill.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"4": {"amt": "405.01"}}, "amt is not pric × cnt at line 4 (feedetail[3])"),
        ({"4": {"fulamt_ownpay_amt": "0.01"}}, "fulamt_ownpay_amt is not what the line gives at line 4 (feedetail[3])"),
        ({"6": {"preselfpay_amt": "253.99"}}, "preselfpay_amt is not what the line gives at line 6 (feedetail[5])"),
        ({"6": {"overlmt_amt": "0.01"}}, "overlmt_selfpay is not what the line gives at line 6 (feedetail[5])"),
        ({"6": {"inscp_scp_amt": "0.00"}}, "inscp_scp_amt is not what the line gives at line 6 (feedetail[5])"),
        ({"setlinfo": {"medfee_sumamt": "20000.01"}}, "medfee_sumamt is not what the lines add up to"),
        ({"setlinfo": {"preselfpay_amt": "1500.01"}}, "preselfpay_amt is not what the lines add up to"),
        ({"setlinfo": {"overlmt_selfpay": "0.01"}}, "overlmt_selfpay is not what the lines add up to"),
    ],
)
def test_a_bill_that_does_not_add_up_says_which_identity_and_where(
    change: dict[str, dict[str, str]], detail: str
) -> None:
    with pytest.raises(Malformed) as caught:
        parsed(change)
    expected = f"identity 1: total = own + over + pre + inscp: {detail}"
    assert (caught.value.reason, caught.value.detail) == ("bill.identity", expected)


def test_declared_parts_that_agree_are_accepted() -> None:
    parts = {"fulamt_ownpay_amt": "0.00", "overlmt_selfpay": "0.00", "preselfpay_amt": "254.00"}
    assert parsed({"6": parts | {"inscp_scp_amt": "1016.00"}}).split.total == 2_000_000


def test_a_line_that_takes_another_back() -> None:
    back = {"cnt": "-1", "amt": "-425.00"}
    totals = {"medfee_sumamt": "17875.00", "fulamt_ownpay_amt": "375.00"}
    assert parsed({"10": back, "setlinfo": totals}).split == Split(1_787_500, 37_500, 0, 150_000, 1_600_000)


def test_a_bill_cannot_take_back_more_than_it_has() -> None:
    back = {"cnt": "-4", "amt": "-1700.00"}
    totals = {"medfee_sumamt": "16600.00"}
    document = json.loads(sample_bill())
    document["feedetail"][9].update(back)
    document["setlinfo"] = {k: v for k, v in document["setlinfo"].items() if k != "fulamt_ownpay_amt"} | totals
    with pytest.raises(Malformed, match=r"identity 1: .*own is not a whole number of fen, zero or more"):
        bill.parse(json.dumps(document).encode())


def test_the_fourth_identity_on_the_bill() -> None:
    desk = {"deposit_amt": "10000.00", "refund_amt": "2000.00", "psn_cash_pay": "8000.00"}
    assert parsed({"setlinfo": desk}).setlinfo.deposit == Deposit(1_000_000, 0, 200_000, 800_000)
    assert parsed({"setlinfo": {"deposit_amt": "10000.00"}}).setlinfo.deposit is None
    assert parsed({"setlinfo": {"psn_cash_pay": "8000.00"}}).setlinfo.deposit is None
    with pytest.raises(Malformed, match="identity 4: deposit"):
        parsed({"setlinfo": desk | {"topup_amt": "0.01"}})


@st.composite
def bills(draw: st.DrawFn) -> tuple[bytes, list[PricedLine]]:
    """A bill with any lines; totals are its own arithmetic, done here again from the lines."""
    document, lines = json.loads(sample_bill(draw(st.integers(0, 9)))), []
    template = document["feedetail"][0]
    document["feedetail"] = []
    for _ in range(draw(st.integers(1, 12))):
        price, count, limit = draw(st.integers(0, 10**8)), draw(st.integers(0, 10**6)), draw(st.integers(1, 10**8))
        level, prop = draw(st.sampled_from(["01", "02", "03", "04"])), draw(st.integers(0, 10_000))
        line = PricedLine(level, line_amount(price, count), price, count, draw(st.sampled_from([None, limit])), prop)
        text = {"chrgitm_lv": level, "amt": money.yuan(line.amt), "selfpay_prop": money.decimal(prop)}
        text |= {"pric": money.decimal(price), "cnt": money.decimal(count)}
        text |= {} if line.pric_uplmt is None else {"pric_uplmt": money.decimal(line.pric_uplmt)}
        document["feedetail"].append(template | text)
        lines.append(line)
    head = {k: v for k, v in document["setlinfo"].items() if not k.endswith(("_amt", "_selfpay"))}
    document["setlinfo"] = head | {"medfee_sumamt": money.yuan(sum(line.amt for line in lines))}
    return json.dumps(document).encode(), lines


@given(bills())
def test_identities_hold_for_any_bill(given_bill: tuple[bytes, list[PricedLine]]) -> None:
    data, lines = given_bill
    read = bill.parse(data)
    check_split(read.split)
    assert [line.priced for line in read.lines] == lines
    assert read.split.own == sum(line.amt for line in lines if line.chrgitm_lv in ("03", "04"))
    for number, line in enumerate(lines, start=1):
        check_line(line, number)
        check_split(split_line(line))


@given(bills(), st.integers(0, 11), st.sampled_from([-1, 1]))
def test_a_fen_off_in_any_line_is_found_there(
    given_bill: tuple[bytes, list[PricedLine]], pick: int, error: int
) -> None:
    data, lines = given_bill
    document = json.loads(data)
    index = pick % len(lines)
    document["feedetail"][index]["amt"] = money.yuan(lines[index].amt + error)
    with pytest.raises(Malformed) as caught:
        bill.parse(json.dumps(document).encode())
    assert caught.value.detail.endswith(f"at line {index + 1} (feedetail[{index}])")
