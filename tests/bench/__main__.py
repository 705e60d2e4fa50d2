"""``python -m tests.bench [--json] [--quick]``: the tables to stdout, progress to stderr."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from broker import home
from broker.serving import build
from clients.demo.stage import Stage
from tests.bench import components, durable, exchange, free_text, jwe, payers, relay, settlement, world
from tests.bench.components import Cost
from tests.bench.durable import Durable
from tests.bench.load import claim
from tests.bench.process import hardware
from tests.bench.report import Report
from tests.bench.world import World


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; seconds are of one window, or of one component."""

    patients: int
    hospitals: int
    repeats: int
    window_s: float
    component_s: float
    settlements: int


FULL: Final = Plan(patients=256, hospitals=65, repeats=5, window_s=1.5, component_s=0.5, settlements=40)
QUICK: Final = Plan(patients=8, hospitals=1, repeats=1, window_s=0.2, component_s=0.02, settlements=2)


class Progress:
    """One line a step, on stderr."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self, step: str) -> None:
        print(f"{self.seconds:6.1f} s  {step}", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


def run(plan: Plan, tell: Progress) -> Report:
    """Every part in turn; each starts and stops its own processes."""
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-") as folder:
        stage = Stage(Path(folder))
        try:
            tell("broker, relay, participants, patients")
            made = world.open_world(stage, plan.hospitals, plan.patients)
            tell("idle nodes")
            idle = uvloop.run(exchange.idle_kib(made))
            rows = uvloop.run(exchange.measure(made, plan.repeats, plan.window_s, tell))
        finally:
            stage.stop()
        tell("seal, gate and open beside JWE")
        compared = jwe.measure(made.payer, made.patients[0], plan.repeats, plan.component_s)
        tell("components")
        costs, accepted = _alone(made, plan)
        sizes = (claim(made.patients[0]).ByteSize(), _answer_bytes(made))
    tell("settlements")
    settled, by_two = _settlements(plan), _two_insurers(plan)
    sent = (relay.ASKED_BYTES, relay.ANSWERED_BYTES)
    return Report(
        hardware(),
        plan.repeats,
        tell.seconds,
        sizes,
        sent,
        rows,
        idle,
        compared,
        costs,
        accepted,
        settled,
        by_two,
        list(free_text.measure()),
    )


def _alone(made: World, plan: Plan) -> tuple[list[Cost], Durable]:
    """The broker's parts in this process, over the database that its process left."""
    folder = made.stage.path / "broker"
    core = build(home.open_home(folder), None)
    mine = made.patients_of(made.hospitals[0])
    try:
        costs = list(components.costs(core, made.payer, mine, plan.component_s))
        return costs, asyncio.run(durable.measure(core, folder, mine, plan.repeats))
    finally:
        core.store.close()


def _answer_bytes(made: World) -> int:
    """A decision's submission has a claim's fields; only what they carry differs."""
    one = made.patients[0]
    asked, answered = one.claim, one.answer
    carried = [len(each.manifest) + len(each.record.leaves) + len(each.capsule) for each in (asked, answered)]
    return claim(one).ByteSize() - carried[0] + carried[1]


def _settlements(plan: Plan) -> Sequence[int]:
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-") as folder:
        stage = Stage(Path(folder))
        try:
            return settlement.measure(stage, settlement.open_house(stage, plan.settlements), plan.settlements)
        finally:
            stage.stop()


def _two_insurers(plan: Plan) -> Sequence[int]:
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-") as folder:
        return payers.measure(Path(folder), plan.settlements)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="a smoke run: every part, figures without meaning")
    given = parser.parse_args(argv)
    report = run(QUICK if given.quick else FULL, Progress())
    if given.json:
        print(report.to_json())
    else:
        report.show(Console(width=120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
