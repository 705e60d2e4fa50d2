"""``python -m tests.bench.size [--entries N] [--queued N]``: an exchange at a broker with a long past.

The broker's CPU for an exchange, sockets left out, with a log of N entries and N deliveries queued for others, beside
the same with 10,000 and 5,000, by turns (DESIGN section 10: at most 1.2 times).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from broker import home
from broker.serving import build
from clients.demo.stage import Stage
from tests.bench import seeded, world
from tests.bench.inside import Inside
from tests.bench.process import hardware
from zhifu.envelope import MAX_FRAME

SMALL: Final = 10_000
ROUNDS: Final = 40
FLOOR: Final = 1.2


@dataclass(frozen=True, slots=True)
class Sized:
    """µs of CPU an exchange, at 64 in a frame and at one, in a small store and in a large one; ``ratio`` of each."""

    entries: int
    queued: int
    small_us: float
    large_us: float
    ratio: float
    small_single_us: float
    large_single_us: float
    single_ratio: float
    hardware: str

    @property
    def holds(self) -> bool:
        return self.ratio <= FLOOR


def tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def measure(folder: Path, entries: int, queued: int, rounds: int = ROUNDS, patients: int = 4 * MAX_FRAME) -> Sized:
    """Enrol, stop the broker, fill two copies of its folder, and let both take exchanges by turns."""
    stage = Stage(folder)
    try:
        made = world.open_world(stage, 1, patients)
    finally:
        stage.stop()
    sizes = {"small": (min(SMALL, entries), min(SMALL // 2, queued)), "large": (entries, queued)}
    for name, (length, deep) in sizes.items():
        shutil.copytree(folder / "broker", folder / name)
        seeded.fill(folder / name, length, deep, lambda step, name=name: tell(f"{name}: {step}"))  # type: ignore[misc]
    return asyncio.run(_measure(folder, made, entries, queued, rounds))


async def _measure(folder: Path, made: world.World, entries: int, queued: int, rounds: int) -> Sized:
    cores = [build(home.open_home(folder / name), None) for name in ("small", "large")]
    # As a broker does once it is up.
    gc.collect()
    gc.freeze()
    sides = []
    for core in cores:
        core.committer.start()
        sides.append(Inside(core, made.hospitals[0], made.payer, made.patients))
        await sides[-1].begin()
        await sides[-1].exchange(MAX_FRAME)
    many, single = [await _turns(sides, count, rounds) for count in (MAX_FRAME, 1)]
    for core in cores:
        await core.committer.close()
        core.store.close()
    return Sized(entries, queued, *many, *single, hardware())


async def _turns(sides: Sequence[Inside], count: int, rounds: int) -> tuple[float, float, float]:
    took = [[1e6 * await side.exchange(count) / count for side in sides] for _ in range(rounds)]
    ratio = median(large / small for small, large in took)
    return round(median(one[0] for one in took), 1), round(median(one[1] for one in took), 1), round(ratio, 3)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code says whether the budget holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.size", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-size-") as folder:
        found = measure(Path(folder), given.entries, given.queued, given.rounds)
    print(json.dumps(asdict(found) | {"holds": found.holds}))
    return int(not found.holds)


if __name__ == "__main__":
    sys.exit(main())
