"""The hospital's local API and the cashier's page, before running nodes: quote, confirm, cancel, refund, statement."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from playwright.sync_api import Page

from clients.hospital import case as cases
from clients.hospital.sample import sample_bill
from tests.browser import launched
from tests.house import NO_AUTHORITY, House, ask, further, open_house, run, until

SEEDS = count(800)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("desk"), "deductible-10000") as opened:
        yield opened


def discharge(house: House) -> tuple[bytes, Path]:
    """A patient at the desk: her bill, and her consent."""
    seed = next(SEEDS)
    bill = sample_bill(seed)
    return bill, house.consent(house.enrol(bill, f"patient-{seed}"), bill)


def wished(house: House, settlement: str, word: str) -> dict[str, Any]:
    found: dict[str, Any] = house.api("POST", f"/settlements/{settlement}/{word}?wait=30", {})
    return found


def held(house: House, **desk: object) -> str:
    """A split that waits for the desk."""
    bill, consent = discharge(house)
    settlement = house.submit(bill, [("medical", consent)], hold=True, **desk)
    until(lambda: house.look(settlement)["state"] == "reserved", "the split is there")
    return settlement


def count_of(house: House) -> Counter[str]:
    """How many holdings both payers have in each state."""
    return Counter(one.state for role in ("public-payer", "insurer") for one in house.holdings(role))


def test_a_quote_is_held_then_confirmed_then_refunded(house: House) -> None:
    before = count_of(house)
    settlement = held(house, deposit="9000.00")
    found = house.look(settlement)
    assert (found["patient_fen"], found["refund_fen"], found["topup_fen"]) == (800_000, 100_000, 0)
    assert count_of(house) == before + Counter(reserved=2)
    assert wished(house, settlement, "confirm")["state"] == "confirmed"
    assert wished(house, settlement, "confirm")["state"] == "confirmed"
    assert count_of(house) == before + Counter(committed=2)
    assert wished(house, settlement, "refund")["state"] == "reversed"
    assert count_of(house) == before + Counter(reversed=2)


def test_what_a_payer_decided_must_be_kept_to_be_taken_back(house: House) -> None:
    """Half a year later: it would be taken back with the one, and be called taken back with both."""
    before, settlement = count_of(house), held(house)
    assert wished(house, settlement, "confirm")["state"] == "confirmed"
    with house.store("hospital") as store, store.transaction():
        (answer,) = store.incoming.answers(cases.get(store, bytes.fromhex(settlement)).exchanges["claim"])
        store.incoming.erase_one(answer.hash)
    with client(house) as api:
        refused = api.post(f"/settlements/{settlement}/refund", json={})
    assert (refused.status_code, refused.json()["reason"]) == (409, "exchange.unknown")
    assert house.look(settlement)["state"] == "confirmed"
    assert count_of(house) == before + Counter(committed=2)


def test_a_bill_handed_in_twice_is_settled_once(house: House) -> None:
    """A desk that got no answer asks again; the public payer, who counts no uses of a grant, pays once."""
    before, (bill, consent) = count_of(house), discharge(house)
    first = house.submit(bill, [("medical", consent)], hold=True)
    assert house.submit(bill, [("medical", consent)], hold=True) == first
    until(lambda: house.look(first)["state"] == "reserved", "the split is there")
    with client(house) as api:
        refused = api.post("/settlements", json={"bill": bill.decode()})
    assert (refused.status_code, refused.json()["reason"]) == (409, "exchange.state")
    assert wished(house, first, "confirm")["state"] == "confirmed"
    assert house.submit(bill, [("medical", consent)], hold=True) == first
    assert count_of(house) == before + Counter(committed=2)
    assert wished(house, first, "refund")["state"] == "reversed"
    second = house.submit(bill, [])
    assert second != first
    assert house.finish(second)["state"] == "confirmed"


def test_a_cancelled_quote_holds_nothing(house: House) -> None:
    before, settlement = count_of(house), held(house)
    assert wished(house, settlement, "cancel")["state"] == "cancelled"
    assert count_of(house) == before + Counter(cancelled=2)
    with client(house) as api:
        refused = api.post(f"/settlements/{settlement}/confirm", json={})
    assert (refused.status_code, refused.json()["reason"]) == (409, "exchange.state")


def test_the_statement_says_why_in_both_languages(house: House) -> None:
    settlement = held(house)
    zh, en = (house.api("GET", f"/settlements/{settlement}/statement?lang={lang}", None) for lang in ("zh", "en"))
    assert "您需支付 8,000.00 元。" in zh["words"]
    assert "You pay 8,000.00." in en["words"]
    assert any("less 8,000.00 of the deductible" in line for line in en["words"])
    assert zh["order"]["name"] == "basic-first-2026-01"
    paid = sum(payer["fen"] for payer in zh["payers"])
    assert paid + zh["patient_fen"] == zh["total_fen"]
    wished(house, settlement, "cancel")


def test_events_follow_to_the_end(house: House) -> None:
    bill, consent = discharge(house)
    settlement = house.submit(bill, [("medical", consent)])
    with client(house) as api, api.stream("GET", f"/settlements/{settlement}/events") as answer:
        seen = [json.loads(line[6:])["state"] for line in answer.iter_lines() if line.startswith("data: ")]
    assert seen[-1] == "confirmed"


def test_settlements_are_found_by_visit(house: House) -> None:
    settlement = held(house)
    (one,) = [row for row in house.api("GET", "/settlements", None) if row["settlement"] == settlement]
    assert [row["settlement"] for row in house.api("GET", f"/settlements?visit={one['visit']}", None)] == [settlement]
    wished(house, settlement, "cancel")


def test_every_route_is_described_and_guarded(house: House) -> None:
    described = house.api("GET", "/openapi.json", None)["paths"]
    for path, operations in described.items():
        for method in operations:
            answer = ask(method, url(house) + path.replace("{id}", "00"))
            assert answer.status_code == (200 if path in ("/health", "/openapi.json") else 401), path


def test_a_fhir_claim_is_answered_with_a_claim_response(house: House) -> None:
    bill = house.file("bill.json", sample_bill(next(SEEDS)))
    claim = run("record", "convert", bill, "--from", "national", "--to", "fhir").ok().out
    with client(house) as api:
        found = api.post("/fhir/Claim/$submit?wait=30", content=claim.encode()).json()
    assert (found["resourceType"], found["outcome"]) == ("ClaimResponse", "complete"), found
    sums = {row["category"]["coding"][0]["code"]: row["amount"]["value"] for row in found["total"]}
    assert sums == {"submitted": 20000.0, "benefit": 12000.0, "copay": 8000.0}


def test_a_fhir_claim_is_submitted_to_an_insurer_as_well(house: House) -> None:
    """Parameters: the Bundle, and beside it what the patient consented to; a response of each payer comes back."""
    bill, consent = discharge(house)
    claim = json.loads(
        run("record", "convert", house.file("b.json", bill), "--from", "national", "--to", "fhir").ok().out
    )
    given = json.loads(consent.read_text("utf-8"))
    parts = [{"name": "kind", "valueCode": "medical"}, {"name": "grant", "valueBase64Binary": given["grant"]}]
    parts += [{"name": "attestation", "valueBase64Binary": one} for one in given["attestations"]]
    rows = [{"name": "resource", "resource": claim}, {"name": "consent", "part": parts}]
    with client(house) as api:
        body = {"resourceType": "Parameters", "parameter": rows}
        found = api.post("/fhir/Claim/$submit?wait=30", json=body).json()
        refused = api.post("/fhir/Claim/$submit", json={**body, "parameter": rows[1:]})
    assert (refused.status_code, issue(refused)) == (400, "bill.syntax")
    responses = [one["resource"] for one in found["entry"] if one["resource"]["resourceType"] == "ClaimResponse"]
    assert [(one["id"], one["outcome"]) for one in responses] == [("public-payer", "complete"), ("insurer", "complete")]
    assert [one["payment"]["amount"]["value"] for one in responses] == [12000.0, 0.0]
    (eob,) = [one["resource"] for one in found["entry"] if one["resource"]["resourceType"] == "ExplanationOfBenefit"]
    assert [row["amount"]["value"] for row in eob["total"]] == [20000.0, 12000.0, 8000.0]


def as_fhir(house: House, bill: bytes) -> Any:
    file = house.file("bill.json", bill)
    return json.loads(run("record", "convert", file, "--from", "national", "--to", "fhir").ok().out)


def test_a_fhir_claim_is_submitted_with_the_code_of_her_phone(house: House) -> None:
    """The same body again, because nobody answered, is the same settlement; what is wrong is an OperationOutcome."""
    seed = next(SEEDS)
    bill = sample_bill(seed)
    patient = house.enrol(bill, f"patient-{seed}")
    kept, _ = house.agree(patient, house.ask(patient, bill, "--direct-pay", "--cap", 2_000_000))
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    card = house.cast.cards["hospital"]
    code = run("wallet", "code", patient.wallet, "--hospital", card, "--json").ok().json["code"]
    shown = {"name": "code", "valueString": code}
    with client(house) as api:

        def submit(claim: object, *more: object) -> httpx.Response:
            rows = [{"name": "resource", "resource": claim}, shown, *more]
            return api.post("/fhir/Claim/$submit?wait=30", json={"resourceType": "Parameters", "parameter": rows})

        stranger = submit(as_fhir(house, sample_bill(next(SEEDS))))
        twice = submit(as_fhir(house, bill), {"name": "consent", "part": []})
        done, again = submit(as_fhir(house, bill)), submit(as_fhir(house, bill))
        used = submit(as_fhir(house, further(bill)))
    assert [one.status_code for one in (stranger, twice, done, again, used)] == [403, 400, 200, 200, 403]
    reasons = ["consent.subject_mismatch", "usage.file", "ticket.used"]
    assert [issue(one) for one in (stranger, twice, used)] == reasons
    assert done.headers["content-type"] == "application/fhir+json"
    assert done.json() == again.json()
    responses = [one["resource"] for one in done.json()["entry"] if one["resource"]["resourceType"] == "ClaimResponse"]
    assert [(one["id"], one["outcome"]) for one in responses] == [("public-payer", "complete"), ("insurer", "complete")]


def issue(refused: httpx.Response) -> str:
    """The reason in an OperationOutcome."""
    assert refused.headers["content-type"] == "application/fhir+json"
    (one,) = OperationOutcome.model_validate(refused.json()).issue
    assert one.severity == "error"
    return str(refused.json()["issue"][0]["details"]["coding"][0]["code"])


def test_payers_say_before_the_bill_whether_they_cover_it(house: House) -> None:
    """At admission: the public payer is asked by law, the insurer with a consent for just that; nothing is held."""
    seed, before = next(SEEDS), count_of(house)
    bill = sample_bill(seed)
    patient = house.enrol(bill, f"patient-{seed}")
    head = json.loads(bill)["setlinfo"]
    kept = {name: value for name, value in head.items() if not name.endswith(("_amt", "_sumamt", "enddate"))}
    admission = house.file("admission.json", json.dumps({"setlinfo": kept}).encode())
    request, consent = house.file("request.json"), house.file("consent.json")
    to = ("--admission", admission, "--recipient", house.cast.ids["insurer"].hex(), "-o", request, "--eligibility")
    run("hospital", "request-consent", house.path / "hospital", patient.key, *to).ok()
    shown = run("wallet", "review", patient.wallet, request, "--json", "--lang", "en").ok().json
    assert {one["schema"] for one in shown["units"]} == {"eligibility"}
    assert "covers this visit" in shown["purpose_words"]
    assert "nothing is claimed" in run("wallet", "review", patient.wallet, request, "--lang", "en").ok().out
    run("wallet", "grant", patient.wallet, request, "-o", consent).ok()

    asked = {"admission": admission.read_text("utf-8"), "consents": [json.loads(consent.read_text("utf-8"))]}
    with client(house) as api, ThreadPoolExecutor(2) as pool:
        twice = [one.json() for one in pool.map(lambda _: api.post("/eligibility?wait=20", json=asked), range(2))]
    assert twice[0] == twice[1], "asked twice at once, a grant is used once"
    words = ("hospital", "eligibility", house.path / "hospital", "--admission", admission, "--consent", consent)
    found = run(*words, "--json", "--lang", "en").ok().json
    public, insurer = found["payers"]
    assert (public["outcome"], public["threshold_left_fen"], public["hifp_pay_left_fen"]) == (
        "covered", 100_000, 15_000_000,
    )  # fmt: skip
    assert (insurer["outcome"], insurer["deductible_left_fen"]) == ("covered", 1_000_000)
    assert "10,000.00 of the deductible is left" in [row["words"] for row in insurer["rows"]]
    assert count_of(house) == before
    assert run(*words, "--json").ok().json["eligibility"] == found["eligibility"], "a grant is used once"
    assert "covered" in run(*words).ok().out

    settled = house.finish(house.submit(bill, [("medical", house.consent(patient, bill))]))
    assert settled["state"] == "confirmed", "the claim has a consent of its own"
    (public,) = (
        run("hospital", "eligibility", house.path / "hospital", "--admission", admission, "--json").ok().json["payers"]
    )
    assert (public["threshold_left_fen"], public["hifp_pay_left_fen"]) == (0, 15_000_000 - 1_200_000)


def test_a_claims_consent_is_none_for_a_question(house: House) -> None:
    bill, consent = discharge(house)
    asked = {"bill": bill.decode(), "consents": [json.loads(consent.read_text("utf-8"))]}
    with client(house) as api:
        refused = api.post("/eligibility", json=asked)
        neither = api.post("/eligibility", json={})
    assert (refused.status_code, refused.json()["reason"]) == (403, "consent.exceeded")
    assert (neither.status_code, neither.json()["reason"]) == (400, "usage.argument")


def test_a_settlement_that_nobody_could_have_named_is_refused(house: House) -> None:
    with client(house) as api:
        opened = api.get(run("hospital", "cashier", house.path / "hospital").ok().out.strip() + "&lang=en")
        assert opened.headers["location"] == "/desk?lang=en"
        found = [api.get(f"/desk/{name}") for name in ("no-hex", "00" * 16)]
        found.append(api.post("/desk/no-hex/confirm", headers={"origin": str(api.base_url)}))
    assert [one.status_code for one in found] == [400, 400, 400]


def test_the_desk_is_left_and_its_address_is_another_then(house: House) -> None:
    """The token of the local API, which opens more, is in no address."""
    address = run("hospital", "cashier", house.path / "hospital").ok().out.strip()
    with client(house) as api:
        assert api.headers["authorization"].removeprefix("Bearer ") not in address
        assert api.get("/desk", params={"key": api.headers["authorization"].removeprefix("Bearer ")}).status_code == 401
        assert (api.get(address).status_code, api.get("/desk").status_code) == (303, 200)
        assert api.get("/desk/no/such/page", params={"lang": "zh"}).text.count("没有这个页面") == 1
        assert api.post("/sign-out", headers={"origin": str(api.base_url)}).status_code == 303
        assert [api.get(one).status_code for one in ("/desk", address, "/no-such-resource")] == [401, 401, 404]
    assert run("hospital", "cashier", house.path / "hospital").ok().out.strip() != address


def test_another_city_by_its_own_table(house: House) -> None:
    """04可报丙 is paid for there, as the bill itself says, and the fund total is printed with the account in it."""
    document = json.loads(sample_bill(next(SEEDS)))
    one = document["feedetail"][0]
    rows = (("01", "30000.00", "0"), ("02", "10000.00", "0.1"), ("04", "2000.00", "0.3"))
    priced = [
        {"chrgitm_lv": level, "pric": amt, "cnt": "1", "amt": amt, "selfpay_prop": prop} for level, amt, prop in rows
    ]
    document["feedetail"] = [{**one, "med_chrgitm_type": "05", **row} for row in priced]
    sums = {"medfee_sumamt": "42000.00", "fulamt_ownpay_amt": "0.00", "preselfpay_amt": "1600.00"}
    named = (*sums, "overlmt_selfpay", "inscp_scp_amt")
    left_open = {name: value for name, value in document["setlinfo"].items() if name not in named}
    undeclared = json.dumps({**document, "setlinfo": left_open}, ensure_ascii=False).encode()
    document["setlinfo"] |= sums | {"inscp_scp_amt": "40400.00"}
    bill = json.dumps(document, ensure_ascii=False).encode()
    house.credit(bill, "500.00")
    house.end("public-payer")
    house.restart("public-payer", "--table", "example-town")
    try:
        unread = house.finish(house.submit(undeclared, []))
        settlement = house.submit(bill, [], account="900.00")
        found = house.finish(settlement)
    finally:
        house.end("public-payer")
        house.restart("public-payer")
    # Left open it is read as 丙, sealed so, and not blamed on the payer: the file declares it, and it settles.
    assert (unread["state"], unread["reason"], "must declare" in unread["detail"]) == ("failed", "bill.identity", True)
    # 39,600 above the threshold: 20,000 x 85 % + 19,600 x 88 %
    assert (found["public_fen"], found["patient_fen"], found["account_fen"]) == (3_424_800, 775_200, 50_000), found
    told = house.api("GET", f"/settlements/{settlement}/national", None)["setlinfo"]
    assert (told["hifp_pay"], told["fulamt_ownpay_amt"]) == ("34248.00", "0.00")
    assert (told["fund_pay_sumamt"], told["acct_pay"], told["psn_cash_pay"]) == ("34748.00", "500.00", "7252.00")


def url(house: House) -> str:
    return f"http://127.0.0.1:{(house.path / 'hospital' / 'api.port').read_text()}"


def client(house: House) -> httpx.Client:
    headers = {"Authorization": f"Bearer {(house.path / 'hospital' / 'api.token').read_text()}"}
    return httpx.Client(base_url=url(house), headers=headers, timeout=60, trust_env=False, verify=NO_AUTHORITY)


def test_a_split_that_nobody_confirmed_expires_by_itself(house: House) -> None:
    settlement = held(house)
    with house.store("hospital") as store, store.transaction():
        case = cases.get(store, bytes.fromhex(settlement))
        cases.put(store, replace(case, expires=1), 1000 * case.expires)
    ended = house.finish(settlement)
    assert ended["state"] == "cancelled"
    held_now = [one for role in ("public-payer", "insurer") for one in house.holdings(role) if one.state == "reserved"]
    assert held_now == []


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_desk(house: House) -> tuple[bytes, Path]:
    return discharge(house)


@pytest.fixture(scope="module")
def paid_by_code(house: House) -> tuple[bytes, str, bytes]:
    """A bill, the code that its patient's phone shows, and somebody else's bill."""
    bill = sample_bill(next(SEEDS))
    patient = house.enrol(bill, "payer-by-code")
    kept, _ = house.agree(patient, house.ask(patient, bill, "--direct-pay", "--cap", 2_000_000))
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    shown = run("wallet", "code", patient.wallet, "--hospital", house.cast.cards["hospital"], "--json").ok().json
    return bill, str(shown["code"]), sample_bill(next(SEEDS))


@pytest.fixture(scope="module")
def page(at_desk: object, paid_by_code: object) -> Iterator[Page]:
    """After the patient's wallet has signed: the browser's own loop and the wallet's do not share a thread."""
    with launched() as browser:
        yield browser.new_context(locale="en", viewport={"width": 900, "height": 1100}).new_page()


