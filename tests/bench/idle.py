"""``python -m tests.bench.idle [--nodes N]``: many nodes attached to one broker, of which one works.

The broker's memory for each silent node, its CPU while all are silent, and an exchange of one hospital with one payer
while they are attached, beside the same without them, by turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import uvloop

from clients.demo.stage import Stage
from tests.bench import world
from tests.bench.exchange import silent
from tests.bench.load import Attached, attached
from tests.bench.process import cpu_s, hardware, resident_kib
from tests.bench.world import World
from zhifu.envelope import MAX_FRAME

BUDGET_KIB: Final = 96.0
ROUNDS: Final = 3
WINDOW_S: Final = 2.0
SILENT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Idle:
    """KiB of the broker for a silent node, the first time that they attach (memory of ended streams is used again); its
    CPU with all of them silent, in ms each second; CPU of an exchange at 64 in flight (µs) and the time of one by
    itself (p50, ms), without them and with them.
    """

    nodes: int
    kib: float
    silent_cpu_ms: float
    exchange_us: tuple[float, float]
    single_p50_ms: tuple[float, float]
    hardware: str

    @property
    def holds(self) -> bool:
        return self.kib <= BUDGET_KIB


async def measure(made: World) -> Idle:
    """The first hospital works, all others are silent."""
    others = made.hospitals[1:]
    async with attached(made, made.hospitals[:1]) as pair:
        without, grown, quiet, beside = [], [], [], []
        for _ in range(ROUNDS):
            without.append(await _both(pair))
            before = resident_kib(made.pid)
            async with silent(others):
                grown.append((resident_kib(made.pid) - before) / max(1, len(others)))
                spent = cpu_s(made.pid)
                await asyncio.sleep(SILENT_S)
                quiet.append(1000 * (cpu_s(made.pid) - spent) / SILENT_S)
                beside.append(await _both(pair))
    many, single = [
        (round(median(one[place] for one in without), 1), round(median(one[place] for one in beside), 1))
        for place in (0, 1)
    ]
    return Idle(len(others), round(grown[0], 1), round(median(quiet), 1), many, single, hardware())


async def _both(pair: Attached) -> tuple[float, float]:
    many = await pair.measure(MAX_FRAME, MAX_FRAME, WINDOW_S)
    one = await pair.measure(1, MAX_FRAME, WINDOW_S)
    return 1e6 * many.cpu_s / len(many.latencies_ms), median(one.latencies_ms)


def run(nodes: int) -> Idle:
    """Enrol everybody, start the broker, measure."""
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-idle-") as folder:
        stage = Stage(Path(folder))
        try:
            print(f"enrolling {nodes + 1} hospitals", file=sys.stderr, flush=True)
            made = world.open_world(stage, nodes + 1, MAX_FRAME)
            print("measuring", file=sys.stderr, flush=True)
            return uvloop.run(measure(made))
        finally:
            stage.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code says whether the budget holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    found = run(parser.parse_args(argv).nodes)
    print(json.dumps(asdict(found) | {"holds": found.holds}))
    return int(not found.holds)


if __name__ == "__main__":
    sys.exit(main())
