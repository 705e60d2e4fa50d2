"""How a name that the record knows is written in notes: with a title, in part, Latin names in either order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Final

from clients.hospital.scrub import words
from clients.hospital.scrub.needles import Needle
from zhifu import ladder
from zhifu.identifiers.spelling import compact, fold

_FULL, _TITLED, _PART, _LOOSE = 99, 95, 85, 70
_MASKS: Final = ("某某某", "某某", "某人", "某", "xxx", "xx", "××", "×", "***", "**", "*", "○○", "○", "□□")
# After a given name that stands without its surname, and before one: "子丑妈妈诉", "患儿子丑".
_AFTER: Final = (
    "先生 女士 小姐 同学 妈妈 爸爸 妈 爸 母亲 父亲 奶奶 爷爷 外婆 外公 家属 家长 诉 自述 说 "
    "之子 之女 之母 之父 之妻 之夫"
).split()
_BEFORE: Final = "患儿 患者 病人 病员 小名 乳名 名叫 叫做".split()
# 小时, 小于, 老年: words, not familiar names.
_NOT_FAMILIAR: Final = {"小": "时于方便儿孔包叶节区腿心支年肠", "老": "年龄化幼"}
_LATIN: Final = re.compile(r"[A-Za-zÀ-ɏ]")
_MOST_PARTS: Final = 4
_SHORTEST_PART: Final = 3


def spellings(name: str) -> Iterator[Needle]:
    """The needles for one person's name, Chinese, of a minority with its dot, or in Latin letters."""
    whole = compact(name)
    if _LATIN.search(name):
        yield Needle(whole, "name", _FULL, alone=True)
        yield from _latin([compact(part) for part in re.split(r"[\s,·.]+", fold(name))])
        return
    yield Needle(whole, "name", _FULL)
    if "·" in fold(name):
        first = compact(fold(name).split("·")[0])
        yield from _given(first)
        yield from _titled(first)
    else:
        surname = _surname(whole)
        yield from _titled(surname)
        yield from _masked(surname)
        yield from _given(whole[len(surname) :])


def _surname(name: str) -> str:
    found = ladder.coarsen("person-name", "surname", name)
    return name[:2] if name[:2] in words.read("compound-surnames") else str(found)


def _titled(surname: str) -> Iterator[Needle]:
    for title in words.read("titles"):
        yield Needle(surname + title, "name", _TITLED, 0, len(surname))
    # 提高患者…, 对于患者…: a surname that is also the end of a word must not have one before it.
    yield Needle(surname + "患者", "name", _PART, 0, len(surname), fresh=True)
    for familiar, endings in _NOT_FAMILIAR.items():
        if surname not in endings:
            yield Needle(familiar + surname, "name", _LOOSE, 1, 1 + len(surname))


def _masked(surname: str) -> Iterator[Needle]:
    for mask in _MASKS:
        yield Needle(surname + mask, "name", _TITLED)


def _given(given: str) -> Iterator[Needle]:
    if len(given) < 2:
        return
    for after in _AFTER:
        yield Needle(given + after, "name", _PART, 0, len(given))
    for before in _BEFORE:
        yield Needle(before + given, "name", _PART, len(before), len(before) + len(given))


def _latin(parts: Sequence[str]) -> Iterator[Needle]:
    """Every order of two or more parts, with a comma or an initial; one part only as a word with a capital."""
    given = [part for part in parts if part][:_MOST_PARTS]
    for count in range(2, len(given) + 1):
        for order in permutations(given, count):
            yield Needle("".join(order), "name", _FULL, alone=True)
            yield Needle(order[0] + "," + "".join(order[1:]), "name", _FULL, alone=True)
    for one, other in permutations(given, 2):
        for text in (one[0] + other, one + other[0], one + "," + other[0]):
            yield Needle(text, "name", _PART, alone=True, proper=True)
    for part in given:
        if len(part) >= _SHORTEST_PART:
            yield Needle(part, "name", _LOOSE, alone=True, proper=True)
