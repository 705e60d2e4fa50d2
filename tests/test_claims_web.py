"""A claim after payment in a real browser: the nudge, one tap, where it stands, paid; on phone and desktop."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Locator, Request, Route, expect

from clients.hospital.sample import sample_bill
from clients.patient.web import uploads
from clients.web import words
from tests.browser import Device, Watched, need_chromium, playing
from tests.house import House, another_stay, open_house, run, serving, until
from zhifu import bill as bills

BILL: Final = sample_bill(1)
CUTS: Final = """
import os, signal
from pathlib import Path
from clients.patient import calls
arrived, armed, real = Path({arrived!r}), Path({armed!r}), calls.put_chunks
async def put_chunks(wallet, digest, chunks):
    places = []
    def noted():
        for place, chunk in chunks:
            places.append(place)
            yield place, chunk
    async for left in real(wallet, digest, noted()):
        with arrived.open("a") as told:
            told.write(f"{{digest.hex()}} {{places[-1]}}\\n")
        yield left
        if armed.exists():
            broker, most = map(int, armed.read_text().split())
            if left <= most:
                armed.unlink()
                os.kill(broker, signal.SIGKILL)
calls.put_chunks = put_chunks
"""
"""The wallet's server writes down each sealed chunk that arrived, and once kills the broker when few are left."""


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
        command = ("wallet", "serve", house.path / "phone", "--contact", house.contact, *cards, "--port", "0")
        cuts = CUTS.format(arrived=str(house.path / "arrived"), armed=str(house.path / "armed"))
        with serving(*command, code=cuts) as said, playing() as player:
            url = said["url"]
            device = Device(player, path / "profile", repo_root / "build" / "screenshots")
            found = Served(house, url.partition("/?")[0], device)
            with found.open() as at:
                enrol(found, at, url)
            yield found


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
    other = another_stay(BILL)
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
        scan = house.file("scan.pdf", os.urandom(6 * uploads.PIECE + 5))
        page.locator("[data-report] input[type=file]").set_input_files([house.file("note.txt", b"x"), scan])
        at.page.route(re.compile(rf"/api/upload/.*at={3 * uploads.PIECE}$"), lambda route: moving(at, route), times=1)
        with watching(at) as seen:
            page.locator("[data-attach]").click()
            expect(page.locator("[data-report]")).to_contain_text("scan.pdf")
        assert [int(at_) for at_ in seen if int(at_)] == [uploads.PIECE * n for n in range(1, 7)], "piece by piece"
        written = house.path / "desk" / "taken"
        documents = ("insurer", "documents", house.path / "insurer", claim, "-o", written, "--json")
        until(lambda: len(run(*documents).ok().json) == 2, "the insurer has them")
        assert sorted(path.read_bytes() for path in written.rglob("*")) == sorted([b"x", scan.read_bytes()])
        house.decide("insurer", claim, "--proposed")
        look_again(served, at, "/reports", "[data-report][data-state=decided]")
        page.locator("[data-accept]").click()
        expect(page.locator("[data-accept]")).to_have_count(0, timeout=30_000)  # Signed and sent: the page comes anew.
        look_again(served, at, "/reports", "[data-report][data-state=paid]")
        expect(page.locator("[data-report]")).to_contain_text("400.00")
        at.picture("23-reported-paid-zh")
        assert at.faults == []


def test_an_upload_that_was_cut_goes_on_from_where_it_stopped(served: Served) -> None:
    """Cut on the way to the wallet's server (no connection, then a reload), and again by the broker's death."""
    house = served.house
    scan = house.file("scan.pdf", os.urandom(6 * uploads.PIECE + 5))
    with served.open() as at:
        page = at.page
        card = reported(served, at, "示例市第五人民医院")
        claim = str(card.get_attribute("data-report"))
        look_again(served, at, "/reports", f"[data-report='{claim}'][data-state=review]")
        card.locator("input[type=file]").set_input_files(scan)
        page.route(re.compile(rf"/api/upload/.*at={3 * uploads.PIECE}$"), lambda route: route.abort())
        card.locator("[data-attach]").click()
        expect(page.locator("#status")).to_be_visible()
        page.unroute_all()
        page.reload()
        expect(card.locator("[data-halfway]")).to_contain_text("scan.pdf 已上传 49%")
        at.picture("26-halfway-zh", whole=False)

        (house.path / "armed").write_text(f"{house.pid('broker')} 12")
        card.locator("input[type=file]").set_input_files(scan)
        with watching(at) as seen:
            card.locator("[data-attach]").click()
            expect(page.locator("#status")).to_be_visible()
        assert [int(place) for place in seen] == [uploads.PIECE * n for n in range(3, 7)], "no piece is sent twice"
        assert house.running["broker"].process.wait() == -signal.SIGKILL
        before = arrived(house)
        house.restart("broker")
        page.reload()
        expect(card.locator("[data-halfway]")).to_have_count(0)
        page.locator("#unsent button").click()
        expect(page.locator("#unsent")).to_have_count(0)
        after = arrived(house)
    assert (len(before), before) == (13, after[:13])
    assert after == list(range(25)), "what arrived before the broker died is not sent again"
    documents = ("insurer", "documents", house.path / "insurer", claim, "-o", house.path / "desk" / "cut", "--json")
    until(lambda: len(run(*documents).ok().json) == 2, "the insurer has the report and the file")
    written = (house.path / "desk" / "cut").rglob("*")
    assert scan.read_bytes() in [path.read_bytes() for path in written if path.is_file()]


