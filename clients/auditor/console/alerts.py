"""What an officer should look at: rules over counts, over the log's standing, and over single entries.

Each alert has an id that stays the same while its cause does, so that a review holds, and a search that shows why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from clients.auditor.console.reviews import Review
from clients.auditor.remote import Auditor, Counts, Standing
from clients.auditor.rows import Row
from zhifu import consent, envelope
from zhifu.errors import Error
from zhifu.trail import Query
from zhifu.v1.signed_pb2 import REVOKER_HOTLINE

HOUR_MS: Final = 3_600_000
WINDOW_H: Final = 14 * 24
DENIED: Final = ("denied", "refused")


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds. ``night`` are hours of the day, local; the rest are numbers an hour, shares, or minutes.

    ``break_glass`` are events by which officers act for others; of revocations only those of a hotline.
    """

    denials: int = 10
    denial_factor: float = 5.0
    night: tuple[int, int] = (22, 6)
    bulk: int = 500
    orphan_min: int = 60
    unwitnessed_min: int = 10
    grave: tuple[str, ...] = ("leaf.grammar", "leaf.ladder", "pseudonym.changed")
    break_glass: tuple[str, ...] = (
        "grant.revoked",
        "entry.erased",
        "hold.lifted",
        "participant.suspended",
        "clock.set",
    )


@dataclass(frozen=True, slots=True)
class Alert:
    """``kind`` is a word of the page; ``grave`` comes first. ``link`` is where to look; ``at_ms`` when it was."""

    id: str
    kind: str
    grave: bool
    at_ms: int
    who: str
    number: int
    link: str


async def find(auditor: Auditor, standing: Standing, rules: Rules = Rules()) -> list[Alert]:
    """Every alert of the last fourteen days, grave and new ones first. Raises `Refused` (unavailable.*)."""
    since = max(0, standing.clock_ms - WINDOW_H * HOUR_MS)
    counts = await auditor.count(Query(since_ms=since))
    found = [
        *_hourly(counts, rules, auditor),
        *_orphans(await _entries(auditor, counts.waiting), standing, rules, auditor),
        *_single(await _grave(auditor, counts, rules, since), rules, auditor),
        *_unwitnessed(await _pending(auditor, standing), standing, rules, auditor),
        *_log(auditor, standing),
    ]
    unique = {one.id: one for one in found}
    return sorted(unique.values(), key=lambda one: (not one.grave, -one.at_ms))


async def _entries(auditor: Auditor, indices: Sequence[int]) -> Sequence[Row]:
    return (await auditor.search(Query(entries=tuple(indices)), limit=100)).rows if indices else ()


async def _pending(auditor: Auditor, standing: Standing) -> Sequence[Row]:
    """The oldest entry that no quorum cosigned, where there are witnesses."""
    waits = standing.quorum and standing.final < standing.head.size
    return await _entries(auditor, [standing.final]) if waits else ()


async def _grave(auditor: Auditor, counts: Counts, rules: Rules, since: int) -> list[Row]:
    """Refusals for reasons that only a lie or a broken node has, and what officers did by an exceptional power.

    A search is an entry of the log, so none is made for what the counts do not have.
    """
    found: list[Row] = []
    if any(one.outcome in DENIED for one in counts.hours):
        found += (await auditor.search(Query(reasons=rules.grave, since_ms=since), limit=100)).rows
    if any(one.event in rules.break_glass for one in counts.hours):
        rows = (await auditor.search(Query(events=rules.break_glass, since_ms=since), limit=100)).rows
        found += [row for row in rows if row.words.event != "grant.revoked" or _by_hotline(row)]
    return found


def _by_hotline(row: Row) -> bool:
    """A grant that was stopped for its patient by somebody else; False where the entry does not tell."""
    try:
        said = [envelope.from_bytes(envelope.REVOCATION, one) for one in row.detail.documents] if row.detail else []
        return any(consent.parse_revocation(one.payload).by == REVOKER_HOTLINE for one in said)
    except Error:
        return False


