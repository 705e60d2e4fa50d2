"""The wallet's pages in a real browser, against real processes: from enrolment to the refusal after a revocation."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Playwright, Route, expect

from clients import desk
from clients.hospital.sample import sample_bill
from clients.patient.consent import read_terms
from clients.web import words
from tests.browser import Device, Watched, need_chromium, playing
from tests.house import House, Patient, further, open_house, run, serving, until
from zhifu import subject_key
from zhifu.consent import hash_of, verify_grant
from zhifu.v1 import signed_pb2

BILL: Final = sample_bill(1)
SCREENSHOTS: Final = "build/screenshots"
PAGES: Final = ("/", "/history", "/statements", "/code", "/enrol", "/keys", "/recover")
NARROWED: Final = "[data-unit=item-charges]"


@dataclass(slots=True)
class Served:
    """A running house with the wallet's pages before it, and the patient's browser."""

    house: House
    url: str
    player: Playwright
    pictures: Path
    wallet: Path
    patient: Patient
    device: Device = field(init=False)
    recovery: str = ""

    def __post_init__(self) -> None:
        self.device = Device(self.player, self.wallet.with_name(f"{self.wallet.name}-browser"), self.pictures)

    @property
    def base(self) -> str:
        return self.url.partition("/?")[0]

    def open(self, *, scripts: bool = True) -> AbstractContextManager[Watched]:
        return self.device.open(scripts=scripts)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Served]:
    need_chromium()
    with open_house(tmp_path_factory.mktemp("house")) as house:
        house.insure(BILL)
        wallet = house.path / "phone"
        with pages(house, wallet) as url, playing() as player:
            found = Served(house, url, player, repo_root / SCREENSHOTS, wallet, Patient(wallet, ""))
            with found.open() as at:
                enrol(found, at)
            yield found


@contextmanager
def pages(house: House, wallet: Path) -> Iterator[str]:
    """The wallet's pages before a house, for the wallet in this folder: the address that opens them."""
    cards = [word for card in house.cast.cards.values() for word in ("--card", str(card))]
    with serving("wallet", "serve", wallet, "--contact", house.contact, *cards, "--port", "0") as said:
        yield said["url"]


@contextmanager
def other_device(served: Served, name: str) -> Iterator[Served]:
    """Another phone, with a wallet of its own that knows nothing yet."""
    wallet = served.house.path / name
    with pages(served.house, wallet) as url:
        found = Served(served.house, url, served.player, served.pictures, wallet, served.patient)
        yield found
        found.device.close()


def enrol(served: Served, at: Watched) -> None:
    """The first way through: a key drawn in the browser, two attestations, the recovery code written down."""
    page, house = at.page, served.house
    page.goto(served.url)
    at.picture("01-first-zh")
    page.get_by_role("link", name="开始登记").click()
    page.get_by_role("button", name="生成密钥").click()
    expect(page.locator("#step-recovery")).to_be_visible()
    served.patient = Patient(served.wallet, str(page.locator("#subject-key").get_attribute("data-key")))
    expect(page.locator("#recovery-code")).to_have_text(re.compile(r"^([A-Z2-7]{4}-){8}[A-Z2-7]{4}$"))
    served.recovery = page.locator("#recovery-code").inner_text()
    at.picture("02-enrol-zh")
    files = [house.file("attestation"), house.file("attestation")]
    bill = house.file("bill.json", BILL)
    run("hospital", "attest", house.path / "hospital", served.patient.key, "--bill", bill, "-o", files[0]).ok()
    run("node", "attest", house.path / "insurer", served.patient.key, "-o", files[1]).ok()
    page.locator("#attestation-files").set_input_files(files)
    expect(page.locator("#enrol")).to_be_disabled()
    page.get_by_label("我已抄好并收好").check()
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.post_data or ""))
    page.locator("#enrol").click()
    expect(page.locator("#enrolled")).to_be_visible()
    assert not any(served.recovery[:9] in body for body in sent), "the recovery code stays in the browser"
    key = subject_key.recovery_key(
        served.recovery, house.cast.ids["hospital"], house.cast.ids["insurer"]
    )  # what the browser made of it is what the protocol says
    assert any(bytes(key.verify_key).hex() in body for body in sent)
    assert at.faults == []


