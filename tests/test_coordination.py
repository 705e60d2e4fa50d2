"""Coordination of policies, the hospital's checks of payers, and the ledger under retries (SETTLEMENT 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.decision import Decision
from clients.hospital import check, coordination, record
from clients.hospital.coordination import Compensation
from clients.hospital.sample import sample_bill
from clients.insurer import product as products
from clients.insurer.adjudicate import Claim, decide
from clients.insurer.decision import held
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.public_payer import decision as public
from clients.public_payer import rules
from clients.store import Store
from zhifu import bill
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.pricing import Split

NOW = 1_800_000_000


def test_the_default_order() -> None:
    order = coordination.load(coordination.DEFAULT)
    kinds = ["outpatient", "medical", "city-supplementary", "group", "medical"]
    assert coordination.sequence(order, kinds) == [2, 3, 1, 4, 0]
    assert coordination.sequence(coordination.load("commercial-first-2026-01"), kinds) == [3, 1, 4, 0, 2]


def test_what_the_rule_does_not_order_is_refused() -> None:
    with pytest.raises(Malformed, match="orders city-supplementary, group"):
        coordination.sequence(coordination.load(coordination.DEFAULT), ["travel"])
    with pytest.raises(Malformed, match="basic-first-2026-01, commercial-first-2026-01"):
        coordination.load("mine")


@pytest.mark.parametrize("paid", [Compensation(160, 0, 0), Compensation(100, 51, 0), Compensation(0, 0, 51)])
def test_more_than_the_expense_is_refused(paid: Compensation) -> None:
    with pytest.raises(NotAuthentic):
        paid.check(Split(200, 30, 20, 40, 110))


PRODUCTS = [name for name in products.names() if products.load(name).public_first]


@given(
    st.lists(st.integers(0, 10**8), min_size=4, max_size=4),
    st.integers(0, 10_000),
    st.lists(st.sampled_from(PRODUCTS), max_size=6),
)
def test_any_number_of_policies_pay_at_most_the_expense(parts: list[int], share: int, names: Sequence[str]) -> None:
    split = Split(sum(parts), *parts)
    paid = Compensation(public=split.inscp * share // 10_000)
    for name in names:
        claim = Claim(
            split, True, paid.public, paid.in_catalog, paid.out_of_catalog, ("K80",), grade="02", charges={}
        )  # fmt: skip
        found = decide(products.load(name), claim)
        assert found.outcome == "pay"
        paid = Compensation(
            paid.public,
            paid.in_catalog + sum(one.in_catalog for one in found.paid),
            paid.out_of_catalog + sum(one.out_of_catalog for one in found.paid),
        )
        paid.check(split)
        assert found.patient == split.total - paid.total >= 0


# --- the ledger: retries in any order ---------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["reserve", "confirm", "cancel", "reverse"])), max_size=30
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys")))


def _try(ledger: Ledger, account: bytes, one: Holding, action: str) -> None:
    before = ledger.used(account, NOW)
    try:
        ledger.reserve(account, one, NOW) if action == "reserve" else ledger.step(one.id, action, NOW)
    except Refused:
        assert ledger.used(account, NOW) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(STEPS, st.integers(0, 10**6))
def test_repeating_any_step_changes_nothing(ledger: Ledger, steps: list[tuple[int, str]], salt: int) -> None:
    """What is used is the sum of what is reserved and committed, however often each message came."""
    account = ledger.account("any", str(salt), str(hash(tuple(steps))))
    for which, action in steps:
        one = Holding(bytes([which]) + account[1:], "reserved", {"pay": 100 << which}, NOW + 60, NOW)
        _try(ledger, account, one, action)
        once = ledger.used(account, NOW)
        _try(ledger, account, one, action)
        assert ledger.used(account, NOW) == once
    known = [ledger.find(bytes([which]) + account[1:]) for which in range(5)]
    counted = sum(one.amounts["pay"] for one in known if one and one.state in ("reserved", "committed"))
    assert ledger.used(account, NOW).get("pay", 0) == counted
    committed = sum(one.amounts["pay"] for one in known if one and one.state == "committed")
    assert ledger.used(account, NOW + 61).get("pay", 0) == committed


def test_what_nobody_confirms_expires(ledger: Ledger) -> None:
    account = ledger.account("any")
    ledger.reserve(account, Holding(bytes(32), "reserved", {"pay": 5}, NOW + 60, NOW), NOW)
    (one,) = ledger.holdings()
    assert (one.at(NOW + 60).state, one.at(NOW + 61).state, one.at(NOW + 61).since) == ("reserved", "expired", NOW + 60)
    with pytest.raises(Refused, match="expired"):
        ledger.step(bytes(32), "confirm", NOW + 61)
    assert ledger.step(bytes(32), "cancel", NOW + 61).state == "cancelled"


def test_the_years_sums_are_those_of_the_decisions(ledger: Ledger) -> None:
    policy, account = products.load("city-supplementary"), ledger.account("policy-year", "P1")
    split = Split(30_000_000, 8_000_000, 0, 1_000_000, 21_000_000)
    decided = decide(policy, Claim(split, True, 16_935_000, diagnoses=("K80",)))
    ledger.reserve(account, Holding(bytes(32), "reserved", held(decided), NOW + 60, NOW), NOW)
    ledger.step(bytes(32), "confirm", NOW)
    sums = {"pay": 5_092_000, "part_pay": 892_000, "part_pay_2": 4_200_000}
    assert ledger.used(account, NOW) == sums | {"deductible_used": 3_950_000, "deductible_used_2": 2_000_000}


SAMPLE = bill.parse(sample_bill())


@pytest.fixture
def split(tmp_path: Path) -> Decision:
    """What the public payer says of the sample bill."""
    ledger = Ledger(Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys")))
    values = record.claim(SAMPLE, bytes(32))
    return public.decide(values, rules.load("example-city"), ledger, bytes(32), NOW)


def test_a_payers_word_on_the_rest_never_makes_it_more(split: Decision) -> None:
    """Less than nothing of the personal account would be paid by the patient, in cash."""
    assert check.public(SAMPLE, split) == 1_200_000
    with pytest.raises(NotAuthentic, match=r"ledger\.mismatch"):
        check.public(SAMPLE, replace(split, amounts={**split.amounts, "acct_left": -1}))
    paid = Compensation(public=1_200_000)
    said = {"pay": 1, "pay_in_catalog": 1, "pay_out_of_catalog": 0, "patient": SAMPLE.split.total - 1_200_001}
    assert check.commercial(SAMPLE, replace(split, amounts=said), paid, None) == 1
    with pytest.raises(NotAuthentic, match=r"ledger\.mismatch"):
        check.commercial(SAMPLE, replace(split, amounts={**said, "late": -1}), paid, None)
