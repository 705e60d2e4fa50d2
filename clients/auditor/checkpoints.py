"""The signed heads: each by the pinned log key, over the tree that the entries give, in rising order (DESIGN
section 7).

One commit makes one checkpoint, and all its entries have its time; so a checkpoint that was taken away shows. What
recipients signed about checkpoints, and the head that the auditor saw before, are compared on the way.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from clients.auditor.entries import CheckpointLine
from clients.auditor.faults import Fault, corrupt, first
from clients.auditor.tree import Leaves, first_difference
from zhifu import checkpoint
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.errors import Error, NotAuthentic
from zhifu.merkle import Frontier


@dataclass(eq=False, slots=True)
class Claim:
    """Recipients say that they were shown this root; ``lowest`` is the earliest entry that it accepted for them.

    ``said_at`` is the entry of the first acknowledgement that says so.
    """

    root: bytes
    lowest: int
    said_at: int


class Claims:
    """What acknowledgements say about accepting checkpoints, by tree size, until those are read."""

    def __init__(self) -> None:
        self._by_size: defaultdict[int, list[Claim]] = defaultdict(list)

    def add(self, size: int, root: bytes, accepted: int, said_at: int) -> None:
        """The acknowledgement in entry ``said_at``: entry ``accepted`` was accepted by this checkpoint."""
        for claim in self._by_size[size]:
            if claim.root == root:
                claim.lowest = min(claim.lowest, accepted)
                return
        self._by_size[size].append(Claim(root, accepted, said_at))

    def settle(self, before: int, size: int, root: bytes) -> list[Fault]:
        """Compare with the checkpoint of ``size``, the one before which has size ``before``."""
        claims = self._by_size.pop(size, [])
        return [_fork(claim) for claim in claims if claim.root != root or claim.lowest < before]

    def left(self) -> list[Fault]:
        """Claims about checkpoints that the log does not have."""
        return [_fork(claim) for claims in self._by_size.values() for claim in claims]


class Checkpoints:
    """Reads the checkpoints in order and grows the tree from one to the next."""

    def __init__(self, leaves: Leaves, log_key: VerifierKey, seen: Frontier, claims: Claims) -> None:
        self._leaves = leaves
        self._log_key = log_key
        self._seen = seen
        self._claims = claims
        self._forks: list[Fault] = []
        self.count = 0
        self.frontier = Frontier()

    def take(self, line: CheckpointLine) -> None:
        """The next checkpoint. Raises `Fault`; forks are kept for `finish`."""
        before = self.frontier.size
        last = min(line.size, len(self._leaves)) - 1
        if not before < line.size <= len(self._leaves):
            raise corrupt(max(last, 0), f"the checkpoint of size {line.size} has no place in the log")
        signed = self._signed(line, last)
        self._grow(line.size)
        if signed.root != self.frontier.root():
            raise corrupt(last, f"the checkpoint of size {line.size} signs another root than the entries give")
        if not self._leaves.have_time(before, line.size, line.time_ms):
            raise corrupt(last, f"a checkpoint up to size {line.size} is missing, or has another time than its entries")
        self._forks += self._claims.settle(before, line.size, signed.root)
        self.count += 1

    def finish(self) -> None:
        """All were read: they end at the last entry, no party was shown another, nothing seen is gone. Raises
        `Fault`.
        """
        if self.frontier.size < len(self._leaves):
            raise corrupt(self.frontier.size, "no checkpoint signs the entries from here on")
        if len(self._leaves) < self._seen.size:
            detail = f"the log ends here; {self._seen.size} entries were seen before"
            raise Fault(len(self._leaves), NotAuthentic("log.inconsistent", detail))
        found = first(self._forks + self._claims.left())
        if found is not None:
            raise found

    def _signed(self, line: CheckpointLine, last: int) -> Checkpoint:
        try:
            signed = checkpoint.verify(line.note, self._log_key)
        except Error as error:
            raise Fault(last, error) from error
        if (signed.size, signed.root) != (line.size, line.root):
            raise corrupt(last, f"the checkpoint stored at size {line.size} is not the one that was signed")
        return signed

    def _grow(self, size: int) -> None:
        """The tree of ``size`` entries; the head seen before is looked at in passing. Raises `Fault`."""
        if self.frontier.size < self._seen.size <= size:
            self._extend(self._seen.size)
            differs = first_difference(self._seen.size, self.frontier.nodes, self._seen.nodes)
            if differs is not None:
                begin, end = differs
                detail = f"of the entries {begin} to {end - 1}, one is not as it was seen before"
                raise Fault(begin, NotAuthentic("log.inconsistent", detail))
        self._extend(size)

    def _extend(self, size: int) -> None:
        self.frontier = self.frontier.extend(self._leaves.between(self.frontier.size, size))


def _fork(claim: Claim) -> Fault:
    detail = f"a recipient acknowledged entry {claim.lowest} under a checkpoint that is not in this log"
    return Fault(claim.said_at, NotAuthentic("log.fork", detail))
