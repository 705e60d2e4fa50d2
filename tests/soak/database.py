"""PostgreSQL under load that is restarted, as after a crash, or one of two brokers on it that is killed.

Nothing acknowledged is lost, and it goes on at once.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from clients import config
from clients.demo.stage import Actor, Stage
from tests.postgres import open_server
from tests.soak import crash

RESTARTS: Final = 20
KILLS: Final = 50
RECOVERED_S: Final = 5.0
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Survived:
    """Restarts or kills, exchanges that a node was told of, the slowest recovery in seconds, and what did not hold."""

    times: int
    exchanges: int
    slowest_s: float
    faults: tuple[str, ...]


async def run(stage: Stage, start: int, tell: Callable[[str], None], restarts: int = RESTARTS) -> Survived:
    """``restarts`` of the database at moments that ``start`` seeds, under load; then peace, then the checks."""
    random = Random(f"{start} database")
    with open_server() as server:
        house = await asyncio.to_thread(crash.House.open, stage, "--store", server.database())

        async def restart(count: int) -> str:
            await asyncio.sleep(random.uniform(0.1, 1.5))
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
            return f"{count} restarts"

        return await _survive(house, restart, restarts, tell)


async def run_pair(stage: Stage, start: int, tell: Callable[[str], None], kills: int = KILLS) -> Survived:
    """The same with two brokers, one of which is killed at a time and comes back while the other goes on."""
    random = Random(f"{start} brokers")
    with open_server() as server:
        house = await asyncio.to_thread(Pair.on, stage, server.database(), random)

        async def kill(count: int) -> str:
            await asyncio.sleep(random.uniform(0.1, 1.5))
            house.kill()
            return f"{count} kills"

        async def back() -> None:
            house.start()
            await house.await_ready()

        return await _survive(house, kill, kills, tell, back)


async def _nothing() -> None:
    """What was harmed is back already."""


@dataclass(slots=True)
class Pair(crash.House):
    """Two brokers on one database; ``broker`` is the one that is killed next, `turn` chooses it."""

    folders: tuple[str, ...] = ("broker", "broker-2")
    others: dict[str, tuple[Actor, tuple[int, int]]] = field(default_factory=dict)
    random: Random = field(default_factory=Random)
    at: str = "broker"

    @staticmethod
    def on(stage: Stage, address: str, random: Random) -> Pair:
        first = crash.House.open(stage, "--store", address)
        made = Pair(stage, first.cast, first.broker, first.ports, random=random)
        shutil.copytree(stage.path / "broker", stage.path / "broker-2")
        second = stage.start("broker-2", "broker", "serve", str(stage.path / "broker-2"))
        said = stage.ready(second)
        made.others["broker-2"] = (second, (said["node_port"], said["public_port"]))
        ports = [made.ports[0], said["node_port"]]
        for role in ("hospital", "public-payer"):
            order = ports if role == "hospital" else ports[::-1]
            addresses = ",".join(f"127.0.0.1:{port}" for port in order)
            config.write(replace(config.load(stage.path / role), node_address=addresses))
        return made

    @property
    def command(self) -> tuple[str, ...]:
        node, public = map(str, self.ports)
        return ("broker", "serve", str(self.stage.path / self.at), "--node-port", node, "--public-port", public)

    def kill(self) -> None:
        self._turn(self.random.choice(self.folders))
        crash.House.kill(self)

    def start(self) -> None:
        self.broker = self.stage.start(self.at, *self.command)

    def _turn(self, at: str) -> None:
        if at != self.at:
            self.others[self.at] = (self.broker, self.ports)
            self.at, (self.broker, self.ports) = at, self.others.pop(at)


async def _survive(
    house: crash.House,
    harm: Callable[[int], Awaitable[str]],
    times: int,
    tell: Callable[[str], None],
    mend: Callable[[], Awaitable[None]] = _nothing,
) -> Survived:
    """Harm, and mend what was harmed once exchanges go on, so many times under load; then peace, then the checks."""
    house.open_nodes()
    running = [asyncio.create_task(one.run()) for one in house.nodes.values()]
    load = crash.Load(house.nodes["hospital"], house.cast.ids["public-payer"])
    await asyncio.gather(*(one.attached() for one in house.nodes.values()))
    workers = [asyncio.create_task(load.work(number)) for number in range(crash.WORKERS)]
    recoveries = []
    for count in range(1, times + 1):
        done = await harm(count)
        recoveries.append(await _recovery_s(load))
        tell(f"{done}, goes on after {recoveries[-1]:.1f} s")
        await mend()
    load.goes_on = False
    faults = await crash.peace(house, workers, running)
    tell("checking")
    faults += load.faults + await asyncio.to_thread(crash.check, house.stage, load.told, load.anew)
    slowest = max(recoveries)
    if slowest > RECOVERED_S:
        faults.append(f"exchanges went on after {slowest:.1f} s only")
    return Survived(times, len(load.told), slowest, tuple(faults))


async def _recovery_s(load: crash.Load) -> float:
    """Seconds until an exchange ends that had not ended when the database was back."""
    begun, before = time.monotonic(), len(load.told)
    while len(load.told) == before and time.monotonic() - begun < PATIENCE_S and not load.faults:
        await asyncio.sleep(0.02)
    return time.monotonic() - begun
