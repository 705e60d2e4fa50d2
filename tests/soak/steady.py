"""Hours at half of what the broker can take: latency and memory must be at the end what they were at the beginning.

Arrivals are an open loop, counted from when they were due. The bare relay is called beside them in the same window:
what the computer does to both is noise, what it does to the broker alone is the broker.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from clients.patient.wallet import Contact
from policies import load
from tests.bench.load import Attached, Measured, Relay, attached
from tests.bench.process import resident_kib
from tests.bench.world import Patient, World, contact, draw_patient, register
from zhifu.consent import MAX_USES
from zhifu.envelope import MAX_FRAME

WINDOW_S: Final = 60.0
WINDOWS: Final = 6
"""At least; a short run has shorter ones."""
CAPACITY_S: Final = 5.0
LOAD: Final = 0.5
PROBES_A_SECOND: Final = 50.0
"""Calls of the relay: some percent of what one core does, and 3,000 for the p99 of a minute."""
SLOWER: Final = 2.0
"""By how much the p99 may grow from the first third to the last, beyond the relay's own. What waits in a queue grows
like load / (1 - load): at half load, a cost of an exchange that is a quarter higher makes both together 2.1 times."""
DEARER: Final = 1.25
"""By how much the broker's CPU time for an exchange may grow: the quarter of `SLOWER`, seen whatever the noise."""
BYTES_AN_EXCHANGE: Final = 64
"""What may stay of each: less than any Python object that is kept for one takes."""
GROWN_KIB: Final = 16 * 1024
"""What caches and allocators may take from one third to the next in any case."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one window gave: exchanges, the broker's CPU µs for one, their p50 and p99 and the relay's p99 in ms, and
    resident KiB of the broker.
    """

    exchanges: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    relay_p99_ms: float
    resident_kib: int

    def __str__(self) -> str:
        times = f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, relay p99 {self.relay_p99_ms:.1f} ms"
        return f"{self.exchanges} exchanges, {times}, CPU {self.cpu_us:.0f} us, {self.resident_kib / 1024:.1f} MiB"


@dataclass(frozen=True, slots=True)
class Steady:
    """The capacity (exchanges a second), each window, and what did not stay as it was."""

    capacity: float
    windows: tuple[Window, ...]
    faults: tuple[str, ...]


async def measure(world: World, seconds: float, tell: Callable[[str], None]) -> Steady:
    """Measure the capacity, then load at half of it for ``seconds``."""
    windows: list[Window] = []
    length = min(WINDOW_S, seconds / WINDOWS)
    relay = Relay(world)
    try:
        async with attached(world, world.hospitals[:1]) as busy:
            capacity = await _capacity(busy, min(CAPACITY_S, length))
            tell(f"{capacity:.0f} exchanges/s at most; {capacity * LOAD:.0f}/s from now on")
            where = await asyncio.to_thread(contact, world.stage)
            for number in range(1, max(WINDOWS, round(seconds / length)) + 1):
                busy.serve(await _admitted(world, where, math.ceil(capacity * LOAD * length / MAX_USES)))
                windows.append(await _window(world, busy, relay, capacity * LOAD, length))
                tell(f"window {number}: {windows[-1]}")
    finally:
        await relay.close()
    return Steady(capacity, tuple(windows), tuple(judge(windows)))


async def _admitted(world: World, where: Contact, count: int) -> list[Patient]:
    """New patients with their grants: a window uses up its own."""
    bundle, hospital = load.load(), world.hospitals[0]
    drawn = [draw_patient(bundle, hospital, world.payer, number) for number in range(count)]
    await register(where, drawn)
    return drawn


async def _capacity(busy: Attached, seconds: float) -> float:
    """Exchanges a second, as many in flight as a full frame holds, in frames of one; what comes first warms up.

    Of one, as arrivals are that come by themselves: full frames cost half as much, and half of what the broker takes
    in those is nearly all that it takes in these.
    """
    await busy.measure(MAX_FRAME, 1, seconds)
    found = await busy.measure(MAX_FRAME, 1, seconds)
    return len(found.latencies_ms) / found.wall_s


async def _window(world: World, busy: Attached, relay: Relay, rate: float, seconds: float) -> Window:
    found, probed = await asyncio.gather(busy.paced(rate, seconds), relay.paced(PROBES_A_SECOND, seconds))
    p50, p99 = _part(found, 50), _part(found, 99)
    count = len(found.latencies_ms)
    return Window(count, 1e6 * found.cpu_s / count, p50, p99, _part(probed, 99), resident_kib(world.pid))


def _part(found: Measured, percent: int) -> float:
    return statistics.quantiles(found.latencies_ms, n=100, method="inclusive")[percent - 1]


def judge(windows: Sequence[Window]) -> list[str]:
    """What is otherwise in the last third of ``windows`` than before.

    Of times each third's best window speaks: others on the computer only add to them, and a broker that became slower
    is slower in every window. Of memory and CPU time the median: where others slow the broker down, more waits for a
    commit, and an exchange costs less.
    """
    third = len(windows) // 3
    first, middle, last = windows[:third], windows[third:-third], windows[-third:]
    slower, noise = (
        min(map(what, last)) / min(map(what, first)) for what in (attrgetter("p99_ms"), attrgetter("relay_p99_ms"))
    )
    dearer = _median("cpu_us", last) / _median("cpu_us", first)
    grown = _median("resident_kib", last) - _median("resident_kib", middle)
    between = sum(one.exchanges for one in windows) / len(windows) * (len(middle) + third) / 2
    allowed = max(GROWN_KIB, BYTES_AN_EXCHANGE * between / 1024)
    faults = []
    if slower > SLOWER * max(1.0, noise):
        faults.append(f"the p99 is {slower:.1f} times what it was, the relay's {noise:.1f} times")
    if dearer > DEARER:
        faults.append(f"an exchange costs {dearer:.2f} times the CPU time that it did")
    if grown > allowed:
        faults.append(f"{grown / 1024:.1f} MiB more in the last third, of {allowed / 1024:.1f} that may be")
    return faults


def _median(name: str, windows: Sequence[Window]) -> float:
    found: list[float] = [getattr(one, name) for one in windows]
    return statistics.median(found)
