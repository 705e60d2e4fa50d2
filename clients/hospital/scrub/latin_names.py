"""Names in Latin letters that the record does not know: after a title or a role, with an age, or in pinyin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clients.hospital.scrub import words
from clients.hospital.scrub.found import Finding, How

_TITLED, _CALLED, _AGED, _PINYIN, _FREE = 85, 75, 80, 65, 50


def _one_of(*lists: str) -> str:
    """A group of all words of these lists, in upper or lower case; an underscore stands for a space."""
    found = {word.replace("_", " ") for name in lists for word in words.read(name)}
    return rf"\b(?i:{'|'.join(sorted(found, key=lambda word: (-len(word), word)))})\b"


_WORD: Final = r"(?:[A-ZÀ-Þ]\.|[A-ZÀ-Þ][A-Za-zÀ-ÿ'-]{1,30}|[A-Z]\b)"
_NAME: Final = rf"(?:{_WORD}(?:,? {{1,2}}{_WORD}){{0,3}})"
_SEVERAL: Final = rf"(?:{_WORD}(?: {{1,2}}{_WORD}){{1,3}})"
_TITLE: Final = r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Doctor|Nurse|Madam)\b\.? {1,2}"
_KIN: Final = _one_of("latin-kin")
_ROLE: Final = _one_of("latin-kin", "latin-roles")
_CHINESE_ROLE: Final = "(?:患者|患儿|病人|产妇|姓名|家属|联系人|监护人|医师|医生|[父母]亲|丈夫|妻子|儿子|女儿)"
_DID: Final = (
    r"(?:denies|denied|reports|reported|complains|complained|states|stated|endorses|asks|asked|slept|tolerated|ambulated|"
    r"presented|was (?:seen|admitted|discharged|brought|transferred)|is (?:NPO|resting|seen)|resting|c/o|requests|"
    r"refused)\b"
)
_AGE: Final = r"(?=,? (?:is|was) an? [0-9]{1,3}|,? \(?[0-9]{1,3}[ -]?(?:y|yo|year)|, (?:fe)?male|, (?:MD|RN)\b)"
_SURNAMES: Final = "|".join(words.read("pinyin-surnames"))
_SYLLABLE: Final = rf"(?:(?:zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])?(?:{'|'.join(words.read('pinyin-finals'))}))"
_GIVEN: Final = rf"(?=[A-Z][a-z]{{1,11}}\b)(?i:{_SYLLABLE}(?:[-']?{_SYLLABLE})?)"

_RULES: Final = tuple(
    (re.compile(pattern), confidence)
    for pattern, confidence in (
        (rf"{_TITLE}(?P<name>{_NAME})", _TITLED),
        (rf"{_ROLE}(?: is)? ?[:,(] {{0,3}}(?P<name>{_NAME})", _CALLED),
        (rf"{_ROLE}(?: is)? {{1,3}}(?P<name>{_SEVERAL})", _CALLED),
        (rf"{_KIN} {{1,3}}(?P<name>{_NAME})", _CALLED),
        (rf"{_CHINESE_ROLE}[:( ]{{0,2}}(?P<name>{_SEVERAL})", _CALLED),
        (rf"(?P<name>{_NAME}) ?(?=先生|女士|小姐|太太|夫人|医生|教授|[,(] ?[男女])", _TITLED),
        (rf"(?P<name>{_NAME}){_AGE}", _AGED),
        (rf"(?P<name>{_SEVERAL})(?=, [0-9]{{1,3}}[,;.])", _AGED),
        (rf"\b(?P<name>(?:{_SURNAMES}) {_GIVEN})\b", _PINYIN),
        (rf"\b(?P<name>{_GIVEN} (?:{_SURNAMES}))\b", _PINYIN),
        (rf"(?:^|[.;:\n]) {{0,3}}(?P<name>{_NAME})(?= {_DID})", _FREE),
        (r"(?<![A-Za-z.])(?P<name>[A-Z]\. [A-Z][a-z]{2,30})\b", _FREE),
        (r"\b(?P<name>[A-Z][a-z]{2,30}, [A-Z]\.)", _FREE),
    )
)
_NOT_NAMES: Final = frozenset(words.read("not-latin-names"))


def find(text: str) -> Iterator[Finding]:
    """Names in ``text``, folded. A capital alone is never enough."""
    for rule, confidence in _RULES:
        for hit in rule.finditer(text):
            start, end = _named(hit["name"])
            if end > start:
                yield Finding("name", hit.start("name") + start, hit.start("name") + end, How.UNCHECKED, confidence)


def _named(name: str) -> tuple[int, int]:
    """Which part of ``name`` is one: the words between those that are none, two letters at least."""
    start = end = 0
    for word in re.finditer(r"[^ ]+", name):
        bare = word.group().strip(".,'-").lower().removesuffix("'s")
        if bare not in _NOT_NAMES:
            start, end = (word.start() if end == 0 else start), word.end()
        elif end:
            break
    kept = name[start:end].rstrip(",' -").removesuffix("'s")
    # The point of an initial is part of the name; the one at the end of a sentence is not.
    kept = kept if re.search(r"\b[A-Z]\.$", kept) else kept.rstrip(".")
    return start, start + len(kept) if sum(map(str.isalpha, kept)) > 1 else start
