"""What ``zhifu doctor`` says, of a node's folder and of a broker's alike: findings, and what they end with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from zhifu.errors import CATALOGUE, Error, Exit

Level = Literal["ok", "warn", "fail"]
CERTIFICATE_DAYS: Final = (30, 7, 1)
"""Days before its end at which a certificate is a warning, an urgent one, and as good as over."""
LOW_BYTES: Final = 1 << 30
EMPTY_BYTES: Final = 100 << 20
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do about it. ``reason`` is of the catalogue, empty where all is well."""

    check: str
    level: Level
    found: str
    remedy: str = ""
    reason: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warn(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "warn", found, remedy)


def fail(check: str, reason: str, found: str, remedy: str) -> Finding:
    return Finding(check, "fail", found, remedy, CATALOGUE[reason].name)


def caught(check: str, remedy: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What ``look`` finds; where it raises one of our errors, that is what was found."""
    try:
        yield from look()
    except Error as error:
        yield fail(check, error.reason, error.detail or error.entry.meaning, remedy)


def expiry(check: str, what: str, seconds_left: float, remedy: str) -> Finding:
    """How long something is still good for, by `CERTIFICATE_DAYS`."""
    days = seconds_left / _DAY_S
    said = f"{what} ends in {days:.0f} days" if days >= 2 else f"{what} ends in {seconds_left / 3600:.0f} hours"
    if seconds_left <= 0:
        return fail(check, "key.expired", f"{what} ended {-days:.0f} days ago", remedy)
    if days <= CERTIFICATE_DAYS[2]:
        return fail(check, "key.expired", said, f"now: {remedy}")
    if days <= CERTIFICATE_DAYS[1]:
        return warn(check, said, f"this week: {remedy}")
    return warn(check, said, remedy) if days <= CERTIFICATE_DAYS[0] else ok(check, said)


def disk(free: int) -> Finding:
    """Free bytes on the disk that a database lies on."""
    said, remedy = f"{free >> 20:,} MiB free", "make room before writing fails: a full disk refuses every exchange"
    if free < EMPTY_BYTES:
        return fail("disk", "unavailable.store", said, remedy)
    return warn("disk", said, remedy) if free < LOW_BYTES else ok("disk", said)


def exit_of(findings: Iterable[Finding]) -> Exit:
    """0 where nothing failed, warnings too; else the worst finding's code: integrity before all, then the highest."""
    codes = {CATALOGUE[one.reason].exit for one in findings if one.level == "fail"}
    if Exit.INTEGRITY in codes:
        return Exit.INTEGRITY
    return max(codes, default=Exit.OK)


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """For people: one line a check, and below it what to do."""
    for one in findings:
        yield f"{one.level:4}  {one.check:12}  {one.found}"
        if one.remedy:
            yield f"{'':20}→ {one.remedy}"


def document(findings: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    return {"healthy": not exit_of(findings), "findings": [asdict(one) for one in findings]}
