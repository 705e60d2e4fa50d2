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
from clients.hospital.fhir import answers, document
from clients.hospital.openbill import of_bill
from clients.hospital.outcome import Answer, Outcome
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore
from clients.public_payer import rules
from clients.public_payer.decision import amounts
from clients.public_payer.split import settle
from clients.store import Store
from zhifu import bill as bills
from zhifu.explain import Explanation

BILL: Final = bills.parse(sample_bill(1))
RULE: Final = rules.load("example-city").rules[0]
SPLIT: Final = settle(RULE, [line.priced for line in BILL.lines])
PUBLIC: Final = Answer(
    "public-payer",
    "示例市医保",
    Decision("reserved", amounts(SPLIT), SPLIT.explain, b"\x01" * 32, 1_790_000_000),
    SPLIT.funds,
)
CLAUSE: Final = Explanation("pay", 800_000, "保险责任 第四条", "pay.due")
INSURER: Final = Answer(
    "insurer", "示例保险", Decision("reserved", {"pay": 800_000}, (CLAUSE,), b"\x02" * 32, 1), 800_000
)
AMOUNTS: Final = {"total": 2_000_000, "public": 1_200_000, "commercial": 800_000, "patient": 0}
CONFIRMED: Final = Outcome("confirmed", (PUBLIC, INSURER), AMOUNTS)


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
    made = resources(Outcome("failed", (review,), {}))
    found = made["ClaimResponse/insurer"]
    assert (found["outcome"], found["disposition"]) == ("queued", "review")
    assert "payment" not in found
    assert not any(name.startswith("ExplanationOfBenefit") for name in made)


def test_the_national_fields_are_those_of_the_public_payer() -> None:
    found = outcome.national(CONFIRMED)
    assert found["setlinfo"]["hifp_pay"] == "12000.00"
    assert found["setlinfo"]["medfee_sumamt"] == "20000.00"
    assert found["settled"] == {"total": "20000.00", "public": "12000.00", "commercial": "8000.00", "patient": "0.00"}
    assert found["commercial"][0]["pay"] == "8000.00"
    assert outcome.national(Outcome("open", (), {}))["setlinfo"] == {}


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
    """A settlement that nobody answered yet: the Claim alone, and empty fields."""
    case = Case(b"\x07" * 16, "open", "public", sample_bill(1), bytes(32), bytes(32), (), bytes(32), 1_790_000_000_000)
    with store.transaction():
        cases.put(store, case, 0)
    nobody = cast(Any, None)
    app = Api(nobody, nobody, nobody, store, {}, {}, bytes(32), "token").app()
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
    kinds = [one["resource"]["resourceType"] for one in fhir.json()["entry"]]
    assert kinds[0] == "Claim"
    assert "ClaimResponse" not in kinds
    assert national.json()["state"] == "open"
    assert (other.status_code, stranger.status_code) == (409, 401)


async def asked(app: Starlette, *requests: tuple[str, str]) -> list[httpx.Response]:
    """GET each (path, bearer token)."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        return [await client.get(path, headers={"Authorization": f"Bearer {token}"}) for path, token in requests]