def test_the_cashier_takes_a_patient_through(house: House, at_desk: tuple[bytes, Path], page: Page) -> None:
    """Open the desk, hand in bill and code, see the split, take the rest, print, refund."""
    bill, consent = at_desk
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(run("hospital", "cashier", house.path / "hospital").ok().out.strip() + "&lang=en")
    assert "key=" not in page.url
    page.set_input_files("#bill", house.file("bill.json", bill))
    page.fill("input[name=consent-0-text]", consent.read_text("utf-8"))
    page.fill("#deposit", "10000.00")
    _shot(page, "start")
    page.click("button.primary")
    page.wait_for_selector("#confirm", timeout=60_000)
    assert page.inner_text("#rest") == "8,000.00"
    _shot(page, "split")
    page.click("#confirm")
    page.wait_for_selector(".state.good", timeout=60_000)
    page.click("text=Statement")
    assert "You pay 8,000.00." in page.inner_text("article.paper")
    _shot(page, "statement")
    page.go_back()
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("summary:has-text('Refund')")
    _shot(page, "phone")
    page.click("#refund")
    page.wait_for_selector("text=reversed", timeout=60_000)
    assert count_of(house)["reversed"] >= 2
    assert faults == []


def test_a_scanned_code_starts_the_settlement(house: House, paid_by_code: tuple[bytes, str, bytes], page: Page) -> None:
    """A scanner types the code and presses Enter; another patient's bill refuses it, and uses nothing up."""
    bill, code, other = paid_by_code
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": 1280, "height": 900})
    desk = run("hospital", "cashier", house.path / "hospital").ok().out.strip() + "&lang=zh"
    page.goto(desk)
    page.goto(desk.partition("?")[0] + "?lang=zh")
    page.set_input_files("#bill", house.file("bill.json", other))
    page.fill("#code", code)
    page.press("#code", "Enter")
    page.wait_for_selector("text=consent.subject_mismatch", timeout=60_000)
    faults.clear()  # A refusal is a page of status 400, which the browser writes down.
    page.goto(desk.partition("?")[0] + "?lang=zh")
    page.set_input_files("#bill", house.file("bill.json", bill))
    _shot(page, "code-zh")
    page.fill("#code", code)
    page.press("#code", "Enter")
    page.wait_for_selector("#confirm", timeout=60_000)
    _shot(page, "code-split-zh")
    page.click("#confirm")
    page.wait_for_selector(".state.good", timeout=60_000)
    assert faults == []


def test_a_stranger_on_this_computer_sees_nothing(house: House, page: Page) -> None:
    page.context.clear_cookies()
    page.goto(url(house) + "/desk")
    assert "hospital cashier" in page.inner_text("main")


def _shot(page: Page, name: str) -> None:
    """Where somebody wants to look at the pages, a picture."""
    folder = os.environ.get("ZHIFU_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/cashier-{name}.png", full_page=True)
