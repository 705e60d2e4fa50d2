"""What the public payer pays of a bill, and why (SETTLEMENT 2).

It works from what the payer receives: the columns of the priced lines, never the file. Every figure of the result
has an explanation, and the result keeps the identities before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import reduce
from operator import add

from clients.public_payer.rules import BURDEN, Layer, Rule
from zhifu import identities, money
from zhifu.errors import Malformed
from zhifu.explain import Explanation
from zhifu.pricing import NOTHING, PricedLine, Split, split_line


@dataclass(frozen=True, slots=True)
class YearToDate:
    """What this person has used this year before the bill, in fen, by the field that counts it.

    A fund's burden is what the patient bore in the catalogue before that fund paid: its threshold is the year's.
    """

    act_pay_dedc: int = 0
    hifp_pay: int = 0
    hifob_pay: int = 0
    hifmi_pay: int = 0
    maf_pay: int = 0
    cvlserv_pay: int = 0
    hifes_pay: int = 0
    oth_pay: int = 0
    hifmi_burden: int = 0
    maf_burden: int = 0
    cvlserv_burden: int = 0
    hifes_burden: int = 0
    oth_burden: int = 0


@dataclass(frozen=True, slots=True)
class PublicSplit:
    """The public payer's statement in the national fields (2304), in fen.

    ``copay_one`` 自付一 = threshold + ratio copay + what is over the caps; ``copay_two`` 自付二 = pre. ``funds`` never
    contains the personal account; ``fund_pay_sumamt`` does where the city prints it so. ``year`` counts this bill in;
    it holds once the split is confirmed. ``rule`` names the city, table version and row that decided.
    """

    rule: str
    medfee_sumamt: int
    fulamt_ownpay_amt: int
    overlmt_selfpay: int
    preselfpay_amt: int
    inscp_scp_amt: int
    act_pay_dedc: int
    hifp_pay: int
    hifob_pay: int
    hifmi_pay: int
    maf_pay: int
    cvlserv_pay: int
    hifes_pay: int
    oth_pay: int
    fund_pay_sumamt: int
    copay_one: int
    copay_two: int
    psn_part_amt: int
    acct_pay: int
    psn_cash_pay: int
    explain: tuple[Explanation, ...]
    year: YearToDate

    @property
    def funds(self) -> int:
        """All funds together, without the personal account."""
        return self.hifp_pay + self.other_funds

    @property
    def other_funds(self) -> int:
        """All funds but the pool."""
        named = self.hifob_pay + self.hifmi_pay + self.maf_pay + self.cvlserv_pay + self.hifes_pay
        return named + self.oth_pay

    @property
    def statement(self) -> identities.Statement:
        """The same figures as the identities see them."""
        parts = Split(
            self.medfee_sumamt, self.fulamt_ownpay_amt, self.overlmt_selfpay, self.preselfpay_amt, self.inscp_scp_amt
        )
        return identities.Statement(
            split=parts,
            pool=self.hifp_pay,
            other_funds=self.other_funds,
            copayment=self.copay_one + self.copay_two,
            out_of_catalog=self.fulamt_ownpay_amt + self.overlmt_selfpay,
            commercial=0,
            account=self.acct_pay,
            cash=self.psn_cash_pay,
        )


def settle(
    rule: Rule, lines: Sequence[PricedLine], year: YearToDate | None = None, *, acct_pay: int = 0
) -> PublicSplit:
    """The public payer's share of one bill; ``acct_pay`` (fen) is what the patient pays from the personal account.

    Raises `Malformed`: bill.identity where a line or the whole does not add up, usage.argument where ``acct_pay`` is
    not between zero and what is left to the patient, or ``year`` is below zero.
    """
    year = year or YearToDate()
    if min(astuple(year)) < 0:
        raise Malformed("usage.argument", "what was used this year is below zero")
    split = _add_up(rule, lines)
    threshold = min(split.inscp, max(0, rule.threshold - year.act_pay_dedc))
    rows, above = _funds(rule, split.inscp - threshold, year)
    copay = _explain_copay(rule, split, threshold, rows, above)
    relief, burdens = _relief(rule, split.inscp + split.pre - _paid(rows), year)
    explain = (*_explain_split(rule, split, threshold), *rows, *copay, *relief)
    result = _result(rule, split, explain, year, acct_pay, burdens)
    identities.check_statement(result.statement, public=True)
    return result


def _add_up(rule: Rule, lines: Sequence[PricedLine]) -> Split:
    for number, line in enumerate(lines, start=1):
        identities.check_line(line, number)
    split = reduce(add, (split_line(line, payable_c=rule.payable_c) for line in lines), NOTHING)
    identities.check_split(split)
    return split


def _funds(rule: Rule, base: int, year: YearToDate) -> tuple[list[Explanation], int]:
    """What the layers pay of ``base``, each starting from what lies above the cap of the one before; and the rest."""
    used = {"hifp_pay": year.hifp_pay, "hifob_pay": year.hifob_pay}
    rows: list[Explanation] = []
    for layer in rule.layers:
        if layer.pays in used:
            found, base = _layer(layer, base, max(0, layer.cap - used[layer.pays]))
            rows += found
    return rows, base


def _relief(rule: Rule, burden: int, year: YearToDate) -> tuple[list[Explanation], dict[str, int]]:
    """What the funds pay that look at a year's burden, one after the other, and what burden each of them saw.

    Each pays the difference that this bill makes over the year, so that a bill in two is paid like one.
    """
    rows, seen = [], {}
    for layer in rule.layers:
        if layer.pays not in BURDEN:
            continue
        name = burden_of(layer.pays)
        before = getattr(year, name)
        due = _over_year(layer, before + burden) - _over_year(layer, before)
        pay = max(0, min(due, layer.cap - getattr(year, layer.pays), burden))
        rows.append(Explanation(layer.pays, pay, layer.clause, f"{layer.pays}.{'ratio' if pay == due else 'cap'}"))
        seen[name] = burden
        burden -= pay
    return rows, seen


def burden_of(pays: str) -> str:
    """The field of `YearToDate` that counts a fund's burden."""
    return pays.replace("_pay", "_burden")


