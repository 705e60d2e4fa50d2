"""An entry as an OCSF event (schema.ocsf.io 1.3): class API Activity, with the receipt in ``unmapped``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = "1.3.0"
CATEGORY: Final = 6
CLASS: Final = 6003
"""Application Activity / API Activity."""
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITIES: Final = {
    "exchange.accepted": _READ,
    "exchange.denied": _READ,
    "audit.searched": _READ,
    "audit.exported": _READ,
    "grant.registered": _CREATE,
    "subject.enrolled": _CREATE,
    "participant.enrolled": _CREATE,
    "epoch.offered": _CREATE,
    "key.stated": _UPDATE,
    "participant.suspended": _UPDATE,
    "participant.resumed": _UPDATE,
    "grant.revoked": _DELETE,
}
_SUCCESS, _FAILURE = 1, 2
_INFORMATIONAL, _MEDIUM, _HIGH = 1, 3, 4
_FAILED: Final = ("denied", "refused", "expired", "withdrawn")


def event(found: Mapping[str, Any], receipt: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """One OCSF event of what an entry says (`clients.auditor.exports.document`) and its receipt."""
    activity = _ACTIVITIES.get(found["event"], _OTHER)
    failed = found["outcome"] in _FAILED
    severity = _HIGH if found["state"] == "broken" else _MEDIUM if failed else _INFORMATIONAL
    shown = {
        "activity_id": activity,
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "type_uid": CLASS * 100 + activity,
        "time": receipt["time_ms"],
        "severity_id": severity,
        "status_id": _FAILURE if failed else _SUCCESS,
        "status_code": found["reason"] or found["outcome"],
        "metadata": {
            "version": VERSION,
            "uid": f"{origin}#{found['index']}",
            "log_name": origin,
            "product": {"name": "Zhifu", "vendor_name": "Zhifu"},
        },
        "actor": {"user": {"uid": found["actor"], "name": found["actor_name"], "type": "System", "type_id": 3}},
        "api": {"operation": found["event"], "service": {"name": "zhifu"}, "request": {"uid": found["exchange"]}},
        "src_endpoint": {"uid": found["actor"], "name": found["actor_name"]},
        "unmapped": {
            **{name: found[name] for name in ("purpose", "schema", "units", "policy", "grant", "subject", "state")},
            "receipt": receipt,
        },
    }
    if activity == _OTHER:
        shown["activity_name"] = found["event"]
    if found["counterparty"]:
        shown["dst_endpoint"] = {"uid": found["counterparty"], "name": found["counterparty_name"]}
    return shown
