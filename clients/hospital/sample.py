"""Bills to try the program with: the figures of SETTLEMENT 4A, or of a visit, on a person who cannot exist.

The citizen ID starts with 999999, which is no region; the phone with 154, which no operator has; the bank account with
an issuer that is none. Everything is drawn from the seed, so the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce
from operator import add
from typing import Final

from zhifu import money
from zhifu.bill_forms import citizen_check_digit
from zhifu.pricing import CLASS_B, CLASS_C, NOTHING, PricedLine, Split, line_amount, split_line

# med_list_codg, name, med_chrgitm_type, chrgitm_lv, pric, cnt, selfpay_prop, department, day of the stay.
_ITEMS: Final = (
    ("001109000010000-110900001", "普通病房床位费", "01", "01", "60.00", "7", "0", "普外科", 0),
    ("001102000010000-110200005", "住院诊察费", "02", "01", "25.00", "7", "0", "普外科", 0),
    ("001201000030000-120100003", "二级护理", "07", "01", "30.00", "7", "0", "普外科", 0),
    ("002501010150000-250101015", "血细胞分析", "04", "01", "45.00", "9", "0", "检验科", 0),
    ("002102000040000-210200002", "腹部 CT 平扫", "03", "01", "630.00", "3", "0", "放射科", 1),
    ("002102000080000-210200007", "磁共振胰胆管成像", "03", "02", "1270.00", "1", "0.2", "放射科", 1),
    ("003301000050000-330100005", "全身麻醉", "05", "01", "1190.00", "1", "0", "麻醉科", 3),
    ("003311000070000-331100007", "腹腔镜下胆囊切除术", "06", "01", "3600.00", "1", "0", "普外科", 3),
    ("C03070513300000099900000001", "一次性使用套管穿刺器", "08", "02", "1250.00", "2", "0.2", "普外科", 3),
    ("C03070513300000099900000002", "可吸收结扎夹（自费）", "08", "03", "425.00", "4", "1", "普外科", 3),
    ("XB05XAL100B002010199901", "0.9%氯化钠注射液", "09", "01", "4.50", "40", "0", "普外科", 3),
    ("XJ01DCT100B014010199902", "注射用头孢呋辛钠", "09", "01", "38.60", "50", "0", "普外科", 3),
    ("XA02BCA100B014010199903", "注射用艾司奥美拉唑钠", "09", "02", "86.50", "20", "0.2", "普外科", 4),
    ("ZA06BAX0010010199904", "消炎利胆片", "11", "02", "40.00", "50", "0.2", "普外科", 4),
    ("001109000090000-110900009", "特需病房床位差价（自费）", "14", "03", "200.00", "4", "1", "普外科", 4),
)  # fmt: skip
# A visit of 620.00, of which a table with 50 % and no threshold pays 220.00 (SETTLEMENT 4C).
_VISIT_ITEMS: Final = (
    ("001101000020000-110200002", "普通门诊诊察费", "02", "01", "40.00", "1", "0", "消化内科", 0),
    ("002501010150000-250101015", "血细胞分析", "04", "01", "45.00", "2", "0", "检验科", 0),
    ("002203020010000-220302001", "腹部彩色多普勒超声", "03", "01", "150.00", "1", "0", "超声科", 0),
    ("XA02BCA100E001010199904", "奥美拉唑肠溶胶囊", "09", "01", "80.00", "2", "0", "消化内科", 0),
    ("C14110101000099900000003", "一次性采样器（自费）", "08", "03", "180.00", "1", "1", "检验科", 0),
)
_DIAGNOSES: Final = (("K80.101", "胆囊结石伴慢性胆囊炎", "1"), ("K76.000", "脂肪肝", "0"))
_VISIT_DIAGNOSES: Final = (("K29.500", "慢性胃炎", "1"),)
_OPERATIONS: Final = (("51.2300", "腹腔镜胆囊切除术"),)
_ADMITTED: Final = date(2026, 9, 7)
_STAY: Final = 7
_Row = tuple[str, str, str, str, str, str, str, str, int]
_SIGNS: Final = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
_LETTERS: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True)
class _Item:
    code: str
    name: str
    kind: str
    priced: PricedLine
    doctor: str
    department: str
    day: int


def sample_bill(seed: int | None = None, *, canaries: bool = False, outpatient: bool = False) -> bytes:
    """A bill file, JSON in UTF-8, that `zhifu.bill.parse` accepts.

    Without ``canaries`` the amounts are those of SETTLEMENT 4A (20,000 yuan) and only the person and the numbers depend
    on the seed; None is one seed more, for documentation. With ``canaries`` every text, number, price, count and amount
    is drawn and stands in the file once, so that a test can search a memory or a database for it. Only dates, sex,
    ICD-10 codes and the interface's own code values stay what they are: they cannot be told from chance. With
    ``outpatient`` it is a visit of 620 yuan.
    """
    draw = random.Random(f"zhifu sample {seed}")
    rows, illness = (_VISIT_ITEMS, _VISIT_DIAGNOSES) if outpatient else (_ITEMS, _DIAGNOSES)
    items = _canary_items(draw, rows) if canaries else [_item(*row) for row in rows]
    names = [(code, name + (_signs(draw, 6) if canaries else ""), main) for code, name, main in illness]
    operations = [(code, name + (_signs(draw, 6) if canaries else "")) for code, name in _OPERATIONS]
    split = reduce(add, (split_line(item.priced) for item in items), NOTHING)
    document = {
        "setlinfo": _person(draw, canaries) | _visit(draw, canaries, outpatient) | _totals(split),
        "feedetail": [_line(item) for item in items],
        "diseinfo": [{"diag_code": code, "diag_name": name, "maindiag_flag": main} for code, name, main in names],
    }
    if not outpatient:
        document["oprninfo"] = [{"oprn_oprt_code": code, "oprn_oprt_name": name} for code, name in operations]
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _item(
    code: str, name: str, kind: str, level: str, pric: str, cnt: str, prop: str, department: str, day: int
) -> _Item:
    bare = PricedLine.of(level, 0, pric, cnt, None, prop)
    priced = replace(bare, amt=line_amount(bare.pric, bare.cnt))
    return _Item(code, name, kind, priced, "测试医生甲", department, day)


def _canary_items(draw: random.Random, rows: Sequence[_Row]) -> list[_Item]:
    """Prices below 2,500 and counts below 5: even together they stay below the caps of the sample table."""
    prices = draw.sample(range(10_000_001, 25_000_000), len(rows))
    counts = draw.sample(range(10_001, 50_000), len(rows))
    props = draw.sample(range(1_001, 5_000), len(rows))
    return [
        _canary(draw, _item(*row), price, count, prop)
        for row, price, count, prop in zip(rows, prices, counts, props, strict=True)
    ]


def _canary(draw: random.Random, item: _Item, price: int, count: int, prop: int) -> _Item:
    level = item.priced.chrgitm_lv
    limit = None if level == CLASS_C else price - draw.randrange(1, 1_000_000)
    prop = prop if level == CLASS_B else item.priced.selfpay_prop
    return _Item(
        f"{item.code[:3]}{_letters(draw)}",
        item.name + _signs(draw, 6),
        item.kind,
        PricedLine(level, line_amount(price, count), price, count, limit, prop),
        f"测试医生{_signs(draw, 6)}",
        item.department + _signs(draw, 6),
        item.day,
    )


def _person(draw: random.Random, canaries: bool) -> dict[str, str]:
    born = date(1950, 1, 1) + timedelta(days=draw.randrange(20_000))
    first17 = f"999999{born:%Y%m%d}{draw.randrange(1000):03d}"
    province, city = (_signs(draw, 6), _signs(draw, 6)) if canaries else ("示例", "示例")
    return {
        "psn_name": f"测试患者{_signs(draw, 8 if canaries else 2)}",
        "psn_cert_type": "01",
        "certno": first17 + citizen_check_digit(first17),
        "gend": "1" if int(first17[-1]) % 2 else "2",
        "brdy": born.isoformat(),
        "tel": f"154{draw.randrange(10**8):08d}",
        "addr": f"{province}省{city}市测试路{draw.randrange(1, 1000)}号{_signs(draw, 6) if canaries else ''}",
        "psn_no": f"9999{draw.randrange(10**16):016d}",
        "bankacct": _with_luhn(f"999999{draw.randrange(10**12):012d}"),
        "insutype": "310",
        "psn_type": "1101",
    }


def _visit(draw: random.Random, canaries: bool, outpatient: bool) -> dict[str, str]:
    return {
        "mdtrt_id": f"{'MZ' if outpatient else 'ZY'}{_letters(draw)}",
        "medcasno": f"BA{_letters(draw)}",
        "setl_id": f"JS{_letters(draw)}",
        "invono": f"FP{_letters(draw)}",
        "fixmedins_code": f"H99{_letters(draw)}" if canaries else "H99999900001",
        "fixmedins_name": f"示例市第一人民医院{_signs(draw, 6) if canaries else ''}",
        "hosp_lv": "02",
        "med_type": "11" if outpatient else "21",
        "begndate": _ADMITTED.isoformat(),
        "enddate": (_ADMITTED + timedelta(days=0 if outpatient else _STAY)).isoformat(),
        "main_cond_dscr": _condition(draw, outpatient) + (_signs(draw, 6) if canaries else ""),
    }


def _condition(draw: random.Random, outpatient: bool) -> str:
    """A line of free text, with a number in it that scrubbing has to find."""
    what = "上腹隐痛两周，餐后明显" if outpatient else "反复右上腹痛半年，加重一周入院"
    return f"{what}；家属联系电话 154{draw.randrange(10**8):08d}。"


def _totals(split: Split) -> dict[str, str]:
    return {
        "medfee_sumamt": money.yuan(split.total),
        "fulamt_ownpay_amt": money.yuan(split.own),
        "overlmt_selfpay": money.yuan(split.over),
        "preselfpay_amt": money.yuan(split.pre),
        "inscp_scp_amt": money.yuan(split.inscp),
    }


def _line(item: _Item) -> dict[str, str]:
    priced = item.priced
    limit = {} if priced.pric_uplmt is None else {"pric_uplmt": money.decimal(priced.pric_uplmt)}
    return {
        "med_list_codg": item.code,
        "medins_list_name": item.name,
        "med_chrgitm_type": item.kind,
        "chrgitm_lv": priced.chrgitm_lv,
        "pric": money.decimal(priced.pric),
        "cnt": money.decimal(priced.cnt),
        "amt": money.yuan(priced.amt),
        "selfpay_prop": money.decimal(priced.selfpay_prop),
        **limit,
        "lmt_used_flag": "0",
        "bilg_dr_name": item.doctor,
        "bilg_dept_name": item.department,
        "fee_ocur_time": f"{(_ADMITTED + timedelta(days=item.day)).isoformat()} 10:00:00",
    }


def _signs(draw: random.Random, count: int) -> str:
    return "".join(draw.choices(_SIGNS, k=count))


def _letters(draw: random.Random) -> str:
    return "".join(draw.choices(_LETTERS, k=16))


def _with_luhn(digits: str) -> str:
    """``digits`` and their check digit (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return digits + str(-sum(value // 10 + value % 10 for value in doubled) % 10)
