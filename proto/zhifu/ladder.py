"""The grammar of each level's values, and how a coarser value is made from a finer one (DESIGN 4.1, 4.7).

A *form* is a grammar; a schema names one for each level of a unit. `conforms` is what a recipient checks after opening
(a full date in a year slot is a violation); `coarsen` is what the hospital applies before sealing and an auditor
recomputes. Values are strict CBOR; None (absent) conforms to every form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

from zhifu.cbor import Value
from zhifu.chapters import chapter as chapter
from zhifu.chapters import procedure_chapter as procedure_chapter
from zhifu.errors import Malformed

Check = Callable[[Value], bool]

_MAX_FEN: Final = 10**13
_COMPOUND_SURNAMES: Final = frozenset(
    "欧阳 司马 上官 诸葛 东方 皇甫 尉迟 公孙 令狐 慕容 宇文 长孙 司徒 夏侯 端木 百里".split()
)
# Only a municipality may be both: another city is finer than its province. A city's name holds no district, road or
# number, so that 市 in a street's name (…路8号城市广场) does not carry the street along.
_PROVINCE: Final = r"(?:[^省市区]{1,8}?(?:省|自治区|特别行政区)|(?:北京|上海|天津|重庆)市)"
_CITY: Final = r"[^省市区县道路街巷弄号村楼栋室\s!-~０-９]{1,8}?(?:市|自治州|地区|盟)"
_ADDRESS: Final = re.compile(rf"(?P<province>{_PROVINCE})(?P<city>{_CITY})?")
_ICD10: Final = re.compile(r"[A-Z][0-9]{2}(?:\.[0-9A-Za-z+*]{1,12}){0,2}")
_ICD3: Final = re.compile(r"[A-Z][0-9]{2}")
_PROCEDURE: Final = re.compile(r"[0-9]{2}(?:\.[0-9A-Za-z]{1,12})?")
_MAX_PROSE: Final = 4000
_MAX_OCTETS: Final = 262_144
_ROWS: Final = (list, tuple)


def _matches(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _text(most: int) -> Check:
    return lambda value: isinstance(value, str) and 1 <= len(value) <= most and _is_visible(value)


def _is_visible(value: str) -> bool:
    # What Python calls printable has no character of category C, and nearly every text is that.
    return value.isprintable() or all(unicodedata.category(c)[0] != "C" for c in value)


def _prose(value: Value) -> bool:
    """A text of several lines."""
    return isinstance(value, str) and 1 <= len(value) <= _MAX_PROSE and _text(_MAX_PROSE)(value.replace("\n", " "))


def _between(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, _ROWS) and all(map(check, value))


def _tuple_of(*checks: Check) -> Check:
    def check(value: Value) -> bool:
        if not isinstance(value, _ROWS) or len(value) != len(checks):
            return False
        return all(one(item) for one, item in zip(checks, value, strict=True))

    return check


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_date(value: Value) -> bool:
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _ascending(check: Check) -> Check:
    """A list in strictly ascending order: how often a coarser value stood in the finer ones does not show."""
    each = _each(check)
    return lambda value: each(value) and all(a < b for a, b in pairwise(map(_sort_key, value)))


def _sort_key(value: Value) -> Value:
    return value[0] if isinstance(value, list | tuple) else value


def _unlike(check: Check) -> Check:
    """A list without repetitions."""
    each = _each(check)
    return lambda value: each(value) and len(set(value)) == len(value)


def _is_surname(value: Value) -> bool:
    return _text(2)(value) and _surname(value) == value


def _is_city(value: Value) -> bool:
    """Province and city, or a municipality twice."""
    if not _tuple_of(_is_province, _text(16))(value):
        return False
    province, city = value
    return re.fullmatch(_CITY, city) is not None or (city == province and province.endswith("市"))


def _columns(*checks: Check) -> Check:
    """A list of columns of one length each."""
    rows = _tuple_of(*(_each(check) for check in checks))
    return lambda value: rows(value) and len({len(column) for column in value}) == 1


_is_province: Final = _matches(_PROVINCE)
_fen: Final = _between(-_MAX_FEN, _MAX_FEN)
_token: Final = _matches(r"[A-Za-z0-9._+*/-]{1,64}")
_code_name: Final = _tuple_of(_matches(_ICD10.pattern), _text(128), _between(0, 1))

FORMS: Final[dict[str, Check]] = {
    "handle": lambda value: isinstance(value, bytes) and len(value) == 32,
    "text": _text(256),
    "token": _token,
    "tokens": _each(_or_null(_token)),
    "person-name": _text(64),
    "surname": _is_surname,
    "citizen-id": _matches(r"[0-9]{17}[0-9X]"),
    "phone": _matches(r"[0-9+][0-9-]{6,19}"),
    "address": _text(256),
    "city": _is_city,
    "province": _is_province,
    "date": _is_date,
    "month": _matches(r"[0-9]{4}-(?:0[1-9]|1[0-2])"),
    "year": _between(1880, 2200),
    "ten-years": lambda value: _between(1880, 2200)(value) and value % 10 == 0,
    "days": _between(0, 36600),
    "sex": _between(0, 9),
    "diagnoses": _each(_code_name),
    "icd-categories": _unlike(_matches(_ICD3.pattern)),
    "icd-chapters": _ascending(_between(1, 22)),
    "procedures": _each(_tuple_of(_matches(_PROCEDURE.pattern), _or_null(_text(128)))),
    "procedure-categories": _unlike(_matches("[0-9]{2}")),
    "procedure-chapters": _ascending(_between(0, 17)),
    "departments": _each(_or_null(_text(64))),
    "names": _each(_or_null(_text(128))),
    "dates": _each(_or_null(_is_date)),
    "months": _each(_or_null(_matches(r"[0-9]{4}-(?:0[1-9]|1[0-2])"))),
    # Days from admission; what was done before it is negative.
    "offsets": _each(_or_null(_between(-3660, 36600))),
    # What was written, and what is left of it: the sealer commits to both, so an auditor can compare.
    "free-text": _tuple_of(_prose, _prose),
    "scrubbed-text": _prose,
    # Prices, counts, limits and ratios are in ten-thousandths, as `zhifu.pricing` computes with them.
    "prices": _columns(_between(0, _MAX_FEN), _between(-_MAX_FEN, _MAX_FEN)),
    "charges": _columns(_matches(r"[0-9]{2}"), _fen),
    "charge-sums": _ascending(_tuple_of(_matches(r"[0-9]{2}"), _fen)),
    "catalog": _columns(_matches(r"0[1-4]"), _between(0, 10_000), _or_null(_between(1, _MAX_FEN)), _between(0, 1)),
    "levels": _each(_matches(r"0[1-4]")),
    "money": _each(_tuple_of(_token, _fen)),
    "fen": _fen,
    "clauses": _each(_tuple_of(_token, _fen, _text(160), _token)),
    "payments": _each(_tuple_of(_token, _text(128), _fen)),
    "hash": lambda value: isinstance(value, bytes) and len(value) == 32,
    # What is itself signed or canonical, and is parsed by whoever opens it.
    "octets": lambda value: isinstance(value, bytes) and 1 <= len(value) <= _MAX_OCTETS,
    "seconds": _between(0, 2**40),
    "hospital": _tuple_of(_token, _text(128), _or_null(_token)),
    "insurance": _tuple_of(_or_null(_token), _or_null(_token), _or_null(_token)),
}
"""Form name -> grammar. A schema that names another form does not load."""


def conforms(form: str, value: Value) -> bool:
    """Whether ``value`` is absent (None) or fits the grammar of ``form``, a key of `FORMS`."""
    return value is None or FORMS[form](value)


def _surname(name: str) -> str:
    return name[:2] if name[:2] in _COMPOUND_SURNAMES else name[:1]


def _city(address: str) -> Value:
    found = _ADDRESS.match(address)
    if found is None:
        return None
    province = found["province"]
    return [province, found["city"] or province] if found["city"] or province.endswith("市") else None


def _province_of_address(address: str) -> Value:
    found = _ADDRESS.match(address)
    return found["province"] if found else None


def _unique(items: Sequence[Value]) -> list[Value]:
    return list(dict.fromkeys(items))


def _charge_sums(columns: Sequence[Sequence[Value]]) -> Value:
    sums: dict[str, int] = {}
    for kind, amount in zip(*columns, strict=True):
        sums[kind] = sums.get(kind, 0) + amount
    return sorted(([kind, amount] for kind, amount in sums.items()), key=lambda row: str(row[0]))


_COARSEN: Final[dict[tuple[str, str], Callable[[Value], Value]]] = {
    ("person-name", "surname"): _surname,
    ("date", "month"): lambda day: day[:7],
    ("date", "year"): lambda day: int(day[:4]),
    ("date", "ten-years"): lambda day: int(day[:4]) // 10 * 10,
    ("address", "city"): _city,
    ("address", "province"): _province_of_address,
    ("diagnoses", "icd-categories"): lambda rows: _unique([row[0][:3] for row in rows]),
    ("diagnoses", "icd-chapters"): lambda rows: sorted({chapter(row[0]) for row in rows}),
    ("procedures", "procedure-categories"): lambda rows: _unique([row[0][:2] for row in rows]),
    ("procedures", "procedure-chapters"): lambda rows: sorted({procedure_chapter(row[0]) for row in rows}),
    ("free-text", "scrubbed-text"): lambda texts: texts[1],
    ("dates", "months"): lambda days: [day and day[:7] for day in days],
    ("charges", "charge-sums"): _charge_sums,
    ("catalog", "levels"): lambda columns: list(columns[0]),
}


def can_coarsen(finest: str, form: str) -> bool:
    """Whether a schema may put ``form`` on a ladder whose finest level has the form ``finest``."""
    return (finest, form) in _COARSEN


def coarsen(finest: str, form: str, value: Value) -> Value:
    """The value at a coarser level, made from the finest one; None stays None.

    Raises `Malformed` (schema.value) where the value has no coarser form.
    """
    if value is None:
        return None
    try:
        return _COARSEN[finest, form](value)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise Malformed("schema.value", f"a value of form {finest} has no form {form}") from error
