"""An insurer's queue: who waits is known without reading each of them, and together they get what the year has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from clients.insurer import answering, progress, promise, review, self_claim
from clients.insurer import product as products
from clients.insurer.adjudicate import Claim
from clients.insurer.book import Policy
from clients.insurer.cover import OPEN, Cover, Range, Span
from clients.insurer.decision import Question, decide
from clients.insurer.facts import Facts
from clients.insurer.review import Item, Verdict
from clients.insurer.reviewing import Reviewing
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.role import Transaction
from clients.store import Job, Store
from tests.formats import claim
from tests.test_retention import Keeper, opened
from tests.test_retention import keeper as keeper  # a fixture
from zhifu import cbor, ladder
from zhifu.errors import Malformed
from zhifu.explain import Explanation
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
DAY_S = 86_400
WHOLE = 1_000_000
"""The sum insured, in fen."""
NO_OUTBOX: Any = None
"""Nothing is sent here."""


def waits(store: Store, place: int, total: int, deductible: int = 0) -> Item:
    """A claim of ``total`` fen that the rules leave to a person; with what they propose for it now."""
    ledger, product = Ledger(store), products.load("full").with_sums(deductible, WHOLE)
    asked = Question(product, OPEN, ledger.account("policy-year", "P1"), place.to_bytes(32, "big"), None, True)
    shown = Claim(Split(total, 0, 0, 0, total), True, diagnoses=("K80",))
    decided = decide(shown, asked, ledger, NOW)
    facts = Facts.of(shown, Policy("P1", ""), product)
    review.queue(store, asked.exchange, asked.account, facts, decided.clauses, NOW, NOW)
    # Its patient reported it: it is answered without a hospital.
    store.jobs.put(Job(progress.REPORTED, asked.exchange, "open", b"", NOW * 1000))
    return review.get(store, asked.exchange)


def current(store: Store, claim: Item) -> Item:
    return review.current(store, review.get(store, claim.claim), NOW)


def decided(store: Store, claim: Item, *, refused: bool = False) -> int:
    """A reviewer pays all that is proposed by now, or refuses: what he wrote down, in fen."""
    with store.transaction():
        pay = 0 if refused else current(store, claim).proposed
        review.decide(store, claim.claim, Verdict(pay, "审核通过", "review.passed", "officer", refused), NOW)
    return pay


def sent(store: Store, claim: Item) -> dict[str, int]:
    """The node answers: what is held then, in fen."""
    with store.transaction():
        answering.answer(review.get(store, claim.claim), Transaction(store, NO_OUTBOX, NOW))
    holding = Ledger(store).find(claim.claim)
    assert holding is not None
    return dict(holding.amounts)


def paid(store: Store, claim: Item, *, refused: bool = False) -> int:
    """Decided, and answered at once: what is held then, in fen."""
    decided(store, claim, refused=refused)
    return sent(store, claim)["pay"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    yield found
    found.close()


def test_claims_that_wait_together_are_paid_no_more_than_the_year_has(store: Store) -> None:
    with store.transaction():
        waiting = [waits(store, place, 800_000) for place in range(3)]
    assert [one.proposed for one in waiting] == [800_000] * 3
    assert [paid(store, one) for one in waiting] == [800_000, 200_000, 0]
    assert Ledger(store).used(waiting[0].account, NOW)["pay"] == WHOLE


@pytest.mark.parametrize("at_once", [True, False])
def test_claims_that_wait_together_bear_the_deductible_once(store: Store, at_once: bool) -> None:
    """Whether the node answers in between, or a reviewer decides them all first, and in whatever order they are sent.

    300,000 fen each, 400,000 of a deductible: of the first all is below it, and uses it nevertheless.
    """
    with store.transaction():
        waiting = [waits(store, place, 300_000, 400_000) for place in range(3)]
    assert [one.proposed for one in waiting] == [0, 0, 0]
    if at_once:
        assert [paid(store, one) for one in waiting] == [0, 200_000, 300_000]
    else:
        assert [decided(store, one) for one in waiting] == [0, 200_000, 300_000]
        assert [sent(store, one)["pay"] for one in reversed(waiting)] == [300_000, 200_000, 0]
    used = Ledger(store).used(waiting[0].account, NOW)
    assert (used["pay"], used["deductible_used"]) == (500_000, 400_000)


def test_what_a_patient_reported_is_held_until_she_accepts_it(store: Store) -> None:
    """She need not open her wallet within the days that a hospital's node has for it."""
    with store.transaction():
        one = waits(store, 1, 500_000)
    paid(store, one)
    assert review.get(store, one.claim).facts, "she may dispute it, once"
    assert Ledger(store).step(one.claim, "confirm", NOW + 700 * DAY_S).state == "committed"


def test_what_was_decided_for_good_keeps_no_facts(store: Store) -> None:
    with store.transaction():
        one = waits(store, 1, 500_000)
        why = Explanation("pay", 0, "患者异议：—", review.DISPUTED)
        review.reopen(
            Transaction(store, NO_OUTBOX, NOW),
            one,
            why,
            promise.start(store, one.claim, promise.INPATIENT, products.load("full"), NOW),
        )
    paid(store, one)
    assert review.get(store, one.claim).facts is None


