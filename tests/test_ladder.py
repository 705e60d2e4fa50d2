"""The grammar of every level, and what coarsening may leave over."""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats import VALUES, normal
from zhifu import ladder, schema
from zhifu.errors import Malformed
from zhifu.ladder import FORMS, chapter, coarsen, conforms

# Levels below another on the ladder of a packaged schema: (finest form, coarser form).
RUNGS = sorted(
    {
        (unit.levels[0].form, level.form)
        for name in schema.names()
        for unit in schema.load(name).units
        for level in unit.levels[1:]
    }
)


def test_every_form_has_a_strategy() -> None:
    assert set(VALUES) == set(FORMS)


@given(st.data())
@pytest.mark.parametrize("form", sorted(FORMS))
def test_values_conform_and_absent_conforms_to_every_form(form: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[form])
    assert conforms(form, value)
    assert conforms(form, normal(value))
    assert conforms(form, None)


@given(st.data())
@pytest.mark.parametrize(("finest", "form"), RUNGS)
def test_coarsening_conforms_and_is_determined_by_the_coarser_value(
    finest: str, form: str, data: st.DataObject
) -> None:
    value = data.draw(VALUES[finest])
    made = coarsen(finest, form, value)
    assert conforms(form, made)
    assert normal(coarsen(finest, form, normal(value))) == normal(made)


def test_absent_stays_absent() -> None:
    for finest, form in RUNGS:
        assert coarsen(finest, form, None) is None


