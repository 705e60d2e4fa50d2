"""Which witnesses are enough (C2SP tlog-policy): logs, witnesses, groups of them, and the one that must be satisfied.

log <vkey> [<url>]
witness <name> <vkey> [<url>]
group <name> <k|any|all> <member> …
quorum <name|none>
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from zhifu.checkpoint import SignatureType, VerifierKey, parse_decimal
from zhifu.errors import Malformed
from zhifu.merkle import MAX_SIZE

MAX_POLICY: Final = 1 << 18
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class Member:
    """A witness with its key and, where it takes checkpoints over HTTP, its URL."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Satisfied by ``threshold`` of its members, which are witnesses or groups defined before it."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy. ``quorum`` names a witness or group, or is ``none``."""

    logs: tuple[VerifierKey, ...] = ()
    witnesses: Mapping[str, Member] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = NONE

    def is_satisfied(self, cosigned: Collection[VerifierKey]) -> bool:
        """Whether these verified cosigners are enough."""
        return self.quorum == NONE or self._has(self.quorum, cosigned)

    def reached(self, seen: Mapping[str, int]) -> int:
        """The size of the largest tree that is witnessed enough; ``seen`` is the size that each cosigned, by its key's
        name. `MAX_SIZE` where nobody needs to.
        """
        return MAX_SIZE if self.quorum == NONE else self._reached(self.quorum, seen)

    def _reached(self, name: str, seen: Mapping[str, int]) -> int:
        if name in self.witnesses:
            return seen.get(self.witnesses[name].key.name, 0)
        group = self.groups[name]
        return sorted((self._reached(member, seen) for member in group.members), reverse=True)[group.threshold - 1]

    def _has(self, name: str, cosigned: Collection[VerifierKey]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name].key in cosigned
        group = self.groups[name]
        return sum(self._has(member, cosigned) for member in group.members) >= group.threshold


def parse(text: bytes) -> Policy:
    """A policy file, strictly. Raises `Malformed`, naming the line."""
    if len(text) > MAX_POLICY:
        raise Malformed("malformed.size", "the witness policy is too long")
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Malformed("malformed.encoding", "the witness policy is not UTF-8") from error
    reading = _Reading()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                reading.take(words)
            except Malformed as error:
                raise Malformed(error.reason, f"line {number} of the witness policy: {error.detail}") from error
    return reading.finish()


class _Reading:
    """Names are defined before they are used, once; there is one quorum line, the last that counts."""

    def __init__(self) -> None:
        self._logs: list[VerifierKey] = []
        self._witnesses: dict[str, Member] = {}
        self._groups: dict[str, Group] = {}
        self._quorum = ""

    def take(self, words: list[str]) -> None:
        kind, rest = words[0], words[1:]
        if kind == "log" and len(rest) in (1, 2):
            self._logs.append(VerifierKey.parse(rest[0]))
        elif kind == "witness" and len(rest) in (2, 3):
            self._witness(*rest)
        elif kind == "group" and len(rest) >= 3:
            self._group(rest[0], rest[1], tuple(rest[2:]))
        elif kind == "quorum" and len(rest) == 1 and not self._quorum:
            self._known(rest[0], or_none=True)
            self._quorum = rest[0]
        else:
            raise Malformed("malformed.field", "not a line of a tlog-policy")

    def finish(self) -> Policy:
        if not self._quorum:
            raise Malformed("malformed.field", "the witness policy has no quorum line")
        return Policy(tuple(self._logs), self._witnesses, self._groups, self._quorum)

    def _witness(self, name: str, vkey: str, url: str = "") -> None:
        key = VerifierKey.parse(vkey)
        if key.kind is not SignatureType.COSIGNATURE_V1:
            raise Malformed("malformed.field", "a witness's key is of another type than cosignature/v1")
        if any(key == member.key for member in self._witnesses.values()):
            raise Malformed("malformed.field", "a witness's key stands twice")
        self._fresh(name)
        self._witnesses[name] = Member(key, url)

    def _group(self, name: str, count: str, members: tuple[str, ...]) -> None:
        for member in members:
            self._known(member)
        words = {"any": 1, "all": len(members)}
        threshold = words[count] if count in words else parse_decimal(count.encode())
        if not 1 <= threshold <= len(members) or len(set(members)) != len(members):
            raise Malformed("malformed.field", "a group asks for more members than it has, or names one twice")
        self._fresh(name)
        self._groups[name] = Group(threshold, members)

    def _fresh(self, name: str) -> None:
        if name == NONE or name in self._witnesses or name in self._groups:
            raise Malformed("malformed.field", f"the name {name} is taken")

    def _known(self, name: str, *, or_none: bool = False) -> None:
        if name not in self._witnesses and name not in self._groups and not (or_none and name == NONE):
            raise Malformed("malformed.field", f"nothing is named {name} before this line")