def take(served: Served, at: Watched, *more: object) -> None:
    """A request from the desk, opened on the phone."""
    at.page.goto(f"{served.base}/")
    at.page.locator("#request-file").set_input_files(served.house.ask(served.patient, BILL, *more))
    expect(at.page.locator("#screen")).to_be_visible()


def agree(served: Served, at: Watched) -> Path:
    """The consent as the cashier gets it."""
    at.page.locator("#agree").click()
    with at.page.expect_download() as saved:
        at.page.locator("#consent-file").click()
    path = served.house.file("consent.json")
    saved.value.save_as(path)
    return path


def test_the_code_settles_and_is_drawn_from_what_the_browser_signed(served: Served) -> None:
    with served.open() as at:
        page, house = at.page, served.house
        take(served, at, "--direct-pay", "--cap", "900000")
        run("hospital", "keep-consent", house.path / "hospital", agree(served, at)).ok()
        page.goto(f"{served.base}/code")
        expect(page.locator("#code")).to_be_visible()
        at.picture("09-code-zh")
        page.locator("#online").click()
        expect(page.locator("#digits")).to_have_text(re.compile(r"^\d{3}( \d{3}){5}$"))
        digits = page.locator("#digits").inner_text()
        stranger = house.file("bill.json", sample_bill(2))
        refused = run("hospital", "redeem", house.path / "hospital", digits, "--bill", stranger)
        assert "consent.subject_mismatch" in refused.err, "the digits stand for her code alone"
        code = str(page.locator("#code").get_attribute("data-text"))
        done = run(
            "hospital", "redeem", house.path / "hospital", code, "--bill", house.file("bill.json", BILL), "--json"
        )  # fmt: skip
        assert done.ok().json["state"] == "confirmed"
        assert at.faults == []


def test_a_settlement_is_reviewed_narrowed_granted_seen_and_the_next_is_refused_after_revocation(
    served: Served,
) -> None:
    with served.open() as at:
        page, house = at.page, served.house
        take(served, at)
        assert page.locator("input:checked").count() == 0
        boxes = [page.locator(f"#{name}").bounding_box() for name in ("agree", "refuse")]
        assert all(boxes)
        assert len({(box["width"], box["height"]) for box in boxes if box}) == 1
        short = page.locator("#short-code").inner_text()
        at.picture("03-review-zh")
        row = page.locator(NARROWED)
        row.locator("summary").click()
        row.get_by_label("不提供这一项").check()
        expect(row.locator(".value")).to_have_text("不提供")
        consent = agree(served, at)
        granted = json.loads(consent.read_text())
        assert re.fullmatch(r"\d{3} \d{3}", short)
        at.picture("04-agreed-zh")
        settled = house.settle(further(BILL), consent).ok().json
        assert settled["state"] == "confirmed"
        sent = next(one["id"] for one in settled["exchanges"] if one["step"] == "claim")
        page.goto(f"{served.base}/history")
        page.locator("#refresh").click()
        claim = page.locator(f".access[data-exchange='{sent}']")
        expect(claim).to_contain_text("示例健康保险有限公司")
        expect(claim).to_contain_text("住院账单")
        claim.locator("summary").click()
        expect(claim).to_contain_text("出生日期")
        expect(claim).not_to_contain_text("项目金额")
        at.picture("05-history-zh")
        page.goto(f"{served.base}/statements")
        expect(page.locator(".bill .rest").first).to_contain_text("0.00")
        at.picture("06-statements-zh")
        # A second consent, unused, and withdrawn: one confirmation.
        take(served, at)
        second = agree(served, at)
        assert json.loads(second.read_text())["grant"] != granted["grant"]
        withdrawn = hash_of(desk.read_consent(second).grant.payload).hex()
        page.goto(f"{served.base}/")
        at.picture("07-home-zh")
        page.locator(f".grant[data-grant='{withdrawn}']").get_by_role("button", name="撤回").click()
        at.picture("08-withdraw-zh", whole=False)
        page.get_by_role("button", name="确认撤回").click()
        expect(page.locator("#status")).to_contain_text("已撤回 1 项授权")
        refused = house.settle(further(BILL), second)
        assert refused.code == 4, refused.err
        assert "consent." in refused.err
        take(served, at)
        agree(served, at)
        at.page.goto(f"{served.base}/")
        page.get_by_role("button", name="撤回给示例市第一人民医院的全部授权").click()
        page.locator("dialog[open]").get_by_role("button", name="确认撤回").click()
        expect(page.locator("#status")).to_contain_text("已撤回")
        expect(page.locator(".grant")).to_have_count(0)
        # What the recipient did with what it has already, by its signed word.
        page.goto(f"{served.base}/history")
        look_for_news(at)
        expect(claim.locator(".notice")).to_contain_text(re.compile("等待签名答复|已经赔付，账目必须存档"))
        until(lambda: answered(at, claim), "the insurer answers what it did with the data", pause_s=0.5)
        at.picture("18-kept-zh")
        take(served, at)
        agree(served, at)
        at.page.goto(f"{served.base}/")
        page.locator("[data-opens=end-all]").click()
        page.locator("#end-all").get_by_role("button", name="确认撤回").click()
        expect(page.locator("#status")).to_contain_text("已撤回")
        expect(page.locator(".grant")).to_have_count(0)
        page.locator(".ended a").last.click()
        with page.expect_download() as saved:
            page.get_by_text("ISO/IEC TS 27560").click()
        assert json.loads(Path(saved.value.path()).read_text())["schema_version"].startswith("ISO/IEC TS 27560")
        assert at.faults == []


