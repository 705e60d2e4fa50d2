"""What passes between the hospital's desk and the patient's phone: requests, consents and attestations as files.

A file stands for a QR code or a link. Nothing in it needs to be secret from the patient, and everything that
matters is signed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import durable
from clients.grammar import HASH, NAME, ROLE
from zhifu import envelope
from zhifu.capsule import Terms
from zhifu.cbor import Value
from zhifu.envelope import Envelope
from zhifu.errors import Malformed
from zhifu.fields import Fields

_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A consent request with the hospital's key statement, and for the patient's eyes the values it is about.

    ``preview`` is ``{schema: {unit: finest value}}`` without the encounter secret; it is shown, never believed.
    """

    request: Envelope
    key_statement: Envelope
    preview: Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Consent:
    """A grant on its way back to the hospital, with the attestations of its subject key and the terms agreed to."""

    grant: Envelope
    attestations: tuple[Envelope, ...]
    terms: Terms | None = None


def write_request(path: Path, one: Request) -> None:
    _write(
        path,
        {"request": _text(one.request), "key_statement": _text(one.key_statement), "preview": one.preview},
    )


def read_request(path: Path) -> Request:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return parse_request(_read(path), path.name)


def parse_request(document: Mapping[str, Any], where: str) -> Request:
    """A request as JSON. Raises `Malformed` (usage.file, malformed.*)."""
    preview = document.get("preview")
    if not isinstance(preview, dict):
        raise Malformed("usage.file", f"{where} is not a consent request")
    request = _envelope(envelope.REQUEST, document, "request", where)
    return Request(request, _envelope(envelope.KEY_STATEMENT, document, "key_statement", where), preview)


def write_consent(path: Path, one: Consent) -> None:
    _write(path, consent_document(one))


def consent_document(one: Consent) -> dict[str, Any]:
    """A consent as JSON."""
    terms = [base64.b64encode(part).decode() for part in (one.terms.salt, one.terms.content)] if one.terms else None
    return {"grant": _text(one.grant), "attestations": [_text(signed) for signed in one.attestations], "terms": terms}


def read_consent(path: Path) -> Consent:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return parse_consent(_read(path), path.name)


def parse_consent(document: Mapping[str, Any], where: str) -> Consent:
    """The inverse of `consent_document`. Raises `Malformed` (usage.file, malformed.*)."""
    rows = document.get("attestations")
    if not isinstance(rows, list) or len(rows) > 8:
        raise Malformed("usage.file", f"{where} has no attestations")
    attested = tuple(_envelope(envelope.ATTESTATION, {"attestation": row}, "attestation", where) for row in rows)
    return Consent(_envelope(envelope.GRANT, document, "grant", where), attested, _terms(document.get("terms"), where))


def _terms(found: object, where: str) -> Terms | None:
    if found is None:
        return None
    try:
        salt, content = (base64.b64decode(part, validate=True) for part in found)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise Malformed("usage.file", f"{where} has no usable terms") from error
    return Terms(salt, content)


def write_revocation(path: Path, one: Envelope) -> None:
    _write(path, {"revocation": _text(one)})


def read_revocation(path: Path) -> Envelope:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return _envelope(envelope.REVOCATION, _read(path), "revocation", path.name)


def write_offer(path: Path, one: Envelope) -> None:
    """A further key's own signature on its line of the key log."""
    _write(path, offer_document(one))


def offer_document(one: Envelope) -> dict[str, Any]:
    """An offer as JSON."""
    return {"subject_key": _text(one)}


def read_offer(path: Path) -> Envelope:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return parse_offer(_read(path), path.name)


def parse_offer(document: Mapping[str, Any], where: str) -> Envelope:
    """The inverse of `offer_document`. Raises `Malformed` (usage.file, malformed.*)."""
    return _envelope(envelope.SUBJECT_KEY, document, "subject_key", where)


def write_attestation(path: Path, one: Envelope) -> None:
    _write(path, {"attestation": _text(one)})


def read_attestation(path: Path) -> Envelope:
    """Raises `Malformed` (usage.file, malformed.*)."""
    return parse_attestation(_read(path), path.name)


def parse_attestation(document: Mapping[str, Any], where: str) -> Envelope:
    """An attestation as JSON. Raises `Malformed` (usage.file, malformed.*)."""
    return _envelope(envelope.ATTESTATION, document, "attestation", where)


def read_card(path: Path) -> Mapping[str, str]:
    """A participant's card: id, role and name. Raises `Malformed` (usage.file)."""
    return parse_card(_read(path), path.name)


def parse_card(document: Mapping[str, Any], where: str) -> Mapping[str, str]:
    """A card as JSON: what is kept of it can be read again. Raises `Malformed` (usage.file)."""
    fields = Fields(document, "", "usage.file")
    try:
        id_, role, name = fields.need(HASH, "id"), fields.need(ROLE, "role"), fields.need(NAME, "name")
    except Malformed as error:
        raise Malformed("usage.file", f"{where} is not a participant's card: {error.detail}") from error
    return {"id": id_.hex(), "role": role, "name": name}


def _text(one: Envelope) -> str:
    return base64.b64encode(one.to_bytes()).decode()


def _envelope(kind: envelope.Kind, document: Mapping[str, Any], name: str, where: str) -> Envelope:
    try:
        return envelope.from_bytes(kind, base64.b64decode(document[name], validate=True))
    except (KeyError, ValueError, TypeError) as error:
        raise Malformed("usage.file", f"{where} has no {name}") from error


def _write(path: Path, document: Mapping[str, Any]) -> None:
    durable.write(path, json.dumps(document, ensure_ascii=False).encode())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(durable.read(path, _MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise Malformed("usage.file", f"{path.name} cannot be read") from error
    if not isinstance(found, dict):
        raise Malformed("usage.file", f"{path.name} is not a JSON object")
    return found
