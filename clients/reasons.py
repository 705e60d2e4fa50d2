"""Reason codes of payers' decisions in plain words, Chinese and English: for a desk's statement and a wallet's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clients.plain import yuan
from zhifu.explain import Explanation

# reason code -> (Chinese, English); {y} is the amount of the row, {clause} what stands there in its maker's words.
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
    "late.compensation": ("超过承诺时限，另付延误补偿 {y} 元", "{y} more, because the decision was late"),
    "review.not_insured": (
        "暂未在参保名册中找到您，须人工核对",
        "you are not in the insurer's book yet: a person looks",
    ),
    "review.above_cap": ("超过您授权的金额上限，须人工核对", "it is above your own cap: a person looks"),
    "review.core_system": ("须由核心业务系统复核", "the insurer's own system decides"),
    "review.totals_absent": ("未提供费用合计，须人工核对", "the totals were not shared: a person looks"),
    "review.compensation_absent": ("未提供他方赔付，须人工核对", "what others paid was not shared: a person looks"),
    "review.route_absent": ("未提供是否经医保结算，须人工核对", "the route was not shared: a person looks"),
    "review.payee_absent": ("未提供收款人，须人工核对", "who is to be paid was not shared: a person looks"),
    "review.diagnosis_absent": ("未提供诊断，须人工核对", "no diagnosis was shared: a person looks"),
    "review.not_settled_publicly": ("未经医保结算，须人工核对", "public insurance was not used: a person looks"),
    "review.no_rule": ("没有适用的规则，须人工核对", "no rule fits: a person looks"),
    "eligibility.threshold": ("本年起付线尚余 {y} 元", "{y} of this year's threshold is still to be paid"),
    "eligibility.hifp_pay": ("统筹基金本年限额尚余 {y} 元", "{y} of the pooled fund's yearly cap is left"),
    "eligibility.hifob_pay": ("大额补助本年限额尚余 {y} 元", "{y} of the large-expense fund's yearly cap is left"),
    "eligibility.hifmi_pay": ("大病保险本年限额尚余 {y} 元", "{y} of serious-illness insurance's yearly cap is left"),
    "eligibility.maf_pay": ("医疗救助本年限额尚余 {y} 元", "{y} of medical relief's yearly cap is left"),
    "eligibility.deductible": ("免赔额尚余 {y} 元", "{y} of the deductible is left"),
    "eligibility.sum_insured": ("保险金额尚余 {y} 元", "{y} of the sum insured is left"),
    "eligibility.visit_cap": ("每次就诊最多赔付 {y} 元", "at most {y} is paid for a visit"),
    "review.self_service": ("您自行报案，由人工核定", "you reported it yourself: a person decides"),
    "review.visit_again": (
        "该次就诊已有一笔理赔，须人工核对",
        "a claim of this visit is paid or being decided: a person looks",
    ),
    "review.disputed": ("按您的异议重新审核", "looked at again because you disputed it"),
    "reviewer.decision": ("经人工核定赔付 {y} 元：{clause}", "a reviewer decided on {y}: {clause}"),
}

# How a settlement ended, where the catalogue's English alone would not do: reason -> (Chinese, English).
_ENDED: Final[Mapping[str, tuple[str, str]]] = {
    "settlement.repeated": (
        "该次就诊的这些天已由另一笔结算，医保不重复支付；请先撤销原结算",
        "public insurance has settled these days of the visit already and pays no day twice: take that back first",
    ),
}


def ended(reason_: str, detail: str, language: str) -> str:
    """Why a settlement failed, in words; the error's own where there are no better ones."""
    pair = _ENDED.get(reason_)
    return pair[0 if language == "zh" else 1] if pair else detail


def reason(row: Explanation, language: str) -> str:
    """A row in words; its clause where the code has none."""
    pair = _REASONS.get(row.reason)
    text = (pair[0] if language == "zh" else pair[1]) if pair else "{clause}"
    return text.format(y=yuan(row.amount), clause=row.clause)
