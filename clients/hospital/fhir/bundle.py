"""An open bill as a FHIR R4 Bundle: a Claim and the few resources that it needs, each valid by `fhir.resources`.

What it writes `claim` reads back. Ids are places in the Bundle, never a person's number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

from clients.hospital.fhir import amounts
from clients.hospital.fhir.coding import (
    CITIZEN,
    CLAIM_TYPE,
    DIAGNOSIS_TYPE,
    NATIONAL,
    PRIORITY,
    V2_IDENTIFIER,
    V3_ACT,
    national,
)
from clients.hospital.fhir.document import REASON, below
from clients.hospital.fhir.items import items
from clients.hospital.fhir.person import CITIZEN_CERT, SEXES
from clients.hospital.fhir.resources import validate
from clients.hospital.openbill import Head, OpenBill
from zhifu.errors import Malformed

Json = dict[str, Any]
PATIENT: Final = "Patient/patient"
HOSPITAL: Final = "Organization/hospital"
COVERAGE: Final = "Coverage/public"
CLAIM: Final = "Claim/claim"
_POLICY: Final = "Coverage/policy"
_VISIT: Final = "Encounter/visit"
_GENDERS: Final = {number: word for word, number in SEXES.items()}


def bundle(bill: OpenBill, more: Sequence[Json] = ()) -> Json:
    """A Bundle of the bill's Claim, what it refers to, and ``more`` resources.

    Raises `Malformed` (bill.syntax): no date at all, which a Claim must have.
    """
    visit = _visit(bill.head)
    parts, doctors = items(bill, _VISIT if visit else None)
    resources = [_claim(bill, parts), _patient(bill.head), *_coverages(bill.head), _hospital(bill.head)]
    resources += [*([visit] if visit else []), *doctors, *more]
    found = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}
    for place, one in enumerate(resources):
        validate(one["resourceType"], one, f"entry[{place}].resource")
    return found


def created(bill: OpenBill) -> str:
    """The day of the Claim: its own, or the visit's last. Raises `Malformed` (bill.syntax) where there is none."""
    day = bill.created or bill.head.enddate or bill.head.begndate
    if day is None:
        raise Malformed(REASON, f"{below(bill.path, 'created')}: is missing, and no day of the visit is known")
    return day.isoformat()


def reference(target: str) -> Json:
    """A reference within the Bundle."""
    return {"reference": target}


def concept(system: str, code: str, display: str | None = None) -> Json:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code}
    return {"coding": [coding | ({"display": display} if display else {})]}


def filled(values: Mapping[str, Any]) -> Json:
    """Without what is not there: FHIR knows no null and no empty list."""
    return {name: value for name, value in values.items() if value is not None and value not in ([], {})}


def _claim(bill: OpenBill, parts: Mapping[str, Any]) -> Json:
    head = bill.head
    return filled(
        {
            "resourceType": "Claim",
            "id": CLAIM.partition("/")[2],
            "identifier": _identifiers(head, "setl_id", "invono"),
            "status": "active",
            "type": concept(CLAIM_TYPE, "institutional"),
            "subType": concept(national("med_type"), head.med_type) if head.med_type else None,
            "use": "claim",
            "patient": reference(PATIENT),
            "billablePeriod": _period(head.begndate, head.enddate),
            "created": created(bill),
            "provider": reference(HOSPITAL),
            "priority": concept(PRIORITY, "normal"),
            "diagnosis": list(_diagnoses(bill)),
            "procedure": list(_procedures(bill)),
            "insurance": _insurance(head),
            "total": amounts.money(bill.total, bill.currency),
            **parts,
        }
    )


def _diagnoses(bill: OpenBill) -> Iterator[Json]:
    for number, one in enumerate(bill.diagnoses or (), start=1):
        name = None if one.diag_name == one.diag_code else one.diag_name
        row = {"sequence": number, "diagnosisCodeableConcept": concept(national("diag_code"), one.diag_code, name)}
        yield row | ({"type": [concept(DIAGNOSIS_TYPE, "principal")]} if one.maindiag_flag else {})


