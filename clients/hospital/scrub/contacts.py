"""E-mail, web and network addresses, accounts of messengers, number plates: what carries its own mark."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from clients.hospital.scrub.found import Finding, How
from zhifu.identifiers.papers import PLATE

_SHAPED, _CUED, _PLATED = 90, 80, 80

_MAIL: Final = r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,256}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}"
_URL: Final = (
    r"(?:\b(?:https?|ftp)://|(?<![A-Za-z0-9.])www\.)[A-Za-z0-9._~:/?#\[\]@!$&*+;=%-]{1,2000}[A-Za-z0-9/#=&_~-]"
)
_IPV4: Final = r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])"
_IPV6: Final = r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z:])"
_MAC: Final = r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Za-z])"
_WECHAT: Final = (
    r"(?:微信(?:账?号|ID)?|(?i:wechat|weixin)(?: ?(?i:id|no\.?|account))?|抖音号?|微博|"
    r"(?i:skype|whatsapp|telegram|line id))"
    r"(?: ?(?:为|是|is|:|：))? ?@?(?P<value>[A-Za-z][A-Za-z0-9_-]{5,30})(?![A-Za-z0-9@])"
)
_QQ: Final = r"(?i:qq)(?:群|号码?|账号)?(?: ?(?:为|是|is|:|：))? ?(?P<value>[1-9][0-9]{4,11})(?![0-9A-Za-z])"


def _always(value: str) -> bool:
    return True


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_account(value: str) -> bool:
    """English goes on after the word: "WeChat message", "prefers"; an account has a figure or a joint in it."""
    return any(character.isdigit() or character in "_-" for character in value)


_RULES: Final[tuple[tuple[str, re.Pattern[str], Callable[[str], bool], How, int], ...]] = tuple(
    (kind, re.compile(pattern), fits, how, confidence)
    for kind, pattern, fits, how, confidence in (
        ("email", _MAIL, _always, How.CHECKED, _SHAPED),
        ("url", _URL, _always, How.CHECKED, _SHAPED),
        ("ip", _IPV4, _is_address, How.CHECKED, _SHAPED),
        ("ip", _IPV6, _is_address, How.CHECKED, _SHAPED),
        ("device", _MAC, _always, How.CHECKED, _SHAPED),
        ("social", _WECHAT, _is_account, How.UNCHECKED, _CUED),
        ("social", _QQ, _always, How.UNCHECKED, _CUED),
        ("plate", rf"{PLATE}(?![A-Za-z0-9])", _always, How.CHECKED, _PLATED),
    )
)


def find(text: str) -> Iterator[Finding]:
    """Addresses and accounts of networks, and number plates, in ``text``, folded."""
    for kind, rule, fits, how, confidence in _RULES:
        for hit in rule.finditer(text):
            group = "value" if "value" in rule.groupindex else 0
            if fits(hit[group]):
                yield Finding(kind, *hit.span(group), how, confidence)
