"""A wallet's folder: while its pages are served they hold it; a card that is none does not spoil it, nor a node's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.patient import wallet as wallets
from clients.patient.wallet import Contact
from tests.house import ask, run, serving
from tests.test_node_config import GOOD


def test_while_its_pages_are_served_no_command_opens_a_wallet(tmp_path: Path) -> None:
    """They keep what they read: a key that a command drew would go with the next thing that a page saves."""
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0"):
        for words in (("grants", folder), ("serve", folder, "--port", "0")):
            refused = run("wallet", *words)
            assert (refused.code, "this wallet's pages hold phone" in refused.err) == (2, True), refused.err
    run("wallet", "grants", folder).ok()


CARD = {"id": "01" * 32, "role": "hospital", "name": "市一医院"}
NO_CARDS: list[dict[str, Any]] = [
    {"id": "zz" * 32}, {"id": "01"}, {"id": "AB" * 32}, {"role": "friend"}, {"name": "\ud800"}, {"name": "n" * 129},
    {"name": ""}, {"name": 1},
]  # fmt: skip


@pytest.mark.parametrize("wrong", NO_CARDS)
def test_what_is_no_card_is_not_pinned(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """A node that had written such a name could not read its settings any more, and did not start again."""
    card, node = tmp_path / "a.card", tmp_path / "node"
    card.write_text(json.dumps(CARD | wrong))
    node.mkdir()
    before = GOOD.encode()
    (node / "node.toml").write_bytes(before)
    refused = run("node", "pin", node, card)
    assert (refused.code, "is not a participant's card" in refused.err) == (2, True), refused.err
    assert (node / "node.toml").read_bytes() == before


def test_a_page_keeps_nothing_that_no_file_can_hold(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0") as said:
        base, key = said["url"].split("/?key=")
        answers = [
            ask("POST", f"{base}/api/card", content=json.dumps({"card": card}), headers={"cookie": f"wallet={key}"})
            for card in (CARD | {"name": "\ud800", "id": "02" * 32}, CARD)
        ]
    assert [one.status_code for one in answers] == [400, 200], [one.text for one in answers]
    assert list(wallets.load(folder).parties) == [CARD["id"]]