def test_the_key_survives_a_restart_and_cannot_be_exported(served: Served) -> None:
    served.device.restart()
    with served.open() as at:
        at.page.goto(f"{served.base}/")
        found = at.page.evaluate(
            """async () => {
              const { all } = await import("/static/keys.js");
              const [key] = await all();
              const tried = {};
              for (const form of ["pkcs8", "raw", "jwk"]) {
                tried[form] = await crypto.subtle.exportKey(form, key.signing.privateKey)
                  .then(() => "exported", (error) => error.name);
              }
              return { public: key.public, extractable: key.signing.privateKey.extractable, tried };
            }"""
        )
    assert found["public"] == served.patient.key
    assert found["extractable"] is False
    assert set(found["tried"].values()) == {"InvalidAccessError"}
    assert "seed" not in served.wallet.joinpath("wallet.json").read_text() or _no_seed(served.wallet)


def _no_seed(wallet: Path) -> bool:
    pairs = json.loads(wallet.joinpath("wallet.json").read_text())["pairs"]
    return bool(pairs) and all(pair["seed"] == "" for pair in pairs)


def _altered(route: Route, change: Any) -> None:
    """The server's first answer to an errand, with another payload to sign."""
    answer = route.fetch()
    found = answer.json()
    found["sign"]["payload"] = base64.b64encode(change(base64.b64decode(found["sign"]["payload"]))).decode()
    route.fulfill(response=answer, body=json.dumps(found))


def _altering(change: Any) -> Callable[[Route], None]:
    return lambda route: _altered(route, change)


def _finer(payload: bytes) -> bytes:
    grant = signed_pb2.Grant.FromString(payload)
    scope = max(grant.scopes, key=lambda one: len(one.levels))
    scope.levels = b"\0" * len(scope.levels)
    return grant.SerializeToString(deterministic=True)


def _longer(payload: bytes) -> bytes:
    grant = signed_pb2.Grant.FromString(payload)
    grant.expiry += 1
    return grant.SerializeToString(deterministic=True)


def _elsewhere(payload: bytes) -> bytes:
    grant = signed_pb2.Grant.FromString(payload)
    grant.recipient = bytes(32)
    return grant.SerializeToString(deterministic=True)


