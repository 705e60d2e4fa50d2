"""An insurer's answer to a claim and what others pay: from the released units to a reservation (SETTLEMENT 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from clients.decision import RESERVED_S, Decision, read_money
from clients.insurer import adjudicate
from clients.insurer.adjudicate import Claim, Standing
from clients.insurer.cover import Cover, Span
from clients.insurer.product import Product
from clients.ledger import Holding, Ledger
from zhifu.cbor import Value
from zhifu.errors import Malformed
from zhifu.explain import Explanation
from zhifu.pricing import Split

PUBLIC: Final = "public"
PATIENT: Final = "patient"
"""The payee of a claim that its patient filed after she paid."""
QUICK_HELD_S: Final = 10 * 86_400
"""Nobody waits at a desk; what was agreed is paid within ten days (SETTLEMENT 3)."""
DIRECT: Final = "direct"
_CAP: Final = Explanation("pay", 0, "患者授权：金额上限 / the patient's cap on the amount", "review.above_cap")
_CORE: Final = Explanation("pay", 0, "核心业务系统复核 / the core system decides", "review.core_system")
_NARROWED: Final = "患者授权：未提供理赔所需信息 / the consent leaves out what the decision needs"


def claim(bill: Mapping[str, Value], coordination: Mapping[str, Value]) -> Claim:
    """The claim as adjudication sees it. Raises `Malformed` (schema.value) where a unit that it needs is missing."""
    totals, paid = read_money(bill, "totals"), read_money(coordination, "compensation")
    try:
        split = Split(**{one.name: totals[one.name] for one in fields(Split)})
    except KeyError as error:
        raise Malformed("schema.value", "the claim's totals are not complete") from error
    return Claim(
        split=split,
        public_settled=coordination.get("route") == PUBLIC,
        public=paid.get("public", 0),
        other_in_catalog=paid.get("other-in-catalog", 0),
        other_out_of_catalog=paid.get("other-out-of-catalog", 0),
        diagnoses=tuple(row[0] if isinstance(row, tuple) else row for row in bill.get("diagnosis") or ()),
        span=Span.of(bill.get("admission") or bill.get("visit-date")),
        grade=(bill.get("hospital") or (None, None, None))[2],
        charges=_charges(bill.get("item-charges")),
    )


def _charges(rows: Value) -> dict[str, int] | None:
    """Fen by charge category; None where the claim shows none."""
    return None if rows is None else {kind: fen for kind, fen in rows}  # noqa: C416


def narrowed(bill: Mapping[str, Value], coordination: Mapping[str, Value]) -> tuple[Explanation, ...]:
    """Why a reviewer must look: the units that the arithmetic needs and that the patient's consent left out.

    What others paid is never taken for nothing because it was not shown.
    """
    needed = {"totals": bill, "compensation": coordination, "route": coordination}
    if "payee" in coordination:
        needed["payee"] = coordination
    absent = (unit for unit, values in needed.items() if values.get(unit) is None)
    return tuple(Explanation("pay", 0, _NARROWED, f"review.{unit}_absent") for unit in absent)


def undecided(exchange: bytes, reasons: tuple[Explanation, ...]) -> Decision:
    """To a reviewer: nothing is held, nothing is refused."""
    return Decision("review", {"pay": 0}, reasons, exchange, 0)


@dataclass(frozen=True, slots=True)
class Question:
    """What a claim is decided by: the policy's terms and cover, its account, the claim's exchange.

    ``cap`` is the patient's, in fen. ``core_decides``: the rules propose only. ``holds_s``: how long what is decided is
    held for the confirmation. ``doubts`` are why a person must look at it, whatever the rules say.
    """

    terms: Product
    cover: Cover
    account: bytes
    exchange: bytes
    cap: int | None
    core_decides: bool = False
    holds_s: int = RESERVED_S
    doubts: tuple[Explanation, ...] = ()


def decide(found: Claim, asked: Question, ledger: Ledger, now: int) -> Decision:
    """Decide and hold what it uses of the policy year: deductibles and sum insured.

    What the rules cannot decide, or what is above the cap, goes to a reviewer: nothing is held, nothing is refused.
    """
    product, cover, exchange = asked.terms, asked.cover, asked.exchange
    used = ledger.used(asked.account, now)
    decided = adjudicate.decide(product, found, left(product, found, cover, used), cover)
    above = asked.cap is not None and decided.pay > asked.cap
    doubts = asked.doubts
    if decided.outcome == "pay" and (above or asked.core_decides):
        doubts = (*doubts, _CAP if above else _CORE)
    if doubts:
        whole, reasons = decided.patient + decided.pay, (*decided.reasons, *doubts)
        decided = replace(decided, outcome="review", pay=0, patient=whole, deductible_used=0, reasons=reasons)
    if decided.outcome == "review":
        rows = (*decided.explain, *decided.reasons)
        return Decision("review", _amounts(decided), rows, exchange, 0)
    holding = Holding(exchange, "reserved", held(decided), now + asked.holds_s, now)
    ledger.reserve(asked.account, holding, now)
    return Decision("reserved", _amounts(decided), decided.explain, holding.id, holding.expires)


def left(product: Product, found: Claim, cover: Cover, used: Mapping[str, int]) -> Standing:
    """What a claim finds of its policy year after ``used``, the sums of a ledger by token (fen)."""
    existing = any(known.holds(code) for known in cover.existing for code in found.diagnoses)
    return adjudicate.standing(product, used, existing=existing)


def _amounts(decided: adjudicate.Decision) -> dict[str, int]:
    """What the hospital is told. ``pay`` is in the catalogue and out of it, so that the next payer can be told."""
    shown = decided.paid if decided.outcome == "pay" else ()
    return {
        "pay": decided.pay,
        "pay_in_catalog": sum(one.in_catalog for one in shown),
        "pay_out_of_catalog": sum(one.out_of_catalog for one in shown),
        "patient": decided.patient,
        "proposed": decided.proposed,
        "deductible_used": decided.deductible_used,
        "deductible_left": decided.standing.deductible_left,
    }


def held(decided: adjudicate.Decision) -> dict[str, int]:
    """What a decision uses of the policy year, by the ledger's tokens."""
    sums = {"pay": sum(one.pay for one in decided.paid)}
    for number, one in enumerate(decided.paid):
        deductible, pay = adjudicate.tokens(number)
        sums |= {deductible: one.deductible_used, pay: one.pay}
    return sums
