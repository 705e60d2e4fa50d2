"""Check digits: what tells a number that was given out from one that merely looks like it."""

from __future__ import annotations

from typing import Final

_CREDIT: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def citizen_check_digit(first17: str) -> str:
    """The check digit ("0" to "9", "X") of a citizen ID's first 17 digits (GB 11643-1999, ISO 7064 MOD 11-2)."""
    remainder = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(first17)) % 11
    return "10X98765432"[remainder]


def credit_code_check_digit(first17: str) -> str:
    """The 18th character of a unified social credit code (GB 32100-2015, ISO 7064 MOD 31-3).

    Raises `ValueError` where one of the 17 characters is none of the code's 31.
    """
    remainder = sum(_CREDIT.index(sign) * pow(3, place, 31) for place, sign in enumerate(first17)) % 31
    return _CREDIT[-remainder % 31]


def luhn_check_digit(payload: str) -> str:
    """The digit that completes ``payload``, digits of a bank card (ISO/IEC 7812-1, annex B) or of an IMEI."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(payload))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def has_luhn(number: str) -> bool:
    """Whether the last of at least two ASCII digits completes the others."""
    return len(number) > 1 and _are_digits(number) and luhn_check_digit(number[:-1]) == number[-1]


def has_credit_code(code: str) -> bool:
    """Whether ``code`` is 18 characters of the alphabet of GB 32100, upper case, with the right last one."""
    return len(code) == 18 and set(code) <= set(_CREDIT) and credit_code_check_digit(code[:17]) == code[17]


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