# A finer value in a coarser slot: what an honest recipient must notice after opening (DESIGN 4.3, step 7).
FINER: list[tuple[str, Any]] = [
    ("year", "1984-05-17"), ("year", "1984"), ("year", 198_405), ("ten-years", 1984), ("ten-years", "1984-05-17"),
    ("month", "1984-05-17"), ("months", ["1984-05-17"]), ("surname", "李四"), ("surname", "测试患者甲"),
    ("province", "测试省样例市示范路1号"), ("province", ["测试省", "样例市"]), ("province", "样例市"),
    ("city", "测试省样例市示范路1号"), ("city", ["测试省", "样例市示范路1号"]), ("city", ["测试省样例市", "样例市"]),
    ("city", ["测试省", "样例市", "示范路1号"]), ("city", ["样例市", "样例市"]),
    ("icd-categories", ["I21.001"]), ("icd-categories", ["I21", "I21"]), ("icd-categories", [["I21", "x", 1]]),
    ("icd-chapters", ["I21"]), ("icd-chapters", [9, 9]), ("icd-chapters", [9, 4]), ("icd-chapters", [23]),
    ("charge-sums", [["09", 1], ["09", 2]]), ("charge-sums", [["11", 1], ["09", 2]]),
    ("charge-sums", [["09", "11"], [1, 2]]), ("levels", [["01"], [1000], [None], [0]]),
    ("levels", ["01", "1"]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value"), FINER)
def test_a_finer_value_is_not_of_the_coarser_form(form: str, value: Any) -> None:
    assert not conforms(form, value)


ODD: list[tuple[str, Any]] = [
    ("handle", b"short"), ("handle", "x" * 32), ("token", ""), ("token", "a b"), ("token", "a\n"), ("token", "x" * 65),
    ("text", "a\u202eb"), ("text", "a\u200bb"), ("text", "\u0007"), ("text", ""), ("person-name", "x" * 65),
    ("citizen-id", "0000001984051700001"), ("citizen-id", "00000019840517000x"), ("citizen-id", 1),
    ("phone", "12345"), ("date", "1984-02-30"), ("date", "1984-5-17"), ("date", "１９８４-05-17"), ("date", 19_840_517),
    ("month", "1984-13"), ("month", "1984-00"), ("year", True), ("year", 1984.0), ("days", -1), ("sex", 10),
    ("sex", True), ("fen", 10**13 + 1), ("fen", True), ("fen", "1"), ("diagnoses", [["I21.001", "x"]]),
    ("diagnoses", [["i21", "x", 1]]), ("diagnoses", [["I21", "x", 2]]), ("diagnoses", [["I21", "x", True]]),
    ("charges", [["09"], [1, 2]]), ("charges", [["09"]]), ("charges", [["9"], [1]]), ("prices", [["1.5"], ["1"]]),
    ("prices", [[-1], [1]]), ("catalog", [["05"], [1], [None], [0]]), ("money", [["a b", 1]]),
    ("money", {"a": 1}), ("names", "abc"), ("tokens", b"abc"), ("hospital", ["H", "n"]), ("seconds", -1),
    ("clauses", [["a", 1, "t", "b", "c"]]), ("payments", [["a", "t", 1.5]]), ("insurance", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value"), ODD)
def test_what_no_form_takes(form: str, value: Any) -> None:
    assert not conforms(form, value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(FORMS)), ANYTHING)
def test_grammars_answer_for_any_value(form: str, value: Any) -> None:
    """They are asked about what another party sealed: they say no, they do not raise."""
    assert conforms(form, value) in (True, False)


@given(st.sampled_from(sorted(ladder._COARSEN)), ANYTHING)
def test_coarsening_refuses_what_has_no_coarser_form(rung: tuple[str, str], value: Any) -> None:
    """A `Malformed` for the schema's sake, never another error; what does not conform is refused before."""
    with contextlib.suppress(Malformed):
        coarsen(*rung, value)


@given(st.dates(date(1880, 1, 1), date(2199, 12, 31)))
def test_dates(day: date) -> None:
    text = day.isoformat()
    assert coarsen("date", "year", text) == day.year
    assert coarsen("date", "ten-years", text) == day.year - day.year % 10
    assert coarsen("date", "month", text) == f"{day:%Y-%m}"


@pytest.mark.parametrize(
    ("address", "city", "province"),
    [
        ("测试省样例市示范路1号", ["测试省", "样例市"], "测试省"),
        ("广东省广州市天河区1号", ["广东省", "广州市"], "广东省"),  # a city whose name holds 州
        ("江西省景德镇市珠山区", ["江西省", "景德镇市"], "江西省"),
        ("内蒙古自治区锡林郭勒盟", ["内蒙古自治区", "锡林郭勒盟"], "内蒙古自治区"),
        ("新疆维吾尔自治区喀什地区", ["新疆维吾尔自治区", "喀什地区"], "新疆维吾尔自治区"),
        ("四川省凉山彝族自治州西昌市", ["四川省", "凉山彝族自治州"], "四川省"),
        ("北京市朝阳区样例路8号城市广场", ["北京市", "北京市"], "北京市"),  # 市 in a street's name
        ("河北省样例大道东方城市花园", None, "河北省"),
        ("香港特别行政区中西区", None, "香港特别行政区"),
        ("样例市示范区", None, None),  # a city without its province would be finer than a province
        ("somewhere", None, None),
    ],
)
def test_addresses(address: str, city: list[str] | None, province: str | None) -> None:
    assert coarsen("address", "city", address) == city
    assert coarsen("address", "province", address) == province


@given(VALUES["address"])
def test_a_coarser_address_keeps_no_number_and_no_street(address: str) -> None:
    for part in [*(coarsen("address", "city", address) or []), coarsen("address", "province", address) or ""]:
        assert not set(part) & set("0123456789路街号道巷县村")
        assert len(part) <= 16


@pytest.mark.parametrize(
    ("name", "surname"), [("测试患者甲", "测"), ("欧阳测试", "欧阳"), ("李四", "李"), ("李", "李")]
)
def test_surnames(name: str, surname: str) -> None:
    assert coarsen("person-name", "surname", name) == surname


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("A00", 1),
        ("B99.900", 1),
        ("C00", 2),
        ("D48", 2),
        ("D50", 3),
        ("H59", 7),
        ("H60", 8),
        ("T98", 19),
        ("U07.1", 22),
    ],
)
def test_chapters(code: str, number: int) -> None:
    assert chapter(code) == number


@pytest.mark.parametrize("code", ["D49", "H96", "E99", "", "i21"])
def test_codes_outside_every_chapter(code: str) -> None:
    with pytest.raises(Malformed) as caught:
        chapter(code)
    assert caught.value.reason == "schema.value"


@given(VALUES["charges"])
def test_charges_by_type_keep_the_total(charges: list[list[Any]]) -> None:
    sums = coarsen("charges", "charge-sums", charges)
    assert sum(amount for _, amount in sums) == sum(charges[1])
    assert {kind for kind, _ in sums} == set(charges[0])
