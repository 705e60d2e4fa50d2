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
from clients.hospital.fhir.resources import validate
from clients.hospital.openbill import CNY, OpenBill
from clients.hospital.outcome import Answer, Outcome

Json = dict[str, Any]
_ENDED: Final = ("failed", "cancelled", "lapsed")
_UNDONE: Final = ("cancelled", "reversed")


def document(bill: OpenBill, outcome: Outcome) -> Json:
    """A Bundle: the Claim, a ClaimResponse of each payer, and the explanation once the settlement has its amounts.

    Raises `Malformed` (bill.syntax) where the bill has no date that FHIR needs.
    """
    more = [_response(bill, outcome, answer) for answer in outcome.answers]
    if outcome.amounts:
        more.append(_explanation(bill, outcome))
    return bundle(bill, more)


def submitted(bill: OpenBill, outcome: Outcome) -> Json:
    """What ``Claim/$submit`` returns: the ClaimResponse of the one payer, or with several of them the whole `document`.

    One that stands alone names patient and request by the settlement's identifier: there is nothing to refer to.
    """
    if len(outcome.answers) != 1:
        return document(bill, outcome)
    identifier = _identifier(outcome)
    found = _response(bill, outcome, outcome.answers[0])
    found |= {"patient": {"identifier": identifier}, "request": {"identifier": identifier}}
    validate("ClaimResponse", found, "ClaimResponse")
    return found


def _response(bill: OpenBill, outcome: Outcome, answer: Answer) -> Json:
    found = _common(bill, outcome, "ClaimResponse", answer.payer) | {
        "insurer": _payer(answer),
        "request": reference(CLAIM),
        "total": list(_totals(bill, outcome, answer)),
    }
    if answer.decision is None:
        return found | _unanswered(outcome)
    return found | _answered(bill, outcome, answer, answer.decision)


def _answered(bill: OpenBill, outcome: Outcome, answer: Answer, decided: Decision) -> Json:
    queued = decided.outcome == "review"
    found: Json = {
        "outcome": "queued" if queued else "complete",
        "disposition": decided.outcome,
        "adjudication": list(_clauses(decided)),
    }
    if decided.reservation:
        found["preAuthRef"] = decided.reservation.hex()
    if not queued and outcome.state not in _UNDONE:
        found["payment"] = _payment(answer.pays, bill.total or 0)
    return found


def _unanswered(outcome: Outcome) -> Json:
    """No word of this payer yet; or none any more, and why."""
    if outcome.state not in _ENDED:
        return {"outcome": "queued"}
    reason = outcome.reason or outcome.state
    return {"outcome": "error", "disposition": reason, "error": [{"code": concept(national("reason"), reason)}]}


def _totals(bill: OpenBill, outcome: Outcome, answer: Answer) -> Iterator[Json]:
    yield _total("submitted", bill.total or 0, bill.currency or CNY)
    yield _total("benefit", answer.pays)
    if len(outcome.answers) == 1 and outcome.amounts:
        yield _total("copay", outcome.amounts["patient"])


def _explanation(bill: OpenBill, outcome: Outcome) -> Json:
    paid = sum(answer.pays for answer in outcome.answers)
    total, patient = outcome.amounts["total"], outcome.amounts["patient"]
    found = _common(bill, outcome, "ExplanationOfBenefit", "explanation") | {
        "insurer": _payer(outcome.answers[0]),
        "provider": reference(HOSPITAL),
        "claim": reference(CLAIM),
        "outcome": "complete",
        "insurance": [{"focal": True, "coverage": reference(COVERAGE)}],
        "adjudication": [row for _, decided in outcome.decided for row in _clauses(decided)],
        "total": [_total("submitted", total), _total("benefit", paid), _total("copay", patient)],
        "payment": {"type": _payment_type(paid, total), "amount": amounts.money(paid, CNY)},
    }
    responses = [reference(f"ClaimResponse/{answer.payer}") for answer in outcome.answers]
    return found | ({"claimResponse": responses[0]} if len(responses) == 1 else {})


def _common(bill: OpenBill, outcome: Outcome, kind: str, target: str) -> Json:
    return {
        "resourceType": kind,
        "id": target,
        "identifier": [_identifier(outcome)],
        "status": "cancelled" if outcome.state in _UNDONE else "active",
        "type": concept(CLAIM_TYPE, "institutional"),
        "use": "claim",
        "patient": reference(PATIENT),
        "created": created(bill),
    }


def _identifier(outcome: Outcome) -> Json:
    """Of the settlement, by which the local API finds it again."""
    return {"system": "urn:ietf:rfc:3986", "value": f"urn:zhifu:settlement:{outcome.settlement.hex()}"}


def _payer(answer: Answer) -> Json:
    identifier = {"system": "urn:zhifu:participant", "value": answer.participant.hex()}
    found: Json = {"type": "Organization", "identifier": identifier}
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


def _total(code: str, minor: int, currency: str = CNY) -> Json:
    return {"category": concept(ADJUDICATION, code), "amount": amounts.money(minor, currency)}


def _payment(pays: int, total: int) -> Json:
    return {"type": _payment_type(pays, total), "amount": amounts.money(pays, CNY)}


def _payment_type(pays: int, total: int) -> Json:
    return concept(PAYMENT_TYPE, "complete" if pays == total else "partial")
