"""Witnesses: the newest checkpoint is shown to every node that cosigns, and what they cosigned is kept (DESIGN section
7).

At start nothing is signed before the witnesses said how much of the log they have seen. An absent witness delays
finality and raises an alarm; it blocks nothing, unless the operator set a longest time without witnesses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from broker.audit import Commit, Log
from broker.commit import Committer
from broker.directory import Directory, Member
from broker.store import tables
from broker.store.interface import Transaction
from zhifu import checkpoint, witness
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.merkle import Frontier, frontier_nodes
from zhifu.receipt import Head
from zhifu.tlogpolicy import Policy

ALARM_S: Final = 600
"""A log that no majority has witnessed for so long is an alarm."""
_LATELY_S: Final = 60
_SPREAD_S: Final = 0.01
"""For each attached witness: a thousand of them are asked every ten seconds, not every one."""
NOBODY_ELSE: Final = Policy()
_log = logging.getLogger("broker.witnesses")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited, in seconds: between two checkpoints, and at start for a majority to be heard.

    ``max_unwitnessed_s``: above this age nothing is accepted any more; None for never. ``is_shared``: other brokers
    may sign on the same database.
    """

    cosign_s: float = 1.0
    hear_s: float = 60.0
    max_unwitnessed_s: float | None = None
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What one witness cosigned last: tree size, and when it did (Unix ms)."""

    size: int = 0
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint that is being cosigned, with the lines so far; ``version`` rises whenever it is to be sent again."""

    commit: Commit
    version: int = 0
    lines: dict[str, bytes] = field(default_factory=dict)

    @property
    def note(self) -> bytes:
        return checkpoint.with_cosignatures(self.commit.note, self.lines.values())


