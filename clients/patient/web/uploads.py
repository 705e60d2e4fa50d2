"""Files on their way from the page to its server, piece by piece.

They stay in memory until they are sealed: a scan of a wound or a bill is never on the disk as it is. What all of them
may hold together is what one parcel may; a page that was left is forgotten after a while. Until then the same file,
chosen again after a reload or a lost connection, goes on from where it stopped: it is known by its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from zhifu.errors import Malformed, Refused
from zhifu.parcel import MAX_CONTENT, Document

PIECE: Final = 1 << 20
MOST_FILES: Final = 8
MOST_BYTES: Final = MAX_CONTENT - 65_536
"""All files of a parcel together; the rest is its head."""
IDLE_S: Final = 900.0
YIELDS_S: Final = 10.0
"""Since when nothing of a file came that gives way to another one."""


@dataclass(slots=True)
class _Upload:
    claim: str
    digest: bytes
    name: str
    media_type: str
    size: int
    touched: float
    content: bytearray = field(default_factory=bytearray, repr=False)


class Uploads:
    """Those of one wallet. ``clock`` is monotonic, in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, _Upload] = {}

    def begin(self, claim: str, name: str, media_type: str, size: int, digest: bytes) -> tuple[str, int]:
        """A file of ``size`` bytes with this SHA-256 is to come for a claim: what it is called, and how much is here.

        Raises `Malformed` (malformed.size): more, or larger ones, than one parcel holds.
        """
        self._forget(IDLE_S)
        for called, one in self._open.items():
            if (one.claim, one.digest, one.size) == (claim, digest, size):
                one.touched = self._clock()
                return called, len(one.content)
        if not self._fits(size):
            self._forget(YIELDS_S)
        if size < 0 or not self._fits(size):
            raise Malformed("malformed.size", f"{MOST_FILES} files and {MOST_BYTES >> 20} MiB at a time")
        called = secrets.token_hex(16)
        self._open[called] = _Upload(claim, digest, name[-128:], media_type[:64], size, self._clock())
        return called, 0

    def _fits(self, size: int) -> bool:
        whole = sum(one.size for one in self._open.values()) + size
        return whole <= MOST_BYTES and len(self._open) < MOST_FILES

    def halfway(self, claim: str) -> list[tuple[str, int]]:
        """Files of a claim of which a part is here: name and percent."""
        self._forget(IDLE_S)
        found = [one for one in self._open.values() if one.claim == claim and one.content]
        return [(one.name, 100 * len(one.content) // one.size) for one in found]

    def add(self, called: str, at: int, piece: bytes) -> int:
        """Take the bytes from ``at`` on; how many are here. A piece that is here already changes nothing.

        Raises `Refused` (exchange.unknown), `Malformed` (malformed.size).
        """
        found = self._find(called)
        found.touched = self._clock()
        if at == len(found.content):
            if len(piece) > PIECE or at + len(piece) > found.size:
                raise Malformed("malformed.size", "more than was announced")
            found.content += piece
        return len(found.content)

    def read(self, called: list[str]) -> list[Document]:
        """The files, which stay until they are dropped. Raises `Refused` (exchange.unknown, exchange.state): not whole,
        or others than were announced.
        """
        found = [self._find(one) for one in called]
        if any(len(one.content) != one.size for one in found):
            raise Refused("exchange.state", "a file did not arrive whole")
        if not all(hmac.compare_digest(hashlib.sha256(one.content).digest(), one.digest) for one in found):
            raise Refused("exchange.state", "a file is not the one that was announced")
        return [Document(one.name, one.media_type, bytes(one.content)) for one in found]

    def drop(self, called: str) -> None:
        """The page gave it up, or it lies sealed on the disk."""
        self._open.pop(called, None)

    def _find(self, called: str) -> _Upload:
        found = self._open.get(called)
        if found is None:
            raise Refused("exchange.unknown", "no such file is on its way")
        return found

    def _forget(self, idle_s: float) -> None:
        old = [called for called, one in self._open.items() if self._clock() - one.touched > idle_s]
        for called in old:
            del self._open[called]
