"""Code tables, categories and chapters, sensitive diagnoses; the published Chinese tables where they lie beside us."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.hospital import icd_tables, record, sample
from clients.hospital.icd_tables import Tables
from zhifu import bill, icd, ladder
from zhifu.errors import Malformed
from zhifu.icd import CodeTable, parse_table

TABLE = parse_table("K80.100 胆囊结石\nK80.101 胆囊结石伴慢性胆囊炎\nA90.x00 登革热\n", "A41.900x003 R57.200\n")


@pytest.fixture(scope="module")
def tables(shared_data: Path) -> Tables:
    return icd_tables.load(shared_data / "icd_cn")


def diagnoses(rows: list[tuple[str, str]], table: CodeTable = icd.NO_TABLE) -> tuple[object, object]:
    """The codes in the plain unit and in the sensitive one of a bill with these diagnoses."""
    file = bill.parse(sample.sample_bill(1))
    found = tuple(bill.Diagnosis(code, name, True) for code, name in rows)
    claim = record.claim(
        bill.Bill(file.setlinfo, file.lines, found, file.split, 0), bytes(32), Tables(table, icd.NO_TABLE)
    )
    plain, sensitive = claim["diagnosis"], claim["sensitive-diagnosis"]
    return [row[0] for row in plain or ()], [row[0] for row in sensitive or ()]


# --- tables -------------------------------------------------------------------------------------------------------


def test_published_tables_are_read(tables: Tables) -> None:
    assert (len(tables.diagnoses.names), len(tables.procedures.names)) == (33_304, 13_686)
    assert tables.diagnoses.name("A00.000") == "霍乱，由于O1群霍乱弧菌，霍乱生物型所致"
    assert tables.procedures.name("00.0101") == "头部血管治疗性超声"


def test_every_published_code_has_a_category_and_a_chapter(tables: Tables) -> None:
    assert {icd.chapter(code, tables.diagnoses) for code in tables.diagnoses.names} == set(range(1, 23))
    assert {icd.procedure_chapter(code) for code in tables.procedures.names} == set(range(18))
    for code in list(tables.diagnoses.moved)[::50]:
        assert icd.category(code, tables.diagnoses) == tables.diagnoses.moved[code][:3]


def test_a_map_may_change_the_chapter(tables: Tables) -> None:
    """Septic shock moved from infections to symptoms between the editions."""
    code = "A41.900x003"
    assert (icd.chapter(code), icd.chapter(code, tables.diagnoses)) == (1, 18)
    assert (icd.category(code), icd.category(code, tables.diagnoses)) == ("A41", "R57")


@pytest.mark.parametrize(
    ("code", "nearest"),
    [
        ("K80.101", "K80.101"),
        ("K80.101x009", "K80.101"),
        ("K80.199x003", "K80.100"),
        ("K80.9", None),
        ("A90.x00x002", "A90.x00"),
        ("A41.900x003", None),
        ("Z99.900", None),
    ],
)
def test_gaps_fall_back_on_the_prefix(code: str, nearest: str | None) -> None:
    assert TABLE.nearest(code) == nearest
    assert TABLE.name(code) == (None if nearest is None else TABLE.names[nearest])


def test_without_a_table_the_prefix_answers() -> None:
    assert icd.category("K80.101") == "K80"
    assert icd.chapter("K80.101") == 11 == ladder.chapter("K80.101")
    assert (icd.procedure_category("51.2300x001"), icd.procedure_chapter("51.2300x001")) == ("51", 9)
    assert icd.procedure_chapter("17.4200") == 17
    assert TABLE.standard("K80.101") == "K80.101"


@pytest.mark.parametrize("code", ["", "80.1", "k80", "KK8", "K8"])
def test_not_a_diagnosis(code: str) -> None:
    with pytest.raises(Malformed, match=r"schema\.value"):
        icd.category(code)


@pytest.mark.parametrize("code", ["", "K80.1", "5", "512"])
def test_not_a_procedure(code: str) -> None:
    with pytest.raises(Malformed, match=r"schema\.value"):
        icd.procedure_category(code)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="line 2"):
        parse_table("K80.1 a\nK80.2\n")
    with pytest.raises(Malformed, match=r"ZD_INFO\.dat"):
        icd_tables.load(tmp_path)
    (tmp_path / "ZD_INFO.dat").write_bytes(b"K80 \xff")
    with pytest.raises(Malformed, match="UTF-8"):
        icd_tables.load(tmp_path)


def test_a_map_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "ZD_INFO.dat").write_text("K80.100 胆囊结石\n", "utf-8")
    (tmp_path / "SS_INFO.dat").write_text("51.2300 腹腔镜下胆囊切除术\n", "utf-8")
    found = icd_tables.load(tmp_path)
    assert (found.diagnoses.moved, found.procedures.name("51.2300x001")) == ({}, "腹腔镜下胆囊切除术")


# --- sensitive diagnoses ------------------------------------------------------------------------------------------


def test_every_group_says_why() -> None:
    groups = icd.sensitive_groups()
    assert {"hiv", "psychiatric", "genetic", "sexually-transmitted"} <= {group.reason for group in groups}
    for group in groups:
        assert group.why
        assert set(group.titles) == {"zh", "en"}
        assert all(len(first) == len(last) and first <= last for first, last in group.codes)


@pytest.mark.parametrize(
    ("code", "name", "reason"),
    [
        ("B20.000", "", "hiv"),
        ("Z21.x00", "", "hiv"),
        ("R75.x00", "", "hiv"),
        ("O98.700", "", "hiv"),
        ("I33.000x018", "HIV性心内膜炎", "hiv"),
        ("A52.101+G01*", "", "sexually-transmitted"),
        ("G30.100+F00.1*", "", "psychiatric"),
        ("F32.900", "抑郁发作", "psychiatric"),
        ("R69.x00", "重度抑郁状态", "psychiatric"),
        ("Q90.900", "", "genetic"),
        ("E84.000", "", "genetic"),
        ("T74.200", "", "violence"),
        ("O04.900", "", "abortion"),
        ("K80.101", "胆囊结石伴慢性胆囊炎", None),
        ("E06.500x001", "慢性侵袭性甲状腺炎", None),
        ("K27.900x005", "NSAIDs相关溃疡", None),
        ("O61.900", "引产失败", None),
        ("O03.900", "自然流产", None),
        ("Q21.000", "室间隔缺损", None),
        ("A49.900", "", None),
        ("A65.x00", "", None),
    ],
)
def test_sensitivity(code: str, name: str, reason: str | None) -> None:
    assert icd.sensitivity(code, name) == reason


def test_what_was_sensitive_stays_so(tables: Tables) -> None:
    """The ranges of the first version, and every published name that says it."""
    before = (("A50", "A64"), ("B20", "B24"), ("F00", "F99"), ("Q90", "Q99"), ("Z21", "Z21"))
    for code, name in tables.diagnoses.names.items():
        ranged = any(first <= code[:3] <= last for first, last in before)
        if ranged or "艾滋" in name or "染色体异常" in name or "精神分裂" in name:
            assert icd.sensitivity(code, name), code


def test_few_diagnoses_are_sensitive(tables: Tables) -> None:
    """A list that takes in everything would leave the payer nothing to decide on."""
    rows = list(tables.diagnoses.names.items())[::7]
    assert sum(icd.sensitivity(code, name) is not None for code, name in rows) < len(rows) * 0.08


def test_the_table_finds_what_the_code_hides() -> None:
    hidden = parse_table("B20.000 人类免疫缺陷病毒病\nL98.900 皮肤病", "D99.999 B20.000")
    assert icd.sensitivity("D99.999") is None
    assert icd.sensitivity("D99.999", table=hidden) == "hiv"
    assert diagnoses([("D99.999", "待查"), ("K80.101", "胆囊结石")], hidden) == (["K80.101"], ["B20.000"])


def test_a_record_keeps_sensitive_diagnoses_apart() -> None:
    rows = [("K80.101", "胆囊结石"), ("F32.900", "抑郁发作"), ("L98.900", "皮疹，艾滋病待排")]
    assert diagnoses(rows) == (["K80.101"], ["F32.900", "L98.900"])


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_code_and_name_get_an_answer(code: str, name: str) -> None:
    assert icd.sensitivity(code, name, TABLE) in {None, *(group.reason for group in icd.sensitive_groups())}
    nearest = TABLE.nearest(code)
    assert nearest is None or nearest in TABLE.names


@given(st.from_regex(r"[A-Z][0-9]{2}(\.[0-9]{3}(x[0-9]{3})?)?", fullmatch=True))
def test_three_characters_are_the_ladder_s(code: str) -> None:
    assert icd.category(code) == code[:3]
    value = [[code, "-", 1]]
    assert ladder.conforms("diagnoses", value)
    assert ladder.coarsen("diagnoses", "icd-categories", value) == [icd.category(code)]
