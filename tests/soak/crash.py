"""A broker that is killed at random moments under load, and what must be true afterwards.

Two real nodes exchange claims and decisions without pause while ``kill -9`` hits the broker's process: between
transactions, inside them, before an answer left, and while it starts. Whatever a node was told is kept to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from broker import home
from broker.store import tables
from broker.store.interface import Reader
from broker.store.rows import Rows
from clients.auditor.cli import audit
from clients.demo import cast as casting
from clients.demo.cast import Cast
from clients.demo.stage import Actor, Stage, call
from clients.hospital import record
from clients.hospital.sample import sample_bill
from clients.node import Node
from clients.role import Draft, Noticed, Transaction
from clients.store import Mandate, Store
from policies import load
from policies.decide import finest
from zhifu import bill, receipt, schema, sealed
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error, Refused
from zhifu.receive import Opened

WORKERS: Final = 12
READY_S: Final = 5.0
LAST_S: Final = 60.0
WAIT_S: Final = 20.0
_CLAIM: Final = schema.load("inpatient-claim")
_ENDED: Final = ("answered", "delivered")


@dataclass(frozen=True, slots=True)
class Survived:
    """Kills, exchanges that were acknowledged to a node, the slowest start in seconds, and what did not hold."""

    kills: int
    exchanges: int
    slowest_start_s: float
    faults: tuple[str, ...]


class Hospital:
    """Reads its answers; nothing of them is needed here."""

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        return None

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        pass

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        pass

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        pass

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        return ""

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        return ""

    def holds(self, opened: Opened, store: Store) -> str:
        return ""


class Payer(Hospital):
    """Answers every claim."""

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        if opened.manifest.schema_hash != _CLAIM.hash:
            return None
        values = {
            "outcome": "reserved", "amounts": [["pay", 1]], "clauses": [], "reservation": bytes(32), "expires": tx.now,
        }  # fmt: skip
        return Draft.answering(opened, "decision", values)


@dataclass(slots=True)
class House:
    """The broker, which comes and goes on the same ports, and the two nodes, which stay."""

    stage: Stage
    cast: Cast
    broker: Actor
    ports: tuple[int, int]
    nodes: dict[str, Node] = field(default_factory=dict)
    starts_s: list[float] = field(default_factory=list)

    @staticmethod
    def open(stage: Stage, *more: str) -> House:
        """``more`` words go to the broker's init."""
        call("broker", "init", str(stage.path / "broker"), "--origin", casting.ORIGIN, *more)
        broker = stage.start("broker", "broker", "serve", str(stage.path / "broker"))
        said = stage.ready(broker)
        return House(
            stage, casting.join(stage, casting.invite(stage)), broker, (said["node_port"], said["public_port"])
        )

    def open_nodes(self) -> None:
        """On the thread that will use them."""
        for role, code in (("hospital", Hospital()), ("public-payer", Payer())):
            self.nodes[role] = Node.open(self.stage.path / role, code)

    def kill(self) -> None:
        os.kill(self.broker.process.pid, signal.SIGKILL)
        self.broker.process.wait()

    async def until_killed(self, random: Random) -> None:
        """Let it work for a while."""
        await asyncio.sleep(random.uniform(0.05, 2.5))

    async def calm(self) -> None:
        """From here on nothing ends it any more."""

    @property
    def command(self) -> tuple[str, ...]:
        """What serves on the ports that the broker had from the beginning."""
        node, public = map(str, self.ports)
        return ("broker", "serve", str(self.stage.path / "broker"), "--node-port", node, "--public-port", public)

    def start(self) -> None:
        """Start the broker again; `await_ready` says when it serves."""
        self.broker = self.stage.start("broker", *self.command)

    async def await_ready(self) -> None:
        """Raises `Refused` (unavailable.broker) if it does not start."""
        begun = time.monotonic()
        await asyncio.to_thread(self.stage.ready, self.broker)
        self.starts_s.append(time.monotonic() - begun)


@dataclass(slots=True)
class Load:
    """Claims without pause; ``told``: every exchange that a node knows to be accepted, and the state it must end in."""

    hospital: Node
    payer: bytes
    goes_on: bool = True
    told: dict[bytes, str] = field(default_factory=dict)
    anew: int = 0
    faults: list[str] = field(default_factory=list)

    async def work(self, number: int) -> None:
        """One exchange after another, each awaited however long the broker is away."""
        while self.goes_on and not self.faults:
            exchange = self._present(number)
            try:
                await self._until(partial(self.hospital.result_of, exchange, WAIT_S))
                answer: Opened = await self._until(partial(self.hospital.answer_to, exchange, WAIT_S))
            except Error as error:
                self.faults.append(f"an exchange ended with {error.reason}")
                return
            latest = self.hospital.store.outgoing.latest(exchange)
            assert latest is not None
            # One that was under way while its sender's keys changed is refused, and presented anew under another hash.
            self.anew += latest.exchange != exchange
            self.told |= {latest.exchange: "answered", answer.hash: "delivered"}

    def _present(self, number: int) -> bytes:
        secret = os.urandom(32)
        mandate = Mandate.by_statute(
            _BUNDLE.hash, self.payer, _CEILINGS, purpose="public-settlement",
            encounter=sealed.encounter_handle(secret, self.payer), workflow=os.urandom(16),
        )  # fmt: skip
        with self.hospital.transaction() as tx:
            values = record.claim(bill.parse(sample_bill(number)), secret)
            return tx.queue(Draft(_CLAIM.name, values, mandate))

    async def _until(self, wait: Callable[[], Any]) -> Any:
        while True:
            try:
                return await wait()
            except Refused as error:
                if not error.retryable:
                    raise


