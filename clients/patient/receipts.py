"""Receipts of an answer: in the shape of ISO/IEC TS 27560, and as an HL7 FHIR R4 Consent.

Both are made on the patient's own device from what was signed; the signed bytes and the log's proof are in the record,
so that whoever doubts it need not believe the wallet.
"""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from clients.patient import consent, requests, screen
from clients.patient.wallet import Given, Pair, Wallet
from zhifu import consent as consents
from zhifu import envelope, schema
from zhifu.consent import Grant, Scopes
from zhifu.errors import Refused
from zhifu.schema import ABSENT
from zhifu.v1 import wallet_pb2

SCHEMA_VERSION: Final = "ISO/IEC TS 27560:2023"
_FHIR: Final = "http://terminology.hl7.org/CodeSystem"


def record(wallet: Wallet, name: bytes, language: str) -> dict[str, Any]:
    """The consent record of a grant, or of a refused request (by its hash), with its receipt.

    Raises `Refused` (consent.unknown), `Malformed`.
    """
    try:
        pair, given = wallet.find_grant(name)
    except Refused:
        return _refused(wallet, name, language)
    grant = consents.verify_grant(consent.grant_of(given), pair.public)
    events = [_event("given", grant.issued_at, pair, grant.expiry)]
    if given.revoked:
        events.append(_event("withdrawn", _stopped_at(given), pair))
    proofs = {
        "signed_grant": given.grant, "signed_request": given.request, "log_proof": given.receipt,
        "withdrawal_proof": given.stop,
    }  # fmt: skip
    purpose = _purpose(grant.purpose, grant.scopes, grant.sender, grant.recipient, language) | _limits(given, grant)
    return _document(wallet, name, pair, _notice(given, language), purpose, events, proofs)


