"""``python -m tests.soak [--seconds N] [--seed N] [--only PART]``: exit 0 only if nothing went wrong.

Progress goes to stderr. Each part gets ``N`` seconds (the decoders 10,000 inputs for each of them), and the same
``--seed`` makes the same faults.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

import uvloop

from clients import channel
from clients.demo.stage import Stage
from tests.bench.world import World, open_world
from tests.broker_rig import Rig, rig
from tests.soak import (
    abuse,
    crash,
    database,
    decoders,
    live,
    memory,
    offline,
    order,
    powerloss,
    rpcs,
    settlement,
    steady,
    withheld,
)

INPUTS_A_SECOND: Final = 10_000
STREAMS: Final = 400
REQUESTS_A_SECOND: Final = 10
"""Of each method."""
QUEUED_A_SECOND: Final = 50
DECODED_A_SECOND: Final = 1000
"""Of each method, read without a connection."""
_BEGUN: Final = time.monotonic()
T = TypeVar("T")
Tell = Callable[[str], None]
Faults = Sequence[object]


def tell(part: str, step: str) -> None:
    """One line a step, on stderr."""
    print(f"{time.monotonic() - _BEGUN:7.1f} s  {part}: {step}", file=sys.stderr, flush=True)


@contextmanager
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="zhifu-soak-") as folder:
        found = Stage(Path(folder))
        try:
            yield found
        finally:
            found.stop()


@contextmanager
def world() -> Iterator[World]:
    """A broker's process with a few participants and patients."""
    with stage() as found:
        yield open_world(found, hospitals=2, patients=16)


def _decoders(seconds: float, seed: int, say: Tell) -> Faults:
    return decoders.fuzz(round(seconds * INPUTS_A_SECOND), seed, say)


def _live(seconds: float, seed: int, say: Tell) -> Faults:
    with world() as made:
        lived = uvloop.run(live.fuzz(made, seconds, seed, say))
    say(f"{lived.frames} hostile frames, answered {dict(lived.answers)}")
    return lived.faults


def _withheld(_: float, __: int, say: Tell) -> Faults:
    with stage() as found:
        measured = uvloop.run(withheld.measure(open_world(found, hospitals=1, patients=12), say))
    say(str(measured))
    return measured.faults


def _memory(seconds: float, _: int, say: Tell) -> Faults:
    with world() as made:
        found = uvloop.run(memory.measure(made, seconds, STREAMS, say))
    say(f"{found.bytes_an_exchange:.0f} bytes an exchange, {found.kib_a_stream:.1f} KiB a stream")
    return found.faults


def _database(_: float, seed: int, say: Tell) -> Faults:
    with stage() as found:
        survived = asyncio.run(database.run(found, seed, say))
    say(f"{survived.times} restarts, {survived.exchanges} exchanges, slowest recovery {survived.slowest_s:.1f} s")
    return survived.faults


def _brokers(_: float, seed: int, say: Tell) -> Faults:
    with stage() as found:
        survived = asyncio.run(database.run_pair(found, seed, say))
    say(f"{survived.times} kills, {survived.exchanges} exchanges, slowest recovery {survived.slowest_s:.1f} s")
    return survived.faults


def _crash(seconds: float, seed: int, say: Tell) -> Faults:
    with stage() as found:
        survived = asyncio.run(crash.run(found, seconds, seed, say))
    say(f"{survived.kills} kills, {survived.exchanges} exchanges, slowest start {survived.slowest_start_s:.1f} s")
    return survived.faults


def _powerloss(seconds: float, seed: int, say: Tell) -> Faults:
    with stage() as found:
        survived = asyncio.run(powerloss.run(found, seconds, seed, say))
    say(f"{survived.cuts} cuts, {survived.exchanges} exchanges, {survived.lost} pages lost")
    return survived.faults


def _abuse(seconds: float, _: int, say: Tell) -> Faults:
    with world() as made:
        borne = uvloop.run(abuse.measure(made, seconds, say))
    say(
        f"honest p99 {borne.idle_ms:.1f} ms idle, {borne.meanwhile_ms:.1f} ms meanwhile; {borne.grown_mib:+.0f} MiB; "
        f"dead peer seen after {borne.seen_s:.0f} s"
    )
    return borne.faults


def _settlement(_: float, __: int, say: Tell) -> Faults:
    survived = settlement.run_table(say)
    say(f"{survived.rows} rows, {survived.died} processes killed")
    return survived.faults


def _rpcs(seconds: float, seed: int, say: Tell) -> Faults:
    with world() as made:
        found = uvloop.run(_ask_all(made, seconds, seed))
    say(f"{found.calls} hostile requests, answered {dict(found.answers)}")
    read = rpcs.decode(round(seconds * DECODED_A_SECOND), seed, say)
    say(f"{read.calls} hostile requests without a connection, {dict(read.answers)}")
    return (*found.faults, *read.faults)


def _steady(seconds: float, _: int, say: Tell) -> Faults:
    with world() as made:
        return uvloop.run(steady.measure(made, seconds, say)).faults


def _offline(seconds: float, _: int, say: Tell) -> Faults:
    found = offline.run(round(seconds * QUEUED_A_SECOND))
    say(str(found))
    return cast(Faults, found["faults"])


def _order(seconds: float, seed: int, say: Tell) -> Faults:
    until, tried, whole, faults = time.monotonic() + seconds, 0, 0, list[object]()
    while time.monotonic() < until and not faults:
        told = _on_a_broker(partial(order.run, seed=seed + whole, until_s=until))
        tried, whole, faults = tried + told.orders, whole + told.is_whole, [*told.faults]
        say(f"seeds {seed} to {seed + whole - 1} whole, {tried} orders of {order.EVENTS} events")
    faults += _on_a_broker(partial(order.replay, seed=seed))
    say(f"{order.REPLAYS} replays")
    return faults


def _on_a_broker(run: Callable[[Rig], Awaitable[T]]) -> T:
    """What ``run`` gives for a new broker, in whose store all fits together afterwards."""

    async def ran(folder: Path) -> T:
        async with rig(folder) as broker:
            return await run(broker)

    with tempfile.TemporaryDirectory(prefix="zhifu-soak-") as folder:
        return asyncio.run(ran(Path(folder)))


async def _ask_all(made: World, seconds: float, seed: int) -> rpcs.Answered:
    one = made.hospitals[0]
    authority = one.settings.authority.read_bytes()
    async with (
        channel.node_channel(one.settings, one.keys) as nodes,
        channel.public_channel(one.settings.public_address, authority) as public,
    ):
        return await rpcs.fuzz(nodes, public, round(seconds * REQUESTS_A_SECOND), seed)


PARTS: Final = {
    "settlement": _settlement,
    "decoders": _decoders,
    "live": _live,
    "withheld": _withheld,
    "memory": _memory,
    "crash": _crash,
    "powerloss": _powerloss,
    "database": _database,
    "brokers": _brokers,
    "abuse": _abuse,
    "rpcs": _rpcs,
    "order": _order,
    "offline": _offline,
    "steady": _steady,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run and tell; the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description="A long run with faults.")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each part")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same faults again")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; default: all of them")
    given = parser.parse_args(argv)
    faults = 0
    for name in given.only or PARTS:
        tell(name, f"{given.seconds:.0f} s, seed {given.seed}")
        for fault in PARTS[name](given.seconds, given.seed, partial(tell, name)):
            faults += 1
            tell(name, f"FAULT {fault}")
    print(f"{faults} faults" if faults else "no faults", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
