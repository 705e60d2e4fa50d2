"""A wallet's folder: while its pages are served they hold it; a card that is none does not spoil it, nor a node's."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from clients.hospital.sample import sample_bill
from clients.patient import wallet as wallets
from clients.patient.wallet import Contact
from tests.browser import launched, need_chromium
from tests.house import ask, run, serving, spawn
from tests.test_node_config import GOOD


def test_while_its_pages_are_served_no_command_opens_a_wallet(tmp_path: Path) -> None:
    """They keep what they read: a key that a command drew would go with the next thing that a page saves."""
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0"):
        for words in (("grants", folder), ("serve", folder, "--port", "0")):
            refused = run("wallet", *words)
            assert (refused.code, "this wallet's pages" in refused.err) == (2, True), refused.err
    run("wallet", "grants", folder).ok()


def test_of_commands_at_the_same_moment_none_loses_a_key_of_another(tmp_path: Path) -> None:
    folder, contact = tmp_path / "phone", tmp_path / "broker.contact"
    contact.write_text(json.dumps(dict.fromkeys(Contact.__slots__, "x")))
    hospital, *insurers = [tmp_path / f"{number}.card" for number in range(5)]
    for number, path in enumerate((hospital, *insurers)):
        role = "insurer" if number else "hospital"
        path.write_text(json.dumps({"id": f"{number:02x}" * 32, "role": role, "name": f"{number}"}))

    def enrol(insurer: Path) -> str:
        cards = ("--hospital", hospital, "--recipient", insurer)
        return spawn("wallet", "enrol", folder, *cards, "--contact", contact).ok().out.strip()

    with ThreadPoolExecutor(len(insurers)) as threads:
        shown = sorted(threads.map(enrol, insurers))
    assert sorted(pair.public.hex() for pair in wallets.load(folder).pairs) == shown


def test_while_a_command_has_the_wallet_its_pages_do_not_open_it(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with wallets.held(folder):
        refused = run("wallet", "serve", folder, "--port", "0")
    assert (refused.code, "this wallet's pages or a command hold phone" in refused.err) == (2, True), refused.err


def test_what_a_crash_left_of_a_wallet_is_removed_with_the_next_command(tmp_path: Path) -> None:
    """Unfinished files hold keys."""
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    (folder / ".wallet.json.abc.partial").write_text("a half")
    run("wallet", "grants", folder).ok()
    assert [path.name for path in sorted(folder.iterdir())] == ["command.lock", "wallet.json", "wallet.lock"]


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


def test_cards_the_wrong_way_round_draw_no_key(tmp_path: Path) -> None:
    folder, cards = tmp_path / "phone", [tmp_path / "hospital.card", tmp_path / "insurer.card"]
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    for path in cards:
        path.write_text(json.dumps(CARD | {"role": path.stem, "id": path.stem[0].encode().hex() * 32}))
    swapped = ("--hospital", cards[1], "--recipient", cards[0])
    key = "00" * 31 + "01"
    for words in (("enrol", folder), ("key", "offer", folder, key, "-o", tmp_path / "offer")):
        refused = run("wallet", *words, *swapped)
        assert (refused.code, "is no hospital but insurer" in refused.err) == (2, True), refused.err
    assert wallets.load(folder).pairs == []


def test_a_command_of_one_role_leaves_the_folder_of_another_alone(tmp_path: Path) -> None:
    """A hospital's desk that took an insurer's folder signed, as the insurer, that it had seen the patient."""
    (tmp_path / "node.toml").write_text(GOOD.replace('role = "hospital"', 'role = "insurer"', 1))
    bill = tmp_path / "bill.json"
    bill.write_bytes(sample_bill(1))
    for words in (
        ("hospital", "attest", tmp_path, "01" * 32, "--bill", bill, "-o", tmp_path / "out"),
        ("hospital", "cashier", tmp_path),
        ("payer", "account", tmp_path, "anybody"),
    ):
        refused = run(*words)
        assert (refused.code, "(insurer), and no" in refused.err) == (2, True), refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bill.json", "node.toml"]


def test_to_pin_nothing_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(GOOD)
    refused = run("node", "pin", tmp_path)
    assert (refused.code, "say what to pin" in refused.err) == (2, True), refused.err


def enter(url: str) -> dict[str, str]:
    """The header that is a session, for who opens the whole address."""
    return {"cookie": ask("GET", url).headers["set-cookie"].partition(";")[0]}


def test_who_signed_out_is_out_and_so_is_the_address_in_the_history(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0") as said:
        opens, base = said["url"], said["url"].partition("/?")[0]
        ours, other = enter(opens), enter(opens)
        assert ask("GET", f"{base}/history", headers=ours).status_code == 200
        left = ask("POST", f"{base}/sign-out", headers=ours)
        assert (left.status_code, left.headers["Clear-Site-Data"]) == (303, '"cache"')
        answers = {name: ask("GET", f"{base}/history", headers=one) for name, one in (("ours", ours), ("other", other))}
        assert {name: one.status_code for name, one in answers.items()} == {"ours": 403, "other": 200}
        assert ask("GET", opens).status_code == 403
        again = f"{base}/?key={(folder / 'web.key').read_text()}&lang=en"
        assert ask("GET", again).headers["location"] == "/?lang=en"
    assert ours["cookie"].partition("=")[2] not in (folder / "web.sessions").read_text()
    # A session outlives the process, but for the one that ended.
    with serving("wallet", "serve", folder, "--port", "0") as said:
        base = said["url"].partition("/?")[0]
        assert [ask("GET", base, headers=one).status_code for one in (ours, other)] == [403, 200]


def test_a_page_keeps_nothing_that_no_file_can_hold(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
    with serving("wallet", "serve", folder, "--port", "0") as said:
        base, within = said["url"].partition("/?")[0], enter(said["url"])
        answers = [
            ask("POST", f"{base}/api/card", content=json.dumps({"card": card}), headers=within)
            for card in (CARD | {"name": "\ud800", "id": "02" * 32}, CARD)
        ]
    assert [one.status_code for one in answers] == [400, 200], [one.text for one in answers]
    assert list(wallets.load(folder).parties) == [CARD["id"]]


def test_two_wallets_in_one_browser_have_no_key_in_common(tmp_path: Path) -> None:
    """Served at the same port one after the other; it is always the same, since a browser keeps keys by it."""
    need_chromium()
    drawn, port = [], "0"
    for role in ("hospital", "insurer"):
        (tmp_path / role).write_text(json.dumps(CARD | {"role": role, "id": role[0].encode().hex() * 32}))
    with launched() as browser:
        page = browser.new_context().new_page()
        for folder in (tmp_path / "hers", tmp_path / "his", tmp_path / "hers"):
            if not folder.exists():
                wallets.create(folder, Contact("127.0.0.1:1", "127.0.0.1:1", "log.example", "key", "ca"))
            cards = ("--card", tmp_path / "hospital", "--card", tmp_path / "insurer")
            with serving("wallet", "serve", folder, "--port", port, *cards) as said:
                port = str(urlsplit(said["url"]).port)
                page.goto(said["url"])
                page.goto(f"http://127.0.0.1:{port}/enrol")
                page.locator("#draw").click()
                page.wait_for_selector("#step-key:not([hidden])")
                drawn.append(page.locator("#subject-key").get_attribute("data-key"))
                if len(drawn) == 3:
                    # In another window of the same browser she signs out: this one says so, and does nothing.
                    other = page.context.new_page()
                    other.goto(f"http://127.0.0.1:{port}/")
                    other.locator(".leave button").click()
                    other.wait_for_selector("pre")
                    page.locator("#draw").click()
                    expect(page.locator("#status")).to_contain_text("zhifu wallet serve", timeout=60_000)
    assert drawn[0] == drawn[2] != drawn[1]