def test_what_is_refused_uses_nothing_of_the_deductible(store: Store) -> None:
    with store.transaction():
        first, second = waits(store, 1, 300_000, 400_000), waits(store, 2, 500_000, 400_000)
    assert paid(store, first, refused=True) == 0
    assert current(store, second).proposed == 100_000
    assert paid(store, second) == 100_000


def test_more_than_is_proposed_by_now_is_not_decided(store: Store) -> None:
    with store.transaction():
        first, second = waits(store, 1, 700_000), waits(store, 2, 700_000)
    paid(store, first)
    with pytest.raises(Malformed, match="3000"):
        review.decide(store, second.claim, Verdict(700_000, "审核通过", "review.passed", "officer"), NOW)
    assert [row.amount for row in current(store, second).rows if row.reason == "pay.sum_insured_limit"] == [300_000]


def test_a_core_systems_word_is_kept_within_what_others_left_since_it_was_asked(store: Store) -> None:
    """It would say the same again: an answer that never fits would keep the claim waiting for ever."""
    reviewing = Reviewing(store, lambda: nullcontext(Transaction(store, NO_OUTBOX, NOW)), None)
    with store.transaction():
        first, second = waits(store, 1, 700_000), waits(store, 2, 700_000)
    paid(store, first)
    with pytest.raises(Malformed, match=r"usage\.argument"):
        reviewing._decided(second, Verdict(700_001, "核心系统", "core.decision", "core system"))
    reviewing._decided(second, Verdict(700_000, "核心系统", "core.decision", "core system"))
    assert sent(store, second)["pay"] == 300_000


def test_the_reviewer_sees_why_whenever_he_looks(store: Store) -> None:
    with store.transaction():
        one = waits(store, 1, 700_000)
    assert current(store, one) == one
    assert one.reasons == ("review.core_system",)


def test_who_is_paid_less_than_was_decided_is_told_why(store: Store) -> None:
    """The desk was quicker than the node."""
    with store.transaction():
        first, second = waits(store, 1, 700_000), waits(store, 2, 700_000)
        decided(store, second)
        holding = Holding(first.claim, "committed", {"pay": 700_000, "part_pay": 700_000}, NOW, NOW)
        Ledger(store).reserve(first.account, holding, NOW)
        item = review.get(store, second.claim)
        assert item.verdict is not None
        found = answering._decision(item, item.verdict, None, Transaction(store, NO_OUTBOX, NOW))
    assert (found.amounts["pay"], found.amounts["patient"]) == (300_000, 400_000)
    assert [(row.amount, row.reason) for row in found.clauses[-2:]] == [
        (700_000, "review.passed"), (300_000, "pay.sum_insured_limit"),
    ]  # fmt: skip


def test_a_claim_that_was_queued_before_facts_were_kept_is_decided_as_it_was_proposed(store: Store) -> None:
    rows = [["pay", 0, "clause", "review.core_system"]]
    before = ["P1", bytes(32), 300, 200, [["pay", 500]], 700, rows, NOW, NOW, None]
    with store.transaction():
        store.jobs.put(Job(review.KIND, bytes(32), review.OPEN, cbor.encode(before), NOW * 1000))
        store.jobs.put(Job(progress.REPORTED, bytes(32), "open", b"", NOW * 1000))
    item = review.get(store, bytes(32))
    assert (current(store, item), item.proposed, item.left) == (item, 500, 700)
    assert paid(store, item) == 500


def test_facts_are_read_as_they_were_written() -> None:
    cover = Cover(date(2026, 3, 1), None, True, (Range("E10", "E14"),))
    shown = Claim(
        Split(100, 10, 5, 5, 80), True, 40, 3, 2, ("K80", 11), Span.of("2026-04"), "03", {"09": 60, "14": 40}
    )  # fmt: skip
    for one in (shown, Claim(Split(1, 0, 0, 0, 1), False)):
        facts = Facts.of(one, Policy("P1", "", cover=cover), products.load("million-yuan").with_sums(7, None))
        assert Facts.from_bytes(facts.to_bytes()) == facts
        assert facts.terms() == products.load("million-yuan").with_sums(7, None)


# Words that no answer holds


@pytest.mark.parametrize(
    ("clause", "code"), [("x" * 161, "ok"), ("一行\n二行", "ok"), ("", "ok"), ("通过", "two words")]
)
def test_what_no_answer_holds_is_not_decided(store: Store, clause: str, code: str) -> None:
    with store.transaction():
        one = waits(store, 1, 100)
    with pytest.raises(Malformed, match=r"usage\.argument"):
        review.decide(store, one.claim, Verdict(100, clause, code, "officer"), NOW)
    assert review.get(store, one.claim).state == review.OPEN
    with pytest.raises(Malformed, match=r"usage\.argument"):
        review.ask(store, one.claim, ["病历\x1b[2J"], NOW)


def test_a_decision_in_such_words_is_open_again_and_holds_up_nothing(keeper: Keeper) -> None:
    """Written down before anybody looked at the words."""
    store, exchange = keeper.parts.store, keeper.take(opened(claim()))

    @contextmanager
    def transaction() -> Iterator[Transaction]:
        with store.transaction():
            yield keeper.parts.transaction()

    with store.transaction():
        review.queue_bare(store, exchange, "P1", (), NOW + 1, NOW)
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
