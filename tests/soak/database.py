"""PostgreSQL that is restarted under load, as after a crash: nothing acknowledged is lost, and it goes on at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from clients.demo.stage import Stage
from tests.postgres import open_server
from tests.soak import crash

RESTARTS: Final = 20
RECOVERED_S: Final = 5.0
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Survived:
    """Restarts, exchanges that a node was told of, the slowest recovery in seconds, and what did not hold."""

    restarts: int
    exchanges: int
    slowest_s: float
    faults: tuple[str, ...]


async def run(stage: Stage, start: int, tell: Callable[[str], None], restarts: int = RESTARTS) -> Survived:
    """``restarts`` at moments that ``start`` seeds, under load; then peace, then the checks."""
    random = Random(f"{start} database")
    with open_server() as server:
        house = await asyncio.to_thread(crash.House.open, stage, "--store", server.database())
        house.open_nodes()
        running = [asyncio.create_task(one.run()) for one in house.nodes.values()]
        load = crash.Load(house.nodes["hospital"], house.cast.ids["public-payer"])
        await asyncio.gather(*(one.attached() for one in house.nodes.values()))
        workers = [asyncio.create_task(load.work(number)) for number in range(crash.WORKERS)]
        recoveries = []
        for count in range(1, restarts + 1):
            await asyncio.sleep(random.uniform(0.1, 1.5))
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
            recoveries.append(await _recovery_s(load))
            tell(f"{count} restarts, goes on after {recoveries[-1]:.1f} s")
        load.goes_on = False
        faults = await crash.peace(house, workers, running)
        tell("checking")
        faults += load.faults + await asyncio.to_thread(crash.check, stage, load.told, load.anew)
    slowest = max(recoveries)
    if slowest > RECOVERED_S:
        faults.append(f"exchanges went on after {slowest:.1f} s only")
    return Survived(len(recoveries), len(load.told), slowest, tuple(faults))


async def _recovery_s(load: crash.Load) -> float:
    """Seconds until an exchange ends that had not ended when the database was back."""
    begun, before = time.monotonic(), len(load.told)
    while len(load.told) == before and time.monotonic() - begun < PATIENCE_S and not load.faults:
        await asyncio.sleep(0.02)
    return time.monotonic() - begun
