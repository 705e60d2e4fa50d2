"""The personal account at the public payer: what it signs of it is what its ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import decision
from clients.decision import Decision
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.public_payer import personal
from clients.role import Transaction
from clients.store import Store
from tests.formats import NOW, PATIENT, PAYER, answer, asked_of, recipient
from tests.test_receive import by_statute
from zhifu.errors import NotAuthentic
from zhifu.receive import receive

CLAIM = by_statute().send()
DECIDED = answer(CLAIM, {"outcome": "reserved", "amounts": [["pay", 100]]}).send()
NO_OUTBOX: Any = None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A claim that was answered with 100 of the funds, and with 50 of the account that the patient may use."""
    found = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    ledger = Ledger(found)
    with found.transaction():
        found.outgoing.remember_asked(CLAIM.hash, CLAIM.shown.to_bytes(), b"")
        ledger.reserve(bytes(32), Holding(CLAIM.hash, "reserved", {"pay": 100}, NOW + 60, NOW), NOW)
        personal.set_credit(found, "a person", 80, NOW)
        assert personal.hold(ledger, "a person", CLAIM.hash, 50, NOW + 60, NOW) == 50
    yield found
    found.close()


def notice(store: Store, action: str, account: int) -> Decision:
    """What the payer answers to a notice of the hospital."""
    amounts = {"pay": 100, "acct_pay": account}
    values = decision.notice(PATIENT["encounter"], action, CLAIM.hash, amounts)
    sent = answer(DECIDED, values, "settlement-notice").send()
    opened = receive(sent.deliver(), recipient(PAYER, asked=asked_of(DECIDED)), NOW)
    with store.transaction():
        return personal.follow_notice(opened, Transaction(store, NO_OUTBOX, NOW))


def test_the_payer_signs_what_was_confirmed_and_nothing_else(store: Store) -> None:
    assert notice(store, "confirm", 20).amounts["acct_pay"] == 20
    assert notice(store, "confirm", 20).amounts["acct_pay"] == 20, "again, it is the same"
    for action in ("confirm", "reverse"):
        with pytest.raises(NotAuthentic, match=r"ledger\.mismatch"):
            notice(store, action, 50)
    assert personal.balance(Ledger(store), "a person", NOW) == 60
    assert notice(store, "reverse", 20).amounts["acct_pay"] == 20
    assert personal.balance(Ledger(store), "a person", NOW) == 80
