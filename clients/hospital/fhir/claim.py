"""A Claim and what it refers to, as an open bill: who, where, when, what for. `lines` reads the items."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from clients.hospital.fhir import lines
from clients.hospital.fhir.coding import (
    DIAGNOSIS_TYPE,
    ICD9_PROCEDURES,
    ICD10,
    V3_ACT,
    VISIT,
    code,
    coding,
    display,
    has_code,
    identifier,
    national,
)
from clients.hospital.fhir.person import check_person, read_coverages, read_patient
from clients.hospital.fhir.place import Place
from clients.hospital.fhir.reading import Reading
from clients.hospital.fhir.resources import Held, Resource, Resources
from clients.hospital.openbill import Head, OpenBill
from zhifu import bill_forms as forms
from zhifu.bill import MAX_DIAGNOSES, MAX_PROCEDURES, Diagnosis, Procedure

_STAYS: Final = ("IMP", "ACUTE", "NONAC")
_VISITS: Final = ("AMB", "EMER", "OBSENC", "VR", "HH", "FLD")


def read(held: Held, resources: Resources) -> tuple[OpenBill, Reading]:
    """The bill in a Claim of ``resources``, and what was left out of it.

    Raises `Malformed` with the path at fault: bill.syntax, or bill.identity where the amounts do not add up.
    """
    reading = Reading(resources)
    claim = resources.read(held)
    reading.reach(claim)
    _check_kind(claim.place)
    patient = reading.follow(claim.place.need("patient"), claim, "Patient")
    if patient is None:
        raise claim.place.need("patient").refusal("names no resource of this file")
    head = read_coverages(claim, patient, read_patient(patient, reading), reading)
    head = _visit(claim, patient, _provider(claim, head, reading), reading)
    found = OpenBill(
        head,
        diagnoses=_diagnoses(claim, patient, reading),
        procedures=_procedures(claim, patient, reading),
        path=held.place.path,
        created=reading.day(claim.place.maybe("created")),
    )
    return lines.read(claim, found, reading), reading


def _check_kind(place: Place) -> None:
    """A bill that stands: no draft, no cancelled one, no question in advance."""
    for name, expected in (("status", "active"), ("use", "claim")):
        if place.need(name).text() != expected:
            raise place.need(name).refusal(f"must be {expected}")


def _provider(claim: Resource, head: Head, reading: Reading) -> Head:
    """The hospital; a practitioner who bills alone is none."""
    reference = claim.place.need("provider")
    held = reading.resources.find(reference, claim)
    if held is None or held.kind != "Organization":
        reading.note(reference, "left out: names no Organization")
        return head
    place = reading.resources.read(held).place
    reading.reach(reading.resources.read(held))
    grades = [code(kind, "hosp_lv", forms.GRADE) for kind in place.rows("type")]
    return replace(
        head,
        fixmedins_code=reading.fit(identifier(place, "fixmedins_code"), forms.TOKEN),
        fixmedins_name=reading.fit(place.maybe("name"), forms.NAME),
        hosp_lv=next((grade for grade in grades if grade is not None), None),
    )


def _visit(claim: Resource, patient: Resource, head: Head, reading: Reading) -> Head:
    place, visit = claim.place, _encounter(claim, patient, reading)
    period = place.maybe("billablePeriod") or (visit.maybe("period") if visit is not None else None)
    begin, end = (reading.day(period.maybe(name)) if period is not None else None for name in ("start", "end"))
    if begin is not None and end is not None and end < begin and period is not None:
        raise period.need("end").refusal("is before the start")
    number = identifier(visit, "mdtrt_id", VISIT) if visit is not None else None
    return replace(
        head,
        begndate=begin,
        enddate=end,
        med_type=code(place.maybe("subType"), "med_type", forms.CODE),
        inpatient=_inpatient(visit),
        mdtrt_id=reading.fit(number or identifier(place, "mdtrt_id"), forms.TOKEN),
        setl_id=reading.fit(identifier(place, "setl_id"), forms.TOKEN),
        invono=reading.fit(identifier(place, "invono"), forms.TOKEN),
        main_cond_dscr=_condition(place, reading),
    )


def _encounter(claim: Resource, patient: Resource, reading: Reading) -> Place | None:
    """The one visit of all items; with several of them nothing could be said of the bill."""
    found: list[Resource] = []
    for item in claim.place.rows("item"):
        for reference in item.rows("encounter"):
            resource = reading.follow(reference, claim, "Encounter")
            if resource is not None and resource not in found:
                check_person(resource, "subject", patient, reading)
                found.append(resource)
    if len(found) > 1:
        reading.note(found[1].place, "left out: a second encounter")
        return None
    return found[0].place if found else None


def _inpatient(visit: Place | None) -> bool | None:
    kind = visit.maybe("class") if visit is not None else None
    if kind is None or (system := kind.maybe("system")) is None or system.text() != V3_ACT:
        return None
    found = kind.need("code").text()
    return True if found in _STAYS else False if found in _VISITS else None


def _condition(place: Place, reading: Reading) -> str | None:
    """Free text, only where it says in the national interface's own word what it is."""
    for row in place.rows("supportingInfo"):
        if coding(row.maybe("category"), national("main_cond_dscr")) is not None:
            return reading.fit(row.maybe("valueString"), forms.PROSE)
    return None


def _diagnoses(claim: Resource, patient: Resource, reading: Reading) -> tuple[Diagnosis, ...] | None:
    rows = claim.place.rows("diagnosis")
    _limit(rows, MAX_DIAGNOSES)
    found: list[Diagnosis] = []
    for row in rows:
        concept = row.maybe("diagnosisCodeableConcept") or _referred(
            row, "diagnosisReference", "Condition", claim, patient, reading
        )
        coded = coding(concept, *ICD10)
        text = reading.fit(coded.need("code") if coded is not None else None, forms.ICD10)
        if text is None:
            reading.note(row, "no ICD-10 code: all diagnoses are left out")
            return None
        main = any(has_code(kind, DIAGNOSIS_TYPE, "principal") for kind in row.rows("type"))
        found.append(Diagnosis(text, display(coded) or text, main))
    if found and not any(one.maindiag_flag for one in found):
        found[0] = replace(found[0], maindiag_flag=True)
    return tuple(found) or None


def _procedures(claim: Resource, patient: Resource, reading: Reading) -> tuple[Procedure, ...] | None:
    rows = claim.place.rows("procedure")
    _limit(rows, MAX_PROCEDURES)
    found: list[Procedure] = []
    for row in rows:
        concept = row.maybe("procedureCodeableConcept") or _referred(
            row, "procedureReference", "Procedure", claim, patient, reading
        )
        coded = coding(concept, *ICD9_PROCEDURES)
        text = reading.fit(coded.need("code") if coded is not None else None, forms.ICD9)
        if text is None:
            reading.note(row, "no ICD-9-CM-3 code: all procedures are left out")
            return None
        found.append(Procedure(text, display(coded)))
    return tuple(found) or None


def _referred(row: Place, name: str, kind: str, claim: Resource, patient: Resource, reading: Reading) -> Place | None:
    resource = reading.follow(row.maybe(name), claim, kind)
    if resource is None:
        return None
    check_person(resource, "subject", patient, reading)
    return resource.place.maybe("code")


def _limit(rows: tuple[Place, ...], most: int) -> None:
    if len(rows) > most:
        raise rows[most].refusal(f"is more than the {most} of a bill")