def arrived(house: House) -> list[int]:
    """Places of the last parcel's chunks, as they arrived at the broker."""
    rows = [row.split() for row in (house.path / "arrived").read_text().splitlines()]
    return [int(place) for digest, place in rows if digest == rows[-1][0]]


@contextmanager
def watching(at: Watched) -> Iterator[list[str]]:
    """From where on each piece of a file was sent."""
    seen: list[str] = []

    def note(request: Request) -> None:
        seen.extend(re.findall(r"/api/upload/[0-9a-f]{32}\?at=(\d+)", request.url))

    at.page.on("request", note)
    yield seen
    at.page.remove_listener("request", note)


def moving(at: Watched, route: Route) -> None:
    """Half of a file has gone up: the patient sees how far it is."""
    expect(at.page.locator("[data-report] progress")).to_be_visible()
    assert at.page.locator("[data-report] [role=status]").inner_text() == "正在读取材料：40%"
    at.picture("25-uploading-zh", whole=False)
    route.continue_()


def reported(served: Served, at: Watched, hospital: str) -> Locator:
    """A claim reported on the page: its card."""
    page = at.page
    page.goto(f"{served.base}/reports")
    page.fill("#report-day", "2026-09-08")
    page.fill("#report-hospital", hospital)
    page.fill("#report-number", bills.parse(BILL).setlinfo.certno)
    page.fill("#report-total", "100.00")
    page.locator("#report").click()
    card = page.locator("[data-report]").filter(has_text=hospital)
    expect(card).to_be_visible()
    return card


def test_a_report_is_taken_back_on_the_page(served: Served) -> None:
    house = served.house
    with served.open() as at:
        card = reported(served, at, "示例市第三人民医院")
        claim = str(card.get_attribute("data-report"))
        until(lambda: claim in claims_at(house), "the insurer has it")
        card.locator("[data-opens]").click()
        expect(card.get_by_role("dialog")).to_contain_text("签名答复")
        at.picture("24-take-back-zh", whole=False)
        card.locator("[data-closes]").click()
        card.locator("[data-opens]").click()
        with at.page.expect_navigation():
            card.locator("[data-takes-back]").click()
        expect(at.page.locator("#status")).to_contain_text("已取走 1 份")
        expect(card).to_have_attribute("data-state", "withdrawn")
        expect(card.locator("[data-takes-back]")).to_have_count(0)
        assert at.faults == []
    until(lambda: claim not in claims_at(house), "the insurer erased it")


def test_a_consent_is_not_ended_in_the_name_of_a_report(served: Served) -> None:
    """The server shows another hash than the report's: the browser does not sign what she was not asked."""
    with served.open() as at:
        card = reported(served, at, "示例市第四人民医院")
        card.evaluate("card => { card.dataset.parcels = 'ab'.repeat(32); }")
        card.locator("[data-opens]").click()
        card.locator("[data-takes-back]").click()
        expect(at.page.locator("#status")).to_contain_text("没有签名")
        expect(card).not_to_have_attribute("data-state", "withdrawn")


def claims_at(house: House) -> list[str]:
    return [one["claim"] for one in run("insurer", "queue", house.path / "insurer", "--json").ok().json]


def test_pages_fit_in_both_languages(served: Served) -> None:
    with served.open() as at:
        for path in ("/claims", "/reports", "/"):
            for language in words.LANGUAGES:
                at.page.goto(f"{served.base}{path}?lang={language}")
                at.check_fit(f"claims-{path.strip('/') or 'home'}-{language}")
        assert at.faults == []
