"""What payers decided, as FHIR R4: a ClaimResponse of each, and one ExplanationOfBenefit of the whole bill.

Amounts keep the national interface's names as codes, and each has the clause that made it (SETTLEMENT 2 and 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clients.decision import Decision
from clients.hospital.fhir import amounts
from clients.hospital.fhir.bundle import CLAIM, COVERAGE, HOSPITAL, PATIENT, bundle, concept, created, reference
from clients.hospital.fhir.coding import ADJUDICATION, CLAIM_TYPE, NATIONAL, PAYMENT_TYPE, national
from clients.hospital.openbill import CNY, OpenBill
from clients.hospital.outcome import Answer, Outcome

Json = dict[str, Any]
_QUEUED: Final = ("review",)


def document(bill: OpenBill, outcome: Outcome) -> Json:
    """A Bundle: the Claim, the answers, and the explanation once the settlement has its amounts.

    Raises `Malformed` (bill.syntax) where the bill has no date that FHIR needs.
    """
    more = [_response(bill, answer) for answer in outcome.answers]
    if outcome.amounts:
        more.append(_explanation(bill, outcome))
    return bundle(bill, more)


def _response(bill: OpenBill, answer: Answer) -> Json:
    found = _common(bill, "ClaimResponse", answer.payer) | {
        "insurer": _payer(answer),
        "request": reference(CLAIM),
        "outcome": "queued" if answer.decision.outcome in _QUEUED else "complete",
        "disposition": answer.decision.outcome,
        "adjudication": list(_clauses(answer.decision)),
        "total": [_total("submitted", bill.total or 0), _total("benefit", answer.pays)],
    }
    if answer.decision.reservation:
        found["preAuthRef"] = answer.decision.reservation.hex()
    if answer.decision.outcome not in _QUEUED:
        found["payment"] = _payment(answer.pays, bill.total or 0)
    return found


def _explanation(bill: OpenBill, outcome: Outcome) -> Json:
    paid = sum(answer.pays for answer in outcome.answers)
    total, patient = outcome.amounts["total"], outcome.amounts["patient"]
    found = _common(bill, "ExplanationOfBenefit", "explanation") | {
        "insurer": _payer(outcome.answers[0]),
        "provider": reference(HOSPITAL),
        "claim": reference(CLAIM),
        "outcome": "complete",
        "insurance": [{"focal": True, "coverage": reference(COVERAGE)}],
        "adjudication": [row for answer in outcome.answers for row in _clauses(answer.decision)],
        "total": [_total("submitted", total), _total("benefit", paid), _total("copay", patient)],
        "payment": {"type": _payment_type(paid, total), "amount": amounts.money(paid, CNY)},
    }
    responses = [reference(f"ClaimResponse/{answer.payer}") for answer in outcome.answers]
    return found | ({"claimResponse": responses[0]} if len(responses) == 1 else {})


def _common(bill: OpenBill, kind: str, target: str) -> Json:
    return {
        "resourceType": kind,
        "id": target,
        "status": "active",
        "type": concept(CLAIM_TYPE, "institutional"),
        "use": "claim",
        "patient": reference(PATIENT),
        "created": created(bill),
    }


def _payer(answer: Answer) -> Json:
    found: Json = {"type": "Organization", "identifier": {"system": NATIONAL, "value": answer.payer}}
    return found | ({"display": answer.name} if answer.name else {})


def _clauses(decision: Decision) -> Iterator[Json]:
    for one in decision.clauses:
        reason = concept(f"{NATIONAL}:reason", one.reason)
        reason["text"] = one.clause
        yield {
            "category": concept(national(one.field), one.field),
            "reason": reason,
            "amount": amounts.money(one.amount, CNY),
        }


def _total(code: str, fen: int) -> Json:
    return {"category": concept(ADJUDICATION, code), "amount": amounts.money(fen, CNY)}


def _payment(pays: int, total: int) -> Json:
    return {"type": _payment_type(pays, total), "amount": amounts.money(pays, CNY)}


def _payment_type(pays: int, total: int) -> Json:
    return concept(PAYMENT_TYPE, "complete" if pays == total else "partial")
