"""A visit settles: sealed under its own schema, split by the rule for visits, and what is left by the insurer.

The same bill through real processes: ``zhifu demo --bill`` of ``zhifu hospital sample-bill --outpatient``.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

import pytest

from clients.hospital import record, request
from clients.hospital.sample import sample_bill
from clients.insurer import adjudicate, product
from clients.insurer.decision import claim, narrowed
from clients.keystore import FileKeystore
from clients.ledger import Ledger
from clients.public_payer import rules
from clients.public_payer.decision import decide
from clients.store import Store
from policies.decide import finest
from policies.load import load
from tests.formats import NOW
from zhifu import bill, sealed
from zhifu.cbor import Value
from zhifu.errors import Refused

BILL: Final = bill.parse(sample_bill(1, outpatient=True))
KIND: Final = record.schema_of(BILL)
VALUES: Final = record.claim(BILL, b"e" * 32)
BUNDLE: Final = load()


def seen(purpose: str, role: str) -> dict[str, Value]:
    """What the recipient opens under the packaged policy."""
    levels = finest(BUNDLE, purpose, role, KIND)
    every = dict(zip(KIND.leaves, sealed.ladders(KIND, VALUES), strict=True))
    return {unit.name: every[unit.index, rank] for unit, rank in zip(KIND.units, levels, strict=True) if rank != 0xFF}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys")))


def test_a_visit_has_a_schema_of_its_own() -> None:
    assert KIND.name == "outpatient-claim"
    assert record.schema_of(bill.parse(sample_bill(1))).name == "inpatient-claim"
    assert VALUES["visit-date"] == "2026-09-07"
    assert VALUES["item-charges"] is not None
    raw, scrubbed = VALUES["notes"]
    assert "154" in raw
    assert "154" not in scrubbed


def test_the_rule_for_visits_splits_it_and_the_insurer_pays_the_rest(ledger: Ledger) -> None:
    """620 yuan, 440 of it in scope: half of what lies above the visits' threshold of 180, and the rest."""
    table = rules.load("example-city")
    public = decide(seen("public-settlement", "public-payer"), table, ledger, b"x" * 32, NOW, outpatient=True)
    assert (public.amounts["medfee_sumamt"], public.amounts["hifp_pay"]) == (62_000, 13_000)
    beside: dict[str, Value] = {"route": "public", "compensation": [["public", 13_000]]}
    shown = seen("commercial-settlement", "insurer")
    assert narrowed(shown, beside) == ()
    decided = adjudicate.decide(product.load("full"), claim(shown, beside))
    assert (decided.outcome, decided.pay, decided.patient) == ("pay", 49_000, 0)


def test_visits_use_no_year_of_stays(ledger: Ledger) -> None:
    table, values = rules.load("example-city"), seen("public-settlement", "public-payer")
    decide(values, table, ledger, b"x" * 32, NOW, outpatient=True)
    stay = bill.parse(sample_bill(1))
    kind = record.schema_of(stay)
    whole = record.claim(stay, b"e" * 32)
    assert whole["citizen-id"] == VALUES["citizen-id"], "the same person"
    assert kind.name == "inpatient-claim"
    found = decide(whole, table, ledger, b"y" * 32, NOW)
    assert found.amounts["act_pay_dedc"] == 100_000, "the threshold is still due in full"
    with pytest.raises(Refused) as caught:
        table.rule(date(2026, 9, 7), "390", "15", "02", outpatient=True)
    assert caught.value.reason == "settlement.undecided"


def test_the_request_asks_for_the_schema_of_the_bill_alone() -> None:
    scopes = request.scopes(BUNDLE, "insurer", KIND)
    assert KIND.hash in dict(scopes)
    assert record.schema_of(bill.parse(sample_bill(1))).hash not in dict(scopes)
