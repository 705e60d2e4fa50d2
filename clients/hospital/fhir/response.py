"""A settlement as a FHIR R4 ClaimResponse: who pays what, in totals by category, and what the patient pays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from clients.hospital.case import Case
from zhifu import money

_OUTCOME: Final = {"confirmed": "complete", "reversed": "complete", "failed": "error", "cancelled": "error"}
_CATEGORIES: Final = {"submitted": "total", "benefit": "public", "copay": "patient"}
_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/adjudication"


def claim_response(case: Case) -> dict[str, Any]:
    """Valid FHIR without a patient's name: the request and the patient are identifiers of this settlement."""
    created = datetime.fromtimestamp((case.finished or case.started) / 1000, UTC)
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:zhifu:settlement:{case.id.hex()}"}
    found: dict[str, Any] = {
        "resourceType": "ClaimResponse",
        "identifier": [identifier],
        "status": "cancelled" if case.state in ("cancelled", "reversed") else "active",
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/claim-type", "code": "institutional"}]},
        "use": "claim",
        "patient": {"identifier": identifier},
        "created": created.isoformat(timespec="seconds"),
        "insurer": {"identifier": {"system": "urn:zhifu:participant", "value": case.public_payer.hex()}},
        "request": {"identifier": identifier},
        "outcome": _OUTCOME.get(case.state, "queued"),
    }
    if case.amounts:
        found["total"] = [_total(code, case.amounts[token]) for code, token in _CATEGORIES.items()]
    if case.reason:
        found["disposition"] = case.reason
    return found


def _total(code: str, fen: int) -> dict[str, Any]:
    value = float(money.yuan(fen))
    return {"category": {"coding": [{"system": _SYSTEM, "code": code}]}, "amount": {"value": value, "currency": "CNY"}}