def test_the_browser_signs_nothing_that_the_screen_does_not_say(served: Served) -> None:
    with served.open() as at:
        take(served, at)
        sent: list[str] = []
        at.page.on("request", lambda one: sent.append(one.post_data or ""))
        for change in (_finer, _longer, _elsewhere, lambda payload: payload + b"\x08\x01"):
            at.context.route("**/api/grant", _altering(change))
            at.page.locator("#agree").click()
            expect(at.page.locator("#status")).to_contain_text("没有签名")
            expect(at.page.locator("#agree")).not_to_have_attribute("aria-busy", "true")
            at.context.unroute("**/api/grant")
        assert sum("declined" in body for body in sent) == 4
        assert not any("signature" in body for body in sent)


def test_a_screen_that_hides_a_unit_is_not_agreed_to(served: Served) -> None:
    with served.open() as at:
        at.context.route(
            re.compile(r"/requests/\w+$"),
            lambda route: route.fulfill(
                response=(answer := route.fetch()), body=answer.text().replace('data-unit="diagnosis"', "data-gone")
            ),
        )
        take(served, at)
        expect(at.page.locator("#agree")).to_be_disabled()
        expect(at.page.locator("#status")).to_contain_text("没有签名")


def answered(at: Watched, claim: Locator) -> bool:
    look_for_news(at)
    return "已经赔付，账目必须存档" in claim.inner_text()


def look_for_news(at: Watched) -> None:
    """Ask the broker; the page loads again with what it said."""
    with at.page.expect_navigation():
        at.page.locator("#refresh").click()


def tab_to(at: Watched, selector: str, most: int = 150) -> None:
    """Press Tab until this has the focus."""
    for _ in range(most):
        at.page.keyboard.press("Tab")
        if at.page.evaluate("(selector) => document.activeElement?.matches(selector)", selector):
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


def test_the_whole_flow_with_the_keyboard_alone(served: Served) -> None:
    """From the request to the withdrawal; what one does next has the focus, or comes after it."""
    with served.open() as at:
        page, house = at.page, served.house
        page.on("filechooser", lambda _: None)  # listened for from the start: the browser is told without an answer
        page.goto(f"{served.base}/")
        expect(page.locator("#take")).to_be_enabled()
        tab_to(at, "#take")
        with page.expect_file_chooser() as chosen:
            page.keyboard.press("Enter")
        chosen.value.set_files(house.ask(served.patient, BILL))
        expect(page.locator("#agree")).to_be_enabled()
        tab_to(at, f"{NARROWED} summary")
        page.keyboard.press("Enter")
        tab_to(at, f"{NARROWED} input")
        page.keyboard.press("ArrowUp")  # round to the last of the group: not at all
        expect(page.locator(f"{NARROWED} .value")).to_have_text("不提供")
        tab_to(at, "#agree")
        page.keyboard.press("Enter")
        expect(page.locator("#agreed h1")).to_be_focused()
        tab_to(at, "#consent-file")
        with page.expect_download() as saved:
            page.keyboard.press("Enter")
        consent = house.file("consent.json")
        saved.value.save_as(consent)
        digest = hash_of(desk.read_consent(consent).grant.payload).hex()
        tab_to(at, "#agreed a[href='/']")
        page.keyboard.press("Enter")
        expect(page.locator("#take")).to_be_enabled()
        card = f".grant[data-grant='{digest}']"
        tab_to(at, f"{card} [data-opens]")
        page.keyboard.press("Enter")
        expect(page.locator(f"{card} [data-closes]")).to_be_focused()
        tab_to(at, f"{card} [data-revoke]")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("已撤回 1 项授权")
        assert house.settle(further(BILL), consent).code == 4
        assert at.faults == []


def test_refusing_with_the_keyboard(served: Served) -> None:
    with served.open() as at:
        take(served, at)
        tab_to(at, "#refuse")
        at.page.keyboard.press("Enter")
        expect(at.page.locator("#declined h1")).to_be_focused()
        at.picture("10-declined-zh")


