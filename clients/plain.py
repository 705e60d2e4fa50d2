"""Values and levels in plain words, Chinese or English: what a person reads on a wallet, a desk or a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from zhifu import ladder, money
from zhifu.cbor import Value
from zhifu.schema import ABSENT, Schema, Unit

_SEXES: Final = {0: ("未知", "unknown"), 1: ("男", "male"), 2: ("女", "female"), 9: ("未说明", "not stated")}
_CHARGES: Final = {
    "01": ("床位", "bed"), "02": ("诊察", "consultation"), "03": ("检查", "examination"), "04": ("化验", "laboratory"),
    "05": ("治疗", "treatment"), "06": ("手术", "surgery"), "07": ("护理", "nursing"), "08": ("卫材", "materials"),
    "09": ("西药", "drugs"), "10": ("饮片", "herbs"), "11": ("中成药", "patent medicine"),
    "12": ("一般诊疗", "general care"), "13": ("挂号", "registration"), "14": ("其他", "other"),
}  # fmt: skip
_AMOUNTS: Final = {
    "total": ("总费用", "total"), "own": ("丙类全自费", "out of catalogue"), "over": ("超限价", "over the limit"),
    "pre": ("乙类先行自付", "advance share"), "inscp": ("符合政策范围", "in scope"), "public": ("医保支付", "public"),
    "commercial": ("商保支付", "commercial"), "patient": ("个人支付", "patient"), "cash": ("个人现金", "cash"),
}  # fmt: skip
_INSURANCES: Final = {
    "310": ("职工医保", "employees' insurance"), "340": ("离休医保", "veteran cadres' insurance"),
    "390": ("居民医保", "residents' insurance"), "391": ("居民医保", "residents' insurance"),
    "392": ("居民大病医保", "residents' serious-illness insurance"),
    "11": ("在职", "at work"), "1101": ("在职", "at work"), "1102": ("公务员在职", "civil servant"),
    "1103": ("灵活就业", "self-employed"), "12": ("退休", "retired"), "1201": ("退休", "retired"),
    "1202": ("公务员退休", "retired civil servant"), "1203": ("灵活就业退休", "retired, self-employed"),
    "1300": ("离休", "veteran cadre"), "1403": ("中小学生", "pupil"), "15": ("成年居民", "adult resident"),
    "21": ("普通住院", "inpatient"), "210104": ("急诊住院", "emergency admission"), "28": ("日间手术", "day surgery"),
}  # fmt: skip
"""Of the national interface: insurance, person and care types."""
_ABSENT: Final = ("不提供", "not shared")
_EMPTY: Final = ("无", "none")
_SHOWN: Final = 3
_LINE: Final = 40


def line(text: object) -> str:
    """Somebody else's words on one line of a terminal: what would steer it, or turn its text around, is spelled out."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(text))


def level_name(unit: Unit, rank: int | None, language: str) -> str:
    """A level in words; None or `ABSENT` is "not shared"."""
    if rank is None or rank == ABSENT:
        return _pick(_ABSENT, language)
    words = {"full": ("完整", "full"), "year": ("年", "year"), "ten-years": ("十年段", "decade"), "month": ("月",
    "month"),
             "surname": ("姓", "surname"), "category": ("三位类目", "category"), "chapter": ("章", "chapter"),
             "city": ("市", "city"), "province": ("省", "province"), "by-type": ("分类合计", "sums by type"),
             "raw": ("原文", "as written"), "scrubbed": ("去标识后", "scrubbed"),
             "class": ("类别", "class")}  # fmt: skip
    name = unit.levels[rank].name
    return _pick(words.get(name, (name, name)), language)


def shown(form: str, value: Value, language: str) -> str:
    """A value of ``form`` as one short line."""
    if value is None:
        return _pick(_EMPTY, language)
    found = _FORMS.get(form)
    return found(value, language) if found else str(value)


