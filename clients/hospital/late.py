"""An answer that comes after the desk gave up: what it holds is freed at once, not only when it expires.

A reviewer may decide a claim that nobody waits for any more: the desk did not wait, or his deadline passed.
"""

from __future__ import annotations

from typing import Final

from clients import decision
from clients.decision import NOTICE
from clients.hospital import check
from clients.hospital.case import Case
from clients.role import Draft, Transaction
from clients.store import Job, Store
from zhifu.receive import Opened

_KIND: Final = "given-up"


def expect(store: Store, case: Case, payer: str, now_ms: int) -> None:
    """The case is over, and this payer was asked and holds nothing yet. In the transaction that ends the case."""
    exchange = case.exchanges.get(case.claim(payer))
    if exchange is not None and case.quick is None:
        store.jobs.put(Job(_KIND, exchange, "waiting", case.id, now_ms))


def free(opened: Opened, tx: Transaction) -> Draft | None:
    """The cancellation of a reservation that nobody waits for; None for every other answer.

    Raises `Malformed` (schema.value).
    """
    found = decision.read_decision(opened.values)
    sent = tx.store.outgoing.get(opened.presentation.in_reply_to) if found.outcome == "reserved" else None
    if sent is None or tx.store.jobs.get(_KIND, sent.first) is None:
        return None
    values = decision.notice(opened.values["encounter"], "cancel", found.reservation, check.holds(found))
    return Draft.answering(opened, NOTICE, values)
