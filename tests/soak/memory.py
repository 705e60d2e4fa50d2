"""Memory under steady load, and under nodes that come and go: it must not grow with either.

Caches are bounded, so they are let fill first; what grows after that is a leak.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.load import Attached
from tests.bench.process import resident_kib
from tests.bench.world import World
from zhifu.envelope import MAX_FRAME

BYTES_AN_EXCHANGE: Final = 512
"""What may be left of an exchange: the log's node cache and SQLite's page cache fill for longer than a soak lasts."""
KIB_A_STREAM: Final = 4.0
_WARM_STREAMS: Final = 40


@dataclass(frozen=True, slots=True)
class Flat:
    """Growth after warming up: bytes for each exchange, KiB for each stream that came and went; resident MiB."""

    exchanges: int
    bytes_an_exchange: float
    streams: int
    kib_a_stream: float
    resident_mib: float
    faults: tuple[str, ...]


async def measure(world: World, seconds: float, streams: int, tell: Callable[[str], None]) -> Flat:
    """Load for ``seconds``, of which the first two thirds warm up; then ``streams`` connections."""
    warm, _ = await _load(world, seconds * 2 / 3)
    tell(f"warm after {warm} exchanges: {resident_kib(world.pid) // 1024} MiB")
    exchanges, grown = await _load(world, seconds / 3)
    await _come_and_go(world, _WARM_STREAMS)
    before = resident_kib(world.pid)
    await _come_and_go(world, streams)
    each = max(0.0, (resident_kib(world.pid) - before) / streams)
    found = max(0.0, 1024 * grown / max(1, exchanges))
    faults = [f"{found:.0f} bytes stay of each exchange"] if found > BYTES_AN_EXCHANGE else []
    faults += [f"{each:.1f} KiB stay of each stream"] if each > KIB_A_STREAM else []
    return Flat(exchanges, found, streams, each, resident_kib(world.pid) / 1024, tuple(faults))


async def _load(world: World, seconds: float) -> tuple[int, int]:
    """Exchanges done in ``seconds``, and by how many KiB the broker grew meanwhile."""
    before, until, done = resident_kib(world.pid), time.monotonic() + seconds, 0
    attached = Attached(world, world.hospitals[:1])
    try:
        await attached.open()
        while (left := until - time.monotonic()) > 0:
            done += len((await attached.measure(MAX_FRAME, MAX_FRAME, min(left, 5.0))).latencies_ms)
    finally:
        await attached.close()
    return done, resident_kib(world.pid) - before


async def _come_and_go(world: World, count: int) -> None:
    """Connections that exchange once and leave, a few at a time."""
    for _ in range(count // 4):
        await asyncio.gather(*(_visit(world) for _ in range(2)))


async def _visit(world: World) -> None:
    attached = Attached(world, world.hospitals[-1:])
    try:
        await attached.open()
    finally:
        await attached.close()
