"""The personal account (个人账户): the patient's own money at the public payer, with which she may pay her share.

At the decision as much is held as she could use; the confirmation says how much she uses, and the rest is free again.
It is never compensation (SETTLEMENT 2).
"""

from __future__ import annotations

import hashlib
from typing import Final

from clients.decision import Decision, read_notice
from clients.ledger import Holding, Ledger, follow
from clients.role import Transaction
from clients.store import Job, Store
from zhifu import cbor
from zhifu.errors import NotAuthentic, Refused
from zhifu.receive import Opened

_CREDIT: Final = "account-credit"
_LABEL: Final = b"personal account\0"
USED: Final = "acct_pay"


def set_credit(store: Store, person: str, fen: int, now: int) -> None:
    """All that was ever paid into a person's account, in fen; what was used is the ledger's. ``now`` is Unix s."""
    store.jobs.put(Job(_CREDIT, _place(Ledger(store), person), "paid-in", cbor.encode(fen), now * 1000))


def balance(ledger: Ledger, person: str, now: int) -> int:
    """What is left, in fen: paid in, less what is used or held."""
    place = _place(ledger, person)
    job = ledger.store.jobs.get(_CREDIT, place)
    paid_in = int(cbor.decode(job.payload, 64)) if job else 0
    return max(0, paid_in - ledger.used(place, now).get(USED, 0))


def hold(ledger: Ledger, person: str, exchange: bytes, most: int, expires: int, now: int) -> int:
    """Hold up to ``most`` fen for the claim ``exchange``; how much is held, the same when asked again."""
    place, name = _place(ledger, person), _name(exchange)
    held = ledger.find(name)
    if held is not None:
        return held.amounts[USED]
    fen = min(most, balance(ledger, person, now))
    if fen:
        ledger.reserve(place, Holding(name, "reserved", {USED: fen}, expires, now), now)
    return fen


def follow_notice(opened: Opened, tx: Transaction, *, account_inside: bool = False) -> Decision:
    """Confirm, cancel or reverse a split together with what is held of the personal account.

    The answer states anew what the split could not know: how much of the account is used, and with ``account_inside``
    (the city prints it so) the fund total with it. Raises `Refused` (exchange.*), `NotAuthentic` (ledger.mismatch):
    other amounts than were reserved.
    """
    action, reservation, amounts = read_notice(opened.values)
    ledger, name = Ledger(tx.store), _name(reservation)
    found, held = follow(opened, tx), ledger.find(name)
    wanted = amounts.get(USED, 0)
    if held is None:
        if wanted:
            raise NotAuthentic("ledger.mismatch", f"{action}: nothing is held of the personal account")
        return found
    if action == "confirm" and held.state == "reserved":
        if not 0 <= wanted <= held.amounts[USED]:
            raise Refused("exchange.state", "more of the personal account than is held")
        ledger.change(name, {USED: wanted}, tx.now)
    elif action != "cancel" and wanted != held.amounts[USED]:
        # The answer states it in our name: what was confirmed stays what it was.
        raise NotAuthentic("ledger.mismatch", f"{action}: another amount of the personal account than was confirmed")
    ledger.step(name, action, tx.now)
    total = found.amounts["pay"] + (wanted if account_inside else 0)
    amounts = {**found.amounts, USED: wanted, "fund_pay_sumamt": total}
    return Decision(found.outcome, amounts, found.clauses, found.reservation, found.expires)


def _place(ledger: Ledger, person: str) -> bytes:
    return ledger.account("personal", person)


def _name(exchange: bytes) -> bytes:
    return hashlib.sha256(_LABEL + exchange).digest()