def _over_year(layer: Layer, burden: int) -> int:
    return sum(money.share(width, ratio) for width, ratio in _widths(layer, max(0, burden - layer.threshold)))


def _layer(layer: Layer, base: int, left: int) -> tuple[list[Explanation], int]:
    """One explanation per segment, each rounded half up, and the part of ``base`` that lies above the cap.

    ``left`` is what the cap still allows (fen). The cap's place in the base is itself a rounded fen: 0.005 yuan of
    base at most changes hands between two layers, none is lost.
    """
    rows, above = [], 0
    for width, ratio in _widths(layer, base):
        due = money.share(width, ratio)
        pay = min(due, left)
        if pay < due or not left:
            above += width - (min(width, money.half_up(pay * money.ONE, ratio)) if pay else 0)
        left -= pay
        rows.append(Explanation(layer.pays, pay, layer.clause, f"{layer.pays}.{'ratio' if pay == due else 'cap'}"))
    return rows, above


def _widths(layer: Layer, base: int) -> Iterator[tuple[int, int]]:
    """(fen of ``base`` in the segment, ratio) for each segment that ``base`` reaches."""
    ends = [segment.start for segment in layer.segments[1:]] + [base]
    for segment, end in zip(layer.segments, ends, strict=True):
        if base > segment.start:
            yield min(base, end) - segment.start, segment.ratio


def _explain_split(rule: Rule, split: Split, threshold: int) -> Iterator[Explanation]:
    parts = ("own", "fulamt_ownpay_amt", split.own), ("over", "overlmt_selfpay", split.over)
    for part, field, amount in (*parts, ("pre", "preselfpay_amt", split.pre)):
        if amount:
            yield Explanation(field, amount, rule.clauses[part], f"catalog.{part}")
    yield Explanation("act_pay_dedc", threshold, rule.threshold_clause, "threshold")


def _explain_copay(
    rule: Rule, split: Split, threshold: int, rows: Sequence[Explanation], above: int
) -> Iterator[Explanation]:
    shared = split.inscp - threshold - _paid(rows) - above
    yield Explanation("copay_one", shared, rule.clauses["copay"], "copay.ratio")
    if above:
        yield Explanation("copay_one", above, rule.clauses["above"], "copay.above_caps")


def _paid(rows: Sequence[Explanation]) -> int:
    return sum(row.amount for row in rows)


def _by_fund(rule: Rule, explain: Sequence[Explanation]) -> Mapping[str, int]:
    return {layer.pays: _paid([row for row in explain if row.field == layer.pays]) for layer in rule.layers}


def _result(
    rule: Rule, split: Split, explain: tuple[Explanation, ...], year: YearToDate, acct_pay: int,
    burdens: Mapping[str, int],
) -> PublicSplit:  # fmt: skip
    paid = _by_fund(rule, explain)
    funds = sum(paid.values())
    personal = split.total - funds
    if not 0 <= acct_pay <= personal:
        raise Malformed("usage.argument", "the account cannot pay more than what is left to the patient")
    threshold = sum(row.amount for row in explain if row.field == "act_pay_dedc")
    # What relief pays is taken from 自付一 first; only what is left of it from 自付二.
    relieved = max(0, funds - split.inscp)
    return PublicSplit(
        rule=rule.name,
        medfee_sumamt=split.total,
        fulamt_ownpay_amt=split.own,
        overlmt_selfpay=split.over,
        preselfpay_amt=split.pre,
        inscp_scp_amt=split.inscp,
        act_pay_dedc=threshold,
        hifp_pay=paid.get("hifp_pay", 0),
        hifob_pay=paid.get("hifob_pay", 0),
        hifmi_pay=paid.get("hifmi_pay", 0),
        maf_pay=paid.get("maf_pay", 0),
        cvlserv_pay=paid.get("cvlserv_pay", 0),
        hifes_pay=paid.get("hifes_pay", 0),
        oth_pay=paid.get("oth_pay", 0),
        fund_pay_sumamt=funds + (acct_pay if rule.account_in_fund_total else 0),
        copay_one=split.inscp - funds + relieved,
        copay_two=split.pre - relieved,
        psn_part_amt=personal,
        acct_pay=acct_pay,
        psn_cash_pay=personal - acct_pay,
        explain=explain,
        year=_counted(year, {"act_pay_dedc": threshold, **paid, **burdens}),
    )


def _counted(year: YearToDate, used: Mapping[str, int]) -> YearToDate:
    return YearToDate(**{one.name: getattr(year, one.name) + used.get(one.name, 0) for one in fields(year)})
