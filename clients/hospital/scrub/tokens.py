"""What stands in a scrubbed text instead of a value: its kind, in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zhifu.errors import Malformed

TOKENS: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("姓名", "NAME"),
    "citizen-id": ("身份证号", "CITIZEN-ID"),
    "passport": ("护照号", "PASSPORT"),
    "permit": ("证件号", "PERMIT"),
    "phone": ("电话", "PHONE"),
    "date": ("日期", "DATE"),
    "address": ("地址", "ADDRESS"),
    "employer": ("单位", "EMPLOYER"),
    "organisation": ("机构代码", "ORGANISATION"),
    "bank-account": ("银行账号", "BANK-ACCOUNT"),
    "insured-number": ("医保号", "INSURED-NUMBER"),
    "record-number": ("病案号", "RECORD-NUMBER"),
    "visit-number": ("就诊号", "VISIT-NUMBER"),
    "settlement-number": ("结算号", "SETTLEMENT-NUMBER"),
    "invoice-number": ("票据号", "INVOICE-NUMBER"),
    "policy-number": ("保单号", "POLICY-NUMBER"),
    "plate": ("车牌", "PLATE"),
    "email": ("邮箱", "EMAIL"),
    "social": ("社交账号", "SOCIAL"),
    "url": ("网址", "URL"),
    "ip": ("IP地址", "IP"),
    "device": ("设备号", "DEVICE"),
}
"""Every kind, and its name in Chinese and English."""

LANGUAGES: Final = ("zh", "en")
LONGEST: Final = 2 + max(len(name) for names in TOKENS.values() for name in names)
"""Characters of the longest token: a scrubbed text is at most this much longer for each place that was replaced."""


def title(kind: str, language: str) -> str:
    """The kind's name. Raises `Malformed` (usage.argument) for another language than zh and en."""
    if language not in LANGUAGES:
        raise Malformed("usage.argument", f"a language is one of {', '.join(LANGUAGES)}")
    return TOKENS[kind][LANGUAGES.index(language)]


def token(kind: str, language: str) -> str:
    """The token for ``kind``: ``[姓名]`` or ``[NAME]``."""
    return f"[{title(kind, language)}]"
