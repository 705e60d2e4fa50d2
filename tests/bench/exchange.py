"""The full exchange beside the bare relay: both measured in one run, in turns, so that noise falls on both."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.bench.link import Link
from tests.bench.load import Measured, Relay, attached
from tests.bench.process import resident_kib
from tests.bench.world import World
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


@asynccontextmanager
async def subjects(world: World, seconds: float) -> AsyncIterator[list[Subject]]:
    """The relay twice, then what is compared with it; with many hospitals, all of them too."""
    async with AsyncExitStack() as stack:
        relay = Relay(world)
        stack.push_async_callback(relay.close)
        one = await stack.enter_async_context(attached(world, world.hospitals[:1]))
        full = MAX_FRAME
        found = [
            Subject(RELAY, 1, 0, None, lambda: relay.measure(1, seconds)),
            Subject(RELAY, full, 1, None, lambda: relay.measure(full, seconds)),
            Subject("exchange", 1, 0, 3.0, lambda: one.measure(1, full, seconds)),
            Subject(FRAME, full, 1, 1.0, lambda: one.measure(full, full, seconds)),
            Subject(SINGLE, full, 1, 1.25, lambda: one.measure(full, 1, seconds)),
        ]
        if len(world.hospitals) > full:
            many = await stack.enter_async_context(attached(world, world.hospitals[1 : full + 1]))
            found.append(Subject(f"exchange, {full} nodes", full, 1, 1.5, lambda: many.measure(full, full, seconds)))
        yield found


async def idle_kib(world: World) -> float:
    """By how many KiB the broker grows for each node that is attached and silent; 0 with one hospital."""
    nodes = world.hospitals[1 : MAX_FRAME + 1]
    # Once before, so that what the first streams leave behind for good does not count.
    for _ in range(2):
        before = resident_kib(world.pid)
        links = [Link(one, lambda _: None) for one in nodes]
        try:
            await asyncio.gather(*(one.open() for one in links))
            await asyncio.sleep(1.0 if links else 0.0)
            grown = resident_kib(world.pid) - before
        finally:
            await asyncio.gather(*(one.close() for one in links))
    return grown / len(nodes) if nodes else 0.0


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
