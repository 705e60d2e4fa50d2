"""Rows for other programs: NDJSON with whole receipts, CSV with tlog-proofs. Every format carries the proof.

What is exported holds hashes, handles and words; no value of a record ever reaches an auditor.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clients.auditor import fhir, moments, ocsf
from clients.auditor.rows import Row
from zhifu import schema, trail
from zhifu.errors import Error

Name = Callable[[bytes], str]
COLUMNS: Final = (
    "index", "time", "event", "outcome", "reason", "actor", "actor_name", "counterparty", "counterparty_name",
    "purpose", "schema", "units", "policy", "exchange", "grant", "subject", "state", "leaf_hash", "tlog_proof",
)  # fmt: skip
FORMATS: Final = ("ndjson", "csv", "ocsf", "fhir")
# A spreadsheet would run what begins with one of these.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Context:
    """Whose log it is, who exports, and the names that this auditor pinned."""

    origin: str
    auditor: bytes
    name: Name


def document(row: Row, name: Name) -> dict[str, Any]:
    """What an entry says, in words and hex; without its proof."""
    words, detail = row.words, row.detail
    return {
        "index": row.index,
        "time": moments.iso(row.time_ms),
        "event": words.event,
        "outcome": words.outcome,
        "reason": words.reason,
        "actor": words.actor.hex(),
        "actor_name": name(words.actor) if words.actor else "",
        "counterparty": words.counterparty.hex(),
        "counterparty_name": name(words.counterparty) if words.counterparty else "",
        "purpose": words.purpose,
        "schema": _schema(words.schema_hash),
        "units": trail.units(words),
        "policy": words.policy_hash.hex(),
        "exchange": detail.exchange.hex() if detail else "",
        "grant": detail.grant.hex() if detail else "",
        "subject": detail.subject.hex() if detail else "",
        "state": row.state,
        "erased_on": row.basis,
    }


def write(form: str, rows: Iterable[Row], context: Context) -> Iterator[str]:
    """The rows in one of `FORMATS`, line by line. A line holds one row; CSV begins with its header."""
    if form == "csv":
        yield _csv(COLUMNS)
    for row in rows:
        yield _LINES[form](row, context)


def _ndjson(row: Row, context: Context) -> str:
    return _json({**document(row, context.name), "receipt": row.receipt()})


def _csv_row(row: Row, context: Context) -> str:
    found = document(row, context.name)
    found["units"] = " ".join(f"{unit}:{level}" for unit, level in found["units"].items())
    found["leaf_hash"] = row.proven.leaf_hash.hex()
    found["tlog_proof"] = base64.b64encode(row.proof.encode()).decode()
    return _csv([_cell(found[name]) for name in COLUMNS])


def _cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(values: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _ocsf(row: Row, context: Context) -> str:
    return _json(ocsf.event(document(row, context.name), row.receipt(), context.origin))


def _fhir(row: Row, context: Context) -> str:
    return _json(fhir.audit_event(document(row, context.name), row.receipt(), context.origin))


def _json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False)


def _schema(digest: bytes) -> str:
    try:
        return schema.by_hash(digest).name if digest else ""
    except Error:
        return digest.hex()


_LINES: Final[Mapping[str, Callable[[Row, Context], str]]] = {
    "ndjson": _ndjson,
    "csv": _csv_row,
    "ocsf": _ocsf,
    "fhir": _fhir,
}
