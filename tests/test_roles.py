"""What a role itself refuses after the eight checks: a broker that lets something through is not the last line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clients.config import NodeConfig
from clients.hospital.role import Hospital
from clients.insurer import product
from clients.insurer.role import Insurer
from clients.keystore import FileKeystore
from clients.node import Node
from clients.public_payer import rules
from clients.public_payer.role import PublicPayer
from clients.role import Role, Transaction
from clients.store import Store
from tests import formats
from tests.formats import INSURER, NOW, PAYER, Exchange, claim, recipient
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


def test_a_public_payer_takes_no_part_in_a_commercial_settlement(tx: Transaction) -> None:
    assert refused(PublicPayer(rules.load("example-city")), opened(claim(PAYER)), tx) == "policy.denied"


def test_a_hospital_takes_decisions_only(tx: Transaction) -> None:
    assert refused(Hospital(), opened(claim(INSURER)), tx) == "policy.denied"


def test_statute_is_a_basis_towards_the_public_payer_only() -> None:
    # What `Node.open` tells the eight checks for every other role.
    with pytest.raises(Refused) as caught:
        receive(by_statute(INSURER).send().deliver(), recipient(INSURER, policy_hashes=frozenset()), NOW)
    assert caught.value.reason == "policy.denied"
