"""What the hospital's local API is, as an OpenAPI 3.1 document: one place, beside the routes that it describes."""

from __future__ import annotations

from typing import Any, Final

_FEN: Final = {"type": ["integer", "null"], "description": "fen"}
_YUAN: Final = {"type": "string", "pattern": r"^\d+\.\d\d$", "description": "yuan with two places"}
_CONSENT: Final = {
    "type": "object",
    "required": ["grant", "attestations"],
    "properties": {
        "grant": {"type": "string", "contentEncoding": "base64"},
        "attestations": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        "kind": {"type": "string", "enum": ["city-supplementary", "group", "medical", "outpatient"]},
    },
}
_OPEN: Final = {
    "type": "object",
    "required": ["bill"],
    "properties": {
        "bill": {"type": "string", "description": "the text of a bill: national interface JSON, or a FHIR R4 Bundle"},
        "consents": {"type": "array", "maxItems": 8, "items": _CONSENT},
        "consent": _CONSENT,
        "route": {"type": "string", "enum": ["public", "direct"], "default": "public"},
        "order": {"type": "string", "description": "the coordination rule"},
        "hold": {"type": "boolean", "description": "stop at the split until the desk confirms or cancels"},
        "patient": {"type": "boolean", "description": "wait for a reviewer where a payer's rules cannot decide"},
        "account": {**_YUAN, "description": "the most that is taken from the personal account"},
        "deposit": {**_YUAN, "description": "what the patient paid in advance"},
    },
}
_AMOUNTS: Final = ("total", "public", "commercial", "patient", "account", "cash", "deposit", "topup", "refund")
_SETTLEMENT: Final = {
    "type": "object",
    "properties": {
        "settlement": {"type": "string", "description": "its id, hex"},
        "state": {
            "type": "string",
            "enum": ["open", "reserved", "confirmed", "cancelled", "reversing", "reversed", "failed"],
        },
        "reason": {"type": "string"},
        "order": {"type": "string"},
        "expires": {"type": "integer", "description": "Unix seconds at which the first reservation ends"},
        "payers": {"type": "array", "items": {"type": "object"}},
        "exchanges": {"type": "array", "items": {"type": "object"}},
        **{f"{name}_fen": _FEN for name in _AMOUNTS},
    },
}
_WAIT: Final = {"name": "wait", "in": "query", "schema": {"type": "number"}, "description": "seconds, at most 60"}
_LANGUAGE: Final = {"name": "lang", "in": "query", "schema": {"type": "string", "enum": ["zh", "en"]}}
_QUESTION: Final = {
    "type": "object",
    "properties": {
        "admission": {
            "type": "string",
            "description": "the text of a file with setlinfo alone, before there is a bill",
        },
        "bill": {"type": "string", "description": "or the text of a bill"},
        "consents": {"type": "array", "maxItems": 8, "items": _CONSENT},
    },
}
_COVER: Final = {
    "type": "object",
    "properties": {
        "eligibility": {"type": "string", "description": "its id, hex"},
        "payers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "role": {"type": "string", "enum": ["public-payer", "insurer"]},
                    "state": {"type": "string", "enum": ["waiting", "answered", "refused", "expired", "withdrawn"]},
                    "outcome": {"type": "string", "enum": ["covered", "not-covered", "unclear"]},
                    "rows": {"type": "array", "items": {"type": "object"}},
                },
            },
        },
    },
}
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _answer(schema: dict[str, Any], status: str = "200", media: str = "application/json") -> dict[str, Any]:
    problem = {"description": "refused: reason, detail and exit code", "content": {"application/json": {}}}
    return {status: {"description": "ok", "content": {media: {"schema": schema}}}, "default": problem}


def _operation(text: str, answer: dict[str, Any], *parameters: dict[str, Any], body: Any = None) -> dict[str, Any]:
    found = {"summary": text, "parameters": list(parameters), "responses": answer}
    return found | ({"requestBody": {"required": True, "content": body}} if body else {})


_JSON: Final = {"application/json": {"schema": _OPEN}}
_ONE: Final = _answer(_SETTLEMENT)
DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Zhifu hospital node", "version": "1", "description": "Loopback only, with the node's token."},
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "security": [{"token": []}],
    "paths": {
        "/settlements": {
            "post": _operation("Settle a bill", _answer(_SETTLEMENT, "202"), body=_JSON),
            "get": _operation(
                "Find settlements by visit or invoice number, newest first",
                _answer({"type": "array", "items": {"type": "object"}}),
                {"name": "visit", "in": "query", "schema": {"type": "string"}},
                {"name": "invoice", "in": "query", "schema": {"type": "string"}},
            ),
        },
        "/quotes": {"post": _operation("Ask for the split and hold it", _answer(_SETTLEMENT, "202"), body=_JSON)},
        "/settlements/{id}": {"get": _operation("A settlement as it stands", _ONE, _ID, _WAIT)},
        "/settlements/{id}/confirm": {"post": _operation("Confirm a held split", _ONE, _ID, _WAIT)},
        "/settlements/{id}/cancel": {"post": _operation("Free what is held", _ONE, _ID, _WAIT)},
        "/settlements/{id}/refund": {"post": _operation("Reverse what was committed", _ONE, _ID, _WAIT)},
        "/settlements/{id}/statement": {
            "get": _operation(
                "Every amount with clause and reason, and plain words",
                _answer({"type": "object"}),
                _ID,
                _LANGUAGE,
            )
        },
        "/settlements/{id}/events": {
            "get": _operation("Changes as they happen", _answer({"type": "string"}, media="text/event-stream"), _ID)
        },
        "/settlements/{id}/fhir": {
            "get": _operation(
                "The Claim, a ClaimResponse of each payer and the ExplanationOfBenefit",
                _answer({"type": "object"}, media="application/fhir+json"),
                _ID,
            )
        },
        "/settlements/{id}/national": {
            "get": _operation("What payers decided in the fields of 2304", _answer({"type": "object"}), _ID)
        },
        "/fhir/Claim/$submit": {
            "post": _operation(
                "A FHIR R4 Bundle with a Claim, or Parameters with it and consents or a code; what each payer says",
                _answer({"type": "object"}, media="application/fhir+json"),
                _WAIT,
                body={"application/fhir+json": {"schema": {"type": "object"}}},
            )
        },
        "/eligibility": {
            "post": _operation(
                "Ask whether payers cover a visit, and what is left of the year",
                _answer(_COVER, "202"),
                _WAIT,
                _LANGUAGE,
                body={"application/json": {"schema": _QUESTION}},
            )
        },
        "/eligibility/{id}": {"get": _operation("What they answered so far", _answer(_COVER), _ID, _WAIT, _LANGUAGE)},
        "/health": {"get": _operation("Whether the process answers", _answer({"type": "object"}))},
        "/openapi.json": {"get": _operation("This document", _answer({"type": "object"}))},
    },
}
