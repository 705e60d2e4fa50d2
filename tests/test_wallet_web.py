"""The wallet's pages in a real browser, against real processes: from enrolment to the refusal after a revocation."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Route, expect

from clients import desk
from clients.hospital.sample import sample_bill
from clients.patient.web import door
from clients.web import words
from tests.browser import DESKTOP, PHONE, Watched, browser, need_chromium
from tests.house import House, Patient, open_house, python, run
from zhifu.consent import hash_of
from zhifu.v1 import signed_pb2

BILL: Final = sample_bill(1)
PAGES: Final = ("/", "/history", "/statements", "/code", "/enrol")
NARROWED: Final = "[data-unit=item-charges]"


@dataclass(slots=True)
class Served:
    """A running house with the wallet's pages before it, and the patient's browser."""

    house: House
    url: str
    profile: Path
    pictures: Path
    wallet: Path
    patient: Patient

    @property
    def base(self) -> str:
        return self.url.partition("/?")[0]

    def open(self, **options: Any) -> Any:
        return browser(self.profile, self.pictures, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Served]:
    need_chromium()
    path = tmp_path_factory.mktemp("wallet")
    with open_house(tmp_path_factory.mktemp("house")) as house:
        house.insure(BILL)
        wallet = house.path / "phone"
        cards = [word for card in house.cast.cards.values() for word in ("--card", str(card))]
        words_ = ["wallet", "serve", str(wallet), "--contact", str(house.contact), *cards, "--port", "0"]
        process = subprocess.Popen(python(*words_), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            found = Served(
                house, url, path / "profile", repo_root / "build" / "screenshots", wallet, Patient(wallet, "")
            )
            with found.open() as at:
                enrol(found, at)
            yield found
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def enrol(served: Served, at: Watched) -> None:
    """The first way through: a key drawn in the browser, two attestations, the recovery code written down."""
    page, house = at.page, served.house
    page.goto(served.url)
    at.picture("01-first-zh")
    page.get_by_role("link", name="开始登记").click()
    page.wait_for_url("**/enrol")  # Loaded: before its script runs, a button is there and does nothing.
    page.get_by_role("button", name="生成密钥").click()
    expect(page.locator("#step-recovery")).to_be_visible()
    served.patient = Patient(served.wallet, str(page.locator("#subject-key").get_attribute("data-key")))
    expect(page.locator("#recovery-code")).to_have_text(re.compile(r"^([A-Z2-7]{4}-){8}[A-Z2-7]{4}$"))
    at.picture("02-enrol-zh")
    files = [house.file("attestation"), house.file("attestation")]
    bill = house.file("bill.json", BILL)
    run("hospital", "attest", house.path / "hospital", served.patient.key, "--bill", bill, "-o", files[0]).ok()
    run("node", "attest", house.path / "insurer", served.patient.key, "-o", files[1]).ok()
    page.locator("#attestation-files").set_input_files(files)
    expect(page.locator("#enrol")).to_be_disabled()
    page.get_by_label("我已抄好并收好").check()
    page.locator("#enrol").click()
    expect(page.locator("#enrolled")).to_be_visible()
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
        assert {(box["width"], box["height"]) for box in boxes if box} == {(boxes[0]["width"], boxes[0]["height"])}
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
        settled = house.settle(BILL, consent).ok().json
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
        refused = house.settle(BILL, second)
        assert refused.code == 4, refused.err
        assert "consent." in refused.err
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


def test_everything_can_be_done_with_the_keyboard(served: Served) -> None:
    with served.open() as at:
        page = at.page
        take(served, at)
        visited = []
        for _ in range(120):
            page.keyboard.press("Tab")
            visited.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
            if visited[-1] == "refuse":
                break
        assert "SUMMARY" in visited
        page.keyboard.press("Enter")
        expect(page.locator("#declined h1")).to_be_focused()
        at.picture("10-declined-zh")


@pytest.mark.parametrize(("size", "name"), [(PHONE, "phone"), (DESKTOP, "desktop")])
def test_pages_fit_in_both_languages(served: Served, size: dict[str, int], name: str) -> None:
    with served.open(viewport=size, device_scale_factor=1) as at:
        take(served, at)
        for path in (at.page.url.removeprefix(served.base), *PAGES):
            for language in words.LANGUAGES:
                at.page.goto(f"{served.base}{path}?lang={language}")
                assert not at.wide(), (path, language)
                at.picture(f"{path.strip('/').partition('/')[0] or 'home'}-{name}-{language}")
        assert at.faults == []


def test_who_has_no_key_to_the_pages_sees_none(served: Served) -> None:
    with browser(served.profile.parent / "stranger", served.pictures) as at:
        for path in ("/", "/history", "/receipts/00", "/?key=wrong"):
            answer = at.page.goto(f"{served.base}{path}")
            assert answer is not None
            assert answer.status == 403
    assert (served.wallet / door.FILE).stat().st_mode & 0o077 == 0
