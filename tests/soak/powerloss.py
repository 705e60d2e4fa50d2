"""A computer that loses power at random moments under load: what the broker acknowledged is there when it is back.

As `tests.soak.crash`, but what the broker wrote and did not sync is gone with it, all of it or some pages.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

from clients.demo.stage import Stage
from tests.soak import crash
from tests.soak.disk import Disk
from zhifu.errors import Refused

MOST: Final = 80
"""Syncs of one life at most: a start has a few, each commit one."""
PATIENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Survived:
    """As `crash.Survived`; ``lost`` pages of what was not synced were not there after the cuts."""

    cuts: int
    exchanges: int
    lost: int
    faults: tuple[str, ...]


@dataclass(slots=True)
class House(crash.House):
    """A house whose broker is on a disk of ours from its second start on."""

    random: Random = field(default_factory=Random)
    disk: Disk | None = None
    lost: int = 0
    again: int = 0
    is_calm: bool = False

    @staticmethod
    def on_disk(stage: Stage, random: Random) -> House:
        made = crash.House.open(stage)
        made.broker.process.send_signal(signal.SIGTERM)
        made.broker.process.wait()
        house = House(stage, made.cast, made.broker, made.ports, random=random)
        house.disk = Disk.under(stage.path / "broker", stage.path)
        asyncio.run(house.begin())
        return house

    async def begin(self) -> None:
        self.start()
        await self.await_ready()

    def kill(self) -> None:
        if self.broker.process.poll() is None:
            crash.House.kill(self)
        if self.disk is not None:
            self.lost += self.disk.cut(self.random)

    def start(self) -> None:
        assert self.disk is not None
        before = self.disk.command(0 if self.is_calm else self.random.randint(1, MOST))
        self.broker = self.stage.launch("broker", [*before, sys.executable, "-m", *self.command])

    async def until_killed(self, random: Random) -> None:
        """Until the disk ends it, or for so long that there was nothing to sync."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.broker.process.wait, PATIENCE_S)

    async def calm(self) -> None:
        self.is_calm = True
        self.kill()
        self.start()
        await self.await_ready()

    async def await_ready(self) -> None:
        begun = time.monotonic()
        while True:
            try:
                await asyncio.to_thread(self.stage.ready, self.broker)
            except Refused:  # the power went while it started
                self.kill()
                self.again += 1
                self.start()
            else:
                break
        self.starts_s.append(time.monotonic() - begun)


async def run(stage: Stage, seconds: float, start: int, tell: Callable[[str], None]) -> Survived:
    """Load and cuts for ``seconds``, then peace, then the checks. ``start`` seeds the moments and what is lost."""
    houses = list[House]()

    def opened(on: Stage) -> House:
        houses.append(House.on_disk(on, Random(f"{start} power")))
        return houses[0]

    found = await crash.run(stage, seconds, start, tell, opened, float("inf"))
    lost, cuts = houses[0].lost, found.kills + houses[0].again
    unharmed = () if lost or not found.kills else ("nothing was ever lost: the cuts cut nothing",)
    return Survived(cuts, found.exchanges, lost, (*found.faults, *unharmed))
