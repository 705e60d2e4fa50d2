"""Those who do not behave, beside one who does: 2,000 streams of nothing but headers, a message of 300 MB, a peer that
is gone without a word. The broker's memory may grow by 50 MB, the honest p99 may double, the dead peer is seen in 60 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from clients import channel
from tests.bench.load import Attached
from tests.bench.process import resident_kib
from tests.bench.world import Participant, World
from tests.wire import Wire
from zhifu.v1 import exchange_pb2, exchange_pb2_grpc

STREAMS: Final = 2_000
MESSAGE: Final = 300 << 20
GROWN_KIB: Final = 50_000
SEEN_S: Final = 60.0
RATIO: Final = 2.0
_NOISE_MS: Final = 20.0
"""Below this a p99 says more about who else runs on this computer."""
_STREAMS_HELD: Final = 16
_CONNECT: Final = "/zhifu.v1.ExchangeService/Connect"
_SUBMIT: Final = "/zhifu.v1.ExchangeService/SubmitExchange"
_ENROL: Final = "/zhifu.v1.EnrolmentService/Enrol"
_LARGE: Final = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True, slots=True)
class Borne:
    """Honest p99 idle and meanwhile (ms); growth of the broker (MiB); how calls ended; until the dead peer was seen."""

    idle_ms: float
    meanwhile_ms: float
    grown_mib: float
    message: str
    refused: int
    seen_s: float
    faults: tuple[str, ...]


async def measure(world: World, seconds: float, tell: Callable[[str], None]) -> Borne:
    """An honest exchange after the other throughout, and everything else beside it."""
    honest, bad = Attached(world, world.hospitals[:1]), world.hospitals[-1]
    await honest.open()
    try:
        # A third warms up, a third is the idle figure.
        await honest.measure(1, 1, seconds / 3)
        idle = _p99(await honest.measure(1, 1, seconds / 3))
        before = resident_kib(world.pid)
        tell(f"idle: p99 {idle:.1f} ms, {before // 1024} MiB")
        watch = asyncio.create_task(_peak(world.pid))
        # First, since the others take what streams its participant may have.
        cut = asyncio.Event()
        gone = asyncio.create_task(_half_open(bad, cut))
        await cut.wait()
        calls, channels = _header_only(bad)
        # Two hundred handshakes are the computer's work on both sides; what the streams cost is asked once they stand.
        await _settled(calls)
        meanwhile = _p99(await honest.measure(1, 1, max(5.0, seconds / 3)))
        refused = sum(one.done() for one in calls)
        tell(f"{STREAMS} header-only streams, half without a certificate: p99 {meanwhile:.1f} ms, {refused} ended")
        message = await _large(bad)
        tell(f"a message of {MESSAGE >> 20} MiB: {message}")
        for one in calls:
            one.cancel()
        await asyncio.gather(*(one.close() for one in channels))
        seen = await gone
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        grown = (_PEAK[0] - before) / 1024
    finally:
        await honest.close()
    faults = [
        *([f"the broker grew by {grown:.0f} MiB"] if grown * 1024 > GROWN_KIB else []),
        *([f"honest p99 {meanwhile:.1f} ms"] if meanwhile > max(_NOISE_MS, RATIO * idle) else []),
        *([f"the message ended with {message}"] if message != "RESOURCE_EXHAUSTED" else []),
        *([f"the dead peer was seen after {seen:.0f} s"] if seen > SEEN_S else []),
    ]
    return Borne(idle, meanwhile, grown, message, refused, seen, tuple(faults))


_PEAK = [0]


async def _peak(pid: int) -> None:
    _PEAK[0] = 0
    while True:
        _PEAK[0] = max(_PEAK[0], resident_kib(pid))
        await asyncio.sleep(0.05)


def _p99(measured: Any) -> float:
    latencies = sorted(measured.latencies_ms)
    return float(latencies[int(0.99 * (len(latencies) - 1))])


async def _nothing() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield b""


def _header_only(bad: Participant) -> tuple[list[Any], list[grpc.aio.Channel]]:
    """Half of them on the nodes' port by one participant, half on the public port by nobody; ten a connection."""
    authority = bad.settings.authority.read_bytes()
    known, nobody = channel.node_credentials(bad.settings, bad.keys), grpc.ssl_channel_credentials(authority)
    nodes = [channel.secure(bad.settings.node_address, known) for _ in range(STREAMS // 20)]
    public = [channel.secure(bad.settings.public_address, nobody) for _ in range(STREAMS // 20)]
    calls: list[Any] = [one.stream_stream(_CONNECT)(_nothing()) for one in nodes for _ in range(10)]
    calls += [one.stream_stream(_ENROL)(_nothing()) for one in public for _ in range(10)]
    return calls, [*nodes, *public]


async def _settled(calls: list[Any]) -> None:
    """Until those that are over the quota were refused."""
    until = time.monotonic() + 30
    while sum(one.done() for one in calls) < STREAMS // 2 - _STREAMS_HELD and time.monotonic() < until:
        await asyncio.sleep(0.1)


async def _large(bad: Participant) -> str:
    """How one call with the whole message ends."""
    credentials = grpc.ssl_channel_credentials(
        Path(bad.settings.authority).read_bytes(), bad.keys.tls_key, bad.settings.certificate.read_bytes()
    )
    options = [*_LARGE, ("grpc.ssl_target_name_override", channel.SERVER_NAME)]
    async with grpc.aio.secure_channel(bad.settings.node_address, credentials, options=options) as opened:
        try:
            call: Any = opened.unary_unary(_SUBMIT)
            await call(bytes(MESSAGE), timeout=60)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


async def _half_open(bad: Participant, cut: asyncio.Event) -> float:
    """Seconds until a stream whose wire was cut is ended by the broker: the far side of the wire sees it close."""
    host, port = bad.settings.node_address.rsplit(":", 1)
    async with Wire(int(port), host) as wire:
        opened = channel.secure(f"127.0.0.1:{wire.port}", channel.node_credentials(bad.settings, bad.keys))
        call = exchange_pb2_grpc.ExchangeServiceStub(opened).Connect()
        hello = exchange_pb2.Hello(version=1, clock_ms=time.time_ns() // 10**6)
        await call.write(exchange_pb2.ConnectRequest(hello=hello))
        await call.read()
        wire.cut()
        cut.set()
        begun = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * SEEN_S):
                await wire.closed.wait()
        call.cancel()
        await opened.close()
        return time.monotonic() - begun
