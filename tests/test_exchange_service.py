"""The node port as a stranger finds it: real TLS, real gRPC, and peers that do not behave.

Long, since all of it is one port; each part has its heading.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from nacl.signing import SigningKey

from broker.core import Timing
from broker.counts import COUNTS
from broker.quota import STATED_BURST_S, STATED_PER_S
from broker.services import session
from broker.services.frames import Known
from broker.services.ports import MAX_MESSAGE
from broker.store import tables
from clients import wire
from tests.broker_rig import (
    Attached,
    Server,
    acknowledgements,
    epoch_of,
    frame,
    frame_of,
    fresh,
    present,
    reason,
    serving,
    statement_of,
    submission,
)
from tests.formats import DAY, HOSPITAL, INSURER, NOW, ORIGIN, PAYER, Sent, answer, claim, seed
from zhifu import acknowledgement, envelope, presentation, statement
from zhifu.errors import CATALOGUE
from zhifu.keys import participant_id
from zhifu.receipt import Head, parse_meta
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1 import exchange_pb2_grpc

QUICK = Timing(hello_s=0.2, lease_s=0.3, flush_s=0.5, sweep_s=0.02)
Stub = exchange_pb2_grpc.ExchangeServiceStub


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path, timing=QUICK) as found:
        yield found


@dataclass(frozen=True)
class Told:
    """How a call was refused."""

    code: grpc.StatusCode
    reason: str
    retryable: str
    said: str


async def refusal(call: Any) -> Told:
    """The refusal that a call or a stream ends with; its message carries nothing of the broker's inside."""
    async with asyncio.timeout(20):
        code = await call.code()
        error = grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )  # fmt: skip
    status = rpc_status.from_call(cast(grpc.Call, error))
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    # Whoever may try again is told when.
    retries = [one for one in status.details[1:] if one.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
    assert len(status.details) == 1 + len(retries)
    assert len(retries) == CATALOGUE[info.reason].retryable
    assert info.domain == "zhifu"
    said = f"{status.message} {info.metadata['detail']}"
    assert status.message == CATALOGUE[info.reason].meaning
    assert info.metadata["retryable"] == str(CATALOGUE[info.reason].retryable).lower()
    for inside in ("Traceback", "sqlite", "SELECT", ".py", str(Path.cwd()), "Error", "site-packages"):
        assert inside not in said
    return Told(code, info.reason, info.metadata["retryable"], said)


async def ended_with(stream: Attached) -> str:
    """The reason of the reconnect frame that a stream ends with."""
    found = await stream.next("reconnect")
    # INTERNAL is what our own end says of a write that was under way when the stream ended.
    assert await stream.ended() in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL)
    assert stream.order[-1] == "reconnect"
    return str(found.reason)


def statute(server: Server, count: int = 1, **changed: Any) -> list[Sent]:
    return [present(server.statute(), **changed) for _ in range(count)]


def hello(**changed: Any) -> pb.ConnectRequest:
    said: dict[str, Any] = {"version": 1, "clock_ms": NOW * 1000}
    return pb.ConnectRequest(hello=pb.Hello(**(said | changed)))


async def is_alive(server: Server) -> None:
    """The broker still does its work."""
    stream = await server.attach(HOSPITAL)
    assert [reason(one) for one in await stream.submit(*statute(server))] == [""]
    await stream.leave()


# Greeting


async def test_a_stream_is_welcomed(server: Server) -> None:
    call = Stub(server.node(HOSPITAL)).Connect()
    await call.write(hello())
    answer = await call.read()
    assert isinstance(answer, pb.ConnectResponse)
    found = answer.welcome
    assert (found.version, found.origin, found.node, found.max_frame) == (1, ORIGIN, HOSPITAL.id, 64)
    assert found.clock_ms == server.clock.ms
    signed = envelope.from_proto(envelope.KEY_STATEMENT, found.gate_key_statement)
    stated = statement.verify_key_statement(signed, participant_id(server.home.vkey.public_key), NOW)
    assert {key.id for key in stated.kem_keys} <= set(server.home.gate_keys)
    answer = await call.read()
    assert isinstance(answer, pb.ConnectResponse)
    shown = {one.participant: one for one in answer.directory.entries}
    assert {one.role for one in shown.values()} == {"hospital", "public-payer", "insurer"}
    for one in (HOSPITAL, PAYER, INSURER):
        assert shown[one.id].key_statement == statement_of(one).to_proto()
    call.cancel()


async def test_a_stream_that_says_nothing_is_ended(server: Server) -> None:
    call = Stub(server.node(HOSPITAL)).Connect()
    told = await refusal(call)
    assert (told.code, told.reason, told.retryable) == (
        grpc.StatusCode.DEADLINE_EXCEEDED, "unavailable.deadline", "true"
    )  # fmt: skip
    assert server.served.exchange.sessions == set()


