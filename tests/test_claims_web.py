"""A claim after payment in a real browser: the nudge, one tap, where it stands, paid; on phone and desktop."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import expect

from clients.hospital.sample import sample_bill
from clients.web import words
from tests.browser import Device, Watched, need_chromium, playing
from tests.house import House, open_house, python, run, until
from zhifu import bill as bills

BILL: Final = sample_bill(1)


@dataclass(slots=True)
class Served:
    """A running house, the wallet's pages, and an enrolled browser whose patient paid the rest of a bill."""

    house: House
    base: str
    device: Device

    def open(self) -> AbstractContextManager[Watched]:
        return self.device.open()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Served]:
    need_chromium()
    path = tmp_path_factory.mktemp("wallet")
    with open_house(tmp_path_factory.mktemp("house")) as house:
        house.insure(BILL)
        cards = [word for card in house.cast.cards.values() for word in ("--card", str(card))]
        command = ["wallet", "serve", str(house.path / "phone"), "--contact", str(house.contact), *cards, "--port", "0"]
        process = subprocess.Popen(python(*command), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with playing() as player:
                device = Device(player, path / "profile", repo_root / "build" / "screenshots")
                found = Served(house, url.partition("/?")[0], device)
                with found.open() as at:
                    enrol(found, at, url)
                yield found
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def enrol(served: Served, at: Watched, url: str) -> None:
    page, house = at.page, served.house
    page.goto(url)
    page.goto(f"{served.base}/enrol")
    page.get_by_role("button", name="生成密钥").click()
    expect(page.locator("#step-recovery")).to_be_visible()
    both = str(page.locator("#subject-key").get_attribute("data-both"))
    files = [house.file("attestation"), house.file("attestation")]
    bill, insurer = house.file("bill.json", BILL), house.cast.ids["insurer"].hex()
    attest = ("hospital", "attest", house.path / "hospital", both, "--bill", bill, "--insurer", insurer)
    run(*attest, "-o", files[0]).ok()
    run("node", "attest", house.path / "insurer", both.partition(".")[0], "-o", files[1]).ok()
    page.locator("#attestation-files").set_input_files(files)
    page.get_by_label("我已抄好并收好").check()
    page.locator("#enrol").click()
    expect(page.locator("#enrolled")).to_be_visible()


def look_again(served: Served, at: Watched, path: str, wanted: str) -> None:
    """Refresh until the page shows something."""

    def shown() -> bool:
        at.page.goto(f"{served.base}{path}")
        with at.page.expect_navigation():
            at.page.locator("#refresh").click()
        return at.page.locator(wanted).count() > 0

    until(shown, f"the wallet shows {wanted}", pause_s=0.5)


def test_you_may_claim_now_one_tap_and_paid(served: Served) -> None:
    house = served.house
    assert house.settle(BILL, None).ok().json["patient_fen"] == 800_000
    with served.open() as at:
        page = at.page
        look_again(served, at, "/", "[data-offer]")
        expect(page.locator("[data-offer]")).to_contain_text("8,000.00")
        at.picture("20-nudge-zh")
        page.locator("[data-offer] summary").click()
        assert page.locator("[data-offer] [data-unit=diagnosis]").inner_text(), "she sees what the insurer will see"
        page.get_by_role("button", name="同意并申请理赔").click()
        page.wait_for_url("**/claims")
        look_again(served, at, "/claims", "[data-state=paid]")
        paid = page.locator("[data-state=paid]")
        expect(paid).to_contain_text("8,000.00")
        expect(paid).to_contain_text("依据")
        at.picture("21-paid-zh")
        assert at.faults == []
    assert [one.amounts["pay"] for one in house.holdings("insurer") if one.state == "committed"] == [800_000]


def test_a_card_that_hides_a_unit_is_not_agreed_to(served: Served) -> None:
    house = served.house
    other = BILL.replace(b'"mdtrt_id": "', b'"mdtrt_id": "X')
    run("hospital", "paid", house.path / "hospital", "--bill", house.file("bill.json", other)).ok()
    with served.open() as at:
        look_again(served, at, "/", "[data-offer]")
        expect(at.page.locator("[data-claim]")).to_be_enabled()
        at.context.route(
            re.compile(r"/claims$"),
            lambda route: route.fulfill(
                response=(answer := route.fetch()), body=answer.text().replace('data-unit="diagnosis"', "data-gone")
            ),
        )
        at.page.goto(f"{served.base}/claims")
        expect(at.page.locator("#status")).to_contain_text("没有签名")
        expect(at.page.locator("[data-claim]")).to_be_disabled()


def test_a_claim_reported_from_the_page(served: Served) -> None:
    house = served.house
    with served.open() as at:
        page = at.page
        page.goto(f"{served.base}/reports")
        page.fill("#report-day", "2026-09-07")
        page.fill("#report-hospital", "示例市第二人民医院")
        page.locator("#report-outpatient").check()
        page.fill("#report-number", bills.parse(BILL).setlinfo.certno)
        page.fill("#report-total", "620.00")
        page.fill("#report-public", "220.00")
        at.picture("22-report-zh")
        page.locator("#report").click()
        expect(page.locator("[data-report]")).to_be_visible(timeout=30_000)
        look_again(served, at, "/reports", "[data-report][data-state=review]")
        claim = str(page.locator("[data-report]").get_attribute("data-report"))
        page.locator("[data-report] input[type=file]").set_input_files(house.file("receipt.pdf", b"%PDF" * 100_000))
        page.locator("[data-attach]").click()
        expect(page.locator("[data-report]")).to_contain_text("receipt.pdf", timeout=30_000)
        house.decide("insurer", claim, "--proposed")
        look_again(served, at, "/reports", "[data-report][data-state=decided]")
        page.locator("[data-accept]").click()
        expect(page.locator("[data-accept]")).to_have_count(0, timeout=30_000)  # Signed and sent: the page comes anew.
        look_again(served, at, "/reports", "[data-report][data-state=paid]")
        expect(page.locator("[data-report]")).to_contain_text("400.00")
        at.picture("23-reported-paid-zh")
        assert at.faults == []


def test_pages_fit_in_both_languages(served: Served) -> None:
    with served.open() as at:
        for path in ("/claims", "/reports", "/"):
            for language in words.LANGUAGES:
                at.page.goto(f"{served.base}{path}?lang={language}")
                at.check_fit(f"claims-{path.strip('/') or 'home'}-{language}")
        assert at.faults == []
