"""For how long one end of a stream has listened to the other.

What is read late by this end's own work is not late: neither by what the reader does between two reads, nor by what the
writer does without a pause while the reader waits for its turn on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Listening:
    """A stopwatch that runs while the reader waits and nobody works. ``time`` gives seconds that only rise."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._before = self._worked = 0.0
        self._since: float | None = None
        self._worked_before = 0.0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The reader waits within the block. One reader."""
        self._since, self._worked_before = self._time(), self._worked
        try:
            yield
        finally:
            self._before, self._since = self.seconds, None

    @contextmanager
    def working(self) -> Iterator[None]:
        """This end works within the block, which awaits nothing."""
        began = self._time()
        try:
            yield
        finally:
            self._worked += self._time() - began

    def each(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps; to make each of them is this end's work."""
        while True:
            with self.working():
                found = next(steps, None)
            if found is None:
                return
            yield found

    @property
    def seconds(self) -> float:
        """How long this end has listened until now."""
        if self._since is None:
            return self._before
        return self._before + max(0.0, self._time() - self._since - (self._worked - self._worked_before))
