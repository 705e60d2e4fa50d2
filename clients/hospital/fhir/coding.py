"""Code systems and identifiers: which coding of a concept is read, and the URIs of the national interface's own codes.

A field of the national interface that FHIR has no element for travels as a coding, an identifier or a supportingInfo of
a system of ours, ``urn:zhifu:national:`` and the field's name; never as an extension, since none is ever read.
"""

from __future__ import annotations

from typing import Final, TypeVar

from clients.hospital.fhir.place import Place
from zhifu import bill_forms
from zhifu.fields import Grammar

T = TypeVar("T")

NATIONAL: Final = "urn:zhifu:national"
V2_IDENTIFIER: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
V3_ACT: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLAIM_TYPE: Final = "http://terminology.hl7.org/CodeSystem/claim-type"
PRIORITY: Final = "http://terminology.hl7.org/CodeSystem/processpriority"
DIAGNOSIS_TYPE: Final = "http://terminology.hl7.org/CodeSystem/ex-diagnosistype"
ADJUDICATION: Final = "http://terminology.hl7.org/CodeSystem/adjudication"
PAYMENT_TYPE: Final = "http://terminology.hl7.org/CodeSystem/ex-paymenttype"
NO_DATA: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"

CITIZEN: Final = "NNCHN"
RECORD: Final = "MR"
VISIT: Final = "VN"


def national(field: str) -> str:
    """The system of a field's codes, or of the numbers that it holds: ``urn:zhifu:national:chrgitm_lv``."""
    return f"{NATIONAL}:{field}"


ICD10: Final = (
    national("diag_code"),
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "urn:oid:2.16.840.1.113883.6.3",
    "urn:oid:2.16.840.1.113883.6.90",
)
"""The most exact first: the national edition, WHO, ICD-10-CM. Their three characters and chapters are the same."""

ICD9_PROCEDURES: Final = (national("oprn_oprt_code"), "http://hl7.org/fhir/sid/icd-9-cm")


def coding(concept: Place | None, *systems: str) -> Place | None:
    """The coding of the first of ``systems`` that ``concept`` has one of.

    Raises `Malformed` where it has two codes of that system: nobody could say which is meant.
    """
    rows = concept.rows("coding") if concept is not None else ()
    for system in systems:
        found = [row for row in rows if row.maybe("code") is not None and _system(row) == system]
        if len({row.need("code").text() for row in found}) > 1:
            raise found[1].refusal("is a second code of the same system")
        if found:
            return found[0]
    return None


def code(concept: Place | None, field: str, grammar: Grammar[T]) -> T | None:
    """The code of a national field, None where there is none. Raises `Malformed` where it is none of its codes."""
    found = coding(concept, national(field))
    return None if found is None else found.need("code").read(grammar)


def has_code(concept: Place | None, system: str, *codes: str) -> bool:
    """Whether ``concept`` has one of ``codes`` of ``system``."""
    rows = concept.rows("coding") if concept is not None else ()
    found = (row.maybe("code") for row in rows if _system(row) == system)
    return any(one is not None and one.text() in codes for one in found)


def display(found: Place | None) -> str | None:
    """The name that a coding gives to its code, where it is one that a unit can hold."""
    name = found.maybe("display") if found is not None else None
    return bill_forms.NAME.read(name.text()) if name is not None else None


def identifier(resource: Place, field: str, v2_type: str = "") -> Place | None:
    """The value of the identifier of a national field, or of a v2-0203 type; None where there is none.

    Raises `Malformed` where two differ.
    """
    rows = [row for row in resource.rows("identifier") if row.maybe("value") is not None and _is_current(row)]
    ours = [row for row in rows if _system(row) == national(field)]
    found = ours or [row for row in rows if v2_type and has_code(row.maybe("type"), V2_IDENTIFIER, v2_type)]
    values = [row.need("value") for row in found]
    if len({value.text() for value in values}) > 1:
        raise values[1].refusal("is not the same as another identifier of its kind")
    return values[0] if values else None


def _system(row: Place) -> str | None:
    found = row.maybe("system")
    return None if found is None else found.text()


def _is_current(row: Place) -> bool:
    use = row.maybe("use")
    return use is None or use.text() != "old"
