"""The settlement in plain words, Chinese and English: made from reason codes and figures, never invented.

What each payer pays and why, what is left and why, what to do next. A reason that has no words here is shown as its
clause, which the payer wrote; nothing is said that no row says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clients.plain import yuan
from zhifu.explain import Explanation

# reason code -> (Chinese, English); {y} is the amount of the row.
_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "catalog.own": ("目录外（丙类）{y} 元，医保不付", "{y} is outside the catalogue; public insurance does not pay it"),
    "catalog.over": ("超过限价的 {y} 元，医保不付", "{y} is above a price limit; public insurance does not pay it"),
    "catalog.pre": ("乙类先由本人负担 {y} 元", "{y} is the advance share of class B items"),
    "threshold": ("本年起付线用去 {y} 元", "{y} of this year's threshold is used"),
    "hifp_pay.ratio": ("统筹基金按比例支付 {y} 元", "the pooled fund pays {y} by its ratio"),
    "hifp_pay.cap": ("统筹基金到年度限额，支付 {y} 元", "the pooled fund reaches its yearly cap and pays {y}"),
    "hifob_pay.ratio": ("大额补助支付 {y} 元", "the large-expense fund pays {y}"),
    "hifob_pay.cap": ("大额补助到年度限额，支付 {y} 元", "the large-expense fund reaches its cap and pays {y}"),
    "hifmi_pay.ratio": ("大病保险支付 {y} 元", "serious-illness insurance pays {y}"),
    "hifmi_pay.cap": ("大病保险到年度限额，支付 {y} 元", "serious-illness insurance reaches its cap and pays {y}"),
    "maf_pay.ratio": ("医疗救助支付 {y} 元", "medical relief pays {y}"),
    "maf_pay.cap": ("医疗救助到年度限额，支付 {y} 元", "medical relief reaches its cap and pays {y}"),
    "copay.ratio": ("统筹支付后按比例自付 {y} 元", "{y} is the copayment by ratio"),
    "copay.above_caps": ("超过年度限额 {y} 元", "{y} is above the yearly caps"),
    "eligible.all": ("可赔费用 {y} 元", "{y} is eligible"),
    "eligible.in_catalog": ("目录内可赔费用 {y} 元", "{y} in the catalogue is eligible"),
    "eligible.out_of_catalog": ("目录外可赔费用 {y} 元", "{y} outside the catalogue is eligible"),
    "eligible.item_cap": ("单项超限 {y} 元不计入", "{y} above the cap of its charge category is not counted"),
    "compensation.public": ("减去医保已付 {y} 元", "less {y} that public insurance paid"),
    "compensation.other": ("减去其他途径已付 {y} 元", "less {y} that others paid"),
    "deductible.offset": ("其他赔付抵扣免赔额 {y} 元", "{y} that others paid counts against the deductible"),
    "deductible.applied": ("扣除免赔额 {y} 元", "less {y} of the deductible"),
    "ratio.ratio": ("按约定比例为 {y} 元", "{y} at the agreed ratio"),
    "ratio.unsettled": ("未经医保结算，按降低的比例为 {y} 元", "{y} at the lower ratio, without public insurance"),
    "pay.due": ("赔付 {y} 元", "it pays {y}"),
    "pay.due.in_catalog": ("目录内赔付 {y} 元", "it pays {y} in the catalogue"),
    "pay.due.out_of_catalog": ("目录外赔付 {y} 元", "it pays {y} outside the catalogue"),
    "pay.sum": ("合计赔付 {y} 元", "it pays {y} in all"),
    "pay.visit_limit": ("每次就诊限额，赔付 {y} 元", "it pays {y}, the cap of a visit"),
    "pay.sum_insured_limit": ("保险金额余额为限，赔付 {y} 元", "it pays {y}, what is left of the sum insured"),
    "exclusion.waiting_period": ("在等待期内，不赔付", "nothing: the visit is within the waiting period"),
    "exclusion.before_cover": ("在保险期间之前，不赔付", "nothing: the visit is before the cover begins"),
    "exclusion.after_cover": ("在保险期间之后，不赔付", "nothing: the visit is after the cover ended"),
    "exclusion.pre_existing": ("投保前已患疾病，不赔付", "nothing: the condition existed before the policy"),
    "exclusion.hospital_grade": ("医院等级不在约定范围，不赔付", "nothing: the hospital is not of an agreed grade"),
    "reviewer.decision": ("经人工核定赔付 {y} 元", "a reviewer decided on {y}"),
}
_SAYS: Final = {
    "pays": ("{name}：支付 {y} 元。", "{name} pays {y}."),
    "why": ("依据：", "Because: "),
    "order": ("支付顺序按规则 {name}。", "They pay in the order of rule {name}."),
    "left": ("您需支付 {y} 元。", "You pay {y}."),
    "nothing": ("您无需支付。", "You pay nothing."),
    "account": ("其中个人账户支付 {y} 元，现金 {z} 元。", "{y} of it from the personal account, {z} in cash."),
    "refund": ("预交金退还 {y} 元。", "{y} of your deposit is returned."),
    "topup": ("预交金之外还需补交 {y} 元。", "{y} is due beyond your deposit."),
    "paid": ("本次费用共 {y} 元。", "The bill is {y} in all."),
    "next": ("如有疑问，请向相应支付方申请复核。", "If you disagree, ask the payer in question to look again."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Payer:
    """One payer of a settlement: its name, what it pays (fen), and the rows of its decision."""

    name: str
    fen: int
    rows: Sequence[Explanation]


@dataclass(frozen=True, slots=True)
class Sums:
    """What the patient is told, in fen."""

    total: int
    patient: int
    account: int
    cash: int
    deposit: int


def words(sums: Sums, payers: Sequence[Payer], order: str, language: str) -> list[str]:
    """The statement's sentences, from the bill's total to what to do next; ``language`` is zh or en."""
    said = [_say("paid", language, y=yuan(sums.total))]
    for payer in payers:
        said += _payer(payer, language)
    if len(payers) > 1:
        said.append(_say("order", language, name=order))
    return [*said, *_left(sums, language), _say("next", language)]


def reason(row: Explanation, language: str) -> str:
    """A row in words; its clause where the code has none."""
    pair = _REASONS.get(row.reason)
    return _pick(pair, language).format(y=yuan(row.amount)) if pair else row.clause


def _payer(payer: Payer, language: str) -> Iterator[str]:
    yield _say("pays", language, name=payer.name, y=yuan(payer.fen))
    shown = [reason(row, language) for row in payer.rows if row.amount or row.field == "pay"]
    if shown:
        mark = "；" if language == "zh" else "; "
        yield _say("why", language) + mark.join(dict.fromkeys(shown)) + ("。" if language == "zh" else ".")


def _left(sums: Sums, language: str) -> Iterator[str]:
    if not sums.patient:
        yield _say("nothing", language)
    else:
        yield _say("left", language, y=yuan(sums.patient))
    if sums.account:
        yield _say("account", language, y=yuan(sums.account), z=yuan(sums.cash))
    if sums.deposit > sums.cash:
        yield _say("refund", language, y=yuan(sums.deposit - sums.cash))
    elif 0 < sums.deposit < sums.cash:
        yield _say("topup", language, y=yuan(sums.cash - sums.deposit))


def _say(key: str, language: str, **places: str) -> str:
    return _pick(_SAYS[key], language).format(**places)


def _pick(pair: tuple[str, str], language: str) -> str:
    return pair[0] if language == "zh" else pair[1]
