"""Patient and Coverage: who it is, and by which insurance."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from clients.hospital.fhir.coding import CITIZEN, NATIONAL, RECORD, V3_ACT, code, coding, has_code, identifier, national
from clients.hospital.fhir.place import Place
from clients.hospital.fhir.reading import Reading
from clients.hospital.fhir.resources import Resource, below_reference
from clients.hospital.openbill import Head
from zhifu import bill_forms as forms
from zhifu import ladder
from zhifu.fields import Grammar
from zhifu.identifiers import citizen

SEXES: Final = {"male": 1, "female": 2, "other": 9, "unknown": 0}
"""FHIR's administrative gender to GB/T 2261.1."""

CITIZEN_CERT: Final = "01"
_HAN: Final = re.compile(r"[㐀-鿿]")
_NAME_USES: Final = ("official", "usual", None)
_PHONE_USES: Final = ("mobile", "home", None, "work")
_PARTS: Final = ("country", "state", "city", "district")


def read_patient(patient: Resource, reading: Reading) -> Head:
    """What a bill says of the person. Raises `Malformed` for a record that was replaced, or a wrong citizen ID."""
    place = patient.place
    active = place.maybe("active")
    if active is not None and not active.flag():
        # Of somebody who died, or has not come for long: the claim stands all the same.
        reading.note(active, "the patient's record is not in use any more")
    for link in place.rows("link"):
        if link.need("type").text() == "replaced-by":
            raise link.need("type").refusal("the patient's record was replaced by another")
    cert_type, certno = _certificate(place)
    return Head(
        psn_name=_name(place, reading),
        psn_cert_type=cert_type,
        certno=certno,
        gend=_sex(place),
        brdy=reading.day(place.maybe("birthDate")),
        tel=_phone(place, reading),
        addr=_address(place, reading),
        medcasno=reading.fit(identifier(place, "medcasno", RECORD), forms.TOKEN),
        bankacct=reading.fit(identifier(place, "bankacct"), forms.TOKEN),
    )


def read_coverages(claim: Resource, patient: Resource, head: Head, reading: Reading) -> Head:
    """``head`` with the public insurance, and the number of a commercial policy.

    Only a public coverage gives the insured number: what a commercial one says must not reach the public payer.
    """
    public: list[Resource] = []
    for insurance in claim.place.rows("insurance"):
        coverage = reading.follow(insurance.need("coverage"), claim, "Coverage")
        if coverage is None:
            reading.note(insurance.need("coverage"), "left out: names no resource")
            continue
        status = coverage.place.need("status")
        if status.text() == "entered-in-error":
            raise status.refusal("was entered in error")
        if status.text() != "active":
            reading.note(status, "left out: not an active insurance")
            continue
        check_person(coverage, "beneficiary", patient, reading)
        if _is_public(coverage.place):
            public.append(coverage)
        elif insurance.need("focal").flag():
            head = replace(head, policy_no=_policy(coverage.place, reading))
    if len(public) > 1:
        reading.note(public[1].place, "left out: a second public insurance")
        return head
    return _insured(public[0].place, head, reading) if public else head


def check_person(resource: Resource, name: str, patient: Resource, reading: Reading) -> None:
    """What ``resource`` says of its person is of this patient. Raises `Malformed`: it is of another one."""
    reference = resource.place.maybe(name)
    if reference is None:
        return
    found = reading.resources.find(reference, resource)
    if found is not None and found.place.value != patient.held.place.value:
        raise below_reference(reference, "names another person than the claim's patient")


def _certificate(place: Place) -> tuple[str | None, str | None]:
    number = identifier(place, "certno", CITIZEN)
    if number is None:
        return None, None
    kind = _cert_type(place, number)
    if kind != CITIZEN_CERT:
        return kind, number.read(forms.TOKEN).upper()
    text = citizen.normal(number.read(forms.SPELLED))
    if not ladder.conforms("citizen-id", text):
        raise number.refusal("must be 17 digits and a check digit")
    if forms.citizen_check_digit(text[:17]) != text[17]:
        raise number.refusal("has a wrong check digit")
    return kind, text


def _cert_type(place: Place, number: Place) -> str:
    row = next(row for row in place.rows("identifier") if number.path.startswith(f"{row.path}."))
    return code(row.maybe("type"), "psn_cert_type", forms.CERT_TYPE) or CITIZEN_CERT


def _name(place: Place, reading: Reading) -> str | None:
    """The official name, or the usual one, or one without a use; in Chinese the family name comes first."""
    rows = place.rows("name")
    for use in _NAME_USES:
        for row in rows:
            if _text(row, "use") == use:
                return one_name(row, reading)
    return None


def one_name(row: Place, reading: Reading, grammar: Grammar[str] = forms.PERSON) -> str | None:
    """A HumanName as it is written; what does not fit ``grammar`` is left out, with a note."""
    whole = row.maybe("text")
    if whole is not None:
        return reading.fit(whole, grammar)
    family, given = _text(row, "family") or "", [one.text() for one in row.rows("given")]
    chinese = _HAN.search(family + "".join(given))
    joined = family + "".join(given) if chinese else " ".join([*given, family])
    found = grammar.read(joined)
    if found is None:
        reading.note(row, f"left out: not {grammar.expected}")
    return found


def _sex(place: Place) -> int | None:
    found = place.maybe("gender")
    if found is None:
        return None
    if found.text() not in SEXES:
        raise found.refusal(f"must be one of {', '.join(SEXES)}")
    return SEXES[found.text()]


def _phone(place: Place, reading: Reading) -> str | None:
    rows = [row for row in place.rows("telecom") if _text(row, "system") in ("phone", "sms")]
    for use in _PHONE_USES:
        for row in rows:
            if _text(row, "use") == use:
                return reading.fit(row.maybe("value"), forms.PHONE)
    return None


def _address(place: Place, reading: Reading) -> str | None:
    rows = [row for row in place.rows("address") if _text(row, "use") in (None, "home")]
    if not rows:
        return None
    whole = rows[0].maybe("text")
    if whole is not None:
        return reading.fit(whole, forms.ADDRESS)
    parts = [found for name in _PARTS if (found := _text(rows[0], name))] + [one.text() for one in rows[0].rows("line")]
    # Written the Chinese way, so that city and province are found where they are Chinese ones.
    chinese = _HAN.search("".join(parts))
    joined = "".join(parts[1:] if _text(rows[0], "country") else parts) if chinese else ", ".join(reversed(parts))
    found = forms.ADDRESS.read(joined) if joined else None
    if found is None:
        reading.note(rows[0], f"left out: not {forms.ADDRESS.expected}")
    return found


def _is_public(place: Place) -> bool:
    kind = place.maybe("type")
    return coding(kind, national("insutype")) is not None or has_code(kind, V3_ACT, "PUBLICPOL")


def _insured(place: Place, head: Head, reading: Reading) -> Head:
    groups = [row for row in place.rows("class") if has_code(row.maybe("type"), NATIONAL, "psn_type")]
    return replace(
        head,
        psn_no=reading.fit(place.maybe("subscriberId"), forms.TOKEN),
        insutype=code(place.maybe("type"), "insutype", forms.CODE),
        psn_type=groups[0].need("value").read(forms.CODE) if groups else None,
    )


def _policy(place: Place, reading: Reading) -> str | None:
    rows = place.rows("identifier")
    if len(rows) != 1:
        if rows:
            reading.note(rows[1], "left out: more than one number of a policy")
        return None
    return reading.fit(rows[0].maybe("value"), forms.TOKEN)


def _text(row: Place, name: str) -> str | None:
    found = row.maybe(name)
    return None if found is None else found.text()
