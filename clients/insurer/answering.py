"""What a reviewer decided, sent: held of the policy year, answered to the hospital, told to the patient.

The sums stand as he saw them when he decided (`clients.insurer.review`); what the year has left may be less by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from clients.decision import DECISION, RESERVED_S, Decision
from clients.insurer import progress, promise
from clients.insurer.decision import QUICK_HELD_S
from clients.insurer.promise import Promise
from clients.insurer.review import ANSWERED, DAY_S, Item, Verdict, put
from clients.ledger import LATE, Holding, Ledger
from clients.role import Draft, Transaction
from clients.store import Store
from zhifu import money
from zhifu.explain import Explanation

ACCEPT_S: Final = 730 * DAY_S
"""How long a patient may accept what was decided on her own report: two years, as long as a claim may be made at all
(保险法 第二十六条)."""
_LIMIT: Final = "保险金额：本年度余额为限 / what the policy year has left"


def answer(item: Item, tx: Transaction) -> None:
    """Send a decision: hold what it uses, and answer the claim. Within the transaction of ``tx``.

    What the year has left may have shrunk since: no more is paid than is left.
    """
    stored = tx.store.incoming.get(item.claim)
    opened = stored.opened if stored is not None else None
    if item.verdict is not None and (opened is not None or progress.is_reported(tx.store, item.claim)):
        clock = promise.find(tx.store, item.claim)
        if clock is not None:
            clock = promise.put(tx.store, item.claim, clock.stop(tx.now), tx.now)
        decided = _decision(item, item.verdict, clock, tx)
        if clock is not None:
            progress.tell(tx, item.claim, progress.DECIDED, clock, decided.amounts, decided.clauses)
        if opened is not None:
            tx.queue(Draft.answering(opened, DECISION, decided.values(opened.values["encounter"])))
    # Only what a patient reported herself may be looked at again, and that once.
    again = progress.is_reported(tx.store, item.claim) and not item.disputed
    put(tx.store, replace(item, state=ANSWERED, facts=item.facts if again else None), tx.now)


def _decision(item: Item, verdict: Verdict, clock: Promise | None, tx: Transaction) -> Decision:
    ledger = Ledger(tx.store)
    pay = _at_most(item, verdict.pay, ledger.used(item.account, tx.now))
    inside = money.half_up(pay * item.inside, item.proposed) if pay else 0
    used = item.part(pay)
    late = clock.compensation(tx.now) if clock is not None else 0
    used |= {LATE: late} if late else {}
    until = tx.now + _held_s(item.claim, clock, tx.store)
    holding = Holding(item.claim, "reserved", used, until, tx.now)
    ledger.reserve(item.account or item.claim, holding, tx.now, anew=item.disputed)
    amounts = {
        "pay": pay,
        "pay_in_catalog": inside,
        "pay_out_of_catalog": pay - inside,
        "patient": item.left - pay,
        "proposed": item.proposed,
        "deductible_used": used.get("deductible_used", 0),
    } | ({LATE: late} if late else {})
    rows = (*item.rows, Explanation("pay", verdict.pay, verdict.clause, verdict.reason))
    if pay < verdict.pay:
        rows = (*rows, Explanation("pay", pay, _LIMIT, "pay.sum_insured_limit"))
    if late and clock is not None:
        rows = (*rows, _lateness(clock, late, tx.now))
    return Decision("reserved", amounts, rows, item.claim, until)


def _held_s(claim: bytes, clock: Promise | None, store: Store) -> int:
    """How long what was decided is held, in s: for a desk, for a hospital's node, or for the patient herself."""
    if progress.is_reported(store, claim):
        return ACCEPT_S
    return RESERVED_S if clock is None else QUICK_HELD_S


def _at_most(item: Item, pay: int, used: Mapping[str, int]) -> int:
    """Of ``pay`` (fen), what the year still has: several claims may have been proposed from the same rest."""
    for token, most in item.limits.items():
        if due := item.uses.get(token, 0):
            pay = min(pay, max(0, most - used.get(token, 0)) * item.proposed // due)
    return pay


def _lateness(clock: Promise, late: int, now: int) -> Explanation:
    clause = f"服务承诺 {clock.days} 天，延误 {clock.late_days(now)} 整天 × 每天 {money.yuan(clock.rate)} 元"
    return Explanation(LATE, late, clause, "late.compensation")