class Witnesses:
    """Who cosigned what. ``clock_ms`` gives Unix ms; ``wake`` tells every stream that there is something to send.

    ``policy`` says who else must have cosigned, beside a majority of the participants.
    """

    def __init__(
        self,
        log: Log,
        committer: Committer,
        directory: Directory,
        clock_ms: Callable[[], int],
        pace: Pace,
        policy: Policy = NOBODY_ELSE,
    ) -> None:
        self._log = log
        self._committer = committer
        self._directory = directory
        self._clock_ms = clock_ms
        self.pace = pace
        self._policy = policy
        self.wake: Callable[[], None] = lambda: None
        self.attached: Callable[[], int] = lambda: 0
        self.shown = Shown(log.no_commit)
        self.seen = {row.witness: Seen(row.size, row.time_ms) for row in log.reader.scan(tables.Witness)}
        self._heard: set[bytes] = set()
        self._answered = asyncio.Event()
        self._alarmed = False

    @property
    def _members(self) -> list[Member]:
        return self._directory.witnesses

    # At start

    def hello(self, participant: bytes, note: bytes) -> None:
        """A witness came and showed the note of the largest head it has seen; empty if it has seen none.

        One that we signed ourselves, and that our log does not contain, ends all signing.
        """
        if note:
            try:
                self._compare(checkpoint.verify(note, self._log.vkey))
            except Error as error:
                if error.reason == "log.inconsistent":
                    self.stop(witness.name_of(participant))
                return
        self._heard.add(participant)
        members = [one.id for one in self._members]
        if len(self._heard.intersection(members)) >= witness.majority(len(members)):
            self._answered.set()

    def _compare(self, signed: Checkpoint) -> None:
        """Raises `NotAuthentic` (log.inconsistent) where the log does not have what its key signed."""
        if not self.reaches(signed.size):
            raise NotAuthentic("log.inconsistent", "the log is smaller than what was signed")
        nodes = tuple(self._log.fetch(frontier_nodes(signed.size)))
        if Frontier(signed.size, nodes).root() != signed.root:
            raise NotAuthentic("log.inconsistent", "the log has another root than what was signed")

    def reaches(self, size: int) -> bool:
        """Whether the log kept here is as large; read anew, since another broker on the database may have signed."""
        head = self._log.reader.get(tables.Head, 1)
        return size <= (head.size if head else 0)

    def stop(self, name: str) -> None:
        """The witness of this name has seen what is not in the log: nothing is accepted any more."""
        self._committer.refuse(Refused("unavailable.log"))
        _log.critical("alarm", extra={"reason": "unavailable.log", "node": name})

    async def permission(self) -> None:
        """Returns when signing may begin: a majority was heard; or, with an alarm, `Pace.hear_s` are over.

        Nothing but the majority will do for a database that was restored.
        """
        if not self._members or self._others_sign():
            return
        while not self._answered.is_set():
            try:
                await asyncio.wait_for(self._answered.wait(), self.pace.hear_s)
            except TimeoutError:
                _log.critical("alarm", extra={"reason": "unavailable.witnesses", "count": len(self._heard)})
                if not self._is_restored:
                    return

    @property
    def _is_restored(self) -> bool:
        return self._log.reader.get(tables.Restored, 1) is not None

    def _others_sign(self) -> bool:
        """Another broker signed on this database a moment ago: it has asked, and this one goes on behind its head."""
        if not self.pace.is_shared or self._is_restored or not self._log.size:
            return False
        row = self._log.reader.get(tables.Checkpoint, self._log.size)
        return row is not None and self._clock_ms() - row.time_ms < 1000 * _LATELY_S

    # While running

    async def run(self) -> None:
        """Ask for permission, let the committer begin, then show the newest checkpoint again and again."""
        await self.permission()
        self._committer.start()
        if self._is_restored:
            with suppress(Refused):
                await self._committer.run(
                    lambda state, _sequence, _now_ms: state.delete(tables.Restored, id=1), essential=True
                )
        while True:
            await asyncio.sleep(max(self.pace.cosign_s, _SPREAD_S * self.attached()))
            try:
                self.show()
            except Error as error:
                _log.error("checkpoint not shown", extra={"reason": error.reason})

    def show(self) -> None:
        """The newest checkpoint becomes the one to be cosigned; streams are woken where there is something new.

        Several brokers on one database show the same one: what another has begun to collect for goes first.
        """
        kept = list(self._log.reader.scan(tables.Cosignature))
        begun = max((row.size for row in kept), default=0)
        newest = self._log.size if begun <= self.shown.commit.size else begun
        lines = {row.witness: row.line for row in kept if row.size == max(newest, self.shown.commit.size)}
        if newest > self.shown.commit.size:
            self.shown = Shown(self._log.commit_at(newest), self.shown.version + 1, lines)
            self.wake()
        elif lines.keys() > self.shown.lines.keys():
            self.shown = Shown(self.shown.commit, self.shown.version + 1, lines)
            self.wake()
        self.seen = {row.witness: Seen(row.size, row.time_ms) for row in self._log.reader.scan(tables.Witness)}
        self._watch()

    def _watch(self) -> None:
        is_late = self.unwitnessed_s > ALARM_S
        if is_late and not self._alarmed:
            _log.critical("alarm", extra={"reason": "unavailable.witnesses", "count": len(self.seen)})
        self._alarmed = is_late

    async def take(self, participant: bytes, size: int, line: bytes) -> None:
        """A participant's cosignature of the checkpoint of ``size``, kept durably and told to the others.

        Raises `NotAuthentic` (signature.invalid, log.corrupt), `Malformed`, `Refused` (unavailable.*).
        """
        key = witness.key_of(self._directory.member(participant).statement)
        await self.keep(key, size, line)

    async def keep(self, key: VerifierKey, size: int, line: bytes) -> None:
        """The same for any witness by its key."""
        commit = self._log.commit_at(size)
        checkpoint.verify_cosignature(Checkpoint(self._log.origin, size, commit.root), line, key)
        await self._committer.run(
            lambda state, _sequence, now_ms: _store(state, key.name, size, line, now_ms), essential=True
        )
        if size >= self.seen.get(key.name, Seen()).size:
            self.seen[key.name] = Seen(size, self._clock_ms())
        if size == self.shown.commit.size:
            self._merge(key.name, line)

    def _merge(self, name: str, line: bytes) -> None:
        lines = self.shown.lines | {name: line}
        # Told when there is a majority and when it is complete: not by everybody about everybody.
        told = len(lines) in (witness.majority(len(self._members)), self.attached(), len(self._members))
        self.shown = Shown(self.shown.commit, self.shown.version + told, lines)
        if told:
            self.wake()

    # What is known

    @property
    def witnessed(self) -> int:
        """The size of the tree that a majority of the participants has cosigned, and whom the policy names."""
        by_policy = self._policy.reached({name: seen.size for name, seen in self.seen.items()})
        return min(by_policy, witnessed_by_majority([self._seen_by(one) for one in self._members]))

    def _seen_by(self, member: Member) -> int:
        return self.seen.get(witness.name_of(member.id), Seen()).size

    @property
    def unwitnessed_s(self) -> float:
        """How long the oldest checkpoint waits that no majority has cosigned, in seconds; 0 if none does."""
        waiting = self._log.reader.find(tables.Checkpoint, after=self.witnessed, limit=1) if self._members else []
        return max(0.0, (self._clock_ms() - waiting[0].time_ms) / 1000) if waiting else 0.0

    def check_age(self) -> None:
        """Raises `Refused` (unavailable.witnesses) where the operator's limit is passed."""
        limit = self.pace.max_unwitnessed_s
        if limit is not None and self.unwitnessed_s > limit:
            raise Refused("unavailable.witnesses")

    def consistency(self, known: Head) -> tuple[bytes, ...]:
        """From the receiver's head to the checkpoint that is shown."""
        return self._log.consistency(known, self.shown.commit)


def witnessed_by_majority(sizes: Sequence[int]) -> int:
    """The size that more than half have cosigned; ``sizes`` has one for each participant."""
    return sorted(sizes, reverse=True)[witness.majority(len(sizes)) - 1] if sizes else 0


def _store(state: Transaction, name: str, size: int, line: bytes, now_ms: int) -> None:
    """Of each witness its last word and nothing else: whoever stays away must not make the others' words pile up."""
    found = state.get(tables.Witness, name)
    if found is None:
        state.insert(tables.Witness, [(name, size, now_ms)])
    elif size >= found.size:
        state.update(tables.Witness, {"size": size, "time_ms": now_ms}, witness=name)
    else:
        return
    state.delete_through(tables.Cosignature, size, witness=name)
    state.insert(tables.Cosignature, [(size, name, line, now_ms)])
