"""Numbers that point at a person: check digits against published examples, one spelling of many, ranges that exist."""

from __future__ import annotations

import json
import unicodedata
from datetime import date
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.hospital.sample import sample_bill
from tests.formats import refused
from zhifu import bill
from zhifu.identifiers import checks, citizen, papers, phones, spelling

CITIZENS: Final = ["11010519491231002X", "440524188001010014"]
"""The two examples of GB 11643-1999, annex A."""
CREDIT: Final = ["91350100M000100Y43"]
"""The example of GB 32100-2015."""
LUHN: Final = ["79927398713", "4111111111111111", "490154203237518"]
"""ISO/IEC 7812-1's usual example, a card number for tests, and the IMEI of 3GPP TS 23.003's example form."""


@pytest.mark.parametrize("number", CITIZENS)
def test_gb_11643(number: str) -> None:
    assert checks.citizen_check_digit(number[:17]) == number[17]
    assert citizen.is_citizen_id(number)
    assert citizen.birth_date(number) == date(int(number[6:10]), int(number[10:12]), int(number[12:14]))


@pytest.mark.parametrize("number", CREDIT)
def test_gb_32100(number: str) -> None:
    assert checks.has_credit_code(number)
    assert not checks.has_credit_code(number.lower())
    assert not checks.has_credit_code(number.replace("M", "I"))
    with pytest.raises(ValueError, match="substring"):
        checks.credit_code_check_digit("I" * 17)


@pytest.mark.parametrize("number", LUHN)
def test_luhn(number: str) -> None:
    assert checks.has_luhn(number)
    assert not any(checks.has_luhn(number[:-1] + digit) for digit in "0123456789" if digit != number[-1])


@given(st.from_regex(r"[1-9][0-9]{16}", fullmatch=True), st.integers(0, 16), st.integers(1, 9))
def test_every_single_wrong_digit_of_a_citizen_id_shows(first17: str, at: int, off: int) -> None:
    """ISO 7064 MOD 11-2 finds them all; so do the two neighbours that were swapped."""
    right = checks.citizen_check_digit(first17)
    wrong = first17[:at] + str((int(first17[at]) + off) % 10) + first17[at + 1 :]
    assert checks.citizen_check_digit(wrong) != right
    if at and first17[at] != first17[at - 1]:
        swapped = first17[: at - 1] + first17[at] + first17[at - 1] + first17[at + 1 :]
        assert checks.citizen_check_digit(swapped) != right


@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=17, max_size=17), st.integers(0, 16), st.integers(1, 30))
def test_every_single_wrong_sign_of_a_credit_code_shows(first17: str, at: int, off: int) -> None:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    other = alphabet[(alphabet.index(first17[at]) + off) % 31]
    right = checks.credit_code_check_digit(first17)
    assert checks.credit_code_check_digit(first17[:at] + other + first17[at + 1 :]) != right


@given(st.from_regex(r"[0-9]{5,19}", fullmatch=True), st.integers(0, 18), st.integers(1, 9))
def test_every_single_wrong_digit_of_a_card_shows(payload: str, at: int, off: int) -> None:
    at %= len(payload)
    number = payload + checks.luhn_check_digit(payload)
    assert checks.has_luhn(number)
    assert not checks.has_luhn(number[:at] + str((int(number[at]) + off) % 10) + number[at + 1 :])


def test_what_is_no_citizen_id() -> None:
    for number in ("110105194902310028", "11010519491231002x", "011010519491231002", "1101051949123100", "", "1" * 18):
        assert not citizen.is_citizen_id(number)


def test_the_older_form_is_the_same_person() -> None:
    assert citizen.to_18("110105491231002") == "11010519491231002X"
    assert citizen.to_15("11010519491231002X") == "110105491231002"
    assert citizen.is_older_id("110105491231002")
    assert not citizen.is_older_id("990105491231002"), "no such province"
    assert citizen.birth_date("110105800101999") == date(1880, 1, 1), "over a hundred: born in the century before"


@pytest.mark.parametrize(
    ("number", "mobile"),
    [
        ("13800138000", True),
        ("19912345678", True),
        ("15412345678", False),
        ("12345678901", False),
        ("1380013800", False),
    ],
)
def test_mobile_ranges(number: str, mobile: bool) -> None:
    assert phones.is_mobile(number) == mobile


@pytest.mark.parametrize(
    ("number", "landline"),
    [
        ("01062345678", True), ("02161234567", True), ("075523456789", True), ("07552345678", True),
        ("0312345678", False), ("03122345678", True), ("01012345678", False), ("08002345678", False),
    ],
)  # fmt: skip
def test_area_codes(number: str, landline: bool) -> None:
    assert phones.is_landline(number) == landline


@pytest.mark.parametrize("spelled", ["+86 138-0013-8000", "0086 13800138000", "86138 0013 8000", "138 0013 8000"])
def test_a_mobile_number_without_its_country(spelled: str) -> None:
    assert phones.bare(spelled) == "13800138000"


def test_papers_and_plates() -> None:
    assert papers.is_passport("E12345678")
    assert not papers.is_passport("EI2345678")
    assert papers.is_permit("H12345678")
    assert papers.is_plate("京A12345")
    assert papers.is_plate("粤BD12345")
    assert not papers.is_plate("京I12345")


SPELLINGS: Final = [
    "11010519491231002x", "１１０１０５１９４９１２３１００２Ｘ", "110105 19491231 002X", "110105-19491231-002X",
    " 110105\u200b19491231002X", "110105491231002",
]  # fmt: skip


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_citizen_id_is_read_in_one_spelling(spelled: str) -> None:
    """Full width, spaces, separators, what is not visible, and the 15 digits of before 1999."""
    changed: dict[str, Any] = json.loads(sample_bill(1))
    changed["setlinfo"]["certno"] = spelled
    assert bill.parse(json.dumps(changed).encode()).setlinfo.certno == "11010519491231002X"


@pytest.mark.parametrize("spelled", ["１３８００１３８０００", "138 0013 8000", "138–0013–8000", "(138) 00138000"])
def test_a_phone_number_is_read_in_ascii(spelled: str) -> None:
    changed: dict[str, Any] = json.loads(sample_bill(1))
    changed["setlinfo"]["tel"] = spelled
    assert (bill.parse(json.dumps(changed).encode()).setlinfo.tel or "").replace("-", "") == "13800138000"


def test_what_does_not_become_a_number_by_folding_is_refused() -> None:
    for field, wrong in (("certno", "１１０１０５"), ("certno", "x" * 1000), ("tel", "电话"), ("tel", "1" * 1000)):
        changed: dict[str, Any] = json.loads(sample_bill(1))
        changed["setlinfo"][field] = wrong
        refused("bill.syntax", bill.parse, json.dumps(changed).encode())


@given(st.text(max_size=40))
def test_compacting_once_is_enough(text: str) -> None:
    once = spelling.compact(text)
    assert spelling.compact(once) == once
    assert len(spelling.fold(text)) == len(text)
    assert not any(one in spelling.SEPARATORS or one.isspace() for one in once)
    assert all(unicodedata.category(one) not in ("Cc", "Cf", "Mn") for one in once)
