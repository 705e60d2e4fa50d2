"""The body of ``Claim/$submit``: a Claim's Bundle by itself, or Parameters with it and what the patient consented to.

Parameters are the operation's own way to say more than the resource: ``resource``, any number of ``consent`` (parts
``kind``, ``grant``, ``attestation``, ``terms-salt``, ``terms``), or ``code`` as her phone shows it; ``route``,
``order``, ``hold``, ``patient``, ``account`` and ``deposit`` as in the node's own JSON. One that is not known is
refused: misspelt, it would settle otherwise than it was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from clients.hospital.fhir import document
from clients.hospital.fhir.place import Place

_MOST: Final = 32
_WORDS: Final[Mapping[str, str]] = {
    "code": "valueString",
    "route": "valueCode",
    "order": "valueString",
    "account": "valueString",
    "deposit": "valueString",
}
_FLAGS: Final = ("hold", "patient")
_PARTS: Final[Mapping[str, str]] = {
    "kind": "valueCode",
    "grant": "valueBase64Binary",
    "terms-salt": "valueBase64Binary",
    "terms": "valueBase64Binary",
}
_ATTESTATION: Final = "attestation"


def read(content: bytes) -> dict[str, Any]:
    """The same request as JSON of ``POST /settlements``. Raises `Malformed` (bill.syntax) with the path."""
    top = Place(document.parse(content), "")
    if top.need("resourceType").text() != "Parameters":
        return {"bill": content.decode("utf-8-sig")}
    found: dict[str, Any] = {}
    consents: list[dict[str, Any]] = []
    for row in _few(top, "parameter"):
        name = row.need("name").text()
        if name == "consent":
            consents.append(_consent(row))
        else:
            _once(found, "bill" if name == "resource" else name, row, _value(row, name))
    if "bill" not in found:
        raise top.refusal("has no resource to submit")
    return found | ({"consents": consents} if consents else {})


def _value(row: Place, name: str) -> object:
    if name == "resource":
        return document.dumps(row.need("resource").value)
    if name in _FLAGS:
        return row.need("valueBoolean").flag()
    if name in _WORDS:
        return row.need(_WORDS[name]).text()
    raise row.need("name").refusal("is no parameter of this operation")


def _consent(row: Place) -> dict[str, Any]:
    """A consent as `clients.desk` writes it."""
    found: dict[str, Any] = {}
    attested = []
    for part in _few(row, "part"):
        name = part.need("name").text()
        if name == _ATTESTATION:
            attested.append(part.need("valueBase64Binary").text())
        elif name in _PARTS:
            _once(found, name, part, part.need(_PARTS[name]).text())
        else:
            raise part.need("name").refusal("is no part of a consent")
    salt, terms = found.pop("terms-salt", None), found.pop("terms", None)
    if (salt is None) != (terms is None):
        raise row.refusal("terms and terms-salt go together")
    return found | {"attestations": attested, "terms": None if terms is None else [salt, terms]}


def _few(place: Place, name: str) -> Iterable[Place]:
    rows = place.rows(name)
    if len(rows) > _MOST:
        raise rows[_MOST].refusal(f"is more than the {_MOST} that there may be")
    return rows


def _once(found: dict[str, Any], name: str, row: Place, value: object) -> None:
    if name in found:
        raise row.refusal("stands there twice")
    found[name] = value
