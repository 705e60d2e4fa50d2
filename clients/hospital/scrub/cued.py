"""Numbers that only the words before them explain: 住院号, 保单号, passport no. Check digits raise the confidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers import checks, citizen, papers, phones

_CHECKED, _CUED = 98, 75
_LEAST_DIGITS: Final = 4

_NO: Final = r"(?: ?(?:编?号码?|ID|代码|no\b\.?|nos\b\.?|number|#|num\b\.?))"
_JOIN: Final = r"(?: {0,3}(?:为|是|is|was|[:#(=]| )){0,3} {0,3}"
# Groups of four digits may have spaces between them; anything else ends at a space.
_CODE: Final = r"[A-Za-z0-9](?:[-/]?[A-Za-z0-9]){3,39}"
_GROUPS: Final = r"[0-9]{4}(?: [0-9]{4}){1,4}(?: [0-9]{1,3})?"
_VALUE: Final = rf"(?P<value>{_GROUPS}(?![0-9])|{_CODE})(?![A-Za-z0-9]|[.,][0-9]|[年月元份张])"

_Sure = Callable[[str], bool]


def _never(value: str) -> bool:
    return False


# Kind, what makes a value sure, and the words before it; in each the 号 or "no." is wanted unless it ends in "?".
_CUES: Final[tuple[tuple[str, _Sure, tuple[str, ...]], ...]] = (
    (
        "citizen-id",
        citizen.is_citizen_id,
        (
            rf"身份证件?{_NO}?",
            rf"证件{_NO}",
            rf"[旧新]证{_NO}?",
            rf"\b(?:citizen |national |identity )?ID{_NO}",
            r"\bID card",
        ),
    ),
    ("passport", papers.is_passport, (rf"护照{_NO}?", rf"\bpassport{_NO}?")),
    (
        "permit",
        papers.is_permit,
        (
            rf"(?:通行证|台胞证|回乡证|居住证|军官证|士官证|警官证|永居证|居留证){_NO}?",
            rf"\b(?:residence |travel )?permit{_NO}?",
        ),
    ),
    (
        "bank-account",
        checks.has_luhn,
        (rf"银行卡{_NO}?", rf"卡{_NO}", rf"[账帐]{_NO}", rf"[账帐]户{_NO}?", rf"\b(?:bank )?(?:account|card){_NO}?"),
    ),
    (
        "insured-number",
        _never,
        (
            rf"(?:医保|社保|参保|医疗保险|社会保障)[卡证]?{_NO}",
            "(?:个人|人员)编号",
            rf"\b(?:insured|insurance|social security|beneficiary){_NO}",
        ),
    ),
    (
        "record-number",
        _never,
        (
            rf"(?:住院|病案|病历|门诊|登记|档案|急诊|留观){_NO}",
            rf"\bMRN{_NO}?",
            rf"\b(?:medical |patient |hospital )?(?:record|chart){_NO}?",
            r"\bpatient ID",
        ),
    ),
    (
        "visit-number",
        _never,
        (rf"(?:就诊|挂号|就医){_NO}", rf"就诊流水{_NO}?", rf"\b(?:visit|encounter|admission){_NO}"),
    ),
    ("settlement-number", _never, (rf"结算单?{_NO}", "结算单", rf"\bsettlement{_NO}?")),
    ("invoice-number", _never, (rf"(?:发票|票据|收据){_NO}?", rf"\b(?:invoice|receipt){_NO}?")),
    (
        "policy-number",
        _never,
        (
            rf"(?:保单|保险单|保险合同|报案|赔案|理赔){_NO}",
            "保险?单(?= ?:)",
            rf"\b(?:insurance )?(?:policy|claim){_NO}",
        ),
    ),
    ("device", checks.has_luhn, (rf"IMEI{_NO}?", rf"(?:串|序列|设备|机身){_NO}", rf"\b(?:serial|device){_NO}")),
    ("organisation", checks.has_credit_code, ("信用代码", "纳税人识别号", "税号", "组织机构代码")),
    (
        "phone",
        phones.is_mobile,
        (
            "(?:手机|电话|座机|固话|联系方式|传真|热线)(?:号码?)?",
            r"\b(?:tel|telephone|phone|mobile|cell|fax)(?: no\.?| number)?\.?",
        ),
    ),
)
_RULES: Final = tuple(
    (kind, re.compile(rf"(?i:{'|'.join(words)}){_JOIN}\+?{_VALUE}"), sure) for kind, sure, words in _CUES
)
_PLAIN: Final = re.compile(r"[^0-9A-Za-z]")


def find(text: str) -> Iterator[Finding]:
    """Numbers in ``text``, folded, after a word that says whose or what they are; four digits at least."""
    for kind, rule, sure in _RULES:
        for hit in rule.finditer(text):
            value = _PLAIN.sub("", hit["value"]).upper()
            if sum(map(str.isdigit, value)) >= _LEAST_DIGITS and _fits(kind, value):
                how, confidence = (How.CHECKED, _CHECKED) if sure(value) else (How.UNCHECKED, _CUED)
                yield Finding(kind, *hit.span("value"), how, confidence)


def _fits(kind: str, value: str) -> bool:
    """Whether the value has the length and the alphabet of its kind; a date or an amount after the word has not."""
    if kind == "phone":
        return value.isdigit() and 7 <= len(value) <= 15
    if kind == "bank-account":
        return value.isdigit() and 8 <= len(value) <= 32
    if kind == "citizen-id":
        return len(value) in (15, 18) or not value.isdigit()
    if kind == "passport":
        return papers.is_passport(value) or papers.is_foreign_passport(value)
    return True
