"""What one commit does: operations of one kind together, and each by itself where one of them fails.

A statement costs the same for one row as for many, so whatever frames wait for a commit are taken as one. They are
applied without a way back, since that would cost each page once more; where one raises, the transaction is forgotten
and all are applied again, each kind behind a mark, and those of a kind that fails each behind its own. So whoever
fails, as anybody can at will, costs others little.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from broker.audit import Sequence
from broker.store.interface import Conflict, Transaction
from zhifu.errors import Error, Refused

G = TypeVar("G")
R = TypeVar("R")
D = TypeVar("D", covariant=True)
_log = logging.getLogger("broker.commit")
_turn = attrgetter("turn")


Joint = Callable[[Seq[G], Transaction, Sequence, int], Seq[R]]
"""What operations of one kind do inside the transaction: a result for each of what they were given, in order.

It may be called again with the same, after everything it wrote was forgotten: it changes nothing but rows. If it
raises, what it wrote is taken back. The last argument is the time in Unix ms.
"""


class Apply(Protocol[D]):
    """What an operation of no further kind does; as `Joint` says."""

    def __call__(self, state: Transaction, sequence: Sequence, now_ms: int) -> D: ...


def each(given: Seq[Apply[Any]], state: Transaction, sequence: Sequence, now_ms: int) -> list[Any]:
    """One after the other: the kind of what has no other."""
    return [apply(state, sequence, now_ms) for apply in given]


@dataclass(eq=False, slots=True)
class Operation:
    """Something that waits for a commit, and what came of it."""

    joint: Joint[Any, Any]
    given: Any
    weight: int
    future: asyncio.Future[Any]
    reports: bool = False
    """It says what has happened, and rests on nothing that others of its commit do."""
    result: object = field(default=None)

    @property
    def turn(self) -> int:
        """When it is applied; two nodes' order means nothing else.

        What has happened comes before what changes it: a delivery that its recipient opened is not withdrawn. Then what
        has no kind, on which the rest may rest: the epoch that a node offers before it submits, say.
        """
        return 0 if self.reports else 1 if self.joint is each else 2

    def fail(self, error: Exception) -> None:
        """Whoever waits gets ``error``."""
        if not self.future.done():
            self.future.set_exception(error)


def fail(operations: Iterable[Operation], error: Exception) -> None:
    for operation in operations:
        operation.fail(error)


def apply_together(batch: Seq[Operation], state: Transaction, sequence: Sequence, now_ms: int) -> None:
    """All of it, a kind at a time. Raises what the first one raises; then the transaction must be forgotten."""
    for operations in _kinds(batch):
        _apply(operations, state, sequence, now_ms)


def apply_again(
    batch: Seq[Operation], state: Transaction, sequence: Sequence, now_ms: int
) -> list[Operation]:  # fmt: skip
    """The same behind marks; those that did not fail.

    A refused one takes back its own rows and entries, and nobody else's.
    """
    return [done for operations in _kinds(batch) for done in _marked(operations, state, sequence, now_ms)]


def _kinds(batch: Seq[Operation]) -> Iterable[list[Operation]]:
    kinds: dict[Joint[Any, Any], list[Operation]] = {}
    for operation in sorted(batch, key=_turn):
        kinds.setdefault(operation.joint, []).append(operation)
    return kinds.values()


def _apply(operations: Seq[Operation], state: Transaction, sequence: Sequence, now_ms: int) -> None:
    results = operations[0].joint([one.given for one in operations], state, sequence, now_ms)
    for operation, result in zip(operations, results, strict=True):
        operation.result = result


def _marked(part: Seq[Operation], state: Transaction, sequence: Sequence, now_ms: int) -> Seq[Operation]:
    """Those of one kind that did not fail: together if they can be, or else each by itself."""
    state.mark()
    entries = sequence.mark()
    try:
        _apply(part, state, sequence, now_ms)
        return part
    except Exception as error:
        state.rewind()
        sequence.rewind(entries)
        if len(part) == 1:
            part[0].fail(_told(error))
            return ()
    return [done for one in part for done in _marked([one], state, sequence, now_ms)]


def _told(error: Exception) -> Error:
    """One operation's mistake is its own: what was not foreseen fails it alone, and its text stays here."""
    if isinstance(error, Error):
        return error
    if isinstance(error, Conflict):
        return Refused("unavailable.store")
    _log.error("operation failed", exc_info=error, extra={"reason": "internal"})
    return Refused("internal")
