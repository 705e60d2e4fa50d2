"""Who is next: what waits for a commit, one lane for each participant, in turns (DESIGN section 6).

Of each lane the oldest goes first, so that a node's own order stays; nobody waits behind all that another handed in.
What is not part of a settlement waits until the lanes are empty, but for one of it in each batch.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Final, Generic, Protocol, TypeVar

OWN: Final = b""
"""The lane of the broker's own work, and of wallets."""


class Weighed(Protocol):
    """``weight`` is the number of exchanges in it."""

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=Weighed)


class Lanes(Generic[W]):
    """A queue that is fair between its lanes; ``weight`` is of everything in it."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[bytes, deque[W]] = OrderedDict()
        self._bulk: deque[tuple[bytes, W]] = deque()
        self._of: Counter[bytes] = Counter()
        self.weight = 0

    def __bool__(self) -> bool:
        return bool(self._lanes or self._bulk)

    def put(self, one: W, lane: bytes = OWN, *, bulk: bool = False) -> None:
        """Append to a participant's lane, or to what can wait."""
        if bulk:
            self._bulk.append((lane, one))
        else:
            self._lanes.setdefault(lane, deque()).append(one)
        self._of[lane] += one.weight
        self.weight += one.weight

    def weight_of(self, lane: bytes) -> int:
        """Of everything that one participant handed in."""
        return self._of[lane]

    def take(self, most: int) -> list[W]:
        """The next batch: until its weight reaches ``most``, or nothing is left."""
        batch: list[W] = []
        weight = 0
        if self._bulk:
            batch.append(self._taken(*self._bulk.popleft()))
            weight = batch[0].weight
        while self._lanes and weight < most:
            lane, queue = next(iter(self._lanes.items()))
            one = queue.popleft()
            # To the end of the turn, or out of it.
            self._lanes.move_to_end(lane)
            if not queue:
                del self._lanes[lane]
            batch.append(self._taken(lane, one))
            weight += one.weight
        while self._bulk and weight < most:
            batch.append(self._taken(*self._bulk.popleft()))
            weight += batch[-1].weight
        return batch

    def _taken(self, lane: bytes, one: W) -> W:
        self.weight -= one.weight
        self._of[lane] -= one.weight
        if not self._of[lane]:
            del self._of[lane]
        return one

    def clear(self) -> list[W]:
        """Everything, which is not in it any more."""
        every = [*(one for _, one in self._bulk), *(one for queue in self._lanes.values() for one in queue)]
        self._lanes.clear()
        self._bulk.clear()
        self._of.clear()
        self.weight = 0
        return every
