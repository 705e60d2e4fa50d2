"""A bill of which anything may be left open: what FHIR and the national interface both say, in the latter's names.

`zhifu.bill.Bill` is complete or refused. A claim that was born in FHIR has no catalogue class and no copay ratio, and
they cannot be invented: its fields here are None, and so are the units that they would fill.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from functools import reduce
from operator import add, attrgetter
from typing import Final

from zhifu import bill_forms, money
from zhifu.bill import Bill, Diagnosis, Procedure, Setlinfo
from zhifu.pricing import CLASS_A, CLASS_C, NOTHING, PricedLine, Split, split_line

CNY: Final = "CNY"
_DEFAULT_PROP: Final = {CLASS_A: 0, CLASS_C: money.ONE}


@dataclass(frozen=True, slots=True, repr=False)
class Head:
    """Who, where and when; names and values as in `zhifu.bill.Setlinfo`. No repr: it is patient data.

    ``policy_no`` is of a commercial policy; ``inpatient`` what the file itself says, None where it says nothing.
    """

    psn_name: str | None = None
    psn_cert_type: str | None = None
    certno: str | None = None
    mdtrt_id: str | None = None
    gend: int | None = None
    brdy: date | None = None
    tel: str | None = None
    addr: str | None = None
    psn_no: str | None = None
    medcasno: str | None = None
    setl_id: str | None = None
    invono: str | None = None
    bankacct: str | None = None
    fixmedins_code: str | None = None
    fixmedins_name: str | None = None
    hosp_lv: str | None = None
    insutype: str | None = None
    psn_type: str | None = None
    med_type: str | None = None
    begndate: date | None = None
    enddate: date | None = None
    main_cond_dscr: str | None = None
    policy_no: str | None = None
    inpatient: bool | None = None

    @property
    def days(self) -> int | None:
        """Days of the stay: the day of admission counts, the day of discharge does not, one at least."""
        if self.begndate is None or self.enddate is None:
            return None
        return max(1, (self.enddate - self.begndate).days)

    @property
    def is_outpatient(self) -> bool:
        """By the kind of care, or else by what the file says of the visit; a stay where nothing says so."""
        return bill_forms.is_outpatient(self.med_type) if self.med_type else self.inpatient is False


@dataclass(frozen=True, slots=True, repr=False)
class OpenLine:
    """One line; names and units as in `zhifu.bill.Line`, ``amt`` in minor units of the bill's currency."""

    path: str = ""
    med_list_codg: str | None = None
    medins_list_name: str | None = None
    med_chrgitm_type: str | None = None
    chrgitm_lv: str | None = None
    pric: int | None = None
    cnt: int | None = None
    amt: int | None = None
    selfpay_prop: int | None = None
    pric_uplmt: int | None = None
    lmt_used_flag: bool | None = None
    bilg_dr_name: str | None = None
    bilg_dept_name: str | None = None
    fee_ocur_time: date | None = None

    @property
    def prop(self) -> int | None:
        """The copay ratio; of 甲 and 丙 it is known (`zhifu.bill`)."""
        return self.selfpay_prop if self.selfpay_prop is not None else _DEFAULT_PROP.get(self.chrgitm_lv or "")

    @property
    def priced(self) -> PricedLine | None:
        """What a payer prices; None while something of it is open. Raises `Malformed` for a value out of range."""
        if self.chrgitm_lv is None or self.amt is None or self.pric is None or self.cnt is None or self.prop is None:
            return None
        return PricedLine(self.chrgitm_lv, self.amt, self.pric, self.cnt, self.pric_uplmt, self.prop)


@dataclass(frozen=True, slots=True, repr=False)
class OpenBill:
    """A bill whose identities hold on what is there.

    ``diagnoses`` and ``procedures`` are whole or None: a list with one left out would be a lie. ``total`` is in minor
    units of ``currency`` (ISO 4217), "" where there is no amount at all. ``path`` is where the file has the claim,
    ``created`` when it was made out; ``payable_c`` as in `zhifu.bill.Bill`.
    """

    head: Head
    lines: tuple[OpenLine, ...] = ()
    diagnoses: tuple[Diagnosis, ...] | None = None
    procedures: tuple[Procedure, ...] | None = None
    currency: str = CNY
    total: int | None = None
    path: str = ""
    created: date | None = None
    payable_c: bool = False

    @property
    def split(self) -> Split | None:
        """The sum over the lines; None while one of them is open, or the money is not yuan."""
        priced = [line.priced for line in self.lines]
        whole = [one for one in priced if one is not None]
        if not whole or len(whole) < len(priced) or self.currency != CNY:
            return None
        return reduce(add, (split_line(one, payable_c=self.payable_c) for one in whole), NOTHING)


AnyBill = Bill | OpenBill
"""A bill that payers can settle, or one that leaves open what their rules need: a person decides on that."""


def as_open(bill: AnyBill) -> OpenBill:
    """Either kind in the same words. Who wants the head alone asks `head_of`, which does not read every line."""
    return of_bill(bill) if isinstance(bill, Bill) else bill


def head_of(bill: AnyBill) -> Head:
    """Who, where and when, of either kind in the same words."""
    return _head(bill.setlinfo) if isinstance(bill, Bill) else bill.head


def split_of(bill: AnyBill) -> Split:
    """The bill's split; zero throughout where it leaves one open: nothing of it can be settled by arithmetic."""
    return bill.split or NOTHING


def of_bill(bill: Bill) -> OpenBill:
    """A complete bill in the same words."""
    lines = tuple(OpenLine(f"feedetail[{i}]", *_COLUMNS(line)) for i, line in enumerate(bill.lines))
    procedures, total = bill.procedures or None, bill.split.total
    return OpenBill(_head(bill.setlinfo), lines, bill.diagnoses, procedures, CNY, total, payable_c=bill.payable_c)


def of_admission(known: Setlinfo) -> OpenBill:
    """What is known of a visit before there is a bill: no lines, no diagnoses, no amount."""
    return OpenBill(_head(known))


def _head(known: Setlinfo) -> Head:
    return Head(*_SHARED(known))


_SHARED: Final = attrgetter(*(one.name for one in fields(Head) if one.name not in ("policy_no", "inpatient")))
_COLUMNS: Final = attrgetter(*(one.name for one in fields(OpenLine) if one.name != "path"))
