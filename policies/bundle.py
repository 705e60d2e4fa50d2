"""The words of a policy: what is loaded, what it is asked, and what it answers (DESIGN section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import cedarpy

from zhifu.presentation import BASIS_NAMES

ROLES: Final = ("hospital", "public-payer", "insurer", "patient", "auditor", "registrar")
STATUSES: Final = ("active", "suspended")
BASES: Final = tuple(BASIS_NAMES.values())

Files = Mapping[str, bytes]
"""A policy's files by their path below its directory ("access/never.cedar"), ascending by path."""

Tables = Mapping[tuple[str, str, bytes], bytes]
"""(purpose, recipient role, schema hash) -> finest level of each unit; what is not there is absent throughout."""


@dataclass(frozen=True, slots=True)
class Period:
    """For how many days after its arrival a unit is kept: ``default``, or what ``units`` say by name."""

    default: int
    units: Mapping[str, int]

    def days(self, unit: str) -> int:
        return self.units.get(unit, self.default)


Retention = Mapping[tuple[str, str], Period]
"""(purpose, recipient role) -> what it keeps for how long; what is not there only the grant bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """May this sender hand one record to this recipient? Every field but the last two must be said.

    Roles are of `ROLES`, statuses of `STATUSES` (a patient is "active"; her key's state is consent's), ``basis`` of
    `BASES`, ``schema`` a schema's name. For an answer, ``asked_purpose`` and ``asked_schema`` are those of the stored
    exchange that it answers. A word that no policy knows is denied.
    """

    sender_role: str
    sender_status: str
    recipient_role: str
    recipient_status: str
    same_participant: bool
    purpose: str
    basis: str
    schema: str
    asked_purpose: str | None = None
    asked_schema: str | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Yes: by these access policies (their ids), of the policy with this hash."""

    policy_ids: tuple[str, ...]
    policy_hash: bytes


@dataclass(frozen=True, slots=True)
class Deny:
    """No: ``reason`` is of the catalogue; ``policy_ids`` forbid it, and are empty where nothing permits it."""

    reason: str
    policy_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Yes, and the level of each unit that goes (one byte a unit, 0xff absent)."""

    permit: Permit
    levels: bytes


@dataclass(frozen=True, slots=True)
class Rule:
    """One access policy as an answer names it: its id, what it does, its reason if it forbids, and a sentence."""

    id: str
    effect: Literal["permit", "forbid"]
    reason: str
    titles: Mapping[str, str]

    def title(self, language: str) -> str:
        return self.titles.get(language, self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """The access policies, parsed once; ``rules`` by id, in the order of files and lines."""

    rules: Mapping[str, Rule]
    policies: cedarpy.PolicySet
    entities: cedarpy.Entities
    schema: cedarpy.Schema


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A loaded policy: its hash, its three parts, and what it answered before (`policies.decide` bounds both)."""

    hash: bytes
    access: Access
    tables: Tables
    retention: Retention
    decisions: dict[Request, Permit | Deny] = field(default_factory=dict, repr=False)
    releases: dict[tuple[str, str, bytes, bytes], bytes] = field(default_factory=dict, repr=False)
