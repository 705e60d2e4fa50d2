"""A refusal as FHIR says it: an OperationOutcome with the reason as its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from clients.hospital.fhir.bundle import concept
from clients.hospital.fhir.coding import national
from clients.hospital.fhir.resources import validate
from zhifu.errors import Error, Exit

# Codes of http://hl7.org/fhir/issue-type.
_ISSUE: Final[Mapping[Exit, str]] = {
    Exit.USAGE: "invalid",
    Exit.DENIED: "forbidden",
    Exit.CONSENT: "forbidden",
    Exit.INTEGRITY: "security",
    Exit.UNAVAILABLE: "transient",
}


def outcome(error: Error) -> dict[str, Any]:
    """One issue: whether a retry can help (transient), the reason, and the words for it."""
    code, words = _ISSUE.get(error.exit, "business-rule"), error.detail or error.entry.meaning
    issue = {
        "severity": "error",
        "code": code,
        "details": concept(national("reason"), error.reason),
        "diagnostics": words,
    }
    found = {"resourceType": "OperationOutcome", "issue": [issue]}
    validate("OperationOutcome", found, "OperationOutcome")
    return found
