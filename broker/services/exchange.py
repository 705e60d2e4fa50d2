"""`ExchangeService`: the streams of nodes and the unary way in (DESIGN section 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import grpc

from broker.core import Core
from broker.directory import Member
from broker.services import frames, identity
from broker.services.errors import refusing
from broker.services.frames import Known
from broker.services.session import Context, Request, Session
from broker.services.submitting import submit
from broker.store.interface import DIRECTORY
from zhifu.errors import Error, Malformed, Refused
from zhifu.keys import VERSION
from zhifu.receipt import Head
from zhifu.v1 import exchange_pb2, exchange_pb2_grpc

_MAX_WANTED: Final = 16_384
_log = logging.getLogger("broker.exchange")


class ExchangeService(exchange_pb2_grpc.ExchangeServiceServicer):
    """Streams of nodes. Every stream belongs to the participant whose TLS key opened it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._draining = ""
        self.sessions: set[Session] = set()

    # grpc.aio lets a streaming method be a coroutine that reads and writes; the stubs know generators only.
    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[Request], context: Context
    ) -> None:
        async with refusing(context):
            member = identity.caller(context, self._core.directory, self._core.now())
            # Before the first frame is waited for: a stream costs memory from its headers on.
            self._core.quotas.open(member.id)
            try:
                await self._serve(member, request_iterator, context)
            finally:
                self._core.quotas.close(member.id)

    async def _serve(self, member: Member, requests: AsyncIterator[Request], context: Context) -> None:
        hello = await _hello(requests, self._core.timing.hello_s)
        expires = identity.expiry(identity.certificate(context))
        session = Session(self._core, member, expires, hello, self.broadcast)
        if self._draining:
            raise Refused(self._draining)
        self.sessions.add(session)
        if session.cosigns:
            self._core.witnesses.hello(member.id, session.shown_head)
        try:
            await session.serve(requests, context)
        finally:
            self.sessions.discard(session)

    async def SubmitExchange(
        self,
        request: exchange_pb2.SubmitExchangeRequest,
        context: grpc.aio.ServicerContext[exchange_pb2.SubmitExchangeRequest, exchange_pb2.SubmitExchangeResponse],
    ) -> exchange_pb2.SubmitExchangeResponse:
        async with refusing(context):
            member = identity.caller(context, self._core.directory, self._core.now())
            found = await submit(self._core, member.id, request.submissions)
            told = frames.results(found.told, found.commit, self._core.log, Known(Head()))
            return exchange_pb2.SubmitExchangeResponse(results=told)
        raise AssertionError  # the context manager ended the call

    def tell_witnesses(self) -> None:
        """Streams that cosign are woken when there is something to cosign."""
        self._core.witnesses.attached = lambda: sum(one.cosigns for one in self.sessions)
        self._core.witnesses.wake = self._core.mailroom.wake_all

    def broadcast(self) -> None:
        """Someone's keys changed: send the directory to every node that is attached, here or to another broker."""
        self.send_directory()
        self._core.mailroom.ring([DIRECTORY])

    def send_directory(self) -> None:
        """Send the directory to every node that is attached here; whoever was suspended is cut off."""
        self.cut()
        for session in self.sessions:
            session.send_directory()

    def cut(self) -> None:
        """End the streams of who may not take part any more."""
        for session in self.sessions:
            session.cut()

    async def watch(self, gate_key: Callable[[], bytes]) -> None:
        """Now and then, end what has run out; and look by ourselves what another broker may have told in vain.

        ``gate_key`` gives the id of the one that is stated: after a change every node comes again, to seal to the next.
        """
        stated = gate_key()
        while True:
            await asyncio.sleep(self._core.timing.watch_s)
            before = stated
            try:
                self._core.directory.reload()
                stated = gate_key()
            except Error as error:
                _log.warning("directory or gate keys not read", extra={"reason": error.reason})
            self.cut()
            if stated != before:
                for session in self.sessions:
                    session.end("unavailable.draining")

    def heard(self, nodes: Sequence[bytes] | None) -> None:
        """What another broker on the same database rang; None: something was missed, so everything is looked at."""
        if nodes is None or DIRECTORY in nodes:
            self._core.directory.reload()
            self.send_directory()
        self._core.mailroom.heard(nodes)

    def drain(self, reason: str) -> None:
        """Take no more, answer what was taken, ask every node to connect elsewhere or again, and end its stream."""
        self._draining = reason
        for session in self.sessions:
            session.end(reason)


async def _hello(requests: AsyncIterator[Request], seconds: float) -> exchange_pb2.Hello:
    """A stream that does not introduce itself is ended: it costs memory and brings nothing."""
    try:
        first = await asyncio.wait_for(anext(requests), seconds)
    except (TimeoutError, StopAsyncIteration) as error:
        raise Refused("unavailable.deadline", "no hello") from error
    if first.WhichOneof("frame") != "hello" or first.hello.version != VERSION:
        raise Malformed("malformed.version", "the first frame is a hello of version 1")
    if len(first.hello.head_root) not in (0, 32):
        raise Malformed("malformed.field", "not a tree head")
    if len(first.hello.participants) > _MAX_WANTED or any(len(one) != 32 for one in first.hello.participants):
        raise Malformed("malformed.field", "not participants whose statements are wanted")
    return first.hello
