"""What a role itself refuses after the eight checks: a broker that lets something through is not the last line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients import decision
from clients.config import NodeConfig
from clients.hospital import record
from clients.hospital.role import Hospital
from clients.hospital.sample import sample_bill
from clients.insurer import product
from clients.insurer.role import Insurer
from clients.keystore import FileKeystore
from clients.ledger import Ledger, follow
from clients.node import Node
from clients.public_payer import rules
from clients.public_payer.role import PublicPayer
from clients.role import Role, Transaction
from clients.store import Job, Store
from tests import formats
from tests.broker_rig import fresh
from tests.formats import INSURER, NOW, PAYER, Exchange, claim, recipient
from zhifu import bill, cbor, schema
from zhifu.errors import Refused
from zhifu.receive import Opened, receive
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE

STATUTE = formats.seed("policy")


@pytest.fixture
def tx(tmp_path: Path) -> Transaction:
    """A transaction of a real node's store."""
    keystore = FileKeystore.draw(tmp_path / "keys")
    store = Store(tmp_path / "node.db", keystore)
    settings = NodeConfig(
        tmp_path, "insurer", "示例", "127.0.0.1:1", "127.0.0.1:1", formats.ORIGIN, formats.Log().verifier, {}
    )
    node = Node(settings, keystore, store, Hospital(), frozenset())
    return Transaction(store, node.outbox, NOW)


def opened(exchange: Exchange) -> Opened:
    """Received by somebody whose eight checks it passes."""
    me = recipient(exchange.recipient, policy_hashes=frozenset([STATUTE]))
    return receive(exchange.send().deliver(), me, NOW)


def by_statute(to: formats.Party) -> Exchange:
    return replace(
        claim(to), grant=None, subject=None, basis_kind=BASIS_KIND_STATUTE, basis=STATUTE, purpose="public-settlement"
    )


def refused(role: Role, one: Opened, tx: Transaction) -> str:
    with pytest.raises(Refused) as caught:
        role.on_opened(one, tx)
    return caught.value.reason


def test_an_insurer_takes_no_claim_without_a_grant(tx: Transaction) -> None:
    assert refused(Insurer(product.load("full")), opened(by_statute(INSURER)), tx) == "consent.missing"


def test_an_insurer_joins_no_claim_with_what_another_hospital_says_of_it(tx: Transaction) -> None:
    """Whoever learned the workflow of a claim says that others paid nothing, or all of it."""
    role, first = Insurer(product.load("full")), opened(claim(INSURER))
    parts = []
    with tx.store.transaction():
        tx.store.incoming.put_opened(first, b"", b"said", NOW * 1000, NOW + 60, [])
        assert role.on_opened(first, tx) is None, "the other half is to come"
        for who in (formats.RIVAL, formats.HOSPITAL):
            shown = replace(first.presentation, sender=who.id)
            record_ = replace(first.manifest, schema_hash=schema.load(decision.COORDINATION).hash)
            parts.append(replace(first, hash=who.id, presentation=shown, manifest=record_))
        forged, own = parts
        assert refused(role, forged, tx) == "exchange.state"
        # Or it comes first: then the claim waits for its own.
        tx.store.jobs.put(Job("claim", first.presentation.workflow, "waiting", cbor.encode([b"", forged.hash]), NOW))
        tx.store.incoming.put_opened(
            replace(first, hash=forged.hash, presentation=forged.presentation), b"", b"said", NOW * 1000, NOW + 60, []
        )
        assert role.on_opened(first, tx) is None
        found = role._gather(own, decision.COORDINATION, tx)
        assert (found.claim, found.coordination) == (first.hash, own.hash)


def test_a_public_payer_takes_no_part_in_a_commercial_settlement(tx: Transaction) -> None:
    assert refused(PublicPayer(rules.load("example-city")), opened(claim(PAYER)), tx) == "policy.denied"


def test_a_hospital_takes_decisions_only(tx: Transaction) -> None:
    assert refused(Hospital(), opened(claim(INSURER)), tx) == "policy.denied"


def test_statute_is_a_basis_towards_the_public_payer_only() -> None:
    # What `Node.open` tells the eight checks for every other role.
    with pytest.raises(Refused) as caught:
        receive(by_statute(INSURER).send().deliver(), recipient(INSURER, policy_hashes=frozenset()), NOW)
    assert caught.value.reason == "policy.denied"


def bill_to_the_payer(workflow: bytes) -> Opened:
    """A claim by statute under a presentation of its own, with what a bill shows the payer."""
    found = opened(replace(fresh(by_statute(PAYER)), workflow=workflow))
    return replace(found, values=record.claim(bill.parse(sample_bill(1)), found.values["encounter"]))


def test_a_claim_that_is_presented_anew_is_answered_as_before(tx: Transaction) -> None:
    """It holds nothing further; the same sealed bill in another workflow is a second claim."""
    payer = PublicPayer(rules.load("example-city"))
    first, anew = bill_to_the_payer(b"w" * 16), bill_to_the_payer(b"w" * 16)
    with tx.store.transaction():
        said, again = payer.on_opened(first, tx), payer.on_opened(anew, tx)
    assert said is not None
    assert again is not None
    assert (first.hash != anew.hash, again.values) == (True, said.values)
    (held,) = Ledger(tx.store).holdings()
    assert held.id == first.hash
    assert refused(payer, bill_to_the_payer(b"x" * 16), tx) == "settlement.repeated"


def test_another_hospitals_notice_moves_nothing(tx: Transaction) -> None:
    payer, first = PublicPayer(rules.load("example-city")), bill_to_the_payer(b"w" * 16)
    with tx.store.transaction():
        payer.on_opened(first, tx)
        tx.store.outgoing.remember_asked(first.hash, first.presentation.to_bytes(), b"")
    (held,) = Ledger(tx.store).holdings()
    notice = replace(first, values=decision.notice(b"e" * 32, "cancel", held.id, {"pay": held.amounts["pay"]}))
    stranger = replace(notice, presentation=replace(first.presentation, sender=b"s" * 32))
    with pytest.raises(Refused) as caught:
        follow(stranger, tx)
    assert (caught.value.reason, Ledger(tx.store).state(held.id)) == ("exchange.unknown", "reserved")
    follow(notice, tx)
    assert Ledger(tx.store).state(held.id) == "cancelled"
