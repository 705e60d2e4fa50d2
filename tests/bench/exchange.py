"""The full exchange beside the bare relay: both measured in one run, in turns, so that noise falls on both."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.bench.link import Link
from tests.bench.load import Measured, Relay, attached
from tests.bench.process import resident_kib
from tests.bench.world import Participant, World
from zhifu.envelope import MAX_FRAME

Window = Callable[[], Awaitable[Measured]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the repetitions; ``ratio`` is the median of each repetition's CPU over its relay's.

    ``floor`` is the budget of DESIGN section 10, None where it has none.
    """

    what: str
    in_flight: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_micros: float
    ratio: float
    floor: float | None


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure, and the number of the subject that it is compared with."""

    what: str
    in_flight: int
    relay: int
    floor: float | None
    window: Window


FRAME: Final = f"exchange, frame signatures (≤ {MAX_FRAME})"
SINGLE: Final = "exchange, a signature each"
RELAY: Final = "bare unary relay"
_AT_ONCE: Final = 32


@asynccontextmanager
async def subjects(world: World, seconds: float) -> AsyncIterator[list[Subject]]:
    """The relay twice, then what is compared with it; with many hospitals, all of them too."""

    async def window(hospitals: Sequence[Participant], in_flight: int, per_frame: int) -> Measured:
        # Attached for this window only: a payer with two streams would be sent everything twice.
        async with attached(world, hospitals) as found:
            return await found.measure(in_flight, per_frame, seconds)

    relay = Relay(world)
    first, others, full = world.hospitals[:1], world.hospitals[1 : MAX_FRAME + 1], MAX_FRAME
    found = [
        Subject(RELAY, 1, 0, None, lambda: relay.measure(1, seconds)),
        Subject(RELAY, full, 1, None, lambda: relay.measure(full, seconds)),
        Subject("exchange", 1, 0, 3.0, lambda: window(first, 1, full)),
        Subject("exchange", 16, 1, None, lambda: window(first, 16, full)),
        Subject(FRAME, full, 1, 1.0, lambda: window(first, full, full)),
        Subject(SINGLE, full, 1, 1.25, lambda: window(first, full, 1)),
        Subject(FRAME, 4 * full, 1, None, lambda: window(first, 4 * full, full)),
    ]
    if len(others) == full:
        found.append(Subject(f"exchange, {full} nodes", full, 1, 1.5, lambda: window(others, full, full)))
    try:
        yield found
    finally:
        await relay.close()


async def idle_kib(world: World) -> float:
    """By how many KiB a broker that did nothing yet grows for each node that is attached and silent; 0 with one
    hospital.
    """
    first, nodes = world.hospitals[:1], world.hospitals[1 : MAX_FRAME + 1]
    # Beside one that is there: what the first stream leaves behind for good does not count. Streams that end give back
    # nothing, so nobody else was attached before.
    async with silent(first):
        before = resident_kib(world.pid)
        async with silent(nodes):
            grown = resident_kib(world.pid) - before
    return grown / len(nodes) if nodes else 0.0


@asynccontextmanager
async def silent(nodes: Sequence[Participant]) -> AsyncIterator[None]:
    """Attach nodes that say nothing."""
    links = [Link(one, lambda _: None) for one in nodes]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def open_one(link: Link) -> None:
        async with gate:
            await link.open()

    try:
        await asyncio.gather(*(open_one(one) for one in links))
        # What attaching left to do is done: the broker is measured from here on.
        await asyncio.sleep(1.0 if links else 0.0)
        yield
    finally:
        await asyncio.gather(*(one.close() for one in links))


async def measure(world: World, repeats: int, seconds: float, tell: Tell) -> list[Row]:
    """``repeats`` rounds of a window of ``seconds`` for each subject."""
    async with subjects(world, seconds) as every:
        rounds = []
        for number in range(repeats):
            tell(f"exchanges, round {number + 1} of {repeats}")
            rounds.append([await one.window() for one in every])
    return [_row(one, [each[place] for each in rounds], [each[one.relay] for each in rounds]) for place, one in
            enumerate(every)]  # fmt: skip


def _row(one: Subject, windows: Sequence[Measured], relays: Sequence[Measured]) -> Row:
    return Row(
        one.what,
        one.in_flight,
        statistics.median(len(each.latencies_ms) / each.wall_s for each in windows),
        statistics.median(percentile(each.latencies_ms, 50) for each in windows),
        statistics.median(percentile(each.latencies_ms, 99) for each in windows),
        statistics.median(_cpu(each) for each in windows),
        statistics.median(_cpu(each) / _cpu(relay) for each, relay in zip(windows, relays, strict=True)),
        one.floor,
    )


def _cpu(one: Measured) -> float:
    return 1e6 * one.cpu_s / len(one.latencies_ms)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
