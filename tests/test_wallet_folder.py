"""A wallet's folder while its pages are served: they hold it, and nothing is written beside them."""

from __future__ import annotations

from pathlib import Path

from clients.patient import wallet as wallets
from clients.patient.wallet import Contact
from tests.house import run, serving


def test_while_its_pages_are_served_no_command_opens_a_wallet(tmp_path: Path) -> None:
    """They keep what they read: a key that a command drew would go with the next thing that a page saves."""
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0"):
        for words in (("grants", folder), ("serve", folder, "--port", "0")):
            refused = run("wallet", *words)
            assert (refused.code, "this wallet's pages hold phone" in refused.err) == (2, True), refused.err
    run("wallet", "grants", folder).ok()
