"""The whole log, checked offline in one pass over its export (DESIGN section 7).

1. Every line is read strictly, in order, none missing. 2. Every entry could have been written there by an honest broker
(`clients.auditor.history`). 3. Every stored node is the one that the entries give. 4. Every checkpoint is signed by the
pinned key over that tree; the last one is the head; what was seen before is still there.

An entry that is wrong does not end the pass: a lower one may prove wrong in a later part. The verdict names the lowest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from clients.auditor.checkpoints import Checkpoints
from clients.auditor.entries import CheckpointLine, EntryLine, HeadLine, Line, NodeLine, UnreadableLine, parse
from clients.auditor.faults import Fault, corrupt, first
from clients.auditor.history import History
from clients.auditor.pins import Pins
from clients.auditor.policy import Policies
from clients.auditor.report import FirstBad, Report
from clients.auditor.tree import Leaves, StoredNodes
from policies.bundle import Bundle
from zhifu.errors import Error
from zhifu.merkle import Frontier

Tell = Callable[[int, int], None]
"""Called now and then with (lines read, lines to expect)."""
_TELL_EVERY: Final = 256
_LINES_AN_ENTRY: Final = 4
"""At most: itself, two nodes, a checkpoint."""
_ORDER: Final = ("head", "entry", "node", "checkpoint")


class _Enough(Exception):
    """The faults that were found are all that can be found."""


class Verification:
    """One pass. `run` once; then `report`, and `head`, which is to be remembered if the report says verified."""

    def __init__(self, pins: Pins, seen: Frontier, bundles: Collection[Bundle] = ()) -> None:
        self._pins = pins
        self._leaves = Leaves()
        self._nodes = StoredNodes(self._leaves)
        self._history = History(pins, Policies(pins.policies, bundles), self._leaves)
        self._checkpoints = Checkpoints(self._leaves, pins.log_key, seen, self._history.claims)
        self._head: HeadLine | None = None
        self._part = 0
        self._torn = False
        self._faults: list[Fault] = []
        self._is_sound = True

    @property
    def head(self) -> Frontier:
        """The tree as far as checkpoints signed it."""
        return self._checkpoints.frontier

    def run(self, lines: Iterable[bytes], tell: Tell = lambda done, total: None) -> Report:
        """Read the export to its end, or to where no more can be learnt; an `Error` from ``lines`` is a fault too."""
        try:
            for done, line in enumerate(lines):
                self._read(line)
                if done % _TELL_EVERY == 0 and self._head is not None:
                    tell(done, _LINES_AN_ENTRY * self._head.size)
            self._finish()
        except _Enough:
            pass
        except Fault as fault:
            self._faults.append(fault)
        except Error as error:
            self._faults.append(Fault(self._place(), error))
        return self._report()

    def _read(self, line: bytes) -> None:
        try:
            found = parse(line)
        except Error as error:
            if self._head is None or self._part > 1:
                raise
            self._tear(Fault(self._place(), error))
            return
        self._take(found)

    def _place(self) -> int | None:
        """The first entry that is not yet checked in the part that is being read; None behind a tear."""
        if self._torn:
            return None
        if self._part <= 1:
            return len(self._leaves)
        return self._nodes.place if self._part == 2 else self._checkpoints.frontier.size

    def _take(self, line: Line) -> None:
        if isinstance(line, EntryLine):
            self._enter(1)
            self._take_entry(line)
        elif isinstance(line, NodeLine):
            self._enter(2)
            self._take_node(line)
        elif isinstance(line, CheckpointLine):
            self._enter(3)
            self._checkpoints.take(line)
        elif isinstance(line, HeadLine):
            self._take_head(line)
        else:
            self._take_unreadable(line)

    def _enter(self, part: int) -> None:
        """Lines of one kind stand together, the kinds in their order."""
        if self._head is None or part < self._part:
            raise corrupt(self._place(), f"a line of kind {_ORDER[part]} where none belongs")
        if self._part < 2 <= part:
            self._end_entries()
        if self._part < 3 <= part:
            self._end_nodes()
        self._part = part

    def _take_head(self, line: HeadLine) -> None:
        if self._head is not None:
            raise corrupt(self._place(), "two heads")
        self._head = line

    def _take_entry(self, line: EntryLine) -> None:
        if self._torn:
            return
        expected = len(self._leaves)
        if line.index != expected:
            self._tear(corrupt(expected, "the entry is missing"))
            return
        self._leaves.append(line.leaf_hash, line.time_ms)
        if self._is_sound:
            try:
                self._history.check(line)
            except Error as error:
                self._unsound(error, expected)

    def _take_node(self, line: NodeLine) -> None:
        take = self._nodes.take_leaf if self._torn else self._nodes.take
        take(line.level, line.index, line.hash)
        if self._torn and line.level:
            raise _Enough

    def _take_unreadable(self, line: UnreadableLine) -> None:
        fault = corrupt(self._place(), f"unreadable: the export cannot read on in the table {line.table}")
        if self._part > 1 or line.table != "entry":
            raise fault
        self._tear(fault)

    def _end_entries(self) -> None:
        """As many as the head says, and nothing left half done."""
        size, found = self._head.size if self._head else 0, len(self._leaves)
        if found < size and not self._torn:
            self._tear(corrupt(found, f"the entry is missing, and the head says {size}"))
        elif found > size:
            self._tear(corrupt(size, f"the entry lies beyond the head, which says {size}"))
        if self._is_sound and not self._torn:
            try:
                self._history.finish()
            except Error as error:
                self._unsound(error, max(found - 1, 0))

    def _end_nodes(self) -> None:
        if self._torn:
            raise _Enough
        self._nodes.finish()

    def _finish(self) -> None:
        self._enter(3)
        self._checkpoints.finish()
        head, frontier = self._head, self._checkpoints.frontier
        if head is None or (head.size, head.root) != (frontier.size, frontier.root()):
            raise corrupt(max(frontier.size - 1, 0), "the head is not the last checkpoint")

    def _tear(self, fault: Fault) -> None:
        """The entries end here as far as they can be believed; the earlier ones are still compared with the tree."""
        if not self._torn:
            self._faults.append(fault)
        self._torn = True

    def _unsound(self, error: Error, index: int) -> None:
        """What follows builds on this entry, so its meaning is not asked any more; the tree still is."""
        self._faults.append(Fault(index, error))
        self._is_sound = False

    def _report(self) -> Report:
        fault, head = first(self._faults), self._head or HeadLine(0, b"")
        return Report(
            origin=self._pins.origin,
            size=head.size,
            root=head.root.hex(),
            verified=fault is None,
            entries=dict(self._history.counts),
            participants=len(self._history.participants),
            checkpoints=self._checkpoints.count,
            violations=tuple(self._history.violations),
            first_bad=FirstBad.of(fault) if fault else None,
        )
