"""What payers decided, in the words of a hospital's own systems: FHIR that others can read, national fields, tokens."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import httpx
import pytest
from fhir.resources.R4B.claimresponse import ClaimResponse
from fhir.resources.R4B.explanationofbenefit import ExplanationOfBenefit
from starlette.applications import Starlette

from clients.decision import Decision
from clients.hospital import case as cases
from clients.hospital import outcome, tokens
from clients.hospital.api import Api
from clients.hospital.case import Case
from clients.hospital.fhir import answers, document, submitting
from clients.hospital.openbill import of_bill
from clients.hospital.outcome import Answer, Outcome
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore
from clients.public_payer import rules
from clients.public_payer.decision import amounts
from clients.public_payer.split import settle
from clients.store import Store
from zhifu import bill as bills
from zhifu.errors import Malformed
from zhifu.explain import Explanation

BILL: Final = bills.parse(sample_bill(1))
RULE: Final = rules.load("example-city").rules[0]
SPLIT: Final = settle(RULE, [line.priced for line in BILL.lines])
PUBLIC: Final = Answer(
    "public-payer",
    "示例市医保",
    b"\x0a" * 32,
    Decision("reserved", amounts(SPLIT), SPLIT.explain, b"\x01" * 32, 1_790_000_000),
    SPLIT.funds,
)
CLAUSE: Final = Explanation("pay", 800_000, "保险责任 第四条", "pay.due")
INSURER: Final = Answer(
    "insurer", "示例保险", b"\x0b" * 32, Decision("reserved", {"pay": 800_000}, (CLAUSE,), b"\x02" * 32, 1), 800_000
)
AMOUNTS: Final = {"total": 2_000_000, "public": 1_200_000, "commercial": 800_000, "patient": 0}
SETTLEMENT: Final = b"\x07" * 16
CONFIRMED: Final = Outcome(SETTLEMENT, "confirmed", (PUBLIC, INSURER), AMOUNTS)


def resources(found: Outcome) -> dict[str, Any]:
    made = json.loads(document.dumps(answers.document(of_bill(BILL), found)))
    return {f"{one['resource']['resourceType']}/{one['resource']['id']}": one["resource"] for one in made["entry"]}


def money(one: dict[str, Any]) -> float:
    return float(one["amount"]["value"])


def test_each_payer_answers_with_its_clauses() -> None:
    made = resources(CONFIRMED)
    public, insurer = made["ClaimResponse/public-payer"], made["ClaimResponse/insurer"]
    ClaimResponse.model_validate(public)
    ClaimResponse.model_validate(insurer)
    assert [money(total) for total in public["total"]] == [20_000.0, 12_000.0]
    assert (money(insurer["payment"]), insurer["outcome"]) == (8_000.0, "complete")
    assert [row["reason"]["text"] for row in insurer["adjudication"]] == ["保险责任 第四条"]
    assert len(public["adjudication"]) == len(SPLIT.explain)
    assert public["preAuthRef"] == "01" * 32
    eob = made["ExplanationOfBenefit/explanation"]
    ExplanationOfBenefit.model_validate(eob)
    assert [money(total) for total in eob["total"]] == [20_000.0, 20_000.0, 0.0]
    assert len(eob["adjudication"]) == len(SPLIT.explain) + 1


def test_what_is_not_decided_says_so() -> None:
    review = replace(INSURER, decision=Decision("review", {"pay": 0}, (CLAUSE,), b"\x02" * 32, 0), pays=0)
    made = resources(Outcome(SETTLEMENT, "failed", (review,), {}))
    found = made["ClaimResponse/insurer"]
    assert (found["outcome"], found["disposition"]) == ("queued", "review")
    assert "payment" not in found
    assert not any(name.startswith("ExplanationOfBenefit") for name in made)


def test_a_payer_without_an_answer_is_queued_and_then_an_error_with_its_reason() -> None:
    silent = replace(INSURER, decision=None, pays=0)
    waiting = resources(Outcome(SETTLEMENT, "open", (PUBLIC, silent), {}))["ClaimResponse/insurer"]
    assert (waiting["outcome"], "disposition" in waiting) == ("queued", False)
    failed = Outcome(SETTLEMENT, "failed", (PUBLIC, silent), {}, "settlement.refused")
    found = resources(failed)["ClaimResponse/insurer"]
    ClaimResponse.model_validate(found)
    assert (found["outcome"], found["disposition"]) == ("error", "settlement.refused")
    assert found["error"][0]["code"]["coding"][0]["code"] == "settlement.refused"


def test_what_was_taken_back_is_cancelled_and_pays_nothing() -> None:
    made = resources(replace(CONFIRMED, state="reversed"))
    for payer in ("public-payer", "insurer"):
        found = made[f"ClaimResponse/{payer}"]
        assert (found["status"], "payment" in found) == ("cancelled", False)


def test_one_payers_response_stands_alone() -> None:
    sums = {**AMOUNTS, "commercial": 0, "patient": 800_000}
    alone = answers.submitted(of_bill(BILL), Outcome(SETTLEMENT, "confirmed", (PUBLIC,), sums))
    found = json.loads(document.dumps(alone))
    ClaimResponse.model_validate(found)
    assert [money(total) for total in found["total"]] == [20_000.0, 12_000.0, 8_000.0]
    assert "Patient/" not in json.dumps(found)
    assert found["request"]["identifier"]["value"] == f"urn:zhifu:settlement:{SETTLEMENT.hex()}"
    assert found["insurer"]["identifier"]["value"] == "0a" * 32
    assert answers.submitted(of_bill(BILL), CONFIRMED)["resourceType"] == "Bundle"


# --- Claim/$submit --------------------------------------------------------------------------------------------------

CONSENT: Final = [
    {"name": "kind", "valueCode": "group"},
    {"name": "grant", "valueBase64Binary": "Zw=="},
    {"name": "attestation", "valueBase64Binary": "YQ=="},
    {"name": "attestation", "valueBase64Binary": "Yg=="},
]


def parameters(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"resourceType": "Parameters", "parameter": [*rows]}).encode()


def test_parameters_say_what_the_nodes_own_json_says() -> None:
    bundle = {"resourceType": "Bundle", "type": "collection"}
    rows: list[dict[str, Any]] = [
        {"name": "resource", "resource": bundle},
        {"name": "consent", "part": CONSENT},
        {"name": "route", "valueCode": "direct"},
        {"name": "hold", "valueBoolean": True},
        {"name": "deposit", "valueString": "100.00"},
    ]
    found = submitting.read(parameters(*rows))
    assert json.loads(found.pop("bill")) == bundle
    consent = {"kind": "group", "grant": "Zw==", "attestations": ["YQ==", "Yg=="], "terms": None}
    assert found == {"consents": [consent], "route": "direct", "hold": True, "deposit": "100.00"}
    assert submitting.read(json.dumps(bundle).encode()) == {"bill": json.dumps(bundle)}


RESOURCE: Final[dict[str, Any]] = {"name": "resource", "resource": {"resourceType": "Bundle"}}


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ((), "has no resource"),
        ((RESOURCE, RESOURCE), r"parameter\[1\]"),
        ((RESOURCE, {"name": "holdd", "valueBoolean": True}), r"parameter\[1\].name"),
        ((RESOURCE, {"name": "hold", "valueString": "true"}), r"parameter\[1\].valueBoolean"),
        ((RESOURCE, {"name": "consent", "part": [*CONSENT, CONSENT[0]]}), r"parameter\[1\].part\[4\]"),
        ((RESOURCE, {"name": "consent", "part": [{"name": "x"}]}), r"parameter\[1\].part\[0\].name"),
        ((RESOURCE, {"name": "consent", "part": [{"name": "terms", "valueBase64Binary": ""}]}), r"parameter\[1\]"),
        (tuple({"name": "code"} for _ in range(33)), r"parameter\[32\]"),
    ],
)
def test_parameters_that_are_not_understood_are_refused(rows: tuple[dict[str, Any], ...], path: str) -> None:
    with pytest.raises(Malformed, match=path):
        submitting.read(parameters(*rows))


def test_the_national_fields_are_those_of_the_public_payer() -> None:
    found = outcome.national(CONFIRMED)
    assert found["setlinfo"]["hifp_pay"] == "12000.00"
    assert found["setlinfo"]["medfee_sumamt"] == "20000.00"
    assert found["settled"] == {"total": "20000.00", "public": "12000.00", "commercial": "8000.00", "patient": "0.00"}
    assert found["commercial"][0]["pay"] == "8000.00"
    assert outcome.national(Outcome(SETTLEMENT, "open", (), {}))["setlinfo"] == {}


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))


def test_tokens_join_one_recipients_claims_and_nobody_elses(store: Store, tmp_path: Path) -> None:
    """DESIGN 4.6: two recipients, or one recipient of two hospitals, hold nothing in common."""
    other = Store(tmp_path / "other.db", FileKeystore.draw(tmp_path / "other"))
    mine = dict(tokens.of(store, b"\x01" * 32, BILL))
    assert mine == dict(tokens.of(store, b"\x01" * 32, BILL))
    assert mine.keys() == {"insured-number", "medical-record-number", "visit-number", "invoice-number"}
    assert len(set(mine.values())) == len(mine), "one number in two units has two tokens"
    for theirs in (tokens.of(store, b"\x02" * 32, BILL), tokens.of(other, b"\x01" * 32, BILL)):
        assert not set(mine.values()) & {token for _, token in theirs}


def test_a_number_has_one_token_however_it_is_spelled(store: Store) -> None:
    invoice = BILL.setlinfo.invono or ""
    spelled = replace(BILL, setlinfo=replace(BILL.setlinfo, invono=f"{invoice[:4]}-{invoice[4:].lower()}"))
    assert dict(tokens.of(store, bytes(32), spelled)) == dict(tokens.of(store, bytes(32), BILL))


def test_tokens_carry_no_number(store: Store) -> None:
    for unit, token in tokens.of(store, bytes(32), BILL):
        number = getattr(BILL.setlinfo, tokens.UNITS[unit])
        assert len(token) == 32
        assert number.encode() not in token


# --- the local API --------------------------------------------------------------------------------------------------


def test_the_local_api_shows_a_settlement_in_both_forms(store: Store) -> None:
    """A settlement that nobody answered yet: a response that is queued, and empty fields."""
    case = Case(b"\x07" * 16, "open", "public", sample_bill(1), bytes(32), bytes(32), (), bytes(32), 1_790_000_000_000)
    with store.transaction():
        cases.put(store, case, 0)
    nobody = cast(Any, None)
    app = Api(nobody, nobody, nobody, nobody, store, {}, {}, bytes(32), "token").app()
    at = f"/settlements/{case.id.hex()}"
    fhir, national, other, stranger = asyncio.run(
        asked(
            app,
            (f"{at}/fhir", "token"),
            (f"{at}/national", "token"),
            ("/settlements/00/fhir", "token"),
            (f"{at}/fhir", ""),
        )
    )
    assert fhir.headers["content-type"] == "application/fhir+json"
    found = {one["resource"]["resourceType"]: one["resource"] for one in fhir.json()["entry"]}
    assert next(iter(found)) == "Claim"
    assert (found["ClaimResponse"]["outcome"], "ExplanationOfBenefit" in found) == ("queued", False)
    assert national.json()["state"] == "open"
    assert (other.status_code, stranger.status_code) == (409, 401)


async def asked(app: Starlette, *requests: tuple[str, str]) -> list[httpx.Response]:
    """GET each (path, bearer token)."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        return [await client.get(path, headers={"Authorization": f"Bearer {token}"}) for path, token in requests]