def _procedures(bill: OpenBill) -> Iterator[Json]:
    for number, one in enumerate(bill.procedures or (), start=1):
        code = concept(national("oprn_oprt_code"), one.oprn_oprt_code, one.oprn_oprt_name)
        yield {"sequence": number, "procedureCodeableConcept": code}


def _insurance(head: Head) -> list[Json]:
    targets = [f"Coverage/{one['id']}" for one in _coverages(head)]
    return [
        {"sequence": number, "focal": number == len(targets), "coverage": reference(target)}
        for number, target in enumerate(targets, start=1)
    ]


def _patient(head: Head) -> Json:
    name = {"use": "official", "text": head.psn_name} if head.psn_name else None
    return filled(
        {
            "resourceType": "Patient",
            "id": PATIENT.partition("/")[2],
            "identifier": [*_certificate(head), *_identifiers(head, "medcasno", "bankacct")],
            "name": [name] if name else None,
            "telecom": [{"system": "phone", "value": head.tel}] if head.tel else None,
            "gender": _GENDERS.get(head.gend, "unknown") if head.gend is not None else None,
            "birthDate": _day(head.brdy),
            "address": [{"use": "home", "text": head.addr}] if head.addr else None,
        }
    )


def _certificate(head: Head) -> list[Json]:
    if head.certno is None:
        return []
    kind = concept(national("psn_cert_type"), head.psn_cert_type or CITIZEN_CERT)
    if head.psn_cert_type == CITIZEN_CERT:
        kind["coding"].append({"system": V2_IDENTIFIER, "code": CITIZEN})
    return [{"type": kind, "system": national("certno"), "value": head.certno}]


def _coverages(head: Head) -> Iterator[Json]:
    public = (head.insutype, head.psn_no, head.psn_type) != (None, None, None)
    group = {"type": concept(NATIONAL, "psn_type"), "value": head.psn_type} if head.psn_type else None
    if public or head.policy_no is None:
        # A Claim must have an insurance; of one that says nothing, the Coverage says nothing either.
        kind = concept(national("insutype"), head.insutype) if head.insutype else concept(V3_ACT, "PUBLICPOL")
        more = {"type": kind, "subscriberId": head.psn_no, "class": [group] if group else None}
        yield _coverage(COVERAGE, **(more if public else {}))
    if head.policy_no is not None:
        yield _coverage(_POLICY, identifier=[{"system": national("policy_no"), "value": head.policy_no}])


def _coverage(target: str, **more: Any) -> Json:
    payer = {"type": "Organization", "identifier": {"system": NATIONAL, "value": target.partition("/")[2]}}
    common = {"resourceType": "Coverage", "id": target.partition("/")[2], "status": "active"}
    return filled({**common, "beneficiary": reference(PATIENT), "payor": [payer], **more})


def _hospital(head: Head) -> Json:
    return filled(
        {
            "resourceType": "Organization",
            "id": HOSPITAL.partition("/")[2],
            "identifier": _identifiers(head, "fixmedins_code"),
            "type": [concept(national("hosp_lv"), head.hosp_lv)] if head.hosp_lv else None,
            "name": head.fixmedins_name,
        }
    )


def _visit(head: Head) -> Json | None:
    if (head.med_type, head.inpatient, head.mdtrt_id) == (None, None, None):
        return None
    return filled(
        {
            "resourceType": "Encounter",
            "id": _VISIT.partition("/")[2],
            "identifier": _identifiers(head, "mdtrt_id"),
            "status": "finished",
            "class": {"system": V3_ACT, "code": "AMB" if head.is_outpatient else "IMP"},
            "subject": reference(PATIENT),
            "period": _period(head.begndate, head.enddate),
        }
    )


def _identifiers(head: Head, *names: str) -> list[Json]:
    values = {name: getattr(head, name) for name in names}
    return [{"system": national(name), "value": value} for name, value in values.items() if value is not None]


def _period(begin: date | None, end: date | None) -> Json | None:
    return filled({"start": _day(begin), "end": _day(end)}) or None


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
