"""May it go, and how fine? Both answers of a policy, kept so that the hot path pays for each once (DESIGN 4.3, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from policies import cedar
from policies.bundle import Bundle, Deny, Permit, Release, Request, Rule
from policies.tables import ENCOUNTER
from zhifu.schema import ABSENT, Schema, coarser

__all__ = [
    "Deny", "Permit", "Release", "Request", "Row", "days", "decide", "decide_all", "explain_rows", "finest", "release",
    "released",
]  # fmt: skip

CACHED: Final = 4096
"""Answers kept of either kind; a policy has a few dozen, so only nonsense ever fills this."""

_K = TypeVar("_K")
_V = TypeVar("_V")


def decide(bundle: Bundle, request: Request) -> Permit | Deny:
    """Whether the access policies permit ``request``; nothing does by default. Raises nothing for a denial.

    A denial carries the reason of the first policy that forbids it, or policy.denied.
    """
    found = bundle.decisions.get(request)
    return _remember(bundle.decisions, request, _decide(bundle, request)) if found is None else found


def finest(bundle: Bundle, purpose: str, recipient_role: str, schema: Schema) -> bytes:
    """The finest level of each unit that the policy allows, one byte a unit; what no table names is 0xff, absent."""
    found = bundle.tables.get((purpose, recipient_role, schema.hash))
    return bytes([ABSENT]) * len(schema.units) if found is None else found


def days(bundle: Bundle, purpose: str, recipient_role: str, unit: str) -> int | None:
    """For how many days after its arrival a recipient keeps a unit; None where only the grant bounds it, as it does the
    unit that names the exchange.
    """
    found = bundle.retention.get((purpose, recipient_role))
    return None if found is None or unit == ENCOUNTER else found.days(unit)


def released(bundle: Bundle, purpose: str, recipient_role: str, schema: Schema, ceilings: bytes) -> bytes:
    """The levels that go: unit by unit the coarser of ``ceilings`` and `finest` (DESIGN 4.3).

    Raises `Malformed` (malformed.field) where ``ceilings`` are not levels of ``schema``.
    """
    key = (purpose, recipient_role, schema.hash, ceilings)
    found = bundle.releases.get(key)
    if found is None:
        schema.check_levels(ceilings)
        found = _remember(bundle.releases, key, coarser(ceilings, finest(bundle, purpose, recipient_role, schema)))
    return found


def release(bundle: Bundle, request: Request, schema: Schema, ceilings: bytes) -> Release | Deny:
    """`decide` and `released` in one: also denied (policy.nothing_released) where nothing but the encounter would go.

    ``schema`` is the one that ``request`` names. Raises `Malformed` as `released` does.
    """
    answer = decide(bundle, request)
    if isinstance(answer, Deny):
        return answer
    levels = released(bundle, request.purpose, request.recipient_role, schema, ceilings)
    if _is_nothing(schema, levels):
        return Deny("policy.nothing_released")
    return Release(answer, levels)


@dataclass(frozen=True, slots=True)
class Row:
    """One unit as the policy treats it: its name and title, and the finest level's rank (0xff absent) and name."""

    unit: str
    title: str
    rank: int
    level: str


def explain_rows(
    bundle: Bundle, purpose: str, recipient_role: str, schema: Schema, language: str = "en"
) -> tuple[Row, ...]:
    """The policy's finest level of every unit, in schema order, for people; ``language`` is "zh" or "en"."""
    return tuple(
        Row(unit.name, unit.title(language), rank, "absent" if rank == ABSENT else unit.levels[rank].name)
        for unit, rank in zip(schema.units, finest(bundle, purpose, recipient_role, schema), strict=True)
    )


def decide_all(bundle: Bundle, requests: Sequence[Request]) -> list[Permit | Deny]:
    """What `decide` says of each, for many that stand in the protocol's own words; what it keeps, it keeps apart."""
    return [_answer(bundle, *found) for found in cedar.evaluate_all(bundle.access, tuple(requests))]


def _decide(bundle: Bundle, request: Request) -> Permit | Deny:
    return _answer(bundle, *cedar.evaluate(bundle.access, request))


def _answer(bundle: Bundle, permitted: bool, rules: tuple[Rule, ...]) -> Permit | Deny:
    ids = tuple(rule.id for rule in rules)
    if permitted:
        return Permit(ids, bundle.hash)
    return Deny(rules[0].reason if rules else "policy.denied", ids)


def _is_nothing(schema: Schema, levels: bytes) -> bool:
    going = len(levels) - levels.count(ABSENT)
    return going == 0 or (going == 1 and levels[schema.unit(ENCOUNTER).index] != ABSENT)


def _remember(answers: dict[_K, _V], key: _K, value: _V) -> _V:
    if len(answers) >= CACHED:
        answers.clear()
    answers[key] = value
    return value
