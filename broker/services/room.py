"""How much of one stream is in work: so many frames and so many bytes, and the reader waits for the rest."""

from __future__ import annotations

from broker.bell import Bell


class Room:
    """``most`` things of ``bytes`` together; one that is larger by itself has room alone."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._left = most
        self._bytes_left = self._most_bytes = most_bytes
        self._given = Bell()

    async def take(self, size: int) -> None:
        """Wait until there is room for one of ``size`` bytes, and take it. One waits at a time."""
        while not self._left or (size > self._bytes_left < self._most_bytes):
            self._given.clear()
            await self._given.wait()
        self._left -= 1
        self._bytes_left -= size

    def give(self, size: int) -> None:
        """Give back what one of ``size`` bytes took."""
        self._left += 1
        self._bytes_left += size
        self._given.set()
