"""What a page needs of a signed request, so that the browser can compare its screen with the bytes."""

from __future__ import annotations

import base64
from typing import Any, Final

from clients import plain
from clients.patient import screen
from clients.patient.consent import Review
from clients.patient.web import shown
from zhifu import consent as consents
from zhifu import schema
from zhifu.schema import ABSENT

_HIDDEN: Final = "encounter"
_FIRST: Final = "inpatient-claim"


def units(seen: Review, view: dict[str, Any], language: str) -> list[dict[str, Any]]:
    """Units that are asked for, with their ranks for the browser, which checks them against the signed bytes."""
    found: list[dict[str, Any]] = []
    order = [one["schema"] for one in sorted(view["units"], key=lambda one: one["schema"] != _FIRST)]
    for one in view["units"]:
        kind = schema.load(one["schema"])
        unit = kind.unit(one["unit"])
        rows = [{**choice, "rank": unit.level_named(choice["level"])} for choice in one["choices"]]
        place = {"schema_hash": kind.hash.hex(), "index": unit.index, "absent": ABSENT, "hidden": unit.name == _HIDDEN}
        finest = screen.value_at(unit, 0, seen.preview.get(kind.name, {}), language) if rows[0]["rank"] else ""
        found.append({**one, **place, "offered": rows, "finest": finest})
    # By record, and what identifies nobody comes last.
    return sorted(found, key=lambda one: (order.index(one["schema"]), one["hidden"]))


def signed(seen: Review, view: dict[str, Any]) -> dict[str, Any]:
    """The request as it was signed, and the schemas' names by hash: the browser reads it for itself."""
    names = {digest.hex(): schema.by_hash(digest).name for digest, _ in seen.request.scopes}
    return {
        "signed": base64.b64encode(seen.signed.payload).decode(),
        "by_hash": names,
        "request_hash": consents.hash_of(seen.signed.payload).hex(),
        "until": shown.moment(view["until"]),
        "erase_at": shown.day(view["erase_at"]),
        "cap": plain.yuan(view["cap_fen"]) if view["cap_fen"] is not None else "",
    }
