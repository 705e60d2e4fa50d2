"""Suspended and expired peers: cut from live streams, with their reason, and taken back with what waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from nacl.signing import SigningKey

from broker import home
from broker.clock import clock_ms
from broker.core import Timing
from broker.services import identity
from broker.services.submitting import submit
from broker.store import tables
from tests.broker_rig import Attached, Server, frame, present, reason, serving
from tests.formats import HOSPITAL, NOW, PAYER, seed
from tests.house import spawn
from tests.test_exchange_service import refusal
from zhifu.receipt import parse_meta
from zhifu.standing import Standing
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc

OPERATOR = SigningKey(seed("operator"))
DAY_S = 86_400


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    timing = Timing(watch_s=0.05)
    async with serving(tmp_path, HOSPITAL, PAYER, timing=timing, operators=[bytes(OPERATOR.verify_key)]) as found:
        yield found


def say(server: Server, *, suspended: bool, at_s: int = NOW, by: SigningKey = OPERATOR, **other: Any) -> Any:
    """An operator's word on the payer, at the public port."""
    said = Standing(other.get("aud", server.core.log.origin), PAYER.id, suspended, "contract ended", at_s * 1000)
    stub = enrolment_pb2_grpc.EnrolmentServiceStub(server.channel(None, public=True))
    request = enrolment_pb2.SetStandingRequest(order=said.sign(by).to_proto())
    return stub.SetStanding(request, timeout=20)


async def refused(server: Server, **given: Any) -> str:

    return (await refusal(say(server, **given))).reason


async def ended(stream: Attached) -> str:
    """The reason that the stream was ended with."""
    found = await stream.next("reconnect")
    assert await stream.ended() == grpc.StatusCode.OK
    return str(found.reason)


async def test_a_suspended_peer_is_cut_off_and_comes_back_to_what_waited(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    done = await say(server, suspended=True)
    assert parse_meta(done.entry.meta).event == "participant.suspended"
    assert await ended(payer) == "participant.suspended"
    assert not payer.has("deliveries")
    assert reason((await hospital.submit(present(server.statute())))[0]) == "participant.suspended"
    server.clock.advance(2)
    await say(server, suspended=False, at_s=NOW + 1)
    again = await server.attach(PAYER)
    (taken,) = await hospital.submit(present(server.statute()))
    assert reason(taken) == ""
    assert len(await again.deliveries(1)) == 1


async def test_who_is_cut_off_is_not_shown_proofs_that_start_where_it_never_was(server: Server) -> None:
    """Else an honest broker would look like one that lies, and the node would keep evidence of it."""
    hospital = await server.attach(HOSPITAL)
    (session,) = server.served.exchange.sessions
    made = [frame(present(server.statute())) for _ in range(3)]
    first, second, third = [await submit(server.core, HOSPITAL.id, one) for one in made]
    await server.suspend(HOSPITAL)
    # One is proved and not sent when it is cut, one is not proved yet, and one is answered afterwards.
    session._answer(first)
    session._take_answered()
    session._answer(second)
    session.cut()
    session._answer(third)
    # It is found suspended again and again, and hears of it all the same.
    while session in server.served.exchange.sessions:
        session.cut()
        await asyncio.sleep(0)
    assert await ended(hospital) == "participant.suspended"


async def test_what_was_queued_before_a_suspension_is_delivered_after_it(server: Server) -> None:
    hospital = await server.attach(HOSPITAL)
    await hospital.submit(present(server.statute()))
    await say(server, suspended=True)
    assert len(server.rows(tables.Delivery)) == 1
    server.clock.advance(2)
    await say(server, suspended=False, at_s=NOW + 1)
    assert len(await (await server.attach(PAYER)).deliveries(1)) == 1


async def test_an_earlier_word_never_undoes_a_later_one(server: Server) -> None:
    await say(server, suspended=False, at_s=NOW - 10)
    await say(server, suspended=True, at_s=NOW)
    assert await refused(server, suspended=False, at_s=NOW - 10) == "participant.standing"
    assert await refused(server, suspended=False, at_s=NOW) == "participant.standing"
    assert await refused(server, suspended=False, at_s=NOW - 2 * DAY_S) == "participant.standing"
    assert await refused(server, suspended=False, at_s=NOW + 5, by=SigningKey(seed("stranger"))) == "key.unknown"
    assert await refused(server, suspended=False, at_s=NOW + 5, aud="log.example/other") == "presentation.audience"
    assert server.core.directory.member(PAYER.id).status == "suspended"


async def test_another_brokers_word_is_found_without_being_told(server: Server) -> None:
    payer = await server.attach(PAYER)
    # What another broker on the database commits, and its bell that is lost.
    await server.core.committer.run(
        lambda state, _s, _n: state.update(tables.Participant, {"status": "suspended"}, id=PAYER.id)
    )
    assert await ended(payer) == "participant.suspended"


async def test_a_certificate_that_expires_ends_the_stream_and_every_call(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "expiry", lambda one: NOW + 600)
    payer, hospital = await server.attach(PAYER), await server.attach(HOSPITAL)
    server.clock.advance(600)
    await asyncio.sleep(0.2)
    assert not payer.reader.done()
    server.clock.advance(1)
    assert [await ended(one) for one in (payer, hospital)] == ["participant.certificate"] * 2
    with pytest.raises(grpc.aio.AioRpcError, match="certificate has expired"):
        await server.attach(PAYER)


async def test_the_commands(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "operator.key"
    home.write_private(key, OPERATOR.encode().hex().encode())
    server.clock.ms = clock_ms()
    words = (server.home.path, PAYER.id.hex(), "--reason", "contract ended", "--operator", key)
    payer = await server.attach(PAYER)
    said = await asyncio.to_thread(spawn, "broker", "suspend", *words)
    assert said.ok().json["event"] == "participant.suspended"
    assert await ended(payer) == "participant.suspended"
    assert (await asyncio.to_thread(spawn, "broker", "resume", *words)).ok().json["event"] == "participant.resumed"
    await server.attach(PAYER)
    other = tmp_path / "other.key"
    missing = await asyncio.to_thread(spawn, "broker", "suspend", *words[:-1], other)
    assert (missing.code, "usage.file" in missing.err, other.exists()) == (2, True, False), "a slip draws no key"
    home.write_private(other, bytes(range(32)).hex().encode())
    wrong = await asyncio.to_thread(spawn, "broker", "suspend", *words[:-1], other)
    assert (wrong.code, "key.unknown" in wrong.err) == (5, True)