def test_both_screens_show_one_short_code(served: Served) -> None:
    house = served.house
    request, file = house.file("request.json"), house.file("bill.json", BILL)
    told = run(
        "hospital", "request-consent", house.path / "hospital", served.patient.key, "--bill", file,
        "--recipient", house.cast.ids["insurer"].hex(), "-o", request,
    ).ok().out.strip()  # fmt: skip
    with served.open() as at:
        at.page.goto(f"{served.base}/")
        at.page.locator("#request-file").set_input_files(request)
        expect(at.page.locator("#short-code")).to_have_text(told)


def test_what_is_narrowed_on_the_page_is_what_was_signed(served: Served) -> None:
    """Period, retention and cap, beside the units."""
    with served.open() as at:
        page = at.page
        take(served, at, "--cap", "900000")
        page.locator("#screen summary", has_text="缩短时间或设上限").click()
        page.locator("input[name=expiry][value='7200']").check()
        page.locator("input[name=erase][value='2592000']").check()
        page.locator("#cap").fill("5000.5")
        given = desk.read_consent(agree(served, at))
        grant = verify_grant(given.grant)
        assert grant.expiry - grant.issued_at <= 7200 + 60
        assert grant.data_erase_at - grant.issued_at <= 2_592_000 + 60
        assert given.terms is not None
        assert read_terms(given.terms.content)[0] == 500_050
        page.goto(f"{served.base}/grants/{hash_of(given.grant.payload).hex()}")
        expect(page.locator("main")).to_contain_text("5,000.50")
        with page.expect_download() as saved:
            page.get_by_text("FHIR R4 Consent").click()
        assert json.loads(Path(saved.value.path()).read_text())["resourceType"] == "Consent"


def test_a_button_waits_for_its_script(served: Served) -> None:
    with served.open() as at:
        at.context.route("**/static/home.js", lambda route: route.abort())
        at.page.goto(f"{served.base}/", wait_until="load")
        expect(at.page.locator("#take")).to_be_disabled()
    with served.open(scripts=False) as at:
        at.page.goto(f"{served.base}/")
        expect(at.page.locator("noscript .notice")).to_be_visible()
        expect(at.page.locator("#take")).to_be_disabled()


def test_a_page_that_was_left_holds_up_nobody(served: Served) -> None:
    """It took a payload to sign and went away: the next errand begins soon, however often that happens."""
    with served.open() as at:
        at.page.goto(f"{served.base}/")
        leave = "async () => { await fetch('/api/refresh', {method: 'POST', body: '{}'}); }"
        at.page.evaluate(leave)
        before = time.monotonic()
        at.page.locator("#refresh").click()
        expect(at.page.locator("#refresh")).not_to_have_attribute("aria-busy", "true")
        at.page.wait_for_load_state("load")
        assert time.monotonic() - before < 15


def test_a_guardian_is_added_sees_stops_and_is_revoked(served: Served) -> None:
    house = served.house
    with other_device(served, "guardian") as hers:
        offer, shown = offered(hers)
        with served.open() as at:
            take(served, at)
            consent = agree(served, at)
            at.page.goto(f"{served.base}/keys")
            at.page.locator("[data-offer-file]").set_input_files(offer)
            expect(at.page.locator("#adding-key")).to_have_text(shown)
            at.picture("12-adding-zh", whole=False)
            at.page.locator("#adding-yes").click()
            expect(at.page.locator(".key h3", has_text="监护人")).to_be_visible()
            at.picture("13-keys-zh")
            assert at.faults == []
        digest = hash_of(desk.read_consent(consent).grant.payload).hex()
        with hers.open() as at:
            at.page.goto(f"{hers.base}/keys")
            look_for_news(at)
            card = at.page.locator(f".grant[data-grant='{digest}']")
            card.get_by_role("button", name="撤回").click()
            card.get_by_role("button", name="确认撤回").click()
            expect(at.page.locator("#status")).to_contain_text("已撤回 1 项授权")
            expect(card).to_contain_text("已撤回")
            at.picture("14-watching-zh")
            assert at.faults == []
    assert house.settle(further(BILL), consent).code == 4
    with served.open() as at:
        at.page.goto(f"{served.base}/keys")
        look_for_news(at)
        row = at.page.locator(".key", has_text="监护人")
        row.get_by_role("button", name="作废这个密钥").click()
        at.page.locator("dialog[open]").get_by_role("button", name="确认作废").click()
        expect(at.page.locator(".key", has_text="已作废").first).to_be_visible()
        assert at.faults == []