FIRST = {
    "another version": (hello(version=2), "malformed.version"),
    "no version": (hello(version=0), "malformed.version"),
    "a submission": (pb.ConnectRequest(submissions=pb.SubmissionFrame()), "malformed.version"),
    "an empty frame": (pb.ConnectRequest(), "malformed.version"),
    "half a head": (hello(head_root=b"short"), "malformed.field"),
}


@pytest.mark.parametrize("name", FIRST)
async def test_a_stream_begins_with_a_hello(server: Server, name: str) -> None:
    first, expected = FIRST[name]
    call = Stub(server.node(HOSPITAL)).Connect()
    await call.write(first)
    told = await refusal(call)
    assert (told.code, told.reason, told.retryable) == (grpc.StatusCode.INVALID_ARGUMENT, expected, "false")


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
async def test_a_hello_with_numbers_beyond_every_store_harms_its_own_stream(server: Server, number: int) -> None:
    other = await server.attach(PAYER)
    call = Stub(server.node(HOSPITAL)).Connect()
    await call.write(hello(notices_through=number, head_size=number))
    with contextlib.suppress(grpc.aio.AioRpcError):
        while isinstance(await call.read(), pb.ConnectResponse):
            pass
    assert (await refusal(call)).reason == "malformed.field"
    await other.send(notices_read=pb.NoticesRead(through=number))
    assert await ended_with(other) == "malformed.field"
    await is_alive(server)


# Who is calling


async def test_without_a_certificate_nobody_gets_in(server: Server) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Stub(server.channel(None)).SubmitExchange(pb.SubmitExchangeRequest(), timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_none(server: Server, tmp_path: Path) -> None:
    async with serving(tmp_path / "other") as other:
        theirs = other.certificate(HOSPITAL.name, HOSPITAL.id)
    server.certificate = lambda name, participant: theirs  # type: ignore[method-assign]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Stub(server.node(HOSPITAL)).SubmitExchange(pb.SubmitExchangeRequest(), timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_an_unknown_participant_is_refused(server: Server) -> None:
    """Our own authority certified its key; nobody enrolled it."""
    call = Stub(server.channel("stranger", os.urandom(32))).Connect()
    told = await refusal(call)
    assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, "participant.unknown")
    unary = Stub(server.channel("stranger", HOSPITAL.id)).SubmitExchange(pb.SubmitExchangeRequest())
    assert (await refusal(unary)).reason == "participant.unknown"


async def test_the_key_says_who_is_calling_not_the_name_in_the_certificate(server: Server) -> None:
    call = Stub(server.channel(PAYER.name, HOSPITAL.id)).Connect()
    await call.write(hello())
    answer = await call.read()
    assert isinstance(answer, pb.ConnectResponse)
    assert answer.welcome.node == PAYER.id
    call.cancel()


async def test_a_key_that_is_not_stated_any_more_is_refused(server: Server) -> None:
    stream = await server.attach(HOSPITAL)
    new = statement_of(HOSPITAL, 2, tls_spki=(seed("another TLS key"),))
    await stream.send(key_statement=new.to_proto())
    await stream.next("directory")
    await stream.leave()
    assert (await refusal(Stub(server.node(HOSPITAL)).Connect())).reason == "key.unknown"


async def test_a_suspended_participant_is_refused_also_while_it_is_attached(server: Server) -> None:
    stream = await server.attach(HOSPITAL)
    await server.suspend(HOSPITAL)
    await stream.send(submissions=frame(*statute(server)))
    told = await refusal(stream.call)
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "participant.suspended")
    assert (await refusal(Stub(server.node(HOSPITAL)).Connect())).reason == "participant.suspended"
    assert server.rows(tables.Exchange) == []
    await stream.leave()


# Frames that are none