def _hourly(counts: Counts, rules: Rules, auditor: Auditor) -> Iterator[Alert]:
    denied: dict[bytes, Counter[int]] = defaultdict(Counter)
    done: dict[bytes, Counter[int]] = defaultdict(Counter)
    for one in counts.hours:
        if one.event.startswith("exchange."):
            (denied if one.outcome in DENIED else done)[one.actor][one.hour] += one.count
    for actor, hours in denied.items():
        usual = sum(hours.values()) / WINDOW_H
        for hour, count in hours.items():
            if count >= max(rules.denials, rules.denial_factor * usual):
                yield _hour_alert("denial-spike", True, hour, actor, count, auditor, DENIED)
    for actor, hours in done.items():
        for hour, count in hours.items():
            if count >= rules.bulk:
                yield _hour_alert("bulk", False, hour, actor, count, auditor)
            elif _is_night(hour, rules):
                yield _hour_alert("after-hours", False, hour, actor, count, auditor)


def _is_night(hour: int, rules: Rules) -> bool:
    begin, end = rules.night
    local = datetime.fromtimestamp(hour * 3600).hour
    return local >= begin or local < end


def _hour_alert(
    kind: str, grave: bool, hour: int, actor: bytes, count: int, auditor: Auditor, outcomes: Sequence[str] = ()
) -> Alert:
    first, last = (datetime.fromtimestamp(one * 3600).isoformat() for one in (hour, hour + 1))
    asked = [("since", first), ("until", last), ("actor", actor.hex()), *(("outcome", one) for one in outcomes)]
    id_ = f"{kind}-{hour}-{actor.hex()[:16]}"
    return Alert(id_, kind, grave, hour * HOUR_MS, auditor.name(actor), count, f"/search?{urlencode(asked)}")


def _orphans(rows: Sequence[Row], standing: Standing, rules: Rules, auditor: Auditor) -> Iterator[Alert]:
    """An exchange was accepted and nobody ever said what became of it."""
    for row in rows:
        minutes = (standing.clock_ms - row.time_ms) // 60_000
        if minutes >= rules.orphan_min:
            yield _row_alert("orphan", False, row, minutes, auditor)


def _single(rows: Sequence[Row], rules: Rules, auditor: Auditor) -> Iterator[Alert]:
    for row in rows:
        glass = row.words.event in rules.break_glass
        one = _row_alert("break-glass" if glass else "grammar", True, row, row.index, auditor)
        yield replace(one, who=row.words.event) if glass else one


def _row_alert(kind: str, grave: bool, row: Row, number: int, auditor: Auditor) -> Alert:
    who = auditor.name(row.words.actor)
    return Alert(f"{kind}-{row.index}", kind, grave, row.time_ms, who, number, f"/entry/{row.index}")


def _unwitnessed(rows: Sequence[Row], standing: Standing, rules: Rules, auditor: Auditor) -> Iterator[Alert]:
    """The oldest entry that no quorum cosigned is too old."""
    for row in rows if standing.quorum else ():
        minutes = (standing.clock_ms - row.time_ms) // 60_000
        if minutes >= rules.unwitnessed_min:
            yield replace(_row_alert("unwitnessed", False, row, minutes, auditor), link="/integrity")


def _log(auditor: Auditor, standing: Standing) -> Iterator[Alert]:
    for participant, reason in standing.refused.items():
        id_ = f"foreign-key-{participant.hex()[:16]}-{reason}"
        yield Alert(id_, "foreign-key", True, standing.clock_ms, auditor.name(participant), 1, "/integrity")
    for one in auditor.evidence():
        yield Alert(f"evidence-{one.number}", "evidence", True, one.at, one.reason, one.number, "/integrity")


def open_ones(found: Sequence[Alert], reviews: Mapping[str, Sequence[Review]]) -> list[Alert]:
    """Those that no officer has closed."""
    return [one for one in found if not any(said.closed for said in reviews.get(one.id, ()))]
