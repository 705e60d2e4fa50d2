"""The console in a real browser: search, time line, alerts, export, integrity after tampering, receipts offline."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nacl.signing import SigningKey
from playwright.sync_api import Browser, Locator, Page, expect

from clients import config
from clients.auditor import rows
from clients.auditor.console import verifier
from clients.auditor.console.alerts import Rules
from clients.auditor.console.memory import Memory
from clients.auditor.console.reviews import Reviews
from clients.demo import cast as casting
from clients.keystore import FileKeystore
from clients.store import Store
from clients.web import words
from tests.audited import Audited, left_out, open_audited
from tests.browser import Watched, launched, need_chromium
from tests.house import PATIENCE_S, ask, run, serving, until
from tests.test_audit_service import canaries
from zhifu.errors import Malformed, NotAuthentic
from zhifu.receipt import Head


@dataclass
class Served:
    """A console that runs, a browser before it, and what the browser complained of. ``opens`` is the whole address."""

    audited: Audited
    opens: str
    browser: Browser
    pictures: Path
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return based(self.opens)[0]

    def page(self, language: str = "en", width: int = 1280) -> Page:
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, locale="en-US" if language == "en" else "zh-CN",
            accept_downloads=True,
        )  # fmt: skip
        name, _, value = ask("GET", self.opens).headers["set-cookie"].partition(";")[0].partition("=")
        context.add_cookies([{"name": name, "value": value, "url": self.url}])
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def check_fit(self, name: str, path: str) -> None:
        """A page fits a phone and a desktop in both languages, with pictures."""
        for language in ("en", "zh"):
            page = self.page(language)
            page.goto(f"{self.url}/{path}")
            Watched(page, self.pictures).check_fit(f"console-{name}-{language}")
            page.close()


@contextmanager
def console(folder: Path) -> Iterator[str]:
    with serving("console", "serve", folder) as said:
        yield str(said["url"])


def based(opens: str) -> tuple[str, str]:
    """The address without the key, and the key."""
    url, key = opens.split("/?key=")
    return url, key


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Served]:
    need_chromium()
    with open_audited(tmp_path_factory.mktemp("console")) as audited:
        operators = [
            bytes(SigningKey(bytes.fromhex(one.read_text())).verify_key).hex()
            for one in casting.operator_files(audited.house.stage)
        ]
        run("audit", "pin", audited.auditor, *(word for key in operators for word in ("--operator", key))).ok()
        inspector = audited.house.file("inspector.card", run("node", "card", audited.inspector).ok().out.encode())
        run("node", "pin", audited.auditor, inspector).ok()
        keep_evidence(audited.auditor)
        with console(audited.auditor) as url, launched() as browser:
            yield Served(audited, url, browser, repo_root / "build" / "screenshots")


def keep_evidence(folder: Path) -> None:
    """As of a frame that did not verify: then there is an alert, whatever the time of day."""
    settings = config.load(folder)
    store = Store(settings.database, FileKeystore.load(settings.keys))
    with store.transaction():
        store.receipts.keep_evidence(1_700_000_000_000, "log.fork", Head(), b"a frame")
    store.close()


def test_nobody_else_on_this_computer_reads_or_signs(served: Served) -> None:
    """Another user, or a program, knows the port and not the key."""
    url, key = based(served.opens)
    review = {"alert": "a", "by": "nobody", "note": "all is well", "action": "close"}
    for path in ("", "/search", "/export?format=csv", "/integrity", "/?key=", "/?key=x", "/?key=%C3%A9"):
        answer = ask("GET", url + path)
        assert (answer.status_code, "zhifu console serve" in answer.text) == (403, True), path
    assert ask("POST", f"{url}/alerts/review", data=review).status_code == 403
    assert not (served.audited.auditor / "reviews.ndjson").exists()
    let_in = ask("GET", served.opens)
    assert let_in.status_code == 303
    assert {"HttpOnly", "SameSite=strict"} <= set(let_in.headers["set-cookie"].split("; "))
    cookie = let_in.headers["set-cookie"].partition(";")[0]
    assert key not in cookie
    assert ask("GET", f"{url}/policy", headers={"cookie": cookie}).status_code == 200
    nowhere = ask("GET", f"{url}/nowhere?lang=en", headers={"cookie": cookie})
    assert (nowhere.status_code, "There is no such page" in nowhere.text) == (404, True)


def test_one_console_has_a_folder(served: Served) -> None:
    refused = run("console", "serve", served.audited.auditor)
    assert (refused.code, "another console serves" in refused.err) == (2, True), refused.err


def test_a_search_is_an_address_and_can_be_kept(served: Served) -> None:
    page = served.page()
    page.goto(f"{served.url}/search")
    expect(page.locator("#summary")).to_contain_text("Complete")
    page.get_by_label("Event").select_option("exchange.accepted")
    page.get_by_label("Purpose").select_option("commercial-settlement")
    page.get_by_role("button", name="Search").click()
    assert "event=exchange.accepted" in page.url
    shown = page.locator(".entries tbody tr")
    assert shown.count() >= 4
    assert set(page.locator(".entries tbody td:nth-child(3)").all_inner_texts()) == {"Exchange accepted"}
    again = served.page("zh")
    again.goto(page.url)
    assert again.locator(".entries tbody tr").count() == shown.count()
    page.get_by_text("Export and save").click()
    page.get_by_label("Name").fill("商保")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="商保", exact=True).click()
    assert "purpose=commercial-settlement" in page.url
    page.get_by_role("button", name="Forget 商保").click()
    expect(page.get_by_role("link", name="商保", exact=True)).to_have_count(0)


def compare(page: Page) -> Locator:
    """Have the whole log read for the search that is shown; what came of it."""
    page.get_by_role("button", name="Read").click()
    # The page asks again by itself, until there is something to say.
    expect(page.locator("#verdict")).to_be_visible(timeout=PATIENCE_S * 1000)
    return page.locator("#verdict")


def test_what_a_search_left_out_is_found_beside_the_other_pages(served: Served) -> None:
    page, other = served.page(), served.page()
    page.goto(f"{served.url}/search?event=exchange.accepted")
    shown = page.locator(".entries tbody tr").count()
    hidden = int(page.locator(".entries tbody a").nth(1).inner_text())
    with served.audited.house.frozen("broker"):
        page.get_by_role("button", name="Read the whole log and compare").click()
        expect(page.locator("#reading")).to_contain_text("Asking the broker")
        served.check_fit("reading", "complete?event=exchange.accepted")
        other.goto(f"{served.url}/policy")
        expect(other.locator("h1")).to_be_visible()
        other.goto(f"{served.url}/complete?event=exchange.denied")
        expect(other.locator("main")).to_contain_text("one reading goes on at a time")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#verdict")).to_have_count(0)
    expect(compare(page)).to_contain_text("Nothing was left out")
    expect(page.locator("main")).to_contain_text(f"All {shown} entries of the log")
    served.check_fit("complete-good", "complete?event=exchange.accepted")
    size, root = (page.locator(f"#read-{name}").inner_text() for name in ("size", "head"))
    with left_out(served.audited, hidden):
        expect(compare(page)).to_contain_text("Left out: 1")
        assert page.locator("#left-out tbody td:first-child").all_inner_texts() == [str(hidden)]
        expect(page.locator("#left-out")).to_contain_text("Exchange accepted")
        assert int(page.locator("#read-size").inner_text()) > int(size)
        assert page.locator("#read-head").inner_text() != root
        served.check_fit("complete-bad", "complete?event=exchange.accepted")
        page.get_by_role("link", name="Back to the answer").click()
        expect(page.locator("#completeness")).to_contain_text("Left out: 1")
        assert page.locator(".entries tbody tr").count() == shown - 1
        expect(page.locator("#summary")).to_contain_text("Left out: 1")
        served.check_fit("search", "search?event=exchange.accepted")
    page.goto(f"{served.url}/alerts")
    expect(page.locator("li.alert", has_text="log.omitted")).to_be_visible()


def test_who_may_read_a_part_is_told_that_a_part_proves_nothing(served: Served) -> None:
    with console(served.audited.inspector) as opens:
        page, (url, _) = served.page(), based(opens)
        page.goto(opens)
        page.goto(f"{url}/search")
        expect(page.locator("#completeness")).to_contain_text("Only an auditor who may read the whole log")
        assert not page.get_by_role("button", name="Read").count()
        page.goto(f"{url}/complete")
        expect(compare(page)).to_contain_text("Could not be compared")
        expect(page.locator("main")).to_contain_text("policy.denied")
        page.goto(f"{url}/search")
        expect(page.locator("#completeness")).to_contain_text("Could not be compared")


def test_a_timeline_is_followed_from_an_entry(served: Served) -> None:
    page = served.page()
    page.goto(f"{served.url}/search?event=grant.registered")
    page.locator(".entries tbody a").first.click()
    page.get_by_role("link", name=served.audited.grant).click()
    steps = page.locator("ol.line > li")
    assert steps.count() >= 8
    expect(steps.first).to_contain_text("Grant registered")
    expect(page.locator("main")).to_contain_text("Diagnosis")


def test_an_alert_is_reviewed_and_signed_off(served: Served) -> None:
    folder = served.audited.auditor
    reviews = Reviews(folder, FileKeystore.load(config.load(folder).keys).identity)
    page = served.page()
    page.goto(f"{served.url}/alerts")
    first = page.locator("li.alert").first
    name = first.get_attribute("id") or ""
    first.get_by_text("Review").click()
    first.get_by_label("Officer").fill("示例审计员")
    first.get_by_label("Note").fill("checked with the hospital")
    first.get_by_role("button", name="Sign off").click()
    page.locator("summary", has_text="signed off").click()
    expect(page.locator(f"#closed [id='{name}']")).to_contain_text("checked with the hospital")
    assert reviews.read()[name][0].closed


@pytest.mark.parametrize(("form", "begins"), [("csv", "index,time"), ("ndjson", "{"), ("fhir", '{"resourceType"')])
def test_an_export_comes_with_its_proofs_and_without_values(served: Served, form: str, begins: str) -> None:
    page = served.page()
    page.goto(f"{served.url}/search?event=exchange.accepted")
    page.get_by_text("Export and save").click()
    with page.expect_download() as downloading:
        page.locator(f"a[href*='format={form}']").click()
    content = Path(downloading.value.path()).read_text("utf-8")
    assert content.startswith(begins)
    assert "tlog-proof" in content or "c2sp" in content or "tlog_proof" in content
    assert not [value for value in canaries(served.audited.bill) if value in content]


def test_no_page_shows_a_value_and_none_is_wider_than_a_phone(served: Served) -> None:
    page = served.page("zh", 390)
    values = canaries(served.audited.bill)
    for path in ("/", "/search", f"/timeline?about={served.audited.grant}", "/alerts", "/integrity", "/policy"):
        answer = page.goto(served.url + path)
        assert answer is not None
        assert answer.status == 200
        assert not [value for value in values if value in page.content()]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert "style-src 'self'" in answer.headers["content-security-policy"]
    assert served.complaints == []


def kept_page(served: Served, folder: Path) -> tuple[Path, str]:
    page = served.page()
    page.goto(f"{served.url}/search?event=exchange.accepted")
    page.locator(".entries tbody a").first.click()
    key = page.locator("code").inner_text()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Save a page").click()
    kept = folder / "receipt.html"
    downloading.value.save_as(kept)
    return kept, key


def test_a_kept_page_verifies_a_receipt_without_any_server(served: Served, tmp_path: Path) -> None:
    kept, key = kept_page(served, tmp_path)
    page = served.page()
    page.context.set_offline(True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(kept.as_uri())
    verdict, button = page.locator("#verdict"), page.locator("#run")
    page.locator("#key").fill(key)
    button.click()
    expect(verdict).to_have_class("good")
    receipt = json.loads(page.locator("#receipt").input_value())
    for wrong in (
        {**receipt, "time_ms": receipt["time_ms"] + 1},
        {**receipt, "meta": receipt["meta"][:-2] + f"{int(receipt['meta'][-2:], 16) ^ 1:02x}"},
        {**receipt, "index": receipt["index"] - 1},
        {**receipt, "proof": receipt["proof"].replace("\n\n", "\nAAAA\n\n", 1)},
    ):
        page.locator("#receipt").fill(json.dumps(wrong))
        button.click()
        expect(verdict).to_have_class("bad")
    page.locator("#receipt").fill(json.dumps(receipt))
    name, number, public = key.split("+", 2)
    page.locator("#key").fill(f"{name}+{number}+{public[:-8]}{'A' * 8}")
    button.click()
    expect(verdict).to_have_class("bad")
    page.locator("#key").fill(key)
    button.click()
    expect(verdict).to_have_class("good")
    assert all(url.startswith("file:") for url in asked)


def test_the_kept_page_allows_its_own_script_alone() -> None:
    texts = words.load("clients.web", "clients.auditor.console").all("en")
    page = verifier.page({"format": rows.RECEIPT_FORMAT, "proof": "</textarea><script>alert(1)</script>"}, texts)
    assert page.count("<script>") == 1
    assert "default-src 'none'; script-src 'sha256-" in page


def test_the_integrity_panel_tells_a_good_log_and_after_tampering_a_bad_one(served: Served) -> None:
    page = served.page()

    def told(before: str) -> bool:
        page.reload()
        found = page.locator("#verdict")
        return bool(found.count()) and found.inner_text() != before

    def check() -> None:
        page.goto(f"{served.url}/integrity")
        before = page.locator("#verdict").inner_text() if page.locator("#verdict").count() else ""
        with page.expect_navigation():
            page.locator("form[action='/integrity/check'] button").click()
        # The check runs on; the page says what it found once it is asked again.
        until(lambda: told(before), "the check has ended", pause_s=0.25)

    check()
    expect(page.locator("#verdict")).to_contain_text("Verified")
    with closing(sqlite3.connect(served.audited.house.path / "broker" / "broker.db")) as opened, opened:
        opened.execute('UPDATE entry SET time_ms = time_ms + 1 WHERE "index" = 10')
    check()
    expect(page.locator("#verdict")).to_contain_text("Not verified")
    expect(page.locator("#first-bad")).to_contain_text("Entry 10")
    page.goto(f"{served.url}/entry/10")
    expect(page.locator(".state.bad").first).to_be_visible()
    page.goto(f"{served.url}/integrity")
    expect(page.locator("main")).to_contain_text("receipt.invalid")


def test_memory_refuses_what_is_no_name(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    with pytest.raises(Malformed):
        memory.save_filter("", "")
    assert Rules().unwitnessed_min == 10


def test_reviews_are_signed_and_none_goes_missing(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path, SigningKey.generate())
    with pytest.raises(Malformed):
        reviews.add("alert", "", "note", closed=True)
    for note in "abc":
        reviews.add("alert", "officer", note, closed=note == "c")
    assert [(one.note, one.closed) for one in reviews.read()["alert"]] == [("a", False), ("b", False), ("c", True)]
    path = tmp_path / "reviews.ndjson"
    first, second, third = lines = path.read_bytes().splitlines()
    for changed in (
        [first, second.replace(b'"b"', b'"x"'), third], [second, third], [first, third], [first, third, second],
        [*lines, third], [first, second, third.replace(b"true", b"false")], [b"{}", *lines], [b"[]"], [b"\xff"],
    ):  # fmt: skip
        path.write_bytes(b"\n".join([*changed, b""]))
        with pytest.raises(NotAuthentic, match=r"signature\.invalid"):
            reviews.read()
        with pytest.raises(NotAuthentic):
            reviews.add("alert", "officer", "d", closed=True)
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(NotAuthentic):
        Reviews(tmp_path, SigningKey.generate()).read()
