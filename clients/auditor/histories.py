"""What the log tells of one thing, in order: an exchange with its answers, a grant, a patient's key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from clients.auditor.remote import Auditor
from clients.auditor.rows import Row
from zhifu import trail
from zhifu.errors import Refused
from zhifu.trail import Query

_PAGE: Final = 200
_MOST: Final = 2000
"""Entries of one history."""


async def timeline(auditor: Auditor, about: bytes) -> Sequence[Row]:
    """Every entry that names ``about``, and what became of the exchanges in them, oldest first.

    Raises as `Auditor.search`, and `Refused` (usage.argument) where there are too many.
    """
    rows = await _all(auditor, Query(about=(about,)))
    for exchange in _exchanges(rows.values()) - {about}:
        rows |= await _all(auditor, Query(about=(exchange,)))
    return _ordered(rows)


async def disclosures(auditor: Auditor, subject: bytes) -> Sequence[Row]:
    """The accepted exchanges under a subject's grants, oldest first."""
    return _ordered(await _all(auditor, Query(about=(subject,), events=(trail.ACCEPTED,))))


def _exchanges(rows: Iterable[Row]) -> set[bytes]:
    return {row.detail.exchange for row in rows if row.detail is not None and row.words.event == trail.ACCEPTED}


async def _all(auditor: Auditor, query: Query) -> dict[int, Row]:
    found: dict[int, Row] = {}
    before = 0
    while len(found) < _MOST:
        page = await auditor.search(query, before, _PAGE)
        found |= {row.index: row for row in page.rows}
        before = page.next_before
        if not before:
            return found
    # The oldest are those that would be missing, and nothing would tell.
    raise Refused("usage.argument", f"more than {_MOST} entries are about it: zhifu audit export --about has them all")


def _ordered(rows: dict[int, Row]) -> Sequence[Row]:
    return [rows[index] for index in sorted(rows)]
