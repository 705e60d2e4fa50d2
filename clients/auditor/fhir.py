"""An entry as a FHIR R4 AuditEvent; an exchange of a patient's record by IHE BALP 1.1.4, Privacy Disclosure at Source.

Patients are named by the hash of a key that exists for one pair of organisations: nobody else has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PROFILE: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.Source"
_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_SOURCE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
_LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_PURPOSES: Final = {"public-settlement": "HPAYMT", "commercial-settlement": "HPAYMT", "statement": "PATRQT"}
_OK, _MINOR = "0", "4"
_FAILED: Final = ("denied", "refused", "expired", "withdrawn")
_URI: Final = "5"


def audit_event(found: Mapping[str, Any], receipt: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """One AuditEvent of what an entry says (`clients.auditor.exports.document`), with its receipt as an entity."""
    disclosed = found["event"] == "exchange.accepted"
    shown: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": f"zhifu-{found['index']}",
        "type": _coding(_DICOM, "110106", "Export") if disclosed else _coding(_DICOM, "110100", "Application Activity"),
        "subtype": [{"system": "urn:zhifu:event", "code": found["event"]}],
        "action": "R" if disclosed else "E",
        "recorded": found["time"],
        "outcome": _MINOR if found["outcome"] in _FAILED else _OK,
        "outcomeDesc": found["reason"] or found["outcome"],
        "agent": _agents(found, disclosed),
        # BALP: the audit source is the source agent; the log that recorded it stands as the site.
        "source": {"site": origin, "observer": _who(found["actor"], found["actor_name"]), "type": [_server()]},
        "entity": [*_patient(found, disclosed), *_data(found), _proof(receipt)],
    }
    if disclosed:
        shown["meta"] = {"profile": [PROFILE]}
        shown["subtype"].insert(0, _coding(_LIFECYCLE, "disclose", "Disclose Record Lifecycle Event"))
    if found["purpose"]:
        code = _PURPOSES.get(found["purpose"], "HPAYMT")
        shown["purposeOfEvent"] = [{"coding": [_coding(_REASON, code)], "text": found["purpose"]}]
    return shown


def _agents(found: Mapping[str, Any], disclosed: bool) -> list[dict[str, Any]]:
    source = _agent(found["actor"], found["actor_name"], "110153", "Source Role ID")
    source["requestor"] = True
    if not (disclosed or found["counterparty"]):
        return [source]
    return [source, _agent(found["counterparty"], found["counterparty_name"], "110152", "Destination Role ID")]


def _agent(id_: str, name: str, code: str, display: str) -> dict[str, Any]:
    return {
        "type": {"coding": [_coding(_DICOM, code, display)]},
        "who": _who(id_, name),
        "requestor": False,
        "network": {"address": f"urn:zhifu:participant:{id_}", "type": _URI},
    }


def _who(id_: str, name: str) -> dict[str, Any]:
    return {"identifier": {"system": "urn:zhifu:participant", "value": id_ or "-"}, "display": name or id_ or "-"}


def _patient(found: Mapping[str, Any], disclosed: bool) -> list[dict[str, Any]]:
    """BALP wants a patient with every disclosure; one that rests on statute names none."""
    if not found["subject"] and not disclosed:
        return []
    what: dict[str, Any] = {"type": "Patient"}
    if found["subject"]:
        what["identifier"] = {"system": "urn:zhifu:subject", "value": found["subject"]}
    else:
        what["display"] = "not named: the exchange rests on statute"
    return [{"what": what, "type": _coding(_ENTITY, "1", "Person"), "role": _coding(_ROLE, "1", "Patient")}]


def _data(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = []
    if found["exchange"]:
        levels = [{"type": unit, "valueString": level} for unit, level in found["units"].items()]
        one: dict[str, Any] = {
            "what": {"identifier": {"system": "urn:zhifu:exchange", "value": found["exchange"]}},
            "type": _coding(_ENTITY, "2", "System Object"),
            "role": _coding(_ROLE, "3", "Report"),
        }
        shown.append({**one, "detail": levels} if levels else one)
    if found["grant"]:
        consent = {"type": "Consent", "identifier": {"system": "urn:zhifu:grant", "value": found["grant"]}}
        shown.append({"what": consent, "type": _coding(_ENTITY, "2", "System Object")})
    return shown


def _proof(receipt: Mapping[str, Any]) -> dict[str, Any]:
    details = [{"type": name, "valueString": str(value)} for name, value in receipt.items()]
    return {"type": _coding(_ENTITY, "4", "Other"), "name": "zhifu-receipt", "detail": details}


def _server() -> dict[str, str]:
    return _coding(_SOURCE, "4", "Application Server")


def _coding(system: str, code: str, display: str = "") -> dict[str, str]:
    return {"system": system, "code": code, **({"display": display} if display else {})}
