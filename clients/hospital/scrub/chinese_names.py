"""Chinese names that the record does not know, by what stands around them; a surname alone is never enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clients.hospital.scrub import words
from clients.hospital.scrub.found import Finding, How

_LABELLED, _MASKED, _ROLE, _TITLED, _DOTTED, _FREE = 90, 85, 75, 75, 70, 50


def _one_of(*lists: str) -> str:
    """A group of all words of these lists, the longest first."""
    found = {word for name in lists for word in words.read(name)}
    return f"(?:{'|'.join(sorted(found, key=lambda word: (-len(word), word)))})"


_HAN: Final = "一-鿿"
_TITLE: Final = _one_of("titles")
_NOT_GIVEN: Final = "".join(words.read("not-given"))
_SURNAME: Final = rf"(?:{_one_of('compound-surnames')}|[{''.join(words.read('surnames'))}])"
# 赵大爷 is a surname and a title, not a name of three characters.
_GIVEN: Final = rf"(?:(?!{_TITLE}|同住|本人|家属|意见|一般|体温|[{_NOT_GIVEN}])[{_HAN}])"
_NAME: Final = rf"(?:{_SURNAME} ?{_GIVEN}(?: ?{_GIVEN})?)"
_NAMES: Final = rf"(?:{_NAME}(?:[/、] ?{_NAME}){{0,5}})"
# A name ends at anything that is not Han, or where notes go on to say what the person did, has or is.
_END: Final = (
    r"(?=$|[^一-鿿]|[因于诉述说称今昨前术入出住男女系为之由在到来既现目已未曾要拒代签陪会查值建考指交仍否自被经并与等的及]|"
    "[和无有医照父母妻夫儿]|主诉|产后|家属|病情|本人|精神|神志|夜间|意见|护士|主任|教授|同意|表示|同住|解释|办理|一般|体温|"
    "先生|女士)"
)
_DOTTED_NAME: Final = rf"(?:[{_HAN}]{{1,6}}·[{_HAN}]{{1,6}}?(?:·[{_HAN}]{{1,6}}?)?{_END})"

_LABEL: Final = rf"(?:姓 {{0,4}}名|{_one_of('labels')})"
# Here anything of two to four characters is a name, of whatever surname.
_FORM: Final = "(?:姓 {0,4}名|户名|收款人|付款人|持卡人|经办人|签名|签字|联系人|监护人)"
_KIN: Final = _one_of("kin")
_ROLE_WORD: Final = _one_of("roles")
# By, with, through whom: only where the person then does something.
_AGENT: Final = "[由请与经和及]"
_ACTS: Final = "(?=陪|送|照|代|签|医|护士|主任|教授|查房|会诊|解释|执行|操作|联系|同住)"
_AGE: Final = r"(?=[,， ]{1,3}(?:男|女|性别|[0-9]{1,3} ?岁|年龄)|\((?:男|女|[0-9]))"
_DID: Final = (
    "(?=于|因|诉|自述|主诉|代述|今[日晨天]|昨[日晚天]|产后|术后|拒绝|要求|家属|[::，,] ?您好|之[子女妻夫母父]|签字|"
    "代签|表示|夜间|入院|出院|仍|神志|精神)"
)

_NOT_NAMES: Final = frozenset(words.read("not-names"))
_NOT_TITLED: Final = frozenset(words.read("not-titled"))
_NOT_LABELLED: Final = _one_of("not-labelled")
_RULES: Final = tuple(
    (re.compile(pattern), confidence)
    for pattern, confidence in (
        (rf"{_LABEL} {{0,2}}[:(] {{0,2}}(?:[0-9]{{1,8}} )?(?P<name>{_DOTTED_NAME}|{_NAMES}{_END})", _LABELLED),
        (rf"{_FORM} {{0,2}}[:] {{0,2}}(?!{_NOT_LABELLED})(?P<name>{_GIVEN}{{2,4}}(?![{_HAN}]))", _LABELLED),
        (rf"{_LABEL}(?:为|是|系| )?(?P<name>{_NAMES}{_END})", _ROLE),
        (rf"{_KIN}(?:[:(,、]|为|是|系|名叫|叫)?(?P<name>{_NAME}{_END})", _ROLE),
        (rf"{_ROLE_WORD}[:, ]?(?P<name>{_NAME}{_END})", _ROLE),
        (rf"{_AGENT}(?P<name>{_NAME}{_ACTS})", _ROLE),
        (rf"姓(?P<name>{_SURNAME})(?![{_HAN}]|名)", _ROLE),
        (rf"(?P<name>{_SURNAME}{_GIVEN}{{0,2}}){_TITLE}", _TITLED),
        (rf"(?<![{_HAN}])[老小](?P<name>{_SURNAME})(?=今|昨|说|诉|自述|夜|精神|目前|现|的)", _FREE),
        (
            rf"(?P<name>{_SURNAME}(?:某(?![些种一项处次段部医院市县省地日晚年月公单科])[某甲乙丙丁人]?某?|[xX×*○□]{{2,3}}))",
            _MASKED,
        ),
        (rf"(?:^|[。;:!?\n]) {{0,4}}(?P<name>{_NAME}|{_DOTTED_NAME}){_AGE}", _LABELLED),
        (rf"(?:^|[。;,\n]) {{0,4}}(?P<name>{_NAME}){_DID}", _FREE),
        (rf"(?P<name>{_DOTTED_NAME})", _DOTTED),
    )
)
_LEADING: Final = re.compile(rf"(?:{_ROLE_WORD}|{_LABEL}|{_KIN}|其|为|是)+")
# One name of 张甲/李乙.
_PART: Final = re.compile(r"[^/、]+")
# 吉兰-巴雷综合征, 史密斯骨折: the name of a disease, a sign or an operation.
_EPONYM: Final = re.compile(
    rf"(?:-[{_HAN}]{{1,4}}?)?(?:氏|综合征|征|病(?![情人房区历])|骨折|试验|手术|术|法(?!定)|线|出血热)"
)


def find(text: str) -> Iterator[Finding]:
    """Names in ``text``, folded: after a label or a role, before a title, with an age, or doing what patients do."""
    for rule, confidence in _RULES:
        for hit in rule.finditer(text):
            for part in _PART.finditer(text, *hit.span("name")):
                start, end = part.start() + _lead(part.group()), part.end()
                if confidence >= _LABELLED or not (_is_word(text, start, end) or _EPONYM.match(text, end)):
                    yield Finding("name", start, end, How.UNCHECKED, confidence)


def _lead(name: str) -> int:
    """How many characters before a name with a dot are still the role: 产妇阿依·…"""
    found = _LEADING.match(name)
    return found.end() if found and found.end() < name.find("·") else 0


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether the name is a word that starts like one; for a surname alone, whether it ends one (双方 医生)."""
    if end - start == 1:
        return text[start - 1 : end] in _NOT_TITLED
    return text[start : start + 2] in _NOT_NAMES