BAD: dict[str, tuple[pb.ConnectRequest, str]] = {
    "a second hello": (hello(), "malformed.field"),
    "an empty frame": (pb.ConnectRequest(), "malformed.field"),
    "no submissions": (pb.ConnectRequest(submissions=pb.SubmissionFrame()), "malformed.size"),
    "65 submissions": (pb.ConnectRequest(submissions=pb.SubmissionFrame(submissions=[pb.Submission()] * 65)),
                       "malformed.size"),
    "no acknowledgements": (pb.ConnectRequest(acknowledgements=pb.AcknowledgementFrame()), "malformed.size"),
    "65 acknowledgements": (pb.ConnectRequest(acknowledgements=pb.AcknowledgementFrame(
        signature=bytes(64), acknowledgements=[b"x"] * 65)), "malformed.size"),
    "forged acknowledgements": (pb.ConnectRequest(acknowledgements=pb.AcknowledgementFrame(
        signature=bytes(64), acknowledgements=[b"x"])), "signature.invalid"),
    "no key statement": (pb.ConnectRequest(key_statement=envelope.Envelope(
        envelope.KEY_STATEMENT, b"", bytes(32), bytes(64)).to_proto()), "malformed.version"),
    "no epoch offer": (pb.ConnectRequest(epoch_offer=envelope.Envelope(
        envelope.EPOCH_OFFER, b"", bytes(32), bytes(64)).to_proto()), "key.unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_a_frame_that_is_none_ends_its_stream_with_the_reason(server: Server, name: str) -> None:
    bad, expected = BAD[name]
    stream, other = await server.attach(HOSPITAL), await server.attach(PAYER)
    await stream.call.write(bad)
    assert await ended_with(stream) == expected
    assert not other.reader.done()
    await is_alive(server)


async def test_an_oversized_frame_ends_its_stream_and_no_other(server: Server) -> None:
    stream, other = await server.attach(HOSPITAL), await server.attach(PAYER)
    large = pb.SubmissionFrame(submissions=[pb.Submission(leaves=bytes(9 << 20))])
    assert large.ByteSize() > MAX_MESSAGE
    with contextlib.suppress(grpc.aio.AioRpcError):
        await stream.send(submissions=large)
    assert await stream.ended() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not other.reader.done()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Stub(server.node(HOSPITAL)).SubmitExchange(pb.SubmitExchangeRequest(submissions=large), timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await is_alive(server)


@pytest.mark.parametrize("public", [False, True])
async def test_garbage_on_the_socket_harms_nobody(server: Server, public: bool) -> None:
    chance = random.Random(7)
    port = server.served.ports[1 if public else 0]
    client_hello = bytes.fromhex("160301020001") + b"\x00\x01\xfc\x03\x03"
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", client_hello,
                  client_hello + chance.randbytes(508), chance.randbytes(70_000)):  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Also ENOTCONN, which is no ConnectionError: the broker may hang up before we have said all.
        with contextlib.suppress(OSError):
            writer.write(noise)
            await writer.drain()
            if noise:
                writer.write_eof()
                async with asyncio.timeout(20):
                    while await reader.read(65_536):
                        pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await is_alive(server)


async def test_garbage_inside_tls_harms_nobody(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no message: refused with a reason of ours, and nothing that an operator would be woken for."""
    unary: Any = server.node(HOSPITAL).unary_unary("/zhifu.v1.ExchangeService/SubmitExchange")
    told = await refusal(unary(b"\xff" * 1000))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed.encoding")
    stream: Any = server.node(HOSPITAL).stream_stream("/zhifu.v1.ExchangeService/Connect")()
    await stream.write(hello().SerializeToString())
    await stream.write(b"\xff" * 1000)
    with contextlib.suppress(grpc.aio.AioRpcError):
        while isinstance(await stream.read(), bytes):
            pass
    told = await refusal(stream)
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed.encoding")
    assert [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")] == []
    await is_alive(server)


async def test_a_method_that_does_not_exist(server: Server) -> None:
    call: Any = server.node(HOSPITAL).unary_unary("/zhifu.v1.ExchangeService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await is_alive(server)


async def test_a_node_that_never_reads_is_cut_off(server: Server) -> None:
    """Its answers are ours to hold: their number is bounded, and then the stream is over."""
    call = Stub(server.node(HOSPITAL)).Connect()
    await call.write(hello())
    sessions = server.served.exchange.sessions
    while not sessions:
        await asyncio.sleep(0)
    held = weakref.ref(next(iter(sessions)))
    request = pb.ConnectRequest(submissions=frame(*statute(server, 8)))
    most, before = 0, COUNTS.streams_ended["unavailable.overload"]

    async def pour() -> None:
        nonlocal most
        while (session := held()) is not None:
            most = max(most, session.unsent)
            del session
            await call.write(request)

    pouring = asyncio.create_task(pour())
    async with asyncio.timeout(30):
        while sessions:
            await asyncio.sleep(0.05)
    assert COUNTS.streams_ended["unavailable.overload"] == before + 1
    assert most <= session.MAX_UNSENT + session.FRAMES_IN_WORK
    # What was held for it is free again, also while it keeps its connection open and reads nothing.
    async with asyncio.timeout(10):
        while held() is not None:
            gc.collect()
            await asyncio.sleep(0.05)
    assert len(server.rows(tables.Exchange)) == 8
    await is_alive(server)
    # When it reads at last, it finds its answers and why the stream was over. A write that is cancelled would cancel
    # the call, so the one that still waits is left to end with it.
    with contextlib.suppress(grpc.aio.AioRpcError):
        while isinstance(await call.read(), pb.ConnectResponse):
            pass
    assert (await refusal(call)).reason == "unavailable.deadline"
    async with asyncio.timeout(20):
        await asyncio.gather(pouring, return_exceptions=True)


# The unary way in


async def test_the_unary_way_in_is_served_by_the_same_pipeline(server: Server) -> None:
    stub = Stub(server.node(HOSPITAL))
    sent = statute(server)
    lying = submission(present(server.statute()), leaves=b"")
    made = frame_of([submission(sent[0]), lying], HOSPITAL.signing)
    answer = await stub.SubmitExchange(pb.SubmitExchangeRequest(submissions=made), timeout=20)
    (results,) = answer.results
    proven = wire.prove(results.proof, Head(), server.core.log.vkey)
    for one in results.results:
        proven.check_entry(wire.entry(one.entry))
    assert [reason(one) for one in results.results] == ["", "leaf.set"]
    payer = await server.attach(PAYER)
    assert (await payer.deliveries())[0][0].presentation.payload == sent[0].shown.to_bytes()


async def test_a_unary_frame_that_is_none_is_refused(server: Server) -> None:
    for frame_ in (pb.SubmissionFrame(), pb.SubmissionFrame(submissions=[pb.Submission()] * 65)):
        call = Stub(server.node(HOSPITAL)).SubmitExchange(pb.SubmitExchangeRequest(submissions=frame_))
        told = await refusal(call)
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed.size")


async def test_trouble_inside_is_told_without_the_inside(server: Server) -> None:
    """A disk that is gone: retryable, and not a word about files or statements."""
    server.core.store._reading.execute("PRAGMA query_only=0")  # type: ignore[attr-defined]
    sent = statute(server, 2)
    server.core.store._writer.execute("ALTER TABLE exchange RENAME TO elsewhere")  # type: ignore[attr-defined]
    stub = Stub(server.node(HOSPITAL))
    answer = await stub.SubmitExchange(pb.SubmitExchangeRequest(submissions=frame(sent[0])), timeout=20)
    (one,) = answer.results[0].results
    assert (one.refusal.reason, one.refusal.detail, one.refusal.retryable) == ("unavailable.store", "", True)
    stream = await server.attach(HOSPITAL)
    (one,) = await stream.submit(sent[1])
    assert (one.refusal.reason, one.refusal.detail, one.refusal.retryable) == ("unavailable.store", "", True)
    server.core.store._writer.execute("ALTER TABLE elsewhere RENAME TO exchange")  # type: ignore[attr-defined]
    assert [reason(one) for one in await stream.submit(*sent)] == ["", ""]


# Delivery on streams


async def test_what_is_not_acknowledged_comes_again(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    await hospital.submit(*statute(server, 3))
    first = await payer.deliveries(3)
    assert [one.attempt for one, _ in first] == [1, 1, 1]
    again = await payer.deliveries(3)
    assert [one.attempt for one, _ in again] == [2, 2, 2]
    assert [one.presentation for one, _ in again] == [one.presentation for one, _ in first]
    await payer.send(acknowledgements=acknowledgements(PAYER, again[:2]))
    assert len(await hospital.notices(2)) == 2
    third = await payer.deliveries(1)
    assert [(one.attempt, one.presentation) for one, _ in third] == [(3, first[2][0].presentation)]
    await payer.send(acknowledgements=acknowledgements(PAYER, third))
    await hospital.notices(1)
    await asyncio.sleep(2 * QUICK.lease_s)
    assert not payer.has("deliveries")
    assert server.rows(tables.Delivery) == []


async def test_what_was_not_acknowledged_comes_on_the_next_stream(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    await hospital.submit(*statute(server, 3))
    first = await payer.deliveries(3)
    await payer.leave()
    again = await (await server.attach(PAYER, payer.head)).deliveries(3)
    assert [one.presentation for one, _ in again] == [one.presentation for one, _ in first]


async def test_two_streams_of_a_node_share_one_queue(server: Server) -> None:
    hospital = await server.attach(HOSPITAL)
    first, second = await server.attach(PAYER), await server.attach(PAYER)
    await hospital.submit(*statute(server))
    found = await first.deliveries()
    await second.deliveries()
    await second.send(acknowledgements=acknowledgements(PAYER, found))
    (told,) = await hospital.notices()
    assert told.state == "delivered"


async def test_a_sender_is_told_with_the_recipients_own_word(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    sent = statute(server, 2)
    results = await hospital.submit(*sent)
    found = await payer.deliveries(2)
    await payer.send(acknowledgements=acknowledgements(PAYER, found[:1]))
    await payer.send(acknowledgements=acknowledgements(PAYER, found[1:], "leaf.grammar"))
    told = await hospital.notices(2)
    assert [one.state for one in told] == ["delivered", "refused"]
    for one, result, exchange in zip(told, results, sent, strict=True):
        signed = wire.signed(envelope.ACKNOWLEDGEMENT, one.acknowledgement)
        said = acknowledgement.parse(envelope.verify(signed, bytes(PAYER.signing.verify_key)))
        assert one.presentation_hash == said.presentation_hash == exchange.hash
        proven = wire.prove(await proof_of(server, result), Head(), server.core.log.vkey)
        acknowledgement.check_same_log(said, wire.entry(result.entry), proven.checkpoint)


async def proof_of(server: Server, result: pb.Result) -> pb.LogProof:
    """The proof of a result, asked for again."""
    index = result.entry.index
    commit = server.core.log.commit_of(index)
    return Known(Head()).prove(server.core.log, commit, index, index + 1)


async def test_notices_come_until_they_are_read(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    await hospital.submit(*statute(server, 2))
    for one in await payer.deliveries(2):
        await payer.send(acknowledgements=acknowledgements(PAYER, [one]))
    first = await hospital.notices(2)
    assert first[0].id < first[1].id
    await hospital.leave()
    again = await server.attach(HOSPITAL, hospital.head)
    assert await again.notices(2) == first
    await again.leave()
    rest = await server.attach(HOSPITAL, again.head, notices_through=first[0].id)
    assert await rest.notices(1) == first[1:]
    await rest.send(notices_read=pb.NoticesRead(through=first[1].id))
    await rest.submit(*statute(server))
    assert server.rows(tables.Notice) == []
    assert not rest.has("notices")


async def test_a_node_forgets_its_own_notices_only(server: Server) -> None:
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    await hospital.submit(*statute(server))
    await payer.send(acknowledgements=acknowledgements(PAYER, await payer.deliveries()))
    (told,) = await hospital.notices()
    await payer.send(notices_read=pb.NoticesRead(through=told.id))
    await payer.send(notices_read=pb.NoticesRead(through=told.id + 100))
    await hospital.submit(*statute(server))
    await payer.deliveries()
    assert [row.id for row in server.rows(tables.Notice)] == [told.id]


async def test_nobody_acknowledges_for_another(server: Server) -> None:
    hospital, payer, insurer = [await server.attach(one) for one in (HOSPITAL, PAYER, INSURER)]
    await hospital.submit(*statute(server))
    found = await payer.deliveries()
    # In its own name it is about nothing; in the payer's name it ends the stream.
    await insurer.send(acknowledgements=acknowledgements(INSURER, found))
    stolen = acknowledgements(replace(PAYER, signing=INSURER.signing), found)
    await insurer.send(acknowledgements=stolen)
    assert await ended_with(insurer) == "presentation.recipient"
    assert [row.state for row in server.rows(tables.Exchange)] == ["accepted"]
    await payer.send(acknowledgements=acknowledgements(PAYER, found))
    assert [one.state for one in await hospital.notices()] == ["delivered"]


async def test_what_nobody_took_expires_and_its_sender_is_told(server: Server) -> None:
    hospital = await server.attach(HOSPITAL)
    (sent,) = statute(server, not_after=NOW + 60)
    await hospital.submit(sent)
    server.clock.advance(61)
    (told,) = await hospital.notices()
    assert (told.state, told.presentation_hash) == ("expired", sent.hash)
    assert parse_meta(told.entry.meta).event == "exchange.expired"
    payer = await server.attach(PAYER)
    await hospital.submit(*statute(server))
    assert len(await payer.deliveries()) == 1


async def test_a_revocation_withholds_what_is_queued_within_a_second(server: Server) -> None:
    """Measured from the revocation to the sender's notice; no stream of the insurer sees it any more."""
    hospital = await server.attach(HOSPITAL)
    insurer = await server.attach(INSURER)
    await server.grant(claim())
    leased, queued = present(claim()), present(replace(fresh(claim()), workflow=claim().workflow))
    await hospital.submit(leased)
    await insurer.deliveries()
    await insurer.leave()
    await hospital.submit(queued)
    begun = time.monotonic()
    done = await server.revoke(claim())
    server.core.mailroom.wake(done.told)
    granted, *told = await hospital.notices(3)
    assert time.monotonic() - begun < 1.0
    assert granted.state == "granted"
    assert {(one.presentation_hash, one.state) for one in told} == {
        (leased.hash, "withdrawn"), (queued.hash, "withdrawn")
    }  # fmt: skip
    assert {parse_meta(one.entry.meta).event for one in told} == {"exchange.withdrawn"}
    again = await server.attach(INSURER, insurer.head)
    await asyncio.sleep(2 * QUICK.lease_s)
    assert not again.has("deliveries")


# Keys and epochs


async def test_what_follows_a_key_statement_may_be_signed_with_its_keys(server: Server) -> None:
    """Sent at once, as a node does whose keys changed while it was away."""
    new = replace(HOSPITAL, signing=SigningKey(seed("next signing key")))
    stream, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    epoch = replace(epoch_of(HOSPITAL), epoch_id=seed("next epoch")[:16])
    gate_key = next(iter(server.home.gate_keys.values())).public
    sent = present(server.statute(), epoch_id=epoch.epoch_id)
    await stream.send(key_statement=statement_of(new, 2).to_proto())
    await stream.send(epoch_offer=epoch.offer(HOSPITAL.id, gate_key, new.signing).to_proto())
    await stream.send(submissions=frame_of([submission(sent)], new.signing))
    assert [reason(one) for one in await stream.results(1)] == [""]
    shown = await payer.next("directory")
    assert statement_of(new, 2).to_proto() in [one.key_statement for one in shown.entries]
    assert len(await payer.deliveries()) == 1


async def test_a_node_is_shown_whom_it_asked_for_and_then_what_changed(server: Server) -> None:
    """Everybody's statements at every change would be a million of them for a thousand nodes."""
    stream = await server.attach(HOSPITAL)
    one = await server.attach(PAYER, participants=[HOSPITAL.id, seed("nobody")])
    every = await server.attach(INSURER)

    async def shown(attached: Attached) -> set[bytes]:
        return {entry.participant for entry in (await attached.next("directory")).entries}

    assert {entry.participant for entry in one.directory.entries} == {HOSPITAL.id, PAYER.id}
    assert {entry.participant for entry in every.directory.entries} >= {HOSPITAL.id, PAYER.id, INSURER.id}
    await every.send(key_statement=statement_of(INSURER, 2).to_proto())
    assert await shown(every) == {INSURER.id}
    await stream.send(key_statement=statement_of(HOSPITAL, 2).to_proto())
    # Of the insurer's change it never heard.
    assert await shown(one) == await shown(every) == {HOSPITAL.id}


@pytest.mark.parametrize("wanted", [[b"short"], [bytes(32)] * 16_385])
async def test_a_hello_that_wants_nonsense_is_refused(server: Server, wanted: list[bytes]) -> None:
    call = Stub(server.node(HOSPITAL)).Connect()
    await call.write(hello(participants=wanted))
    assert (await refusal(call)).reason == "malformed.field"


async def test_a_node_whose_statement_is_over_may_come_back(server: Server) -> None:
    """It connects, states its keys, and goes on: nothing that it sends behind that is lost."""
    server.clock.advance(8 * DAY)
    later = NOW + 8 * DAY
    stream = await server.attach(HOSPITAL)
    new = replace(epoch_of(HOSPITAL), epoch_id=seed("later")[:16], not_before=later, not_after=later + DAY)
    gate_key = next(iter(server.home.gate_keys.values())).public
    times = {"issued_at": later, "not_after": later + 3600}
    sent = present(server.statute(), epoch_id=new.epoch_id, **times)
    (refused,) = await stream.submit(present(server.statute(), **times))
    assert (reason(refused), refused.HasField("entry")) == ("key.expired", True)
    await stream.send(key_statement=statement_of(HOSPITAL, 2, later).to_proto())
    await stream.send(epoch_offer=new.offer(HOSPITAL.id, gate_key, HOSPITAL.signing).to_proto())
    assert [reason(one) for one in await stream.submit(sent)] == [""]


STATEMENTS: dict[str, tuple[Any, str]] = {
    "another participant's": (lambda: statement_of(PAYER, 2), "key.not_pinned"),
    "in another participant's name": (lambda: statement_of(PAYER, 2, participant=HOSPITAL.id), "key.not_pinned"),
    "signed by another": (lambda: statement_of(replace(HOSPITAL, identity=PAYER.identity), 2), "key.not_pinned"),
    "an older one": (lambda: statement_of(HOSPITAL, 1, NOW - 7200), "key.rollback"),
    "one that is over": (lambda: statement_of(HOSPITAL, 2, NOW - 8 * DAY), "key.expired"),
    "one that lists another's TLS key": (
        lambda: statement_of(HOSPITAL, 2, tls_spki=statement_spki(PAYER)), "key.unknown"
    ),
}  # fmt: skip


def statement_spki(one: Any) -> tuple[bytes, ...]:
    return statement.verify_key_statement(statement_of(one), one.id, NOW).tls_spki


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_key_statement_must_be_the_nodes_own_and_newer(server: Server, name: str) -> None:
    make, expected = STATEMENTS[name]
    stream = await server.attach(HOSPITAL)
    size = server.core.log.size
    await stream.send(key_statement=make().to_proto())
    assert await ended_with(stream) == expected
    assert server.core.log.size == size
    assert server.core.directory.member(HOSPITAL.id).envelope == statement_of(HOSPITAL)


@pytest.mark.parametrize("kind", ["key_statement", "epoch_offer"])
async def test_new_keys_and_epochs_without_an_end_are_refused(server: Server, kind: str) -> None:
    """Each is an entry for ever, and each statement goes to everybody."""
    stream, size = await server.attach(HOSPITAL), server.core.log.size
    gate_key = next(iter(server.home.gate_keys.values())).public
    most = round(STATED_PER_S * STATED_BURST_S)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for number in range(2, 2 * most):
            epoch = replace(epoch_of(HOSPITAL), epoch_id=seed(f"epoch {number}")[:16])
            offer = epoch.offer(HOSPITAL.id, gate_key, HOSPITAL.signing)
            await stream.send(
                **{kind: (statement_of(HOSPITAL, number) if kind == "key_statement" else offer).to_proto()}
            )
    assert await ended_with(stream) == "unavailable.quota"
    assert server.core.log.size <= size + most + 1
    other = await server.attach(PAYER)
    await other.send(key_statement=statement_of(PAYER, 2).to_proto())
    assert (await other.next("directory")).entries


async def test_a_statement_again_and_again_floods_nobody(server: Server) -> None:
    """The same one changes nothing; others hear of the newest, not of each."""
    stream, other = await server.attach(HOSPITAL), await server.attach(PAYER)
    size = server.core.log.size
    for _ in range(300):
        await stream.send(key_statement=statement_of(HOSPITAL).to_proto())
    await stream.submit(*statute(server))
    await other.deliveries()
    assert server.core.log.size == size + 1
    assert other.order.count("directory") <= 301
    assert not other.reader.done()


async def test_an_epoch_is_offered_once(server: Server) -> None:
    stream = await server.attach(HOSPITAL)
    gate_key = next(iter(server.home.gate_keys.values())).public
    new = replace(epoch_of(HOSPITAL), epoch_id=seed("a new one")[:16])
    offer = new.offer(HOSPITAL.id, gate_key, HOSPITAL.signing).to_proto()
    await stream.send(epoch_offer=offer)
    await stream.send(epoch_offer=offer)
    assert [reason(one) for one in await stream.submit(present(server.statute(), epoch_id=new.epoch_id))] == [""]
    assert [meta.event for _, meta, _ in server.entries()].count("epoch.offered") == 1
    await stream.send(epoch_offer=new.offer(HOSPITAL.id, gate_key, HOSPITAL.signing).to_proto())
    assert await ended_with(stream) == "gate.epoch"


async def test_an_epoch_is_offered_in_ones_own_name(server: Server) -> None:
    gate_key = next(iter(server.home.gate_keys.values())).public
    new = replace(epoch_of(HOSPITAL), epoch_id=seed("in another name")[:16])
    for node, key, expected in (
        (PAYER.id, HOSPITAL.signing, "presentation.sender"),
        (HOSPITAL.id, PAYER.signing, "key.unknown"),
    ):
        stream = await server.attach(HOSPITAL)
        await stream.send(epoch_offer=new.offer(node, gate_key, key).to_proto())
        assert await ended_with(stream) == expected
    taken = await server.attach(PAYER)
    stolen = epoch_of(HOSPITAL).offer(PAYER.id, gate_key, PAYER.signing)
    await taken.send(epoch_offer=stolen.to_proto())
    assert await ended_with(taken) == "gate.epoch"


# Leaving


async def test_a_node_that_leaves_in_peace_is_answered_first(server: Server) -> None:
    stream = await server.attach(HOSPITAL)
    sent = statute(server, 3)
    for one in sent:
        await stream.send(submissions=frame(one))
    await stream.call.done_writing()
    assert [reason(one) for one in await stream.results(3)] == ["", "", ""]
    assert await stream.ended() == grpc.StatusCode.OK


async def test_a_reason_to_end_does_not_swallow_answers(server: Server) -> None:
    """What was taken before the frame that ends the stream is answered on it."""
    stream = await server.attach(HOSPITAL)
    sent = statute(server, 6)
    for one in sent:
        await stream.send(submissions=frame(one))
    await stream.call.write(pb.ConnectRequest())
    assert await ended_with(stream) == "malformed.field"
    assert [reason(one) for one in await stream.results(6)] == [""] * 6
    assert len(server.rows(tables.Exchange)) == 6


async def test_what_one_commit_answered_is_one_frame(server: Server) -> None:
    stream = await server.attach(HOSPITAL)
    frames: list[pb.ResultFrame] = []
    for one in statute(server, 32):
        await stream.send(submissions=frame(one))
    while sum(len(one.results) for one in frames) < 32:
        frames.append(await stream.next("results"))
    assert len(frames) == len({one.proof.checkpoint for one in frames}) < 32


@pytest.mark.parametrize("where", ["presentation", "manifest", "signature", "unknown"])
async def test_a_frame_takes_the_room_of_all_that_it_holds(
    server: Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whatever is large in it, and refused for that: while commits take long, no more is held than there is room."""
    large = bytes(1 << 20)
    made = pb.SubmissionFrame(signature=bytes(64), submissions=[pb.Submission(presentation=b"x")])
    if where == "signature":
        made.signature = large
    elif where == "unknown":
        made.MergeFromString(b"\xfa\x7f" + b"\x80\x80\x40" + large)
    else:
        setattr(made.submissions[0], where, large)
    assert made.ByteSize() > len(large)
    monkeypatch.setattr(session, "BYTES_IN_WORK", 4 << 20)
    stream = await server.attach(HOSPITAL)
    (held,) = server.served.exchange.sessions
    goes_on, commit = threading.Event(), server.core.store.commit
    monkeypatch.setattr(server.core.store, "commit", lambda: (goes_on.wait(60), commit()))
    try:
        for _ in range(8):
            await stream.send(submissions=made)
        async with asyncio.timeout(20):
            while not held._tasks:
                await asyncio.sleep(0)
        # All eight would be read long before this one of another stream.
        other = await server.attach(PAYER)
        await other.send(notices_read=pb.NoticesRead(through=1))
        assert 1 <= len(held._tasks) <= 4
    finally:
        goes_on.set()
    assert len(await stream.results(8)) == 8


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.02])
async def test_whatever_was_accepted_is_answered_before_the_broker_stops(server: Server, pause: float) -> None:
    """Reconnect is the last frame; nothing is taken after it, and every row has its answer."""
    streams = [await server.attach(HOSPITAL) for _ in range(2)]
    sent = [statute(server, 40) for _ in streams]

    async def pour(stream: Attached, mine: list[Sent]) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for start in range(0, 40, 4):
                await stream.send(submissions=frame(*mine[start : start + 4]))
                await asyncio.sleep(0)

    pouring = asyncio.gather(*(pour(stream, mine) for stream, mine in zip(streams, sent, strict=True)))
    await asyncio.sleep(pause)
    server.served.exchange.drain("unavailable.draining")
    late = Stub(server.node(PAYER)).Connect()
    await late.write(hello())
    assert [await ended_with(stream) for stream in streams] == ["unavailable.draining"] * 2
    await pouring
    assert (await refusal(late)).reason == "unavailable.draining"
    answered = set()
    for stream in streams:
        while stream.has("results"):
            answered |= {one.presentation_hash for one in (await stream.next("results")).results if not reason(one)}
    assert answered == {row.hash for row in server.rows(tables.Exchange)}


async def test_health_tells_serving_and_draining(tmp_path: Path) -> None:
    states = health_pb2.HealthCheckResponse
    async with serving(tmp_path, timing=QUICK) as server:
        channels = (server.node(HOSPITAL), server.channel(None, public=True))
        stubs: list[Any] = [health_pb2_grpc.HealthStub(one) for one in channels]
        watching = [one.Watch(health_pb2.HealthCheckRequest()) for one in stubs]
        for one in watching:
            assert (await one.read()).status == states.SERVING
        stopping = asyncio.create_task(server.served.stop())
        for one in watching:
            assert (await one.read()).status == states.NOT_SERVING
            one.cancel()
        async with asyncio.timeout(20):
            await stopping
        # What `serving` looks at when it ends is closed already.
        server.check = lambda: None  # type: ignore[method-assign]
        server.served = replace(server.served, background=())


# Everything together


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_proof_on_every_stream_holds(tmp_path: Path, seed: int) -> None:
    """Three nodes that send, answer and acknowledge at once, and come and go; `Attached` checks every frame."""
    chance = random.Random(seed)
    async with serving(tmp_path, timing=replace(QUICK, lease_s=2.0)) as server:
        await server.grant(claim())
        parties = {one.id: one for one in (HOSPITAL, PAYER, INSURER)}
        streams = {one.id: await server.attach(one) for one in parties.values()}
        sent = [present(server.statute()) for _ in range(60)]
        sent += [present(replace(fresh(claim()), workflow=claim().workflow)) for _ in range(30)]
        chance.shuffle(sent)
        by_hash = {one.hash: one for one in sent}

        async def ask() -> None:
            left = list(sent)
            while left:
                some = left[: chance.randint(1, 9)]
                # Some are sent again though they have a result; none is left out.
                left = left[chance.randint(0, min(3, len(some))) :]
                results = await streams[HOSPITAL.id].submit(*some)
                assert {reason(one) for one in results} == {""}
                done = {one.presentation_hash for one in results}
                left = [one for one in left if one.hash not in done]

        async def answer_all(me: Any, count: int) -> None:
            seen: set[bytes] = set()
            while len(seen) < count:
                stream = streams[me.id]
                try:
                    found = await stream.deliveries()
                except EOFError:
                    await asyncio.sleep(0)
                    continue
                new = [one for one in found if one[0].presentation.payload not in seen]
                seen |= {one.presentation.payload for one, _ in new}
                asked = [by_hash[presentation.hash_of(one.presentation.payload)] for one, _ in new]
                made = [present(replace(answer(one, {"outcome": "paid"}), nonce=os.urandom(16))) for one in asked]
                await stream.send(acknowledgements=acknowledgements(me, found))
                if made:
                    assert {reason(one) for one in await stream.submit(*made)} == {""}

        async def collect() -> None:
            seen: set[bytes] = set()
            while len(seen) < len(sent):
                found = await streams[HOSPITAL.id].deliveries()
                seen |= {one.presentation.payload for one, _ in found}
                await streams[HOSPITAL.id].send(acknowledgements=acknowledgements(HOSPITAL, found))

        async with asyncio.timeout(60):
            await asyncio.gather(ask(), answer_all(PAYER, 60), answer_all(INSURER, 30), collect())
        states = {row.hash: row.state for row in server.rows(tables.Exchange)}
        assert {states[one.hash] for one in sent} == {"answered"}
        assert len(states) == 2 * len(sent)
