"""Claims that nobody here wrote, at an insurer's rules: what they cannot decide waits in the queue, with a reason."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from clients.hospital import record
from clients.hospital.fhir import claim
from clients.hospital.fhir.resources import Resources
from clients.insurer import product as products
from clients.insurer import review
from clients.insurer.book import Policy
from clients.insurer.cover import OPEN
from clients.insurer.decision import Question, decide, narrowed
from clients.insurer.decision import claim as claimed
from clients.insurer.facts import Facts
from clients.keystore import FileKeystore
from clients.ledger import Ledger
from clients.store import Store
from policies import load
from policies.decide import finest
from zhifu import ladder
from zhifu.cbor import Value
from zhifu.explain import Explanation
from zhifu.schema import ABSENT, Schema

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "fhir" / "synthea-claims"
MOST = 500
NOW = 1_800_000_000


def released(kind: Schema, values: dict[str, Value], levels: bytes) -> dict[str, Value]:
    """What the insurer opens: each unit at the level that policy allows."""
    shown: dict[str, Value] = {}
    for unit, rank in zip(kind.units, levels, strict=True):
        value = values[unit.name]
        if rank == ABSENT or value is None:
            shown[unit.name] = None
        else:
            forms = unit.levels[0].form, unit.levels[rank].form
            shown[unit.name] = value if rank == 0 else ladder.coarsen(*forms, value)
    return shown


@pytest.mark.skipif(not DATA.exists(), reason="the public claims are not on this computer")
def test_500_claims_are_decided_or_queued_with_a_reason(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    bundle, ledger, product = load.load(), Ledger(store), products.load("full")
    resources = Resources.of_ndjson({path.name: path.read_bytes() for path in DATA.glob("*.ndjson")})
    seen: Counter[str] = Counter()
    paid = {"compensation": [["public", 0]], "route": "direct"}
    with store.transaction(durable=False):
        for number, one in enumerate(islice(resources.claims(), MOST)):
            bill, _ = claim.read(one, resources)
            kind, name = record.schema_of(bill), number.to_bytes(32, "big")
            levels = finest(bundle, "commercial-settlement", "insurer", kind)
            shown = released(kind, record.claim(bill, bytes(32)), levels)
            reasons: tuple[Explanation, ...] = narrowed(shown, paid)
            if reasons:
                review.queue_bare(store, name, "P1", reasons, NOW + 1, NOW)
            else:
                asked = Question(product, OPEN, ledger.account("policy-year", str(number)), name, None)
                found = claimed(shown, paid)
                decided = decide(found, asked, ledger, NOW)
                if decided.outcome == "review":
                    facts = Facts.of(found, Policy("P1", ""), product)
                    review.queue(store, name, asked.account, facts, decided.clauses, NOW + 1, NOW)
            seen["claims"] += 1
        queue = review.find(store, review.OPEN)
    assert seen["claims"] == MOST
    assert len(queue) + len(ledger.holdings()) == MOST
    assert all(item.reasons and item.deadline > NOW for item in queue)
    store.close()
