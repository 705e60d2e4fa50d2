"""How an address that the record knows is written in notes: without its province, its flat, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clients.hospital.scrub.needles import Needle
from zhifu.identifiers.spelling import compact

_FULL, _PART = 99, 90
# City and province are coarser levels of the same unit, so what is replaced starts after one of them or with all.
_REGION: Final = re.compile(r"省|自治区|特别行政区|市|自治州|地区|盟|区|县|旗|镇|乡|街道")
# What is finer than a district; a number alone is not an address.
_STREET: Final = re.compile(r"(?:路|街|巷|弄|里|道|胡同|村|组|苑|园|公寓|小区|大院|号|楼|栋|幢|单元|室|屯|队)")
_MOST: Final = 8
_SHORTEST: Final = 3


def spellings(address: str) -> Iterator[Needle]:
    """The needles for an address: from each region's end, to each street's, house's and flat's end."""
    whole = compact(address)
    yield Needle(whole, "address", _FULL)
    starts = [0, *(one.end() for one in _REGION.finditer(whole))][:_MOST]
    ends = [one.end() for one in _STREET.finditer(whole)][:_MOST]
    for start in starts:
        for end in {*ends, len(whole)}:
            part = whole[start:end]
            if len(part) >= _SHORTEST and _STREET.search(part) and not part[0].isdigit():
                yield Needle(part, "address", _PART)
