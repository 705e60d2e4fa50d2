"""Postal addresses, found by their house number and read back to where they begin; and where a person works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clients.hospital.scrub.found import Finding, How

_CUED, _SHAPED, _WORK = 85, 70, 75

_UNIT: Final = "(?:号院|号楼|号|组|弄|栋|幢|座|楼|单元|层|室|户)"
_PLACE: Final = "(?:路|街|巷|弄|道|胡同|街道|镇|乡|村|屯|里|公寓|小区|宿舍|新村|花园|家园|苑|园|城|院)"
_HOUSE: Final = re.compile(
    rf"{_PLACE}[一-鿿]{{0,6}}? ?[0-9]{{1,5}}(?:-[0-9]{{1,4}}){{0,3}} ?{_UNIT}"
    rf"(?:[一-鿿]{{0,6}}? ?[0-9A-Z]{{1,5}}(?:-[0-9]{{1,4}}){{0,2}} ?{_UNIT}){{0,4}}(?:[0-9]{{2,4}}(?![0-9.]))?"
)
_NUMERAL: Final = "(?:[0-9]{1,3} ?|[一二三四五六七八九十]{1,3})"
_VILLAGE: Final = re.compile(rf"(?<![城乡])(?:镇|乡(?!镇)|街道)[一-鿿0-9]{{1,8}}?(?:村|屯|组){_NUMERAL}?(?:组|队|屯)?")
# Words that come before an address and are none of it, the longest first; what is left of them is not replaced.
_START: Final = re.compile(
    "现住址|家庭住址|户籍地址|户口地址|联系地址|通讯地址|住址|地址|现住|家住|居住|暂住|住在|户籍|籍贯|住|址|位于|来自|"
    "于|在|为|是|至|到|往"
)
_MOST_BEFORE: Final = 40
_CUE_BEFORE: Final = 6

_WORD: Final = "[A-Z][A-Za-z'-]{1,20}"
_ROOM: Final = r"(?:(?:Room|Apt\.?|Unit|Flat|Suite) {1,2}[0-9A-Z-]{1,6}, {0,2})?"
_ENGLISH: Final = re.compile(
    rf"{_ROOM}\b[0-9]{{1,5}} {{1,2}}(?:{_WORD} ){{1,3}}"
    r"(?:Road|Street|Avenue|Lane|Drive|Boulevard|Court|Place|Square|Terrace|Rd|St|Ave|Ln|Dr|Blvd)\b\.?"
    rf"(?:, {{0,2}}(?:{_WORD} ){{0,2}}(?:District|City|Province|County|Town|Village|State)){{0,3}}"
)

_AT_WORK: Final = (
    "(?:工作单位|就职于|任职于|供职于|受雇于|就读于|工作于|开票单位|单位|抬头|"
    "(?i:employer(?: is)?|employed (?:at|by)|works (?:at|for)))(?:名称|为|是|[: ]){0,3}"
)
_BODY: Final = (
    "(?:有限公司|公司|厂|中学|小学|大学|学院|学校|幼儿园|医院|局|所|院|中心|集团|银行|店|社|部|处|站|合作社)(?![一-鿿])"
)
_COMPANY: Final = r"(?:[A-Z][A-Za-z&'-]{1,30} ){0,5}[A-Z][A-Za-z&'-]{1,30}\.?"
_EMPLOYER: Final = re.compile(rf"{_AT_WORK}(?P<name>[一-鿿()]{{2,30}}?{_BODY}|{_COMPANY})")


def find(text: str) -> Iterator[Finding]:
    """Addresses and employers in ``text``, folded. City and province alone are none: they are a coarser level."""
    for pattern in (_HOUSE, _VILLAGE):
        for hit in pattern.finditer(text):
            start = _begin(text, hit.start())
            cued = _START.search(text[max(0, start - _CUE_BEFORE) : start]) is not None
            if cued or start < hit.start():
                yield Finding("address", start, hit.end(), How.UNCHECKED, _CUED if cued else _SHAPED)
    for hit in _ENGLISH.finditer(text):
        yield Finding("address", *hit.span(), How.UNCHECKED, _SHAPED)
    for hit in _EMPLOYER.finditer(text):
        yield Finding("employer", *hit.span("name"), How.UNCHECKED, _WORK)


def _begin(text: str, core: int) -> int:
    """Where the address begins whose street or village begins its last character at ``core``."""
    start = core
    while start > max(0, core - _MOST_BEFORE) and _is_part(text[start - 1]):
        start -= 1
    words = list(_START.finditer(text, start, core))
    return words[-1].end() if words else start


def _is_part(character: str) -> bool:
    return "一" <= character <= "鿿" or character.isdigit()