def released(schema: Schema, levels: bytes, finest: dict[str, Value], language: str) -> list[tuple[str, str, str]]:
    """(title, level, value as the recipient sees it) of every unit.

    Made from the finest values, on the reader's side.
    """
    rows = []
    for unit, rank in zip(schema.units, levels, strict=True):
        text = ""
        if rank != ABSENT:
            value = finest.get(unit.name)
            form = unit.levels[rank].form
            text = shown(form, value if rank == 0 else ladder.coarsen(unit.levels[0].form, form, value), language)
        rows.append((unit.title(language), level_name(unit, rank, language), text))
    return rows


def yuan(amount: int) -> str:
    """Fen as "12,000.00"."""
    whole, _, part = money.yuan(amount).partition(".")
    return f"{int(whole):,}.{part}"


def _pick(pair: tuple[str, str], language: str) -> str:
    return pair[0] if language == "zh" else pair[1]


def _few(items: Sequence[str], language: str) -> str:
    head = ("、" if language == "zh" else ", ").join(items[:_SHOWN])
    left = len(items) - _SHOWN
    return head if left <= 0 else head + (f" 等 {len(items)} 项" if language == "zh" else f" and {left} more")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE else line[:_LINE] + "…"


def _decade(value: Value, _: str) -> str:
    return f"{value}–{value + 9}"


def _diagnoses(value: Value, language: str) -> str:
    return _few([f"{code} {name}" for code, name, _ in value], language)


def _chapters(value: Value, language: str) -> str:
    return _few([f"第 {n} 章" if language == "zh" else f"chapter {n}" for n in value], language)


def _money(value: Value, language: str) -> str:
    return _few(
        [f"{_pick(_AMOUNTS.get(token, (token, token)), language)} {yuan(fen)}" for token, fen in value], language
    )


def _sums(value: Value, language: str) -> str:
    return _few([f"{_pick(_CHARGES.get(kind, (kind, kind)), language)} {yuan(fen)}" for kind, fen in value], language)


def _columns(value: Value, language: str) -> str:
    count = len(value[0]) if value else 0
    return f"{count} 行" if language == "zh" else f"{count} lines"


def _coded(code: str, language: str) -> str:
    return _pick(_INSURANCES.get(code, (code, code)), language)


def _list(value: Value, language: str) -> str:
    return _few([str(item) for item in value if item is not None], language)


_FORMS: Final[dict[str, Callable[[Value, str], str]]] = {
    "handle": lambda value, language: _pick(("（随机标识）", "(random handle)"), language),
    "hash": lambda value, _: value.hex()[:12] + "…",
    "ten-years": _decade,
    "sex": lambda value, language: _pick(_SEXES.get(value, _SEXES[0]), language),
    "days": lambda value, language: f"{value} 天" if language == "zh" else f"{value} days",
    "city": lambda value, _: "".join(dict.fromkeys(value)),
    "diagnoses": _diagnoses,
    "procedures": lambda value, language: _few([f"{code} {name or ''}".strip() for code, name in value], language),
    "procedure-categories": _list,
    "procedure-chapters": _chapters,
    "offsets": lambda value, language: _few([str(days) for days in dict.fromkeys(value) if days is not None], language),
    "free-text": lambda value, _: _short(value[0]),
    "scrubbed-text": lambda value, _: _short(value),
    "icd-categories": _list,
    "icd-chapters": _chapters,
    "tokens": _list,
    "names": _list,
    "departments": lambda value, language: _few(list(dict.fromkeys(str(v) for v in value if v is not None)), language),
    "dates": _list,
    "months": lambda value, language: _few(list(dict.fromkeys(str(v) for v in value if v is not None)), language),
    "levels": _columns,
    "prices": _columns,
    "charges": _columns,
    "catalog": _columns,
    "charge-sums": _sums,
    "money": _money,
    "fen": lambda value, _: yuan(value),
    "clauses": lambda value, language: _few([clause for _, _, clause, _ in value], language),
    "payments": lambda value, language: _few([f"{name} {yuan(fen)}" for _, name, fen in value], language),
    "hospital": lambda value, _: str(value[1]),
    "insurance": lambda value, language: _list([_coded(item, language) for item in value if item], language),
}


def moment(at: int) -> str:
    """Unix s as local time to the minute; nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""
