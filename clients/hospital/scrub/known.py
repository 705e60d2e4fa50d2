"""What the record itself says of its patient: the values to look for first, and how each is spelled in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Final

from clients.hospital.scrub import known_names, known_places
from clients.hospital.scrub.found import Finding
from clients.hospital.scrub.needles import Needle, Needles
from zhifu.bill import Bill
from zhifu.identifiers import citizen, phones
from zhifu.identifiers.spelling import compact

_SURE: Final = 99
# A number this long is replaced also inside a longer one; a shorter one only where it stands alone.
_LONG: Final = 6
_SHORTEST: Final = 4
_ENDS: Final = (4, 6)
_PAPERS: Final = {"01": "citizen-id", "07": "passport", "08": "passport"}


@dataclass(frozen=True, slots=True, repr=False)
class KnownValue:
    """One value of the record; ``kind`` as in `tokens.TOKENS`, dates as YYYY-MM-DD."""

    kind: str
    value: str


class Known:
    """Values made ready to be found. ``days`` are the dates; ``ends`` maps the ends of long numbers to their kind."""

    def __init__(self, values: Iterable[KnownValue]) -> None:
        given = list(dict.fromkeys(values))
        self.days: Final = frozenset(chain.from_iterable(map(_days, given)))
        self.ends: Final = {end: one.kind for one in given for end in _ends(one)}
        self._needles: Final = Needles(chain.from_iterable(map(_spellings, given)))

    def find(self, text: str) -> Iterator[Finding]:
        """Where a known value stands in ``text``; dates and parts of numbers need their own finders."""
        return self._needles.find(text)


def from_bill(bill: Bill) -> Known:
    """The values of a bill that identify its patient, and the names of the doctors on it."""
    head = bill.setlinfo
    days = [head.brdy, head.begndate, head.enddate, *(line.fee_ocur_time for line in bill.lines)]
    texts = [
        ("name", head.psn_name),
        (_PAPERS.get(head.psn_cert_type, "permit"), head.certno),
        ("phone", head.tel),
        ("address", head.addr),
        ("insured-number", head.psn_no),
        ("visit-number", head.mdtrt_id),
        ("record-number", head.medcasno),
        ("settlement-number", head.setl_id),
        ("invoice-number", head.invono),
        ("bank-account", head.bankacct),
        *(("name", line.bilg_dr_name) for line in bill.lines),
        *(("date", day.isoformat()) for day in days if day is not None),
    ]
    return Known(KnownValue(kind, value) for kind, value in texts if value)


def _spellings(one: KnownValue) -> Iterator[Needle]:
    if one.kind == "name":
        yield from known_names.spellings(one.value)
    elif one.kind == "address":
        yield from known_places.spellings(one.value)
    elif one.kind != "date":
        for number in _numbers(one):
            if len(number) >= _SHORTEST:
                yield Needle(number, one.kind, _SURE, alone=len(number) < _LONG)


def _numbers(one: KnownValue) -> Iterator[str]:
    """The number, compact; of a citizen ID also its parts and the older form, of a phone also without its prefixes."""
    number = compact(one.value)
    yield number
    if one.kind == "citizen-id" and citizen.is_citizen_id(number.upper()):
        yield from (number[:17], number[:14], citizen.to_15(number.upper()))
    if one.kind == "phone":
        bare = phones.bare(number)
        yield bare
        if phones.is_landline(bare):
            yield bare[3 if bare[1] in "12" else 4 :]


def _days(one: KnownValue) -> Iterator[date]:
    if one.kind == "date":
        yield date.fromisoformat(one.value)
    elif one.kind == "citizen-id" and (born := citizen.birth_date(compact(one.value).upper())) is not None:
        yield born


def _ends(one: KnownValue) -> Iterator[str]:
    """The first six digits, and the last four and six characters of a long number."""
    number = compact(one.value)
    if one.kind not in ("name", "address", "date") and len(number) > 2 * _LONG - 4:
        yield number[:_LONG]
        yield from (number[-count:] for count in _ENDS)


NOTHING: Final = Known(())
