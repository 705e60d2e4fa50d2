"""What each value of a bill file must look like (SETTLEMENT 1; code values as in the national interface).

Texts are checked against the forms of the record schemas (`zhifu.ladder`), so that whatever is read can be sealed.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Final

from zhifu import ladder, money
from zhifu.fields import Grammar, at_least
from zhifu.identifiers.checks import citizen_check_digit as citizen_check_digit
from zhifu.identifiers.spelling import visible_places

_DAY: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?")
_MAX_SPELLED: Final = 128
_BRACKETS: Final = str.maketrans("", "", "()")
_CHARGE: Final = re.compile(r"(0[1-9]|1[0-4])[0-9]{0,4}")


def _form(name: str, most: int, expected: str) -> Grammar[str]:
    def read(text: str) -> str | None:
        # Fixed-width columns of a hospital's system are padded.
        bare = text.strip()
        # Normalising a long run of combining marks takes quadratic time, so the length is bounded before it too.
        if len(bare) > 4 * most:
            return None
        normal = unicodedata.normalize("NFC", bare)
        return normal if len(normal) <= most and ladder.conforms(name, normal) else None

    return Grammar(expected, read)


def _pattern(pattern: str, expected: str) -> Grammar[str]:
    compiled = re.compile(pattern)
    return Grammar(expected, lambda text: text if compiled.fullmatch(text) else None)


def _day(text: str) -> date | None:
    found = _DAY.fullmatch(text.strip())
    if found is None or not ladder.conforms("date", found[1]):
        return None
    return date.fromisoformat(found[1])


def _charge(text: str) -> str | None:
    found = _CHARGE.fullmatch(text)
    return found[1] if found else None


def _digit(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]", text) else None


def _icd10(text: str) -> str | None:
    return text if ladder.conforms("diagnoses", [[text, "-", 0]]) else None


def _icd9(text: str) -> str | None:
    return text if ladder.conforms("procedures", [[text, None]]) else None


def _phone(text: str) -> str | None:
    """In ASCII, without spaces and brackets: 138 0013 8000, （010）6234 5678."""
    if len(text) > _MAX_SPELLED:
        return None
    bare = "".join(visible_places(text)[0].split()).translate(_BRACKETS)
    return bare if ladder.conforms("phone", bare) else None


# 医疗类别: outpatient, emergency and chronic care (1…), and medicines from a pharmacy (41).
_OUTPATIENT: Final = ("1", "41")


def is_outpatient(care: str) -> bool:
    """Whether a kind of care (med_type) is a visit and no stay."""
    return care.startswith(_OUTPATIENT)


COUNT: Final = Grammar("a decimal string with up to four places", money.ten_thousandths)
PRICE: Final = Grammar(f"{COUNT.expected}, not negative", at_least(0, money.ten_thousandths))
# Some systems write 0 for "no limit", others mean it: too dear to guess.
LIMIT: Final = Grammar(
    f"{COUNT.expected}, above zero; leave it out without a limit", at_least(1, money.ten_thousandths)
)

DATE: Final = Grammar("a date, YYYY-MM-DD, with or without a time", _day)
MARK: Final[Grammar[bool]] = Grammar('"0" or "1"', {"0": False, "1": True}.get)
SEX: Final = Grammar("one digit", _digit)
CERT_TYPE: Final = _pattern("[0-9]{2}", "two digits")
CODE: Final = _pattern("[0-9]{2,6}", "a code of 2 to 6 digits")
GRADE: Final = _pattern("0[1-9]|1[0-4]", "a hospital grade, 01 to 14")
CLASS: Final = _pattern("0[1-4]", "01甲, 02乙, 03丙 or 04可报丙")
CHARGE_TYPE: Final = Grammar("a charge category, 01 to 14, with or without a sub-category", _charge)
ICD10: Final = Grammar("an ICD-10 code", _icd10)
ICD9: Final = Grammar("an ICD-9-CM-3 code", _icd9)

TOKEN: Final = _form("token", 64, "1 to 64 letters, digits or ._+*/-")
PERSON: Final = _form("person-name", 64, "1 to 64 printable characters")
NAME: Final = _form("text", 128, "1 to 128 printable characters")
ADDRESS: Final = _form("address", 256, "1 to 256 printable characters")
PHONE: Final = Grammar("7 to 20 digits or hyphens, with or without a leading +", _phone)
SPELLED: Final = Grammar(
    f"a number of at most {_MAX_SPELLED} characters", lambda text: text if len(text) <= _MAX_SPELLED else None
)
PROSE: Final = _form("scrubbed-text", 2000, "1 to 2000 printable characters or line breaks")
