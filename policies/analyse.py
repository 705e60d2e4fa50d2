"""Questions about a whole policy, asked before it goes live: what does it permit, what is dead, who would see more?

Every exchange that could come about is put to it; there are some thousands, so this is for people at a desk, never for
the hot path.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from policies.bundle import BASES, ROLES, Bundle, Deny, Permit, Request
from policies.decide import decide, decide_all, finest, release
from policies.load import read
from zhifu import schema
from zhifu.errors import Refused
from zhifu.presentation import PURPOSES
from zhifu.schema import ABSENT, Schema

ANSWER: Final = "answer"
_OWN: Final = "patient"
"""What is hers she keeps as long as she likes."""
_Matter = tuple[str, str, str]
"""(purpose, schema name) of what an answer answers, and the role of one who took part in it."""
Place = tuple[str, str, str]
"""(purpose, recipient role, schema name)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """``dead`` are rules that no request ever meets; ``unnamed`` units that no table speaks of, where it should.

    ``silent`` are permitted exchanges that would release nothing, ``unreachable`` tables that no rule leads to,
    ``unbounded`` the (purpose, role) of those who may see something and to whom nothing says for how long.
    """

    permitted: tuple[Request, ...]
    dead: tuple[str, ...]
    unnamed: tuple[tuple[Place, str], ...]
    silent: tuple[Place, ...]
    unreachable: tuple[Place, ...]
    unbounded: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One unit of which a recipient would see more, or less, under the newer policy; levels by name."""

    place: Place
    unit: str
    before: str
    after: str
    more: bool


def answers(bundle: Bundle) -> Iterator[tuple[Request, Permit | Deny]]:
    """Every exchange between active, distinct parties, each also once suspended and once to oneself, and what the
    policy says of it.

    Of the answers, those to what the policy permits, by one who took part in it: nothing else could come about
    (`zhifu.presentation.check_answers`).
    """
    asked: dict[_Matter, None] = {}
    yield from _ask(bundle, list(_first(answer=False)), asked)
    done = 0
    while done < len(asked):
        matters = list(asked)[done:]
        done += len(matters)
        yield from _ask(bundle, [one for matter in matters for one in _answering(matter)], asked)


def _answering(matter: _Matter) -> Iterator[Request]:
    purpose, name, role = matter
    for one in _first(answer=True, senders=(role,)):
        yield replace(one, asked_purpose=purpose, asked_schema=name)


def _first(*, answer: bool, senders: Sequence[str] = ROLES) -> Iterator[Request]:
    """What stands by itself, in its variants; or answers, each to nothing yet."""
    bases = [one for one in BASES if (one == ANSWER) == answer]
    for sender, recipient, purpose, basis, name in itertools.product(senders, ROLES, PURPOSES, bases, schema.names()):
        one = _request(sender, recipient, purpose=purpose, basis=basis, schema=name)
        yield one
        if not answer:
            yield replace(one, sender_status="suspended")
            yield replace(one, same_participant=True)


def _ask(
    bundle: Bundle, requests: Sequence[Request], asked: dict[_Matter, None]
) -> Iterator[tuple[Request, Permit | Deny]]:
    for one, found in zip(requests, decide_all(bundle, requests), strict=True):
        if isinstance(found, Permit):
            asked |= dict.fromkeys((one.purpose, one.schema, role) for role in (one.sender_role, one.recipient_role))
        yield one, found


def _request(sender: str, recipient: str, **more: Any) -> Request:
    standing = {"sender_status": "active", "recipient_status": "active", "same_participant": False}
    standing |= {"asked_purpose": None, "asked_schema": None}
    return Request(sender_role=sender, recipient_role=recipient, **{**standing, **more})


def permitted(bundle: Bundle) -> tuple[Request, ...]:
    """Every exchange that the policy permits."""
    return tuple(one for one, answer in answers(bundle) if isinstance(answer, Permit))


def check(bundle: Bundle, directory: Path | None) -> Findings:
    """Ask a loaded policy everything; ``directory`` is where it was read from, None for the packaged one."""
    met: set[str] = set()
    found: list[Request] = []
    for request, answer in answers(bundle):
        met.update(answer.policy_ids)
        if isinstance(answer, Permit):
            found.append(request)
    reached = {(one.purpose, one.recipient_role, one.schema) for one in found}
    tables = {(purpose, role, schema.by_hash(digest).name) for purpose, role, digest in bundle.tables}
    silent = {place for place in reached if not _speaks(bundle, place)}
    kept = {(purpose, role) for purpose, role, _ in tables if role != _OWN}
    return Findings(
        tuple(found),
        tuple(rule for rule in bundle.access.rules if rule not in met),
        tuple(sorted(_unnamed(directory, reached & tables))),
        tuple(sorted(silent)),
        tuple(sorted(tables - reached)),
        tuple(sorted(kept - bundle.retention.keys())),
    )


def _speaks(bundle: Bundle, place: Place) -> bool:
    purpose, role, name = place
    return any(level != ABSENT for level in finest(bundle, purpose, role, schema.load(name)))


def _unnamed(directory: Path | None, places: set[Place]) -> Iterator[tuple[Place, str]]:
    """Units that a table leaves to the default: absent all the same, but perhaps forgotten."""
    files = {path: source for path, source in read(directory).items() if path.startswith("disclosure/")}
    for source in files.values():
        document = tomllib.loads(source.decode())
        for purpose, role, name in places:
            if document["purpose"] == purpose and name in document.get(role, {}):
                named = document[role][name]
                for unit in schema.load(name).units:
                    if unit.name not in named:
                        yield (purpose, role, name), unit.name


def difference(before: Bundle, after: Bundle) -> list[Change]:
    """Unit by unit what changed for recipients between two policies, what is now finer first."""
    places = {(p, r, schema.by_hash(digest).name) for one in (before, after) for p, r, digest in one.tables}
    found = [change for place in sorted(places) for change in _changes(before, after, place)]
    return sorted(found, key=lambda change: not change.more)


def _changes(before: Bundle, after: Bundle, place: Place) -> Iterator[Change]:
    purpose, role, name = place
    kind = schema.load(name)
    levels = zip(kind.units, finest(before, purpose, role, kind), finest(after, purpose, role, kind), strict=True)
    for unit, old, new in levels:
        if old != new:
            yield Change(
                place, unit.name, level_name(kind, unit.index, old), level_name(kind, unit.index, new), new < old
            )


def opened(before: Bundle, after: Sequence[Request]) -> list[Request]:
    """What the newer policy permits, ``after``, and the older one did not."""
    return [one for one in after if not isinstance(decide(before, one), Permit)]


def level_name(kind: Schema, unit: int, rank: int) -> str:
    """A level's name in policies; "absent" for `ABSENT`."""
    return "absent" if rank == ABSENT else kind.units[unit].levels[rank].name


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case of a test file: what was expected of it, and what the policy answers, in words."""

    name: str
    expected: str
    found: str

    @property
    def passed(self) -> bool:
        return self.expected == self.found


def run_cases(bundle: Bundle, source: bytes) -> list[Outcome]:
    """Put the cases of a TOML file to a policy (`[[case]]`, see tests/data/policy_cases.toml).

    Raises `Refused` (policy.invalid) for a case that cannot be read.
    """
    try:
        cases = tomllib.loads(source.decode())["case"]
        return [outcome for case in cases for outcome in _run(bundle, case)]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("policy.invalid", f"a case cannot be read: {error}") from error


def _run(bundle: Bundle, case: Mapping[str, Any]) -> Iterator[Outcome]:
    words = ("purpose", "basis", "schema", "asked_purpose", "asked_schema", "sender_status", "recipient_status")
    request = _request(case["sender"], case["recipient"], **{word: case[word] for word in words if word in case})
    kind = schema.load(case["schema"])
    answer = release(bundle, request, kind, kind.finest)
    name = case["name"]
    if not hasattr(answer, "levels"):
        yield Outcome(name, case["expect"], f"deny {answer.reason}")
        return
    yield Outcome(name, case["expect"], "permit")
    for unit, level in case.get("levels", {}).items():
        at = kind.unit(unit).index
        yield Outcome(f"{name}: {unit}", level, level_name(kind, at, answer.levels[at]))
