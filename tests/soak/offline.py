"""A recipient that is away for thirty hours while much is queued for it: ``… offline COUNT STEP``.

Half is presented when it goes and half twelve hours later, so that the first half outlives its presentation while
it waits. When it is back everything is delivered once, in the order of its workflow; what may not be presented anew
has ended with a signed notice, and nobody connected more often than needed.

Run by itself under a clock that it sets (`clock.c`), as its broker's process is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from broker import home
from broker.store import tables
from clients.demo.stage import Stage
from clients.node import Node
from clients.role import Draft, Noticed, Transaction
from clients.store import Mandate
from policies import load
from policies.decide import finest
from tests.soak import crash
from tests.soak.preload import build
from zhifu import schema, sealed
from zhifu.errors import CATALOGUE, Refused
from zhifu.receive import Opened

COUNT: Final = 100_000
HOUR_S: Final = 3600
AWAY_H: Final = 30
LATER_H: Final = 12
STEPS: Final = 8
"""Exchanges of one workflow."""
ENDS_EVERY: Final = 50
"""Of so many workflows one may not be presented anew."""
CONNECTIONS: Final = 8
PATIENCE_S: Final = 900.0
_LOGS: Final = {
    "zhifu.session": logging.INFO, "zhifu.node": logging.WARNING, "zhifu.outbox": logging.WARNING,
    "zhifu.outcome": logging.WARNING,
}  # fmt: skip
_HOPELESS: Final = ("renewal.refused", "node.stopped", "exchange.refused", "alarm")
"""Events of a node after which an exchange of this run will not come, unless it is tried again or presented anew."""
_ANEW: Final = ("presentation.expired", "gate.epoch", "gate.unwrap")
_AT_ONCE: Final = 256
_LOOK_S: Final = 0.1
_BUNDLE: Final = load.load()
_KIND: Final = schema.load("eligibility")
_CEILINGS: Final = finest(_BUNDLE, "public-settlement", "public-payer", _KIND)


@dataclass(frozen=True, slots=True)
class Away:
    """What was queued, delivered, presented anew and ended by time; seconds until the last was delivered; the streams
    that were opened, and those that were lost, by reason; the longest that the nodes' loop stood still (s); faults.
    """

    queued: int
    delivered: int
    anew: int
    expired: int
    delivered_s: float
    connections: int
    lost: dict[str, int]
    stood_s: float
    faults: tuple[str, ...]


class Clock:
    """The seconds that everybody's clock is ahead."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.hours = 0

    def move(self, hours: int) -> None:
        self.hours = hours
        with self._path.open("r+b") as file:
            file.write((HOUR_S * hours).to_bytes(8, sys.byteorder, signed=True))


@dataclass(slots=True)
class Hospital(crash.Hospital):
    """Counts the notices that end an exchange; ``early`` is why one ended whose workflow is not of those ``ending``."""

    states: Counter[str] = field(default_factory=Counter)
    ending: set[bytes] = field(default_factory=set)
    early: str = ""

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        self.states[noticed.state] += 1
        if noticed.state != "delivered" and noticed.presentation.workflow not in self.ending:
            self.early = f"ended before its time: {noticed.reason}"

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        self.states[noticed.reason] += 1
        self.early = f"refused: {noticed.reason}"


@dataclass(slots=True)
class Payer(crash.Hospital):
    """Writes down in which order steps of a workflow came."""

    came: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        shown = opened.presentation
        self.came[shown.workflow].append(int.from_bytes(shown.correlation, "big"))
        self.count += 1
        return None