def offered(hers: Served) -> tuple[Path, str]:
    """On the guardian's phone: a key for the patient, the file for her, and the key as it is shown."""
    with hers.open() as at:
        at.page.goto(hers.url)
        at.page.goto(f"{hers.base}/keys")
        at.page.get_by_label("对方的密钥").fill(hers.patient.key)
        at.page.locator("#offer").click()
        expect(at.page.locator("#offer-file")).to_be_visible()
        at.picture("11-guardian-offers-zh")
        with at.page.expect_download() as saved:
            at.page.locator("#offer-file").click()
        path = hers.house.file("offer.json")
        saved.value.save_as(path)
        assert at.faults == []
        return path, at.page.locator("#offered-key").inner_text()


def test_the_recovery_code_stops_everything_and_a_stranger_with_it_is_noticed(served: Served) -> None:
    house = served.house
    with served.open() as at:
        take(served, at)
        consent = agree(served, at)
    with other_device(served, "found") as new, new.open() as at:
        page = at.page
        page.goto(new.url)
        page.goto(f"{new.base}/recover")
        page.get_by_label("恢复码", exact=True).fill(
            served.recovery[:-1] + ("A" if served.recovery[-1] != "A" else "B")
        )
        page.locator("#stop-all").click()
        expect(page.locator("#status")).to_contain_text("恢复码抄错了")
        page.get_by_label("恢复码", exact=True).fill(served.recovery.lower().replace("-", " "))
        at.picture("15-recover-zh")
        page.locator("#stop-all").click()
        expect(page.locator("#status")).to_contain_text("已撤回")
        assert house.settle(further(BILL), consent).code == 4
        page.locator("#get-in").click()
        expect(page.locator("#recovered")).to_be_visible()
        at.picture("16-recovered-zh")
        assert at.faults == []
    with served.open() as at:
        page = at.page
        page.goto(f"{served.base}/")
        look_for_news(at)
        expect(page.locator(".news")).to_contain_text("新增了一个密钥")
        expect(page.locator(".news")).to_contain_text("凭恢复码申请")
        expect(page.locator(".grant")).to_have_count(0)
        at.picture("17-key-news-zh")
        page.get_by_role("link", name="查看并处理").click()
        row = page.locator(".key", has_text="等待中")
        row.get_by_role("button", name="作废这个密钥").click()
        page.locator("dialog[open]").get_by_role("button", name="确认作废").click()
        expect(page.locator(".key", has_text="等待中")).to_have_count(0)
        page.goto(f"{served.base}/")
        expect(page.locator(".news")).to_have_count(0)
        assert at.faults == []


def test_pages_fit_in_both_languages(served: Served) -> None:
    with served.open() as at:
        take(served, at, "--direct-pay", "--cap", "900000")
        granted = hash_of(desk.read_consent(agree(served, at)).grant.payload).hex()
        take(served, at)
        for path in (at.page.url.removeprefix(served.base), *PAGES, f"/grants/{granted}"):
            for language in words.LANGUAGES:
                at.page.goto(f"{served.base}{path}?lang={language}")
                if path == "/code":
                    expect(at.page.locator("#code")).to_be_visible()
                at.check_fit(f"{path.strip('/').partition('/')[0] or 'home'}-{language}")
        assert at.faults == []


def test_who_has_no_key_to_the_pages_sees_none(served: Served) -> None:
    stranger = Device(served.player, served.wallet.with_name("stranger"), served.pictures)
    with stranger.open() as at:
        for path in ("/", "/history", "/receipts/00", "/?key=wrong"):
            answer = at.page.goto(f"{served.base}{path}")
            assert answer is not None
            assert answer.status == 403
    stranger.close()
    assert (served.wallet / "web.key").stat().st_mode & 0o077 == 0
