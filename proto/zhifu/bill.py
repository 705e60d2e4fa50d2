"""The bill at discharge, in the field names of the national 医保 interface (SETTLEMENT 1).

`parse` is the only way in: a `Bill` keeps the identities of SETTLEMENT 2. Keys that this module does not name are
dropped, never carried on (default deny); `Bill.dropped` counts them, so that an operator can notice a misspelt one.
Names come from the interfaces 2204/2301/5204 (lines) and 2203/2304/4101 (the rest); where those differ, all are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import add
from typing import Final

from zhifu import bill_forms as forms
from zhifu import identities, ladder, money, strict_json
from zhifu.errors import Malformed
from zhifu.fields import AMOUNT, FEN, RATIO, Fields, Grammar
from zhifu.identifiers import citizen
from zhifu.identities import Deposit
from zhifu.pricing import CLASS_A, CLASS_B, CLASS_C, CLASS_C_PAYABLE, NOTHING, PricedLine, Split, split_line

__all__ = [
    "MAX_BYTES", "Bill", "Diagnosis", "Line", "PricedLine", "Procedure", "Setlinfo", "Split", "parse", "split_line",
]  # fmt: skip

MAX_BYTES: Final = 4 << 20
MAX_LINES: Final = 10_000
MAX_DIAGNOSES: Final = 100
MAX_PROCEDURES: Final = 100

_REASON: Final = "bill.syntax"
_CITIZEN: Final = "01"
_DEFAULT_PROP: Final = {CLASS_A: 0, CLASS_C: money.ONE}


@dataclass(frozen=True, slots=True, repr=False)
class Setlinfo:
    """Who, where and when; names are the interface's. No repr: it is patient data.

    ``medfee_sumamt`` is fen, None where the file leaves it to the lines;
    ``gend`` 0 to 9; a ``certno`` of type "01" has a valid GB 11643 check digit, X upper case.
    """

    psn_name: str
    psn_cert_type: str
    certno: str
    mdtrt_id: str | None
    medfee_sumamt: int | None
    gend: int | None
    brdy: date | None
    tel: str | None
    addr: str | None
    psn_no: str | None
    medcasno: str | None
    setl_id: str | None
    invono: str | None
    bankacct: str | None
    fixmedins_code: str | None
    fixmedins_name: str | None
    hosp_lv: str | None
    insutype: str | None
    psn_type: str | None
    med_type: str | None
    begndate: date | None
    enddate: date | None
    deposit: Deposit | None
    main_cond_dscr: str | None = None

    @property
    def days(self) -> int | None:
        """Days of the stay: the day of admission counts, the day of discharge does not, one at least."""
        if self.begndate is None or self.enddate is None:
            return None
        return max(1, (self.enddate - self.begndate).days)


@dataclass(frozen=True, slots=True, repr=False)
class Line(PricedLine):
    """One line of the item list. ``med_chrgitm_type`` is the two digits of SETTLEMENT 1 ("0801" becomes "08")."""

    med_list_codg: str
    medins_list_name: str | None
    med_chrgitm_type: str
    lmt_used_flag: bool
    bilg_dr_name: str | None
    bilg_dept_name: str | None
    fee_ocur_time: date | None

    @property
    def priced(self) -> PricedLine:
        """What a payer needs of it, and nothing else."""
        return PricedLine(self.chrgitm_lv, self.amt, self.pric, self.cnt, self.pric_uplmt, self.selfpay_prop)


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis:
    """One diagnosis: 医保 ICD-10 code, name, whether it is the main one."""

    diag_code: str
    diag_name: str
    maindiag_flag: bool


@dataclass(frozen=True, slots=True, repr=False)
class Procedure:
    """One operation or procedure: 医保 ICD-9-CM-3 code and name."""

    oprn_oprt_code: str
    oprn_oprt_name: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Bill:
    """A bill whose identities hold. ``split`` is the sum over the lines, ``dropped`` how many keys were not read.

    ``payable_c``: its city pays for 04可报丙 as for 乙, by the file's own figures.
    """

    setlinfo: Setlinfo
    lines: tuple[Line, ...]
    diagnoses: tuple[Diagnosis, ...]
    split: Split
    dropped: int
    procedures: tuple[Procedure, ...] = ()
    payable_c: bool = False

    @property
    def other_reading(self) -> Split:
        """The sum where the city counts 04可报丙 the other way; the same where there is no such line."""
        return reduce(add, (split_line(line, payable_c=not self.payable_c) for line in self.lines), NOTHING)


def parse(data: bytes) -> Bill:
    """Read and check a bill file of at most `MAX_BYTES` bytes (SETTLEMENT 1 and 2).

    04可报丙 counts as 丙 unless the parts that the file declares hold only where it does not. Raises `Malformed`:
    bill.syntax with the path of the value at fault, bill.identity with the identity's name and the line.
    """
    document = strict_json.loads(data, MAX_BYTES, _REASON)
    if not isinstance(document, dict):
        raise Malformed(_REASON, "a bill must be an object with setlinfo, feedetail and diseinfo")
    top = Fields(document, "", _REASON)
    head, rows, diseases = top.inner("setlinfo"), top.rows("feedetail", MAX_LINES), top.rows("diseinfo", MAX_DIAGNOSES)
    operations = top.maybe_rows("oprninfo", MAX_PROCEDURES)
    setlinfo = _setlinfo(head)
    diagnoses = tuple(_diagnosis(row) for row in diseases)
    if not any(diagnosis.maindiag_flag for diagnosis in diagnoses):
        raise Malformed(_REASON, "diseinfo has no main diagnosis")
    procedures = tuple(_procedure(row) for row in operations)
    lines = tuple(_line(row) for row in rows)
    split, payable_c = _split(lines, rows, setlinfo, head)
    if (unusable := strict_json.find_unusable(document)) is not None:
        raise Malformed(_REASON, f"a value under a key that is not read {unusable.why}")
    dropped = sum(len(part.unread()) for part in (top, head, *rows, *diseases, *operations))
    return Bill(setlinfo, lines, diagnoses, split, dropped, procedures, payable_c)


def parse_admission(data: bytes) -> Setlinfo:
    """Read what is known of a visit before there is a bill: ``setlinfo`` alone, with the visit's number (mdtrt_id).

    At most `MAX_BYTES` bytes. Raises `Malformed` (bill.syntax) with the path of the value at fault.
    """
    document = strict_json.loads(data, MAX_BYTES, _REASON)
    if not isinstance(document, dict):
        raise Malformed(_REASON, "an admission must be an object with setlinfo")
    head = Fields(document, "", _REASON).inner("setlinfo")
    found = _setlinfo(head)
    if found.mdtrt_id is None:
        # Without it, nobody could say later that the bill is of this visit.
        raise head.refusal("mdtrt_id", "is missing: before there is a bill, a visit is known by its number alone")
    if (unusable := strict_json.find_unusable(document)) is not None:
        raise Malformed(_REASON, f"a value under a key that is not read {unusable.why}")
    return found


# --- reading ------------------------------------------------------------------------------------------------------


def _setlinfo(head: Fields) -> Setlinfo:
    cert_type = head.maybe(forms.CERT_TYPE, "psn_cert_type", "patn_cert_type") or _CITIZEN
    begin, end = head.maybe(forms.DATE, "begndate", "adm_time"), head.maybe(forms.DATE, "enddate", "dscg_time")
    if begin is not None and end is not None and end < begin:
        raise head.refusal("enddate", "is before begndate")
    return Setlinfo(
        psn_name=head.need(forms.PERSON, "psn_name"),
        psn_cert_type=cert_type,
        certno=_certno(head, cert_type),
        mdtrt_id=head.maybe(forms.TOKEN, "mdtrt_id"),
        medfee_sumamt=head.maybe(AMOUNT, "medfee_sumamt"),
        gend=head.maybe(forms.SEX, "gend"),
        brdy=head.maybe(forms.DATE, "brdy"),
        tel=head.maybe(forms.PHONE, "tel"),
        addr=head.maybe(forms.ADDRESS, "addr", "curr_addr"),
        psn_no=head.maybe(forms.TOKEN, "psn_no"),
        medcasno=head.maybe(forms.TOKEN, "medcasno"),
        setl_id=head.maybe(forms.TOKEN, "setl_id"),
        invono=head.maybe(forms.TOKEN, "invono"),
        bankacct=head.maybe(forms.TOKEN, "bankacct"),
        fixmedins_code=head.maybe(forms.TOKEN, "fixmedins_code"),
        fixmedins_name=head.maybe(forms.NAME, "fixmedins_name"),
        hosp_lv=head.maybe(forms.GRADE, "hosp_lv"),
        insutype=head.maybe(forms.CODE, "insutype"),
        psn_type=head.maybe(forms.CODE, "psn_type"),
        med_type=head.maybe(forms.CODE, "med_type"),
        begndate=begin,
        enddate=end,
        deposit=_deposit(head),
        main_cond_dscr=head.maybe(forms.PROSE, "main_cond_dscr"),
    )


def _certno(head: Fields, cert_type: str) -> str:
    if cert_type != _CITIZEN:
        return head.need(forms.TOKEN, "certno").upper()
    number = citizen.normal(head.need(forms.SPELLED, "certno"))
    if not ladder.conforms("citizen-id", number):
        raise head.refusal("certno", "must be 17 digits and a check digit")
    if forms.citizen_check_digit(number[:17]) != number[17]:
        raise head.refusal("certno", "has a wrong check digit")
    return number


def _deposit(head: Fields) -> Deposit | None:
    """Identity 4 binds once the deposit and the cash are both known; a top-up or refund not given is zero."""
    given = [head.maybe(AMOUNT, name) for name in ("deposit_amt", "topup_amt", "refund_amt")]
    cash = head.maybe(AMOUNT, "psn_cash_pay")
    if cash is None or given == [None, None, None]:
        return None
    paid, topup, refund = (amount or 0 for amount in given)
    return Deposit(paid, topup, refund, cash)


def _line(row: Fields) -> Line:
    level = row.need(forms.CLASS, "chrgitm_lv")
    shared = level in (CLASS_B, CLASS_C_PAYABLE)
    prop = row.need(RATIO, "selfpay_prop") if shared else row.maybe(RATIO, "selfpay_prop")
    return Line(
        chrgitm_lv=level,
        amt=row.need(FEN, "amt", "det_item_fee_sumamt"),
        pric=row.need(forms.PRICE, "pric"),
        cnt=row.need(forms.COUNT, "cnt"),
        pric_uplmt=row.maybe(forms.LIMIT, "pric_uplmt", "pric_uplmt_amt"),
        selfpay_prop=_DEFAULT_PROP[level] if prop is None else prop,
        med_list_codg=row.need(forms.TOKEN, "med_list_codg"),
        medins_list_name=row.maybe(forms.NAME, "medins_list_name") or row.maybe(forms.NAME, "hilist_name"),
        med_chrgitm_type=row.need(forms.CHARGE_TYPE, "med_chrgitm_type"),
        lmt_used_flag=row.maybe(forms.MARK, "lmt_used_flag") or False,
        bilg_dr_name=row.maybe(forms.NAME, "bilg_dr_name"),
        bilg_dept_name=row.maybe(forms.NAME, "bilg_dept_name"),
        fee_ocur_time=row.maybe(forms.DATE, "fee_ocur_time"),
    )


def _diagnosis(row: Fields) -> Diagnosis:
    return Diagnosis(
        row.need(forms.ICD10, "diag_code"), row.need(forms.NAME, "diag_name"), row.need(forms.MARK, "maindiag_flag")
    )


def _procedure(row: Fields) -> Procedure:
    return Procedure(row.need(forms.ICD9, "oprn_oprt_code"), row.maybe(forms.NAME, "oprn_oprt_name"))


# --- adding up ----------------------------------------------------------------------------------------------------


def _split(lines: tuple[Line, ...], rows: list[Fields], setlinfo: Setlinfo, head: Fields) -> tuple[Split, bool]:
    """The sum, and whether it is by the rule of a city that pays for 04可报丙."""
    try:
        return _checked(lines, rows, setlinfo, head, payable_c=False), False
    except Malformed as error:
        if error.reason != "bill.identity" or all(line.chrgitm_lv != CLASS_C_PAYABLE for line in lines):
            raise
        try:
            return _checked(lines, rows, setlinfo, head, payable_c=True), True
        except Malformed:
            raise error from None


def _checked(
    lines: tuple[Line, ...], rows: list[Fields], setlinfo: Setlinfo, head: Fields, *, payable_c: bool
) -> Split:
    split = _add_up(lines, rows, payable_c)
    _check_totals(setlinfo, head, split)
    return split


def _add_up(lines: tuple[Line, ...], rows: list[Fields], payable_c: bool) -> Split:
    parts = []
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        identities.check_line(line, number)
        part = split_line(line, payable_c=payable_c)
        _check_declared(row, part, FEN, number)
        parts.append(part)
    return reduce(add, parts, NOTHING)


def _check_totals(setlinfo: Setlinfo, head: Fields, split: Split) -> None:
    identities.check_declared("medfee_sumamt", setlinfo.medfee_sumamt, split.total)
    _check_declared(head, split, AMOUNT)
    identities.check_split(split)
    if setlinfo.deposit is not None:
        identities.check_deposit(setlinfo.deposit)


def _check_declared(where: Fields, split: Split, grammar: Grammar[int], number: int | None = None) -> None:
    for names, computed in (
        (("fulamt_ownpay_amt",), split.own),
        (("overlmt_selfpay", "overlmt_amt"), split.over),
        (("preselfpay_amt",), split.pre),
        (("inscp_scp_amt",), split.inscp),
    ):
        identities.check_declared(names[0], where.maybe(grammar, *names), computed, number)