async def measure(stage: Stage, clock: Clock, count: int, step: int, tell: Callable[[str], None]) -> Away:
    """Queue ``count`` exchanges for a payer that is away, come back, and look at what came."""
    house, watch = await asyncio.to_thread(crash.House.open, stage), _Watch()
    sender, payer = Hospital(), Payer()
    hospital = Node.open(stage.path / "hospital", sender)
    running = asyncio.create_task(hospital.run())
    away = Node.open(stage.path / "public-payer", payer)
    for node in (hospital, away):
        task = running if node is hospital else asyncio.create_task(node.run())
        await node.attached()
    away.stop()
    await task
    away.close()
    sent = _Sending(hospital, house.cast.ids["public-payer"], clock, watch)
    sender.ending, watch.early = sent.ending, lambda: sender.early
    await sent.present(count // 2, tell)
    for hour in range(step, AWAY_H + 1, step):
        clock.move(hour)
        await _settled(hospital, stage, watch)
        if hour == LATER_H:
            await sent.present(count - count // 2, tell)
    tell(f"{count} queued, {sender.states['expired']} ended, back after {AWAY_H} h")
    back = Node.open(stage.path / "public-payer", payer)
    returned, begun = asyncio.create_task(back.run()), time.monotonic()
    expected = count - STEPS * len(sent.ending)
    await watch.until(lambda: payer.count >= expected, lambda: payer.count)
    took = time.monotonic() - begun
    await watch.until(lambda: sender.states["delivered"] >= expected, lambda: sender.states["delivered"])
    for node, task in ((back, returned), (hospital, running)):
        node.stop()
        await task
        node.close()
    house.broker.process.send_signal(15)
    await asyncio.to_thread(house.broker.process.wait, PATIENCE_S)
    faults, anew = _check(stage, sent, payer, sender)
    connections = watch.opened
    if connections > CONNECTIONS:
        faults.append(f"{connections} streams were opened")
    return Away(
        count,
        payer.count,
        anew,
        sender.states["expired"],
        took,
        connections,
        dict(watch.lost),
        watch.stood_s,
        tuple(faults),
    )


class _Watch(logging.Filter):
    """Counts the streams that nodes of this process opened and lost, and what ends the wait for the rest at once."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.lost: Counter[str] = Counter()
        self.hopeless = ""
        self.early: Callable[[], str] = str
        self.stood_s = 0.0
        for name, level in _LOGS.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        event, reason = record.getMessage(), getattr(record, "about", {}).get("reason", "")
        self.opened += event == "stream.open"
        if event == "stream.lost":
            self.lost[reason] += 1
        if event in _HOPELESS and not (reason in _ANEW or CATALOGUE[reason].retryable):
            self.hopeless = f"{event}: {reason}"
        return event != "stream.open"

    async def until(self, done: Callable[[], bool], progress: Callable[[], object] = lambda: None) -> None:
        """Raises `Refused` (unavailable.deadline) where what is waited for cannot come any more, and says why; or
        where nothing goes on for `PATIENCE_S`.
        """
        last, at = progress(), time.monotonic()
        while not done():
            before = time.monotonic()
            await asyncio.sleep(_LOOK_S)
            self.stood_s = max(self.stood_s, time.monotonic() - before - _LOOK_S)
            if why := self.hopeless or self.early():
                raise Refused("unavailable.deadline", f"{why}, so nothing more will come")
            if progress() != last:
                last, at = progress(), time.monotonic()
            elif time.monotonic() - at > PATIENCE_S:
                raise Refused("unavailable.deadline", f"nothing goes on at {last}; streams lost: {dict(self.lost)}")


@dataclass(slots=True)
class _Sending:
    """Presents one sealed record again and again, in workflows of `STEPS`."""

    hospital: Node
    payer: bytes
    clock: Clock
    watch: _Watch
    ending: set[bytes] = field(default_factory=set)
    begun: set[bytes] = field(default_factory=set)

    async def present(self, count: int, tell: Callable[[str], None]) -> None:
        secret = os.urandom(32)
        values = {unit.name: None for unit in _KIND.units} | {"encounter": secret}
        with self.hospital.transaction() as tx:
            record = tx.outbox.seal(_KIND.name, values)
        encounter, left = sealed.encounter_handle(secret, self.payer), count
        while left:
            some = min(left, _AT_ONCE)
            with self.hospital.transaction() as tx:
                for at in range(some):
                    tx.outbox.present(record, self._mandate(encounter, (count - left + at) % STEPS))
            left -= some
            await self.watch.until(lambda: not self.hospital.store.outgoing.unanswered(_now(), 1))
        tell(f"{count} presented at hour {self.clock.hours}")

    def _mandate(self, encounter: bytes, step: int) -> Mandate:
        if step == 0:
            self.workflow = os.urandom(16)
            ends = not self.clock.hours and len(self.begun) % ENDS_EVERY == 0
            self.begun.add(self.workflow)
            if ends:
                self.ending.add(self.workflow)
        until = _now() + 20 * HOUR_S if self.workflow in self.ending else 0
        return Mandate.by_statute(
            _BUNDLE.hash, self.payer, _CEILINGS, purpose="public-settlement", encounter=encounter,
            workflow=self.workflow, correlation=step.to_bytes(16, "big"), until=until,
        )  # fmt: skip

    workflow: bytes = b""


def _now() -> int:
    return int(time.time())


async def _settled(hospital: Node, stage: Stage, watch: _Watch) -> None:
    """Until nothing is over at the broker, and what ended was presented anew and taken."""

    def quiet() -> bool:
        rows = home.open_home(stage.path / "broker").open_read_only()
        try:
            over = rows.overdue(_now())
            notices = rows.find(tables.Notice, limit=1)
        finally:
            rows.close()
        return not over and not notices and not hospital.store.outgoing.unanswered(_now(), 1)

    await watch.until(quiet)


def _check(stage: Stage, sent: _Sending, payer: Payer, sender: Hospital) -> tuple[list[str], int]:
    faults = [
        f"workflow {one.hex()[:8]} came as {payer.came.get(one)}"
        for one in sent.begun - sent.ending
        if payer.came.get(one) != list(range(STEPS))
    ]
    faults += [f"workflow {one.hex()[:8]} came, and its time was over" for one in sent.ending if one in payer.came]
    if sender.states["expired"] != STEPS * len(sent.ending):
        faults.append(f"{sender.states['expired']} notices of an end, not {STEPS * len(sent.ending)}")
    rows = home.open_home(stage.path / "broker").open_read_only()
    states = Counter(row.state for row in rows.scan(tables.Exchange))
    if rows.find(tables.Delivery, limit=1):
        faults.append("a delivery is left")
    rows.close()
    return faults[:20], states["expired"] - sender.states["expired"]


def main(argv: list[str]) -> int:
    """Under the clock: measure, and print what was found as JSON."""
    with tempfile.TemporaryDirectory(prefix="zhifu-soak-") as folder:
        stage = Stage(Path(folder))
        try:
            count, step = map(int, argv)
            found = asyncio.run(measure(stage, Clock(Path(os.environ["ZHIFU_CLOCK"])), count, step, _tell))
        except Refused as error:
            print(json.dumps({"faults": [error.detail]}))
            return 1
        finally:
            stage.stop()
    print(json.dumps(asdict(found)))
    return 1 if found.faults else 0


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def run(count: int, step: int = 1, code: str = "") -> dict[str, object]:
    """In a process of its own, whose clock can be set, ``step`` hours at a time; of ``count``, whole workflows.

    ``code`` is Python that runs in it first.
    """
    count -= count % (2 * STEPS)
    with tempfile.TemporaryDirectory(prefix="zhifu-clock-") as folder:
        clock = Path(folder) / "clock"
        clock.write_bytes(bytes(8))
        settings = {"LD_PRELOAD": str(build("clock", Path(folder))), "ZHIFU_CLOCK": str(clock)}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.altered", code, "tests.soak.offline", str(count), str(step)],
            env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    found: dict[str, object] = json.loads(ended.stdout or '{"faults": ["it ended by itself"]}')
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