def _document(
    wallet: Wallet, name: bytes, pair: Pair, notice: tuple[str, str], purpose: dict[str, Any],
    events: list[dict[str, Any]], proofs: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    parties = [*purpose["pii_controllers"], *purpose["recipient_third_parties"]]
    return {
        "schema_version": SCHEMA_VERSION,
        "record_id": name.hex(),
        "pii_principal_id": pair.subject.hex(),
        "pii_processing": {"privacy_notice": notice[1], "language": notice[0], "purposes": [purpose]},
        "party_identification": [_party(wallet, bytes.fromhex(one)) for one in parties],
        "events": events,
        "receipt": {
            "receipt_id": str(uuid.uuid5(uuid.NAMESPACE_OID, name.hex())),
            "log_origin": wallet.contact.origin,
            **proofs,
        },
    }


def _notice(given: Given, language: str) -> tuple[str, str]:
    """(language, text) of the notice that was shown."""
    if not given.terms:
        return language, ""
    _, spoken, notice = consent.read_terms(bytes.fromhex(given.terms[1]))
    return spoken, notice


def _purpose(purpose: str, scopes: Scopes, sender: bytes, recipient: bytes, language: str) -> dict[str, Any]:
    return {
        "purpose": screen.pick(screen.PURPOSES[purpose], language),
        "purpose_type": purpose,
        "lawful_basis": "consent",
        "pii_information": _information(scopes, language),
        "pii_controllers": [sender.hex()],
        "recipient_third_parties": [recipient.hex()],
        "collection_method": "the hospital's own record of the stay",
        "processing_method": "sealed end to end, released at the levels listed",
        "withdrawal_method": "wallet, hotline, hospital desk, recovery code",
    }


def _limits(given: Given, grant: Grant) -> dict[str, Any]:
    cap = consent.read_terms(bytes.fromhex(given.terms[1]))[0] if given.terms else None
    return {
        "retention_period": _iso(grant.data_erase_at), "number_of_uses": grant.max_uses, "amount_cap_fen": cap
    }  # fmt: skip


def _information(scopes: Scopes, language: str) -> list[dict[str, Any]]:
    return [
        {
            "pii_type": unit.title(language),
            "pii_attribute_id": f"{kind.name}.{unit.name}",
            "precision": unit.levels[rank].name,
            "pii_optional": unit.name != "encounter",
            "special_pii_category": "health",
        }
        for kind, levels in ((schema.by_hash(digest), levels) for digest, levels in scopes)
        for unit, rank in zip(kind.units, levels, strict=True)
        if rank != ABSENT
    ]


def _party(wallet: Wallet, participant: bytes) -> dict[str, str]:
    found = wallet.parties.get(participant.hex())
    role = "pii_controller" if found is not None and found.role == "hospital" else "third_party"
    return {"party_id": participant.hex(), "party_name": wallet.name(participant), "party_role": role}


def _event(state: str, at: int, pair: Pair, until: int = 0) -> dict[str, Any]:
    return {
        "event_time": _iso(at),
        "event_type": "explicit",
        "event_state": state,
        "entity_id": pair.subject.hex(),
        "validity_duration": _iso(until) if until else None,
    }


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _stopped_at(given: Given) -> int:
    if not given.stop:
        return 0
    return wallet_pb2.RevokeGrantResponse.FromString(bytes.fromhex(given.stop)).entry.time_ms // 1000


def _refused(wallet: Wallet, name: bytes, language: str) -> dict[str, Any]:
    """A refusal weighs the same as a grant: it has a record of its own."""
    found = [one for one in wallet.refused if one["request"] == name.hex()]
    if not found:
        raise Refused("consent.unknown", "this wallet gave no such answer")
    seen = consent.review(wallet, requests.find(wallet, name.hex()), found[0]["at"])
    asked = seen.request
    purpose = _purpose(asked.purpose, asked.scopes, asked.sender, asked.recipient, language)
    events = [_event("refused", found[0]["at"], seen.pair)]
    notice = (seen.language, seen.notice)
    return _document(wallet, name, seen.pair, notice, purpose, events, {"signed_request": found[0]["signed"]})


def fhir(wallet: Wallet, name: bytes, language: str) -> dict[str, Any]:
    """A grant as an HL7 FHIR R4 Consent; the patient is an identifier that only this hospital and recipient know.

    Raises `Refused` (consent.unknown), `Malformed`.
    """
    pair, given = wallet.find_grant(name)
    signed = consent.grant_of(given)
    grant = consents.verify_grant(signed, pair.public)
    attached = base64.b64encode(signed.to_bytes()).decode()
    return {
        "resourceType": "Consent",
        "identifier": [{"system": "urn:zhifu:grant", "value": name.hex()}],
        "status": "inactive" if given.revoked else "active",
        "scope": _coding(f"{_FHIR}/consentscope", "patient-privacy"),
        "category": [_coding("http://loinc.org", "59284-0")],
        "patient": {"identifier": {"system": "urn:zhifu:subject", "value": pair.subject.hex()}},
        "dateTime": _iso(grant.issued_at),
        "organization": [_reference(wallet, grant.sender)],
        "sourceAttachment": {"contentType": envelope.GRANT.media_type, "data": attached},
        "policyRule": {"text": screen.pick(screen.PURPOSES[grant.purpose], language)},
        "provision": _provision(wallet, grant, language),
    }


def _provision(wallet: Wallet, grant: Grant, language: str) -> dict[str, Any]:
    recipient = {
        "role": _coding(f"{_FHIR}/v3-ParticipationType", "IRCP"), "reference": _reference(wallet, grant.recipient)
    }  # fmt: skip
    shared = [f"{one['pii_attribute_id']}={one['precision']}" for one in _information(grant.scopes, language)]
    return {
        "type": "permit",
        "period": {"start": _iso(grant.not_before), "end": _iso(grant.expiry)},
        "actor": [recipient],
        "action": [_coding(f"{_FHIR}/consentaction", "disclose")],
        "purpose": [{"system": f"{_FHIR}/v3-ActReason", "code": "HPAYMT"}],
        "code": [{"text": one} for one in shared],
    }


def _coding(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _reference(wallet: Wallet, participant: bytes) -> dict[str, Any]:
    known = {"identifier": {"system": "urn:zhifu:participant", "value": participant.hex()}}
    return {**known, "display": wallet.name(participant)}
