"""The bill in the national interface's field names (SETTLEMENT 1): what is read, and what is refused where."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clients.hospital import openbill
from clients.hospital.sample import sample_bill
from zhifu import bill, ladder, money
from zhifu.bill_forms import ICD10, citizen_check_digit
from zhifu.errors import Malformed
from zhifu.pricing import PricedLine, Split, line_amount, split_line

VECTORS = json.loads((Path(__file__).parent / "vectors" / "settlement.json").read_text("utf-8"))
Change = Callable[[dict[str, Any]], object]


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sample_bill())
    return found


def refused(change: Change) -> Malformed:
    changed = document()
    change(changed)
    with pytest.raises(Malformed) as caught:
        bill.parse(json.dumps(changed).encode())
    return caught.value


def at(path: str, value: object) -> Change:
    """Put ``value`` where ``path`` ("feedetail[3].amt") points; None stays null."""
    *parents, last = (int(name) if name.isdigit() else name for name in re.findall(r"[a-z_]+[0-9]*|[0-9]+", path))

    def change(top: dict[str, Any]) -> None:
        target: Any = top
        for name in parents:
            target = target[name]
        target[last] = value

    return change


def test_the_sample_is_the_bill_of_the_worked_example() -> None:
    read = bill.parse(sample_bill())
    expected = {name: money.fen(amount) for name, amount in VECTORS["direct_payment"]["split"].items()}
    assert {name: getattr(read.split, name) for name in expected} == expected
    by_class = {level: sum(line.amt for line in read.lines if line.chrgitm_lv == level) for level in ("01", "02", "03")}
    assert by_class == {"01": 1_000_000, "02": 750_000, "03": 250_000}
    assert 10 <= len(read.lines) <= 15
    assert (read.dropped, read.setlinfo.days, read.setlinfo.begndate) == (0, 7, date(2026, 9, 7))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("canaries", [False, True])
def test_every_seed_gives_a_bill_and_always_the_same_one(seed: int, canaries: bool) -> None:
    data = sample_bill(seed, canaries=canaries)
    assert bill.parse(data).dropped == 0
    assert data == sample_bill(seed, canaries=canaries) != sample_bill(seed + 1, canaries=canaries)


def test_what_a_canary_bill_says_of_the_patient_stands_in_it_once() -> None:
    found = json.loads(sample_bill(7, canaries=True))
    fixed = {"psn_cert_type", "gend", "brdy", "insutype", "psn_type", "hosp_lv", "med_type", "begndate", "enddate"}
    fixed |= {"med_chrgitm_type", "chrgitm_lv", "selfpay_prop", "lmt_used_flag", "fee_ocur_time", "diag_code"}
    rows = [found["setlinfo"], *found["feedetail"], *found["diseinfo"]]
    drawn = [value for row in rows for name, value in row.items() if name not in fixed | {"maindiag_flag"}]
    amounts = [value for row in rows for name, value in row.items() if name in {"amt", "pric", "cnt", "pric_uplmt"}]
    assert len(set(drawn)) == len(drawn) > 100
    assert len(amounts) == len(set(amounts)) >= 50
    assert all(len(value) >= 5 for value in drawn)


def test_the_sample_person_cannot_exist() -> None:
    person = bill.parse(sample_bill()).setlinfo
    assert person.certno.startswith("999999")
    assert person.tel is not None
    assert person.tel.startswith("154")
    assert ladder.conforms("phone", person.tel)
    assert person.psn_name.startswith("测试患者")


@pytest.mark.parametrize("number", VECTORS["citizen_ids"])
def test_check_digit_of_the_standard(number: str) -> None:
    assert citizen_check_digit(number[:17]) == number[17]


def test_every_chinese_diagnosis_code_is_readable(shared_data: Path) -> None:
    listed = (shared_data / "icd_cn" / "ZD_INFO.dat").read_text("utf-8").splitlines()
    codes = [line.split()[0] for line in listed if line.strip()]
    assert len(codes) > 33_000
    assert [code for code in codes if ICD10.read(code) is None] == []


def test_no_repr_shows_a_patient() -> None:
    read = bill.parse(sample_bill())
    for part in (read, read.setlinfo, read.lines[0], read.diagnoses[0], read.lines[0].priced):
        assert repr(part).startswith("<zhifu.")
        assert "=" not in repr(part)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("feedetail[3].amt", 405.5, "feedetail[3].amt"),
        ("feedetail[3].amt", 405, "feedetail[3].amt"),
        ("feedetail[3].amt", "405", "feedetail[3].amt"),
        ("feedetail[3].amt", "405.0", "feedetail[3].amt"),
        ("feedetail[3].amt", "0405.00", "feedetail[3].amt"),
        ("feedetail[3].amt", " 405.00", "feedetail[3].amt"),
        ("feedetail[3].amt", "-0.00", "feedetail[3].amt"),
        ("feedetail[3].amt", "４05.00", "feedetail[3].amt"),
        ("feedetail[3].amt", "9" * 12 + ".00", "feedetail[3].amt"),
        ("feedetail[3].amt", True, "feedetail[3].amt"),
        ("feedetail[3].amt", ["405.00"], "feedetail[3].amt"),
        ("feedetail[3].amt", None, "feedetail[3].amt is missing"),
        ("feedetail[3].pric", "45.00000", "feedetail[3].pric"),
        ("feedetail[3].pric", "-45.00", "feedetail[3].pric"),
        ("feedetail[3].cnt", "1e2", "feedetail[3].cnt"),
        ("feedetail[3].pric_uplmt", "0.00", "feedetail[3].pric_uplmt"),
        ("feedetail[5].selfpay_prop", "1.2", "feedetail[5].selfpay_prop"),
        ("feedetail[5].selfpay_prop", "-0.2", "feedetail[5].selfpay_prop"),
        ("feedetail[5].selfpay_prop", "0.20000", "feedetail[5].selfpay_prop"),
        ("feedetail[5].selfpay_prop", None, "feedetail[5].selfpay_prop is missing"),
        ("feedetail[0].chrgitm_lv", "05", "feedetail[0].chrgitm_lv"),
        ("feedetail[0].med_chrgitm_type", "15", "feedetail[0].med_chrgitm_type"),
        ("feedetail[0].fee_ocur_time", "2026-02-30", "feedetail[0].fee_ocur_time"),
        ("feedetail[0].lmt_used_flag", "2", "feedetail[0].lmt_used_flag"),
        ("feedetail[0].bilg_dr_name", "甲\u202e乙", "feedetail[0].bilg_dr_name"),
        ("feedetail[0].bilg_dr_name", "甲\ud800", "feedetail[0].bilg_dr_name"),
        ("feedetail[0]", "line", "feedetail[0]"),
        ("feedetail", [], "feedetail"),
        ("feedetail", {}, "feedetail"),
        ("setlinfo", None, "setlinfo"),
        ("setlinfo.psn_name", "", "setlinfo.psn_name is missing"),
        ("setlinfo.certno", "999999197204034925", "setlinfo.certno has a wrong check digit"),
        ("setlinfo.certno", "99999919720403492", "setlinfo.certno"),
        ("setlinfo.enddate", "2026-09-06", "setlinfo.enddate"),
        ("setlinfo.medfee_sumamt", "-1.00", "setlinfo.medfee_sumamt"),
        ("setlinfo.curr_addr", "elsewhere", "setlinfo.curr_addr is not the same as addr"),
        ("diseinfo", [], "diseinfo"),
        ("diseinfo[0].maindiag_flag", "0", "diseinfo has no main diagnosis"),
        ("diseinfo[0].diag_code", "80.1", "diseinfo[0].diag_code"),
    ],
)
def test_refused_with_the_path(path: str, value: object, where: str) -> None:
    error = refused(at(path, value))
    assert (error.reason, error.detail[: len(where)]) == ("bill.syntax", where)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"setlinfo": NaN}', "setlinfo is a number"),
        (b'{"setlinfo": {}, "setlinfo": {}}', "setlinfo stands there twice"),
        (b"[]", "must be an object"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" + b"9" * 100_000, "not JSON"),
        (b" " * (bill.MAX_BYTES + 1), "larger than"),
    ],
)
def test_not_a_bill_at_all(text: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        bill.parse(text)
    assert caught.value.reason == "bill.syntax"


@pytest.mark.parametrize("value", [b"1.5", b"NaN", b"-Infinity", b"1e3", b'{"a": 1, "a": 2}', b"9" * 19])
def test_an_inexact_value_is_refused_even_where_nobody_reads_it(value: bytes) -> None:
    with pytest.raises(Malformed, match="a value under a key that is not read"):
        bill.parse(sample_bill().replace(b'"setlinfo": {', b'"setlinfo": {"weight": [' + value + b"],", 1))


def test_a_key_twice_in_a_line_is_named() -> None:
    data = sample_bill().replace(b'"amt": "420.00"', b'"amt": "420.00", "amt": "1.00"', 1)
    with pytest.raises(Malformed, match=re.escape("feedetail[0].amt stands there twice")):
        bill.parse(data)


def test_unknown_keys_are_dropped_and_counted() -> None:
    changed = document()
    changed["setlinfo"]["emp_name"] = changed["feedetail"][2]["memo"] = changed["payinfo"] = "CANARY"
    read = bill.parse(json.dumps(changed).encode())
    assert read.dropped == 3
    assert read.setlinfo == bill.parse(sample_bill()).setlinfo


def test_the_other_interfaces_names_are_read_too() -> None:
    changed = document()
    line, head = changed["feedetail"][5], changed["setlinfo"]
    line["det_item_fee_sumamt"], line["hilist_name"] = line.pop("amt"), line.pop("medins_list_name")
    line["med_chrgitm_type"] = "0301"
    head["adm_time"], head["curr_addr"] = f"{head.pop('begndate')} 08:30:00", head.pop("addr")
    head["patn_cert_type"] = head.pop("psn_cert_type")
    expected = bill.parse(sample_bill())
    read = bill.parse(b"\xef\xbb\xbf" + json.dumps(changed).encode())
    assert (read.setlinfo, read.lines, read.dropped) == (expected.setlinfo, expected.lines, 0)


def test_padding_goes_and_text_becomes_nfc() -> None:
    changed = document()
    changed["setlinfo"]["psn_name"], changed["setlinfo"]["certno"] = " e\u0301a  ", "11010519491231002x"
    read = bill.parse(json.dumps(changed).encode())
    assert (read.setlinfo.psn_name, read.setlinfo.certno) == ("\u00e9a", "11010519491231002X")


def test_a_passport_has_no_check_digit() -> None:
    changed = document()
    changed["setlinfo"] |= {"psn_cert_type": "03", "certno": "E00000000"}
    assert bill.parse(json.dumps(changed).encode()).setlinfo.certno == "E00000000"


def test_refusals_carry_no_value() -> None:
    secret = "机密的人"
    for path in ("setlinfo.certno", "feedetail[0].amt", "diseinfo[0].diag_code", "feedetail[0].med_list_codg"):
        error = refused(at(path, secret))
        assert secret not in str(error)
        assert error.__cause__ is None
    error = refused(lambda top: top["feedetail"][0].update(amt="420.01"))
    assert "420" not in str(error)


# --- pricing a line -----------------------------------------------------------------------------------------------


def priced(level: str, pric: str, cnt: str, limit: str | None = None, prop: str = "0") -> PricedLine:
    amt = line_amount(money.ten_thousandths(pric) or 0, money.ten_thousandths(cnt) or 0)
    return PricedLine.of(level, amt, pric, cnt, limit, prop)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (priced("01", "10", "1"), Split(1000, 0, 0, 0, 1000)),
        (priced("01", "10", "1", prop="0.5"), Split(1000, 0, 0, 0, 1000)),
        (priced("02", "10", "1", prop="0.2"), Split(1000, 0, 0, 200, 800)),
        (priced("02", "10", "2", "7.5", "0.2"), Split(2000, 0, 500, 300, 1200)),
        (priced("03", "10", "2", "7.5", "1"), Split(2000, 2000, 0, 0, 0)),
        (priced("04", "10", "1", prop="0.3"), Split(1000, 1000, 0, 0, 0)),
        (priced("02", "0.05", "1", prop="0.5"), Split(5, 0, 0, 3, 2)),
        (priced("02", "0.05", "-1", prop="0.5"), Split(-5, 0, 0, -3, -2)),
        (priced("02", "0.005", "1", prop="0.2"), Split(1, 0, 0, 0, 1)),
        (priced("01", "10", "1", "10"), Split(1000, 0, 0, 0, 1000)),
        (priced("01", "10", "1000", "10.0001"), Split(1_000_000, 0, 0, 0, 1_000_000)),
        (priced("01", "10", "1000", "9.9999"), Split(1_000_000, 0, 10, 0, 999_990)),
    ],
)
def test_split_of_a_line(line: PricedLine, expected: Split) -> None:
    assert split_line(line) == expected


@pytest.mark.parametrize(
    ("declared", "payable", "split"),
    [
        ({}, False, (200_000, 0, 0)),
        ({"fulamt_ownpay_amt": "2000.00"}, False, (200_000, 0, 0)),
        ({"inscp_scp_amt": "1400.00"}, True, (0, 60_000, 140_000)),
        ({"preselfpay_amt": "600.00", "fulamt_ownpay_amt": "0.00"}, True, (0, 60_000, 140_000)),
        ({"preselfpay_amt": "600.00", "fulamt_ownpay_amt": "2000.00"}, None, ()),
        ({"inscp_scp_amt": "1400.01"}, None, ()),
    ],
)
def test_the_files_own_figures_say_how_its_city_counts_class_04(
    declared: dict[str, str], payable: bool | None, split: tuple[int, ...]
) -> None:
    changed = document()
    one = changed["feedetail"][0] | {"chrgitm_lv": "04", "selfpay_prop": "0.3", "pric": "2000.00", "cnt": "1"}
    changed["feedetail"] = [{**one, "amt": "2000.00"}]
    sums = ("medfee_sumamt", "fulamt_ownpay_amt", "overlmt_selfpay", "preselfpay_amt", "inscp_scp_amt")
    changed["setlinfo"] = {name: value for name, value in changed["setlinfo"].items() if name not in sums} | declared
    content = json.dumps(changed, ensure_ascii=False).encode()
    if payable is None:
        with pytest.raises(Malformed) as caught:
            bill.parse(content)
        assert caught.value.reason == "bill.identity"
        return
    found = bill.parse(content)
    assert (found.payable_c, (found.split.own, found.split.pre, found.split.inscp)) == (payable, split)
    assert openbill.of_bill(found).split == found.split


def test_a_city_may_pay_class_04_at_its_ratio() -> None:
    assert split_line(priced("04", "10", "1", prop="0.3"), payable_c=True) == Split(1000, 0, 0, 300, 700)
    assert split_line(priced("03", "10", "1", prop="0.3"), payable_c=True) == Split(1000, 1000, 0, 0, 0)


@pytest.mark.parametrize(
    "columns",
    [
        ("05", 1000, "10", "1", None, "0"),
        ("01", 1000, "-10", "1", None, "0"),
        ("01", 1000, "ten", "1", None, "0"),
        ("01", 1000, "10", "1", "0", "0"),
        ("01", 1000, "10", "1", "x", "0"),
        ("02", 1000, "10", "1", None, "1.1"),
    ],
)
def test_columns_that_are_no_line(columns: tuple[str, int, str, str, str | None, str]) -> None:
    with pytest.raises(Malformed) as caught:
        PricedLine.of(*columns)
    assert caught.value.reason == "bill.syntax"


@pytest.mark.parametrize(
    "changed",
    [
        {"selfpay_prop": 10_001},
        {"selfpay_prop": -1},
        {"pric": -1},
        {"pric_uplmt": 0},
        {"pric_uplmt": -1},
        {"amt": 10.0},
        {"cnt": True},
        {"selfpay_prop": None},
        {"chrgitm_lv": "1"},
    ],
)
def test_integers_out_of_range_are_no_line_either(changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        replace(priced("02", "10", "1", "9", "0.2"), **changed)
    assert caught.value.reason == "bill.syntax"


AMOUNTS = st.integers(-(10**12), 10**12)


@given(AMOUNTS, st.integers(1, 10**9))
def test_half_up_is_the_nearest_and_halves_go_up(numerator: int, denominator: int) -> None:
    rounded = money.half_up(numerator, denominator)
    distance = abs(Fraction(numerator, denominator)) - abs(rounded)
    assert Fraction(-1, 2) <= distance < Fraction(1, 2)
    assert rounded == -money.half_up(-numerator, denominator)


@given(AMOUNTS)
def test_money_reads_what_it_writes(amount: int) -> None:
    assert money.fen(money.yuan(amount)) == amount
    assert money.ten_thousandths(money.decimal(amount)) == amount


@st.composite
def lines(draw: st.DrawFn) -> PricedLine:
    price, count = draw(st.integers(0, 10**8)), draw(st.integers(-(10**7), 10**7))
    limit = draw(st.none() | st.integers(1, 10**8))
    return PricedLine(
        draw(st.sampled_from(["01", "02", "03", "04"])),
        line_amount(price, count),
        price,
        count,
        limit,
        draw(st.integers(0, 10_000)),
    )


@given(lines(), st.booleans())
def test_the_parts_of_a_line_add_up_and_have_its_sign(line: PricedLine, payable_c: bool) -> None:
    split = split_line(line, payable_c=payable_c)
    parts = (split.own, split.over, split.pre, split.inscp)
    assert split.total == line.amt == sum(parts)
    assert all(part * line.amt >= 0 and abs(part) <= abs(line.amt) for part in parts)


# --- anything at all ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PLACES = st.sampled_from(
    ["setlinfo", "feedetail", "diseinfo"]
    + [f"setlinfo.{name}" for name in document()["setlinfo"]]
    + [f"feedetail[1].{name}" for name in [*document()["feedetail"][1], "pric_uplmt", "inscp_scp_amt"]]
    + [f"diseinfo[0].{name}" for name in document()["diseinfo"][0]]
)


@given(st.binary(max_size=200))
@example(b'{"setlinfo":{},"feedetail":[{}],"diseinfo":[{}]}')
def test_any_bytes_are_a_bill_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        bill.parse(data)


@given(PLACES, JSON)
def test_any_value_anywhere_is_read_or_malformed(path: str, value: object) -> None:
    changed = document()
    at(path, value)(changed)
    # Only `Malformed` is let through: anything else fails the test.
    with contextlib.suppress(Malformed):
        assert bill.parse(json.dumps(changed).encode()).split.total == 2_000_000


@pytest.mark.parametrize(
    ("path", "value"),
    [
        # Normalising these marks would take hours.
        ("setlinfo.psn_name", "a" + "\u0301\u0323" * 300_000),
        ("setlinfo.addr", " " * 3_000_000 + "\x00"),
        ("setlinfo.brdy", "2" * 3_000_000),
        ("feedetail[0].amt", "1" * 3_000_000),
        ("feedetail[0].cnt", "1." + "0" * 3_000_000),
        ("diseinfo[0].diag_code", "K" * 3_000_000),
    ],
)
def test_a_very_long_value_is_refused_at_once(path: str, value: str) -> None:
    changed = document()
    at(path, value)(changed)
    data = json.dumps(changed, ensure_ascii=False).encode()
    assert len(data) < bill.MAX_BYTES
    started = time.process_time()
    with pytest.raises(Malformed, match=re.escape(path)):
        bill.parse(data)
    assert time.process_time() - started < 1


def test_the_largest_bill_takes_bounded_time() -> None:
    changed = document()
    changed["feedetail"] = [{"chrgitm_lv": "01", "amt": "0.00", "pric": "0", "cnt": "0", "med_list_codg": "A",
                             "med_chrgitm_type": "01"}] * bill.MAX_LINES  # fmt: skip
    changed["setlinfo"] = {k: v for k, v in changed["setlinfo"].items() if not k.endswith(("_amt", "_selfpay"))}
    changed["setlinfo"]["medfee_sumamt"] = "0.00"
    data = json.dumps(changed).encode()
    started = time.process_time()
    assert len(bill.parse(data).lines) == bill.MAX_LINES
    assert time.process_time() - started < 5
    changed["feedetail"].append(changed["feedetail"][0])
    with pytest.raises(Malformed, match="must be a list of 1 to"):
        bill.parse(json.dumps(changed).encode())