_BUNDLE: Final = load.load()
_CEILINGS: Final = finest(_BUNDLE, "public-settlement", "public-payer", _CLAIM)


async def run(
    stage: Stage,
    seconds: float,
    start: int,
    tell: Callable[[str], None],
    opened: Callable[[Stage], House] | None = None,
    ready_s: float = READY_S,
) -> Survived:
    """Load and kills for ``seconds``, then peace, then the checks. ``start`` seeds the moments."""
    random, house = Random(f"{start} crash"), await asyncio.to_thread(opened or House.open, stage)
    house.open_nodes()
    running = [asyncio.create_task(one.run()) for one in house.nodes.values()]
    load_ = Load(house.nodes["hospital"], house.cast.ids["public-payer"])
    await asyncio.gather(*(one.attached() for one in house.nodes.values()))
    workers = [asyncio.create_task(load_.work(number)) for number in range(WORKERS)]
    kills = await _kill_until(house, random, time.monotonic() + seconds, running, tell)
    load_.goes_on = False
    faults = await peace(house, workers, running)
    tell("checking")
    faults += load_.faults + await asyncio.to_thread(check, stage, load_.told, load_.anew)
    slowest = max(house.starts_s, default=0.0)
    if slowest > ready_s:
        faults.append(f"a start took {slowest:.1f} s")
    return Survived(kills, len(load_.told), slowest, tuple(faults))


async def _kill_until(
    house: House, random: Random, until: float, running: Sequence[asyncio.Task[None]], tell: Callable[[str], None]
) -> int:
    kills = 0
    while time.monotonic() < until and not any(task.done() for task in running):
        await house.until_killed(random)
        house.kill()
        kills += 1
        house.start()
        while random.randrange(5) == 0:  # and again, while it starts
            await asyncio.sleep(random.uniform(0.0, 1.5))
            house.kill()
            kills += 1
            house.start()
        await house.await_ready()
        tell(f"{kills} kills, ready after {house.starts_s[-1]:.1f} s")
    await house.calm()
    return kills


async def peace(
    house: House, workers: Sequence[asyncio.Task[None]], running: Sequence[asyncio.Task[None]]
) -> list[str]:
    """Let everything end that was begun, then end the processes themselves."""
    faults = []
    _, open_ = await asyncio.wait(workers, timeout=LAST_S)
    if open_:
        faults.append(f"{len(open_)} exchanges never ended")
        for task in open_:
            task.cancel()
    faults += [f"a worker failed: {task.exception()}" for task in workers if task.done() and _failed(task)]
    await _quiet(house.stage)
    for node in house.nodes.values():
        node.stop()
    await asyncio.wait(running, timeout=LAST_S)
    faults += [f"a node stopped: {task.exception()}" for task in running if not task.done() or _failed(task)]
    for node in house.nodes.values():
        node.close()
    house.broker.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(house.broker.process.wait, LAST_S)
    return faults


def _failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


async def _quiet(stage: Stage) -> None:
    """Until the broker has nothing more to deliver, or a while."""
    until = time.monotonic() + LAST_S
    while time.monotonic() < until:
        # A new connection each time: what it reads is what is committed then.
        with closing(_reader(stage)) as rows:
            if not rows.find(tables.Delivery, limit=1):
                return
        await asyncio.sleep(0.1)


def _reader(stage: Stage) -> Rows:
    return home.open_home(stage.path / "broker").open_read_only()


def check(stage: Stage, told: dict[bytes, str], anew: int = 0) -> list[str]:
    """Every exchange that a node was told of is there once, nothing else is, and the log verifies.

    ``anew`` exchanges were presented a second time: so many may be there that ended without being delivered.
    """
    report = audit(stage.path)
    faults = [] if report.verified else [f"the log does not verify: {report.first_bad}"]
    # Opened last: PostgreSQL waits for nobody who reads nothing.
    reader = _reader(stage)
    return [*faults, *_exchanges(reader, told, anew), *_entries(reader, told)]


def _exchanges(reader: Reader, told: dict[bytes, str], anew: int) -> Iterator[str]:
    kept = {row.hash: row.state for row in reader.scan(tables.Exchange)}
    yield from (f"exchange {name.hex()[:16]} is lost" for name in told if name not in kept)
    untold = [name for name in kept if name not in told]
    if any(kept[name] not in ("refused", "expired") for name in untold) or len(untold) > anew:
        yield from (f"exchange {name.hex()[:16]}, {kept[name]}, was told to nobody" for name in untold)
    wrong = [name for name, state in told.items() if kept.get(name, state) != state]
    yield from (f"exchange {name.hex()[:16]} is {kept[name]}" for name in wrong)
    if reader.find(tables.Delivery, limit=1):
        yield "a delivery is left that was acknowledged"


def _entries(reader: Reader, told: dict[bytes, str]) -> Iterator[str]:
    """No gap in the audit log, and one entry for each accepted exchange."""
    size, accepted = 0, Counter[bytes]()
    for row in reader.scan(tables.Entry):
        if row.index != size:
            yield f"the log has a gap before entry {row.index}"
        size = row.index + 1
        if row.meta and receipt.parse_meta(row.meta).event == "exchange.accepted":
            accepted[receipt.parse_detail(row.detail).exchange] += 1
    head = reader.get(tables.Head, 1)
    if head is None or head.size != size:
        yield f"the head is not at the log's {size} entries"
    yield from (f"exchange {name.hex()[:16]} has {accepted[name]} entries" for name in told if accepted[name] != 1)
