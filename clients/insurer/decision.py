"""An insurer's answer to a claim and what others pay: from the released units to a reservation (SETTLEMENT 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Final

from clients.decision import RESERVED_S, Decision, read_money
from clients.insurer import adjudicate
from clients.insurer.adjudicate import Claim, Standing
from clients.insurer.product import Product
from clients.ledger import Holding, Ledger
from zhifu.cbor import Value
from zhifu.errors import Malformed
from zhifu.explain import Explanation
from zhifu.pricing import Split

PUBLIC: Final = "public"
DIRECT: Final = "direct"
_CAP: Final = Explanation("pay", 0, "患者授权：金额上限 / the patient's cap on the amount", "review.above_cap")
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
    )


def narrowed(bill: Mapping[str, Value], coordination: Mapping[str, Value]) -> tuple[Explanation, ...]:
    """Why a reviewer must look: the units that the arithmetic needs and that the patient's consent left out.

    What others paid is never taken for nothing because it was not shown.
    """
    needed = {"totals": bill, "compensation": coordination, "route": coordination}
    absent = (unit for unit, values in needed.items() if values.get(unit) is None)
    return tuple(Explanation("pay", 0, _NARROWED, f"review.{unit}_absent") for unit in absent)


def undecided(exchange: bytes, reasons: tuple[Explanation, ...]) -> Decision:
    """To a reviewer: nothing is held, nothing is refused."""
    return Decision("review", {"pay": 0}, reasons, exchange, 0)


def decide(
    found: Claim, product: Product, ledger: Ledger, account: bytes, exchange: bytes, cap: int | None, now: int
) -> Decision:
    """Decide and hold what it uses of the policy year: deductible and sum insured. ``cap`` is the patient's, in fen.

    What the rules cannot decide, or what is above the cap, goes to a reviewer: nothing is held, nothing is refused.
    """
    used = ledger.used(account, now)
    # A policy's sums may have been lowered below what was used before.
    deductible, insured = product.deductible - used.get("deductible_used", 0), product.sum_insured - used.get("pay", 0)
    standing = Standing(max(0, deductible), max(0, insured))
    decided = adjudicate.decide(product, found, standing)
    if cap is not None and decided.outcome == "pay" and decided.pay > cap:
        left = decided.patient + decided.pay
        decided = replace(decided, outcome="review", pay=0, patient=left, deductible_used=0, reasons=(_CAP,))
    amounts = {
        "pay": decided.pay,
        "patient": decided.patient,
        "proposed": decided.proposed,
        "deductible_used": decided.deductible_used,
        "deductible_left": decided.standing.deductible_left,
    }
    if decided.outcome == "review":
        return Decision("review", amounts, (*decided.explain, *decided.reasons), exchange, 0)
    held = {name: amounts[name] for name in ("pay", "deductible_used")}
    holding = Holding(exchange, "reserved", held, now + RESERVED_S)
    ledger.reserve(account, holding, now)
    return Decision("reserved", amounts, decided.explain, holding.id, holding.expires)
