"""A computer that loses power at random moments under load: what the broker acknowledged is there when it is back.

As `tests.soak.crash`, but what the broker wrote and did not sync is gone with it, all of it or some pages.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from clients.demo.stage import Stage
from tests.soak import crash
from tests.soak.disk import Disk


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

    @staticmethod
    def on_disk(stage: Stage, random: Random) -> House:
        made = crash.House.open(stage)
        made.broker.process.send_signal(signal.SIGTERM)
        made.broker.process.wait()
        house = House(stage, made.cast, made.broker, made.ports, random=random)
        house.disk = Disk.under(stage.path / "broker", stage.path)
        house.start()
        stage.ready(house.broker)
        return house

    def kill(self) -> None:
        crash.House.kill(self)
        if self.disk is not None:
            self.lost += self.disk.cut(self.random)

    def start(self) -> None:
        assert self.disk is not None
        self.broker = self.stage.launch("broker", [*self.disk.command, sys.executable, "-m", *self.command])


async def run(stage: Stage, seconds: float, start: int, tell: Callable[[str], None]) -> Survived:
    """Load and cuts for ``seconds``, then peace, then the checks. ``start`` seeds the moments and what is lost."""
    houses = list[House]()

    def opened(on: Stage) -> House:
        houses.append(House.on_disk(on, Random(f"{start} power")))
        return houses[0]

    found = await crash.run(stage, seconds, start, tell, opened, crash.LAST_S)
    lost = houses[0].lost
    unharmed = () if lost or not found.kills else ("nothing was ever lost: the cuts cut nothing",)
    return Survived(found.kills, found.exchanges, lost, (*found.faults, *unharmed))
