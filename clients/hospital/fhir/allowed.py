"""What may be read of a FHIR resource: every element by name, and nothing else (DESIGN 4.1, default deny).

`keep` makes the copy that the rest of this package works on; what no table names is counted, and gone. An element or
resource whose meaning something unread may change (``modifierExtension``, ``implicitRules``) is refused, as FHIR asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clients.hospital.fhir.document import REASON, below, leaves
from zhifu.errors import Malformed
from zhifu.strict_json import Unusable

Allowed = Mapping[str, "Allowed | None"]
"""Element name to what may be read below it; None for a single value."""

MAX_ROWS: Final = 10_000
MAX_TEXT: Final = 4_096
_FEW_ROWS: Final = 1_000
_MANY: Final = frozenset(("item", "supportingInfo", "entry"))
_CHANGES_MEANING: Final = ("modifierExtension", "implicitRules")


def _values(names: str) -> dict[str, Allowed | None]:
    return dict.fromkeys(names.split())


_CODING: Final[Allowed] = _values("system code display")
_CONCEPT: Final[Allowed] = {"coding": _CODING}
_REFERENCE: Final[Allowed] = _values("reference")
_IDENTIFIER: Final[Allowed] = {"type": _CONCEPT, **_values("use system value")}
_PERIOD: Final[Allowed] = _values("start end")
_MONEY: Final[Allowed] = _values("value currency")
_AMOUNT: Final[Allowed] = _values("value")
_RESOURCE: Final[Allowed] = _values("resourceType id")

ALLOWED: Final[Mapping[str, Allowed]] = MappingProxyType(
    {
        "Bundle": {**_RESOURCE, "type": None},
        "Claim": {
            **_RESOURCE,
            **_values("status use created"),
            "identifier": _IDENTIFIER,
            "type": _CONCEPT,
            "subType": _CONCEPT,
            "priority": _CONCEPT,
            "patient": _REFERENCE,
            "provider": _REFERENCE,
            "billablePeriod": _PERIOD,
            "insurance": {**_values("sequence focal"), "coverage": _REFERENCE},
            "careTeam": {"sequence": None, "provider": _REFERENCE, "role": _CONCEPT},
            "supportingInfo": {**_values("sequence valueString"), "category": _CONCEPT, "valueQuantity": _AMOUNT},
            "diagnosis": {
                "sequence": None,
                "diagnosisCodeableConcept": _CONCEPT,
                "diagnosisReference": _REFERENCE,
                "type": _CONCEPT,
            },
            "procedure": {"sequence": None, "procedureCodeableConcept": _CONCEPT, "procedureReference": _REFERENCE},
            "item": {
                **_values("sequence careTeamSequence informationSequence servicedDate factor"),
                "category": _CONCEPT,
                "productOrService": _CONCEPT,
                "programCode": _CONCEPT,
                "servicedPeriod": _PERIOD,
                "quantity": _AMOUNT,
                "unitPrice": _MONEY,
                "net": _MONEY,
                "encounter": _REFERENCE,
            },
            "total": _MONEY,
        },
        "Patient": {
            **_RESOURCE,
            **_values("active gender birthDate"),
            "identifier": _IDENTIFIER,
            "name": _values("use text family given"),
            "telecom": _values("system use value"),
            "address": _values("use text line city district state postalCode country"),
            "link": {"type": None, "other": _REFERENCE},
        },
        "Coverage": {
            **_RESOURCE,
            **_values("status subscriberId"),
            "identifier": _IDENTIFIER,
            "type": _CONCEPT,
            "beneficiary": _REFERENCE,
            "payor": _REFERENCE,
            "class": {"type": _CONCEPT, "value": None},
        },
        "Condition": {
            **_RESOURCE,
            "clinicalStatus": _CONCEPT,
            "verificationStatus": _CONCEPT,
            "code": _CONCEPT,
            "subject": _REFERENCE,
        },
        "Procedure": {**_RESOURCE, "status": None, "code": _CONCEPT, "subject": _REFERENCE},
        "Encounter": {
            **_RESOURCE,
            "status": None,
            "class": _CODING,
            "identifier": _IDENTIFIER,
            "subject": _REFERENCE,
            "period": _PERIOD,
        },
        "Organization": {**_RESOURCE, "identifier": _IDENTIFIER, "type": _CONCEPT, "name": None},
        "Practitioner": {**_RESOURCE, "name": _values("use text family given")},
    }
)
"""Resource type to what may be read of it. A type that is not here is never read."""


def keep(value: object, allowed: Allowed | None, path: str, name: str, dropped: Counter[str]) -> object:
    """``value`` with nothing but what ``allowed`` names; what goes is counted in ``dropped`` by path without places.

    ``name`` is that path so far ("Patient.name"). Raises `Malformed` (bill.syntax) for a modifier, another shape, or a
    list that is too long.
    """
    if isinstance(value, list):
        return _keep_list(value, allowed, path, name, dropped)
    if allowed is None:
        return _keep_value(value, path)
    if not isinstance(value, dict):
        raise Malformed(REASON, f"{path}: must be an object")
    for changes in _CHANGES_MEANING:
        if changes in value:
            raise Malformed(REASON, f"{below(path, changes)}: changes the meaning of what it stands in; not understood")
    for key in value.keys() - allowed.keys():
        dropped[below(name, key)] += leaves(value[key])
    return {
        key: keep(value[key], inner, below(path, key), below(name, key), dropped)
        for key, inner in allowed.items()
        if value.get(key) is not None
    }


def _keep_value(value: object, path: str) -> object:
    if isinstance(value, dict):
        raise Malformed(REASON, f"{path}: must be a single value")
    if isinstance(value, Unusable):
        raise Malformed(REASON, f"{path}: {value.why}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise Malformed(REASON, f"{path}: has more than {MAX_TEXT} characters")
    return value


def _keep_list(rows: list[object], allowed: Allowed | None, path: str, name: str, dropped: Counter[str]) -> object:
    most = MAX_ROWS if name.rpartition(".")[2] in _MANY else _FEW_ROWS
    if len(rows) > most:
        raise Malformed(REASON, f"{path}: has more than {most} members")
    if any(isinstance(one, list) for one in rows):
        raise Malformed(REASON, f"{path}: holds a list")
    kept = [keep(one, allowed, f"{path}[{i}]", name, dropped) for i, one in enumerate(rows)]
    # Among single values null says that only an extension stands there.
    return [one for one in kept if one is not None]
