"""An insurer's queue: who waits is known without reading each of them, and together they get what the year has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.insurer import product as products
from clients.insurer import progress, promise, review, self_claim
from clients.insurer.adjudicate import Claim, limits
from clients.insurer.cover import OPEN
from clients.insurer.decision import Question, decide, held
from clients.insurer.review import Item, Verdict
from clients.insurer.reviewing import Reviewing
from clients.keystore import FileKeystore
from clients.ledger import Ledger
from clients.role import Transaction
from clients.store import Job, Store
from tests.formats import claim
from tests.test_retention import Keeper, opened
from tests.test_retention import keeper as keeper  # a fixture
from zhifu import ladder
from zhifu.errors import Malformed
from zhifu.pricing import Split


def item(place: int, state: str, deadline: int = 0) -> Item:
    return Item(place.to_bytes(32, "big"), state, "", b"", 100, 0, {}, 0, (), 0, deadline)


def test_who_waits_is_known_without_reading(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        for place, state in enumerate((review.OPEN, review.DECIDED, review.ASKED, review.ANSWERED, review.OPEN)):
            review.put(store, item(place, state), 1000 - place)
    with sqlite3.connect(tmp_path / "node.db") as own:
        own.execute("UPDATE job SET payload = x'00' WHERE kind = ?", (review.KIND,))
    own.close()
    found = [(int.from_bytes(claim, "big"), state) for claim, state in review.waiting(store)]
    assert found == [(4, review.OPEN), (2, review.ASKED), (0, review.OPEN)]
    store.close()


NOW = 1_780_000_000
WHOLE = 1_000_000
"""The sum insured, in fen."""
NO_OUTBOX: Any = None
"""Nothing is sent here."""


def waits(store: Store, place: int, total: int) -> Item:
    """A claim of ``total`` fen that the rules leave to a person; with what they propose for it now."""
    ledger, product = Ledger(store), products.load("full").with_sums(None, WHOLE)
    asked = Question(product, OPEN, ledger.account("policy-year", "P1"), place.to_bytes(32, "big"), None, True)
    shown = Claim(Split(total, 0, 0, 0, total), True, diagnoses=("K80",))
    decided, proposed = decide(shown, asked, ledger, NOW)
    review.queue(
        store, asked.exchange, "P1", asked.account, decided.clauses, proposed, held(proposed), limits(product), NOW, NOW
    )
    # Its patient reported it: it is answered without a hospital.
    store.jobs.put(Job(progress.REPORTED, asked.exchange, "open", b"", NOW * 1000))
    return review.get(store, asked.exchange)


def paid(store: Store, claim: Item) -> int:
    """A reviewer pays all that was proposed: what is held then, in fen."""
    review.decide(store, claim.claim, Verdict(claim.proposed, "审核通过", "review.passed", "officer"), NOW)
    with store.transaction():
        review.answer(review.get(store, claim.claim), Transaction(store, NO_OUTBOX, NOW))
    holding = Ledger(store).find(claim.claim)
    assert holding is not None
    return holding.amounts["pay"]


def test_claims_that_wait_together_are_paid_no_more_than_the_year_has(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        waiting = [waits(store, place, 800_000) for place in range(3)]
    assert [one.proposed for one in waiting] == [800_000] * 3
    assert [paid(store, one) for one in waiting] == [800_000, 200_000, 0]
    assert Ledger(store).used(waiting[0].account, NOW)["pay"] == WHOLE
    store.close()


def test_who_is_paid_less_than_was_decided_is_told_why(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        first, second = waits(store, 1, 700_000), waits(store, 2, 700_000)
    paid(store, first)
    verdict = Verdict(700_000, "审核通过", "review.passed", "officer")
    with store.transaction():
        found = review._decision(second, verdict, None, Transaction(store, NO_OUTBOX, NOW))
    assert (found.amounts["pay"], found.amounts["patient"]) == (300_000, 400_000)
    assert [(row.amount, row.reason) for row in found.clauses[-2:]] == [
        (700_000, "review.passed"), (300_000, "pay.sum_insured_limit"),
    ]  # fmt: skip
    store.close()


# Words that no answer holds


@pytest.mark.parametrize(
    ("clause", "code"), [("x" * 161, "ok"), ("一行\n二行", "ok"), ("", "ok"), ("通过", "two words")]
)
def test_what_no_answer_holds_is_not_decided(tmp_path: Path, clause: str, code: str) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        one = waits(store, 1, 100)
    with pytest.raises(Malformed, match=r"usage\.argument"):
        review.decide(store, one.claim, Verdict(100, clause, code, "officer"), NOW)
    assert review.get(store, one.claim).state == review.OPEN
    with pytest.raises(Malformed, match=r"usage\.argument"):
        review.ask(store, one.claim, ["病历\x1b[2J"], NOW)
    store.close()


def test_a_decision_in_such_words_is_open_again_and_holds_up_nothing(keeper: Keeper) -> None:
    """Written down before anybody looked at the words."""
    store, exchange = keeper.parts.store, keeper.take(opened(claim()))

    @contextmanager
    def transaction() -> Iterator[Transaction]:
        with store.transaction():
            yield keeper.parts.transaction()

    with store.transaction():
        review.queue(store, exchange, "P1", bytes(32), (), None, {}, {}, NOW + 1, NOW)
        verdict = Verdict(0, "一行\n二行", "ok", "officer")
        review.put(store, replace(review.get(store, exchange), state=review.DECIDED, verdict=verdict), NOW)
        promise.start(store, exchange, promise.INPATIENT, products.load("full"), NOW)
        progress.write_down(store, exchange, progress.WAITING, ["病历\x1b[2J"], NOW)
    reviewing = Reviewing(store, transaction, None)
    reviewing.send()
    reviewing.tell()
    assert review.get(store, exchange).state == review.OPEN
    assert progress.written(store) == []


def test_a_patients_words_become_one_line_that_a_clause_holds() -> None:
    said = self_claim._line(" 发票\n另有\t一张 \u202e👨\u200d👩\u200d👧 \x1b[2J")
    assert ladder.conforms("clauses", [["pay", 0, said, "review.disputed"]])
    assert said.startswith("发票 另有 一张 👨 👩 👧")
