"""Units whose time is over are removed from what was opened, and the rest is kept (`clients.retention` says when).

The role may hold a record whole: it was paid, or a reviewer has it before him. The patient's own time, in the grant,
waits for nobody but a legal hold (`clients.holding`). A record that is held is looked at again a day later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clients import holding
from clients.retention import DAY_S, Retention
from clients.role import Parts
from clients.store import Store, Stored
from clients.store.incoming import GONE, UNBOUND, Batch
from zhifu import schema

MOST: Final = 256
"""Records in one transaction: what else the node does waits no longer than for these."""
_log = logging.getLogger("zhifu.retention")


@dataclass(frozen=True, slots=True)
class Due:
    """A unit of so many records for one purpose: when the first and the last of them lose it (Unix s, by the policy;
    the grant may end it sooner), and how many should have lost it. Those are held by the role, or the node stood still.
    """

    purpose: str
    schema: str
    unit: str
    count: int
    first: int | None
    last: int | None
    overdue: int


def sweep(parts: Parts) -> int:
    """Remove units whose time is over from up to `MOST` records, durably; how many were looked at.

    Raises `Refused` (unavailable.store), `NotAuthentic` (leaf.open).
    """
    looked = 0
    with parts.store.transaction():
        _schedule(parts)
        for stored, batch, periods in _due(parts):
            _trim(parts, stored, batch, periods)
            looked += 1
    return looked


def report(store: Store, retention: Retention, now: int) -> list[Due]:
    """What is due when, of everything that is kept; nothing of a value. ``now`` is Unix s."""
    found: dict[tuple[str, str, str], Due] = {}
    for batch in store.incoming.batches():
        kind = schema.by_hash(batch.schema)
        for unit, period in zip(kind.units, retention.now_in_force(batch), strict=True):
            if period != GONE:
                key = (batch.purpose, kind.name, unit.name)
                found[key] = _add(found.get(key), _due_of(store, key, batch, period, now))
    return [found[key] for key in sorted(found)]


def _due_of(store: Store, key: tuple[str, str, str], batch: Batch, period: int, now: int) -> Due:
    if period == UNBOUND:
        return Due(*key, batch.count, None, None, 0)
    over = store.incoming.older(batch, (now - period * DAY_S) * 1000)
    first, last = (received // 1000 + period * DAY_S for received in (batch.oldest, batch.newest))
    return Due(*key, batch.count, first, last, over)


def _add(one: Due | None, other: Due) -> Due:
    if one is None:
        return other
    firsts = [end for end in (one.first, other.first) if end is not None]
    lasts = [end for end in (one.last, other.last) if end is not None]
    return Due(
        one.purpose, one.schema, one.unit, one.count + other.count,
        min(firsts, default=None), max(lasts, default=None), one.overdue + other.overdue,
    )  # fmt: skip


def _schedule(parts: Parts) -> None:
    """What a version of the store without periods kept gets those of today."""
    for stored in parts.store.incoming.unscheduled(MOST):
        if stored.opened is not None:
            parts.store.incoming.schedule(stored.opened, parts.retention.periods(stored.opened))


def _due(parts: Parts) -> Iterator[tuple[Stored, Batch, Sequence[int]]]:
    now, left = parts.now(), MOST
    for batch in parts.store.incoming.batches():
        periods = parts.retention.now_in_force(batch)
        bound = [one for one in periods if one not in (GONE, UNBOUND)]
        if bound and left:
            found = parts.store.incoming.due(batch, (now - min(bound) * DAY_S) * 1000, now, left)
            left -= len(found)
            yield from ((stored, batch, periods) for stored in found)


def _trim(parts: Parts, stored: Stored, batch: Batch, periods: Sequence[int]) -> None:
    """Remove what is over; all of it where that was the last unit with a time of its own."""
    incoming, now, opened = parts.store.incoming, parts.now(), stored.opened
    reason = parts.role.holds(opened, parts.store) if opened is not None else ""
    if reason or holding.is_held(parts.store, stored.exchange):
        incoming.look_again(stored.exchange, now + DAY_S)
        return
    age_ms = now * 1000 - stored.received
    over = [one not in (GONE, UNBOUND) and one * DAY_S * 1000 <= age_ms for one in periods]
    left = [GONE if gone else kept for gone, kept in zip(over, batch.periods, strict=True)]
    named = [unit.name for unit, gone in zip(schema.by_hash(batch.schema).units, over, strict=True) if gone]
    whole = set(left) <= {GONE, UNBOUND}
    if whole:
        incoming.erase_one(stored.exchange)
    else:
        incoming.trim(stored.exchange, frozenset(named), left)
    _log.info("retention.over", extra={"about": {"exchange": stored.exchange, "units": named, "whole": whole}})
