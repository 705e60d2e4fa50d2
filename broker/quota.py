"""What one participant may ask of the broker: exchanges and bytes in a second, streams, and what may wait for one
recipient (DESIGN section 6). What is beyond is refused with the time after which it may come again.

Token buckets, in memory: each broker counts what came to it. A frame is taken while anything is left and may overdraw,
so that a quota below a frame still lets frames through, at its rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from zhifu.errors import Malformed, Refused


@dataclass(frozen=True, slots=True)
class Quota:
    """The table ``[quota]`` of broker.toml; a participant's own is ``[quota.<its id, hex>]``.

    ``burst_s``: how many seconds' worth may come at once. ``queued``: deliveries that may wait for one recipient.
    """

    exchanges_per_s: float = 5_000.0
    bytes_per_s: float = float(64 << 20)
    burst_s: float = 4.0
    streams: int = 8
    queued: int = 1_000_000


DEFAULT: Final = Quota()
STATED_PER_S: Final = 0.1
STATED_BURST_S: Final = 600.0
"""New key statements and epochs of one participant: two a day are usual, each stays for ever, and each statement goes
to everybody."""


def parse(document: Mapping[str, object]) -> tuple[Quota, dict[bytes, Quota]]:
    """The table ``[quota]``: of everybody, and of those who have their own. Raises `Malformed` (usage.file)."""
    own = {name: value for name, value in document.items() if isinstance(value, dict)}
    every = _quota(DEFAULT, {name: value for name, value in document.items() if name not in own})
    try:
        return every, {bytes.fromhex(name): _quota(every, value) for name, value in own.items()}
    except ValueError as error:
        raise Malformed("usage.file", "quota: a participant is named by its id in hex") from error


def _quota(before: Quota, changes: Mapping[str, object]) -> Quota:
    values = {one.name: getattr(before, one.name) for one in fields(Quota)}
    for name, value in changes.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in values or not number or not float(str(value)) > 0:
            raise Malformed("usage.file", f"quota.{name}: one of {', '.join(values)}, above zero")
        values[name] = type(values[name])(value)
    return Quota(**values)


class Bucket:
    """``rate`` tokens a second, at most ``burst_s`` seconds' worth of them."""

    __slots__ = ("_at", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        self._rate, self._most = rate, rate * burst_s
        self._tokens, self._at = self._most, now

    def wait(self, now: float) -> float:
        """Seconds until something is left; 0 if something is."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens > 0 else (1.0 - self._tokens) / self._rate

    def take(self, amount: float) -> None:
        self._tokens -= amount


class Quotas:
    """Every participant's buckets and streams. Participants are authenticated, so the directory bounds their number."""

    def __init__(self, every: Quota = DEFAULT, own: Mapping[bytes, Quota] | None = None) -> None:
        self._every = every
        self._own = own or {}
        self._buckets: dict[bytes, tuple[Bucket, Bucket]] = {}
        self._stated: dict[bytes, Bucket] = {}
        self._streams: Counter[bytes] = Counter()
        self._full: frozenset[bytes] = frozenset()

    def of(self, participant: bytes) -> Quota:
        return self._own.get(participant, self._every)

    def admit(self, sender: bytes, exchanges: int, size: int, now: float) -> None:
        """Take so many exchanges of ``size`` bytes together at ``now`` (monotonic s), whatever becomes of them.

        The next frame waits for what was overdrawn. Raises `Refused` (unavailable.quota): after which time.
        """
        counted, sized = self._of(sender, now)
        wait = max(counted.wait(now), sized.wait(now))
        if wait > 0:
            raise Refused("unavailable.quota", retry_s=wait)
        counted.take(exchanges)
        sized.take(size)

    def _of(self, sender: bytes, now: float) -> tuple[Bucket, Bucket]:
        found = self._buckets.get(sender)
        if found is None:
            quota = self.of(sender)
            counted = Bucket(quota.exchanges_per_s, quota.burst_s, now)
            found = self._buckets[sender] = counted, Bucket(quota.bytes_per_s, quota.burst_s, now)
        return found

    def admit_stated(self, participant: bytes, now: float) -> None:
        """Take a new key statement, or a new epoch, at ``now`` (monotonic s). Raises `Refused` (unavailable.quota)."""
        bucket = self._stated.setdefault(participant, Bucket(STATED_PER_S, STATED_BURST_S, now))
        wait = bucket.wait(now)
        if wait > 0:
            raise Refused("unavailable.quota", "too many keys and epochs of one participant", retry_s=wait)
        bucket.take(1)

    # What waits for whom

    def counted(self, queue: Iterable[tuple[bytes, int, int]]) -> None:
        """What `Reader.waiting` said a moment ago: who has so much waiting that nothing more is taken for it."""
        self._full = frozenset(recipient for recipient, number, _ in queue if number >= self.of(recipient).queued)

    @property
    def any_full(self) -> bool:
        """Whether `check_room` refuses anything at all."""
        return bool(self._full)

    def check_room(self, recipient: bytes) -> None:
        """Raises `Refused` (unavailable.overload) where too much waits for ``recipient`` already."""
        if recipient in self._full:
            raise Refused("unavailable.overload", "too much waits for this recipient")

    # Streams

    def open(self, participant: bytes) -> None:
        """One more stream. Raises `Refused` (unavailable.quota)."""
        if self._streams[participant] >= self.of(participant).streams:
            raise Refused("unavailable.quota", "too many streams of one participant")
        self._streams[participant] += 1

    def close(self, participant: bytes) -> None:
        self._streams[participant] -= 1
        if not self._streams[participant]:
            del self._streams[participant]
