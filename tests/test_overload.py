"""What one participant may ask, and what those ask who do not behave: others must not notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker import quota
from broker.commit import MAX_OF_ONE, MAX_WAITING
from broker.core import Timing
from broker.delivery import WINDOW
from broker.lanes import Lanes
from broker.quota import Bucket, Quota, Quotas
from broker.store import tables
from tests.broker_rig import Server, acknowledgements, present, rig, serving
from tests.formats import HOSPITAL, INSURER, PAYER, RIVAL, claim
from tests.test_exchange_service import refusal, statute
from tests.wire import Wire
from zhifu.errors import CATALOGUE, Error, Malformed, Refused
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1 import exchange_pb2_grpc

CONNECT = "/zhifu.v1.ExchangeService/Connect"
CHALLENGE = "/zhifu.v1.EnrolmentService/Enrol"


@dataclass(frozen=True)
class One:
    name: str
    weight: int = 1


def names(batch: Sequence[One]) -> str:
    return "".join(one.name for one in batch)


# Turns


def test_a_flood_of_one_participant_does_not_go_before_another() -> None:
    lanes: Lanes[One] = Lanes()
    for _ in range(6):
        lanes.put(One("a"), b"a")
    lanes.put(One("b"), b"b")
    lanes.put(One("c"), b"c")
    lanes.put(One("b"), b"b")
    assert lanes.weight == 9
    assert names(lanes.take(4)) == "abca"
    assert names(lanes.take(100)) == "baaaa"
    assert not lanes
    assert lanes.weight == 0


def test_what_is_no_settlement_waits_but_not_for_ever() -> None:
    lanes: Lanes[One] = Lanes()
    for _ in range(4):
        lanes.put(One("x", 64), b"a", bulk=True)
    for _ in range(4):
        lanes.put(One("s", 64), b"a")
    assert names(lanes.take(192)) == "xss"
    assert names(lanes.take(192)) == "xss"
    assert names(lanes.take(192)) == "xx"
    lanes.put(One("s"), b"a")
    assert names(lanes.clear()) == "s"
    assert not lanes.take(1)


async def test_a_commit_takes_turns(tmp_path: Path) -> None:
    """The insurer's one operation is in the first batch, whatever the hospital handed in before it."""
    order: list[str] = []
    async with rig(tmp_path) as broker:
        flood = [broker.core.committer.run(lambda *_: order.append("hospital"), 512, HOSPITAL.id) for _ in range(8)]
        insurer = broker.core.committer.run(lambda *_: order.append("insurer"), 1, INSURER.id)
        await asyncio.gather(*flood, insurer)
    assert order.index("insurer") <= 1


