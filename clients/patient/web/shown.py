"""What the pages show of a wallet, as data for templates: grants, accesses, statements, in the reader's language."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clients import plain
from clients.patient import consent, kept, screen
from clients.patient.mailbox import Access
from clients.patient.wallet import Given, Pair, Wallet, read_json
from zhifu import consent as consents
from zhifu import schema
from zhifu.consent import Grant
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

_SCHEMA: Final = "statement"
_HIDDEN: Final = "encounter"


def grants(wallet: Wallet, now: int, language: str) -> list[dict[str, Any]]:
    """Every grant this wallet gave, the newest first; ``state`` is active, revoked or expired."""
    found = [_grant(wallet, pair, given, now, language) for pair in wallet.pairs for given in pair.grants]
    return sorted(found, key=lambda one: -int(one["since"]))


def _grant(wallet: Wallet, pair: Pair, given: Given, now: int, language: str) -> dict[str, Any]:
    signed = consent.grant_of(given)
    grant = consents.verify_grant(signed, pair.public)
    cap = consent.read_terms(bytes.fromhex(given.terms[1]))[0] if given.terms else None
    return {
        "hash": consents.hash_of(signed.payload).hex(),
        "hospital": wallet.name(grant.sender),
        "hospital_id": grant.sender.hex(),
        "recipient": wallet.name(grant.recipient),
        "purpose": screen.pick(screen.PURPOSES[grant.purpose], language),
        "direct_pay": grant.mode == GRANT_MODE_DIRECT_PAY,
        "since": grant.issued_at,
        "until": moment(grant.expiry),
        "given": moment(grant.issued_at),
        "erase_at": day(grant.data_erase_at),
        "uses": grant.max_uses,
        "cap": plain.yuan(cap) if cap is not None else "",
        "state": "revoked" if given.revoked else "expired" if now > grant.expiry else "active",
        "allowed": _allowed(grant, given, language),
    }


def _allowed(grant: Grant, given: Given, language: str) -> list[dict[str, str]]:
    found = []
    for digest, levels in grant.scopes:
        kind = schema.by_hash(digest)
        found += screen.rows(kind, levels, given.preview.get(kind.name, {}), language)
    return [row for row in found if row["unit"] != _HIDDEN]


def accesses(wallet: Wallet, listed: Mapping[bytes, list[Access]], language: str) -> list[dict[str, Any]]:
    """Accesses by subject as rows, the newest first: what was released to whom, coarsened here."""
    found = []
    for subject, rows in listed.items():
        found += [_access(wallet, subject, one, language) for one in rows]
    return sorted(found, key=lambda row: -int(row["time_ms"]))


def _access(wallet: Wallet, subject: bytes, one: Access, language: str) -> dict[str, Any]:
    kind = schema.by_hash(one.schema_hash)
    shown = one.presentation
    mine = shown.recipient == subject
    values = [row for row in screen.rows(kind, one.released, one.preview, language) if row["unit"] != _HIDDEN]
    return {
        "exchange": one.hash.hex(),
        "basis": shown.basis.hex(),
        "time_ms": one.time_ms,
        "time": moment(one.time_ms // 1000),
        "sender": wallet.name(shown.sender),
        "recipient": screen.pick(("您本人", "you"), language) if mine else wallet.name(shown.recipient),
        "purpose": screen.pick(screen.PURPOSES.get(shown.purpose, (shown.purpose,) * 2), language),
        "record": kind.name,
        "state": one.state,
        "values": values,
        "deletion": one.deletion,
    }


def statements(wallet: Wallet, language: str) -> list[dict[str, Any]]:
    """Kept statements, the newest first."""
    found = [_statement(path, language) for path in kept.statement_files(wallet)]
    return sorted(found, key=lambda one: -int(one["since"]))


def _statement(path: Path, language: str) -> dict[str, Any]:
    document = read_json(path)
    kind, values = schema.load(_SCHEMA), document["values"]
    # Whatever it is sealed with, a sender may leave a unit out, and every value may be absent.
    others = [row for row in values.get("payments") or () if row[0] != "patient"]
    payments = [{"kind": token, "name": name, "yuan": plain.yuan(fen)} for token, name, fen in others]
    clauses = [{"what": row[0], "yuan": plain.yuan(row[1]), "clause": row[2]} for row in values.get("clauses") or ()]
    totals = dict(values.get("totals") or ())
    return {
        "exchange": path.stem,
        "since": document["at"],
        "time": moment(document["at"]),
        "hospital": document["hospital"],
        "entry": document["entry"],
        "stay": " – ".join(day for day in values.get("stay") or () if day),
        "total": plain.yuan(totals["total"]) if "total" in totals else "",
        "payments": payments,
        "clauses": clauses,
        "remainder": plain.yuan(values.get("remainder") or 0),
        "titles": {unit.name: unit.title(language) for unit in kind.units},
    }


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def moment(at: int) -> str:
    """A time (Unix s) on this device's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def day(at: int) -> str:
    """The day of a time (Unix s)."""
    return time.strftime("%Y-%m-%d", time.localtime(at))