async def test_a_flood_of_one_participant_leaves_room_for_another(tmp_path: Path) -> None:
    """As many streams as it has, and what can wait beside what cannot: it fills its share, never all there is."""
    async with rig(tmp_path) as broker:
        committer = broker.core.committer
        count = MAX_WAITING // 64
        flood = [committer.run(lambda *_: 0, 64, HOSPITAL.id, bulk=n % 2 == 0) for n in range(count)]
        others = [committer.run(lambda *_: 0, 64, INSURER.id), broker.run(lambda *_: 0)]
        refused = [one for one in await asyncio.gather(*flood, return_exceptions=True) if isinstance(one, Error)]
        assert {one.reason for one in refused} == {"unavailable.overload"}
        assert len(refused) == count - MAX_OF_ONE // 64
        await asyncio.gather(*others)
        # What was taken counts no more.
        await asyncio.gather(*(committer.run(lambda *_: 0, 64, HOSPITAL.id) for _ in range(MAX_OF_ONE // 64)))


# Quotas


def test_a_bucket_lets_its_rate_through() -> None:
    bucket = Bucket(10.0, 2.0, now=0.0)
    assert bucket.wait(0.0) == 0
    bucket.take(64)
    assert bucket.wait(0.0) == pytest.approx(4.5)
    assert bucket.wait(4.3) > 0
    assert bucket.wait(4.5) == 0
    taken = 0
    for tick in range(1000):
        if not bucket.wait(5 + tick / 10):
            bucket.take(64)
            taken += 64
    assert taken == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("document", [{"rate": 1}, {"streams": 0}, {"streams": "8"}, {"zz": {"streams": 1}}])
def test_a_quota_that_is_none_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        quota.parse(document)


def test_a_participant_has_the_quota_that_names_it() -> None:
    every, own = quota.parse({"streams": 3, PAYER.id.hex(): {"exchanges_per_s": 7}})
    quotas = Quotas(every, own)
    assert quotas.of(PAYER.id) == Quota(exchanges_per_s=7.0, streams=3)
    assert quotas.of(INSURER.id) == Quota(streams=3)


async def test_what_is_over_the_quota_is_refused_with_its_time_and_taken_then(tmp_path: Path) -> None:
    async with serving(tmp_path, quota=Quota(exchanges_per_s=20.0, burst_s=0.1)) as server:
        hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
        first, second = statute(server, 8), statute(server, 2)
        assert not any(one.HasField("refusal") for one in await hospital.submit(*first))
        refused = await hospital.submit(*second)
        assert {one.refusal.reason for one in refused} == {"unavailable.quota"}
        assert all(one.refusal.retryable and 0 < one.refusal.retry_after_ms <= 400 for one in refused)
        # It is nothing that is in the log: nobody was denied anything.
        assert len(server.rows(tables.Exchange)) == 8
        # Others have their own, and after the time that was named the same bytes are taken.
        assert not (await payer.submit(present(server.statute(PAYER))))[0].refusal.reason.startswith("unavailable")
        await asyncio.sleep(refused[0].refusal.retry_after_ms / 1000)
        assert not any(one.HasField("refusal") for one in await hospital.submit(*second))


async def test_bytes_are_counted_too(tmp_path: Path) -> None:
    async with serving(tmp_path, quota=Quota(bytes_per_s=1000.0, burst_s=1.0)) as server:
        hospital = await server.attach(HOSPITAL)
        assert not (await hospital.submit(*statute(server)))[0].HasField("refusal")
        (refused,) = await hospital.submit(*statute(server))
        assert refused.refusal.reason == "unavailable.quota"
        assert refused.refusal.retry_after_ms > 1000


async def test_bytes_of_what_is_refused_are_counted_too(tmp_path: Path) -> None:
    """Else a flood of what never verifies would cost its sender nothing."""
    async with serving(tmp_path, quota=Quota(bytes_per_s=1000.0, burst_s=1.0)) as server:
        hospital = await server.attach(HOSPITAL)
        junk = pb.Submission(presentation=b"x", leaves=bytes(400_000))
        for reason in ("signature.invalid", "unavailable.quota"):
            await hospital.send(submissions=pb.SubmissionFrame(signature=bytes(64), submissions=[junk]))
            (refused,) = await hospital.results(1)
            assert refused.refusal.reason == reason
        assert refused.refusal.retry_after_ms > 10_000


async def test_streams_of_a_participant_are_counted_from_their_headers(tmp_path: Path) -> None:
    async with serving(tmp_path, quota=Quota(streams=2), timing=Timing(hello_s=0.5)) as server:
        stub = exchange_pb2_grpc.ExchangeServiceStub(server.node(HOSPITAL))
        silent = [stub.Connect() for _ in range(2)]
        await asyncio.gather(*(one.wait_for_connection() for one in silent))
        third = stub.Connect()
        told = await refusal(third)
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "unavailable.quota")
        await server.attach(PAYER)
        # Those that said nothing are over, and there is room again.
        assert {(await refusal(one)).reason for one in silent} == {"unavailable.deadline"}
        await server.attach(HOSPITAL)


async def test_a_recipient_with_too_much_waiting_holds_up_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path, quota=Quota(queued=3)) as server:
        hospital = await server.attach(HOSPITAL)
        await hospital.submit(*statute(server, 3))
        server.core.quotas.counted(await asyncio.to_thread(server.home.waiting))
        await server.grant(record := claim())
        to_insurer, to_payer = present(record), present(server.statute())
        found = {one.presentation_hash: one for one in await hospital.submit(to_insurer, to_payer)}
        assert found[to_payer.hash].refusal.reason == "unavailable.overload"
        assert not found[to_insurer.hash].HasField("refusal")
        payer = await server.attach(PAYER)
        await payer.send(acknowledgements=acknowledgements(PAYER, await payer.deliveries(3)))
        await hospital.notices(3)
        server.core.quotas.counted(await asyncio.to_thread(server.home.waiting))
        assert not (await hospital.submit(to_payer))[0].HasField("refusal")


# Slow consumers


async def test_a_node_that_reads_and_does_not_acknowledge_gets_a_window(tmp_path: Path) -> None:
    """The rest stays in the store, and comes once there is room; nobody else waits for it."""
    async with serving(tmp_path) as server:
        hospital = await server.attach(HOSPITAL)
        for _ in range(WINDOW // 64 + 2):
            await hospital.submit(*statute(server, 64))
        payer = await server.attach(PAYER)
        found = await payer.deliveries(WINDOW)
        insurer = await server.attach(INSURER)
        await server.grant(record := claim())
        await hospital.submit(present(record))
        await insurer.deliveries(1)
        assert not payer.has("deliveries")
        assert sum(one.leased for one in server.core.mailroom.every) == WINDOW + 1
        await payer.send(acknowledgements=acknowledgements(PAYER, found[:64]))
        assert len(await payer.deliveries(64)) == 64


# Those who do not behave


async def test_calls_that_are_begun_and_never_sent_do_not_keep_others_out(tmp_path: Path) -> None:
    """Header-only: streams end with their hello's deadline, unary calls with their connection's age."""
    async with serving(tmp_path, timing=Timing(hello_s=0.5)) as server:
        hospital = await server.attach(HOSPITAL)
        begun = [_begin(server.channel(RIVAL.name, RIVAL.id), CONNECT) for _ in range(20) for _ in range(10)]
        begun += [_begin(server.channel(None, public=True), CHALLENGE) for _ in range(100)]
        started = time.monotonic()
        for _ in range(5):
            assert not (await hospital.submit(*statute(server)))[0].HasField("refusal")
        assert time.monotonic() - started < 5
        ended = await asyncio.gather(*(one.code() for one in begun[:200]))
        assert set(ended) <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
        for one in begun:
            one.cancel()


def _begin(channel: grpc.aio.Channel, method: str) -> Any:
    async def nothing() -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield b""

    return channel.stream_stream(method)(nothing())


async def test_connections_are_counted_from_their_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is attached goes on, who is too many is closed at once, and there is room when the others have left."""
    monkeypatch.setattr("broker.services.ports.MAX_CONNECTIONS", 6)
    async with serving(tmp_path) as server:
        hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
        silent = [await asyncio.open_connection("127.0.0.1", server.served.ports[0]) for _ in range(12)]
        over = [asyncio.create_task(reader.read(1)) for reader, _ in silent]
        async with asyncio.timeout(8):  # before those that are kept end by the handshake's own time
            for one in asyncio.as_completed(over):
                assert await one == b""
                if sum(other.done() for other in over) == 8:
                    break
        assert not (await hospital.submit(*statute(server)))[0].HasField("refusal")
        assert len(await payer.deliveries(1)) == 1
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await server.attach(INSURER)
        assert late.value.code() == grpc.StatusCode.UNAVAILABLE
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(30):
            while not await _attaches(server):
                await asyncio.sleep(0.05)


async def _attaches(server: Server) -> bool:
    try:
        await server.attach(INSURER)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_peer_that_is_half_open_is_seen(tmp_path: Path) -> None:
    """Its connection stands and nothing comes back: pings find out, and its stream and leases are free."""
    async with serving(tmp_path, timing=Timing(keepalive_ms=1_000)) as server, Wire(server.served.ports[0]) as wire:
        call = exchange_pb2_grpc.ExchangeServiceStub(server.node(PAYER, port=wire.port)).Connect()
        await call.write(pb.ConnectRequest(hello=pb.Hello(version=1, clock_ms=server.clock())))
        assert isinstance(await call.read(), pb.ConnectResponse)
        assert server.core.mailroom.attached == [PAYER.id]
        wire.cut()
        async with asyncio.timeout(30):
            while server.core.mailroom.attached:
                await asyncio.sleep(0.05)
        call.cancel()


def test_whoever_may_retry_is_told_when() -> None:
    for reason in CATALOGUE.values():
        assert (reason.retry_s > 0) == reason.retryable
    assert Refused("unavailable.quota", retry_s=0.25).retry_s == 0.25
    assert Refused("consent.revoked").retry_s == 0
