"""One attached node's stream: what it sends is taken, what waits for it goes out (DESIGN section 6).

One reader and one writer task a stream. The reader verifies frames and hands them to the committer; results,
deliveries and notices leave through the writer, in the order in which their proofs were made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import grpc

from broker import delivery, directory, revocation
from broker.core import Core
from broker.counts import COUNTS
from broker.delivery import Outgoing
from broker.directory import Member
from broker.services import frames
from broker.services.frames import Known
from broker.services.room import Room
from broker.services.submitting import Answered, submit
from broker.store import tables
from zhifu import envelope, epoch
from zhifu.errors import Error, Malformed, Refused
from zhifu.receipt import Detail, Head, Meta
from zhifu.v1 import exchange_pb2, signed_pb2

FRAMES_IN_WORK: Final = 64
BYTES_IN_WORK: Final = 64 << 20
"""Frames of one stream that are taken at a time, and what they hold: as much as eight of the largest."""
ACKNOWLEDGE_S: Final = 0.02
"""How long an acknowledgement may wait for a commit that others make (s): nobody is told of it but the log."""
MAX_UNSENT: Final = 256
"""Frames that wait for one node, before it is cut off."""

Request = exchange_pb2.ConnectRequest
Response = exchange_pb2.ConnectResponse
Context = grpc.aio.ServicerContext[Request, Response]
_log = logging.getLogger("broker.session")


class Session:
    """One attached node."""

    def __init__(
        self, core: Core, member: Member, expires: int, hello: exchange_pb2.Hello, changed: Callable[[], None]
    ) -> None:
        """``expires`` (Unix s) is when the certificate ends that the stream was opened with."""
        self._core = core
        self._member = member
        self._expires = expires
        self._changed = changed
        self._known = Known(Head(hello.head_size, hello.head_root or Head().root))
        # Lists, since an empty deque is 760 bytes: a silent node has nothing in either.
        self._unsent: list[Response] = []
        self._outgoing = Outgoing(member.id, core.store.reader, core.timing.lease_s, core.mailroom.fresh)
        self._outgoing.read_through(hello.notices_through)
        self.cosigns = hello.cosigns
        self.shown_head = hello.checkpoint
        self._cosigned = -1
        self._read_through = 0
        self._answered: list[Answered] = []
        self._working = Room(FRAMES_IN_WORK, BYTES_IN_WORK)
        self._tasks: set[asyncio.Task[None]] = set()
        self._directory_due = True
        self._shown_version = 0
        self._wanted = frozenset((*hello.participants, member.id)) if hello.participants else frozenset()
        self._farewell = ""
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = self._is_cut = False

    async def serve(self, requests: AsyncIterator[Request], context: Context) -> None:
        """Read until the node leaves or `end`; whatever was taken is answered before the stream ends.

        Raises `Refused` (participant.*), and (unavailable.deadline) for a node that does not read.
        """
        self._core.mailroom.attach(self._member.id, self._outgoing)
        self._unsent.append(Response(welcome=self._core.welcome(self._member.id)))
        writer = asyncio.create_task(self._write(context))
        reader = asyncio.create_task(self._read(requests))
        # Not `asyncio.wait` for all three, which holds two KiB for each silent node.
        for task in (reader, writer):
            task.add_done_callback(self._end)
        try:
            await self._ending
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._flush(writer)
            if reader.done():
                reader.result()
        finally:
            self._core.mailroom.detach(self._member.id, self._outgoing)
            for task in (reader, writer):
                task.cancel()

    async def _flush(self, writer: asyncio.Task[None]) -> None:
        """Let the writer finish with what there is, and say why the stream ends."""
        self._take_answered()
        if self._farewell:
            self._unsent.append(Response(reconnect=exchange_pb2.Reconnect(reason=self._farewell)))
        self._closing = True
        self._outgoing.wake.set()
        try:
            await asyncio.wait_for(writer, self._core.timing.flush_s)
        except TimeoutError as error:
            raise Refused("unavailable.deadline", "the node does not read") from error

    def end(self, reason: str) -> None:
        """Take no more frames, answer those that were taken, and end the stream; the first reason is told."""
        COUNTS.streams_ended[reason] += not self._farewell
        self._farewell = self._farewell or reason
        self._end()

    def _end(self, _: object = None) -> None:
        if not self._ending.done():
            self._ending.set_result(None)

    def cut(self) -> None:
        """End the stream if its node is suspended or its certificate is over: nothing more of what waits is sent."""
        try:
            self._core.directory.check_active(self._member.id)
        except Refused as error:
            if self._is_cut:
                return
            # Nor what is answered yet: its proofs would start at a head that the node was not shown.
            self._is_cut = True
            self._unsent.clear()
            self._answered.clear()
            self.end(error.reason)
        if self._core.now() > self._expires:
            self.end("participant.certificate")

    def send_directory(self) -> None:
        # However often it changes, the newest is sent, once.
        self._directory_due = True
        self._outgoing.wake.set()

    @property
    def unsent(self) -> int:
        """Frames that were answered and not sent."""
        return len(self._unsent) + len(self._answered)

    def _answer(self, done: Answered) -> None:
        if self._is_cut:
            return
        # A node that sends and never reads is cut off before its answers fill our memory.
        if self.unsent >= MAX_UNSENT:
            self.end("unavailable.overload")
        self._answered.append(done)
        self._outgoing.wake.set()

    async def _read(self, requests: AsyncIterator[Request]) -> None:
        async for request in requests:
            self._core.directory.check_active(self._member.id)
            # All of it, whatever it says it is: what is refused is held until then as well.
            size = request.ByteSize()
            await self._working.take(size)
            if self._ending.done():
                return
            task = asyncio.create_task(self._take(request))
            self._tasks.add(task)
            task.add_done_callback(partial(self._finished, size))
            if request.WhichOneof("frame") == "key_statement":
                # What follows may be signed with the keys that it states.
                await asyncio.wait((task,))

    def _finished(self, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._working.give(size)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("frame failed", exc_info=error, extra={"node": self._member.id.hex()[:16]})
            self.end("internal")

    async def _take(self, request: Request) -> None:
        kind = request.WhichOneof("frame")
        try:
            if kind == "submissions":
                self._answer(await submit(self._core, self._member.id, request.submissions))
            elif kind == "acknowledgements":
                await self._acknowledge(request.acknowledgements)
            elif kind == "notices_read":
                self._notices_read(request.notices_read.through)
            elif kind == "cosignature":
                await self._core.witnesses.take(self._member.id, request.cosignature.size, request.cosignature.line)
            elif kind == "key_statement":
                await self._key_statement(request.key_statement)
            elif kind == "epoch_offer":
                await self._epoch_offer(request.epoch_offer)
            elif kind == "deletion":
                await self._deletion(request.deletion)
            else:
                raise Malformed("malformed.field", "a frame of no known kind")
        except Error as error:
            # A frame without a result of its own: the stream ends with the reason, and the node comes again.
            self.end(error.reason)

    async def _acknowledge(self, frame: exchange_pb2.AcknowledgementFrame) -> None:
        settled = await acknowledge(self._core, self._member.id, self._signing_key, frame)
        self._outgoing.settled(settled.entries)

    @property
    def _signing_key(self) -> bytes:
        return self._core.directory.signing_key(self._member.id, self._core.now())

    def _notices_read(self, through: int) -> None:
        if through >= 1 << 63:
            raise Malformed("malformed.field", "a number of more than 64 bits")
        # What is deleted later, or again, was read once all the same; the highest number says all.
        node = self._member.id
        self._read_through = through = max(self._read_through, through)
        self._core.committer.defer(
            (tables.Notice, node), lambda state, _s, _n: state.delete_through(tables.Notice, through, node=node)
        )

    async def _key_statement(self, message: signed_pb2.Envelope) -> None:
        signed = envelope.from_proto(envelope.KEY_STATEMENT, message)
        if signed != self._core.directory.member(self._member.id).envelope:
            self._core.quotas.admit_stated(self._member.id, time.monotonic())
        await self._core.committer.run(
            lambda state, sequence, now_ms: directory.state_keys(self._member.id, signed, state, sequence, now_ms),
            essential=True,
        )
        self._core.directory.reload()
        self._changed()

    async def _epoch_offer(self, message: signed_pb2.Envelope) -> None:
        signed = envelope.from_proto(envelope.EPOCH_OFFER, message)
        offer = epoch.verify_offer(signed, self._member.id, self._signing_key)
        if self._core.store.reader.get(tables.Epoch, offer.epoch_id) is None:
            self._core.quotas.admit_stated(self._member.id, time.monotonic())
        row = (
            offer.epoch_id, offer.node, offer.gate_key_id, offer.not_before, offer.not_after, offer.sealed_secret
        )  # fmt: skip

        def apply(state: Any, sequence: Any, now_ms: int) -> None:
            found = state.get(tables.Epoch, offer.epoch_id)
            if found is None:
                state.insert(tables.Epoch, [row])
                sequence.record(Meta("epoch.offered", sender=offer.node), Detail(documents=(offer.epoch_id,)), now_ms)
            elif (found.node, found.sealed_secret) != (offer.node, offer.sealed_secret):
                raise Refused("gate.epoch", "an epoch is offered once")

        await self._core.committer.run(apply)

    async def _deletion(self, message: signed_pb2.Envelope) -> None:
        core, node = self._core, self._member.id
        signed = envelope.from_proto(envelope.DELETION, message)
        key = core.directory.signing_key(node, core.now())
        done = await core.committer.run(
            lambda state, sequence, now_ms: revocation.take_deletion(
                signed, node, key, core.log.origin, state, sequence, now_ms
            ),
            essential=True,
        )
        core.mailroom.wake([done.result])

    async def _write(self, context: Context) -> None:
        while True:
            self._outgoing.wake.clear()
            self._take_answered()
            while self._unsent:
                await _write(context, self._unsent.pop(0))
            if self._closing:
                return
            if self._ending.done():
                await self._outgoing.wake.wait()
                continue
            self._take_waiting()
            if not self._unsent:
                await self._sleep()

    def _take_answered(self) -> None:
        """One frame for what one commit answered, however many frames it came in."""
        while self._answered:
            first = self._answered.pop(0)
            told, commit = [*first.told], first.commit
            while self._answered and self._answered[0].commit is commit:
                if len(told) + len(self._answered[0].told) > delivery.MAX_FRAME:
                    break
                told += self._answered.pop(0).told
            for frame in frames.results(told, commit, self._core.log, self._known):
                self._unsent.append(Response(results=frame))

    def _take_waiting(self) -> None:
        # Each proof starts where the one before it ended, so frames leave in the order in which they were proved:
        # all through one queue, with no await between proof and queue.
        core = self._core
        if self._directory_due:
            self._directory_due = False
            self._show_directory()
        self._take_deliveries()
        if self.cosigns and core.witnesses.shown.version > max(self._cosigned, 0):
            self._cosigned = core.witnesses.shown.version
            self._unsent.append(Response(checkpoint=frames.checkpoint(core.witnesses, self._known)))
        self._take_notices()

    def _take_deliveries(self) -> None:
        core, outgoing, now = self._core, self._outgoing, asyncio.get_running_loop().time()
        if not outgoing.mail and outgoing.next_lease(now) != 0.0:
            return
        leased = outgoing.take(now)
        # A whole frame may have more behind it.
        outgoing.mail = len(leased) >= delivery.MAX_FRAME
        COUNTS.deliveries += len(leased)
        COUNTS.redeliveries += sum(one.attempt > 1 for one in leased)
        for frame in frames.deliveries(leased, core, self._known):
            self._unsent.append(Response(deliveries=frame))

    def _take_notices(self) -> None:
        core, outgoing = self._core, self._outgoing
        if not outgoing.news:
            return
        told = outgoing.take_notices()
        outgoing.news = len(told) >= delivery.MAX_FRAME
        for notice in frames.notices(told, core.log, self._known, core.store.reader):
            self._unsent.append(Response(notices=notice))

    def _show_directory(self) -> None:
        # Everything to everybody whenever someone's keys change would be a million statements for a thousand nodes.
        directory = self._core.directory
        changed = directory.changed_since(self._shown_version, self._wanted)
        # Its own first: with the first frame a node looks whether its keys must be stated anew.
        changed.sort(key=lambda one: one.id != self._member.id)
        parts = list(frames.directory(changed))
        for entries in parts or ([] if self._shown_version else [[]]):
            self._unsent.append(Response(directory=exchange_pb2.Directory(entries=entries)))
        self._shown_version = directory.version

    async def _sleep(self) -> None:
        lease = self._outgoing.next_lease(asyncio.get_running_loop().time())
        try:
            idle = self._core.timing.idle_s
            await self._outgoing.wake.wait(idle if lease is None else min(lease, idle))
        except TimeoutError:
            # Whatever was told in vain is found now.
            self._outgoing.expect()


async def _write(context: Context, frame: Response) -> None:
    """Raises `Refused` (unavailable.deadline): the node is not there any more."""
    try:
        await context.write(frame)
    except grpc.aio.InternalError as error:
        raise Refused("unavailable.deadline", "the node left") from error


async def acknowledge(
    core: Core, recipient: bytes, signing_key: bytes, frame: exchange_pb2.AcknowledgementFrame
) -> delivery.Settled:
    """Verify and take a frame of acknowledgements. Raises `Malformed`, `NotAuthentic`, `Refused` (unavailable.*)."""
    signed = envelope.verify_frame(envelope.ACKNOWLEDGEMENT, list(frame.acknowledgements), frame.signature, signing_key)
    said = delivery.said(signed, recipient, core.log.origin)
    done = await core.committer.join(
        delivery.acknowledge,
        said,
        weight=len(signed),
        # Of a refusal somebody hears who waits; that all is well can share a commit with what comes next.
        within_s=0.0 if said.refuses else ACKNOWLEDGE_S,
        reports=True,
        lane=recipient,
        essential=True,
    )
    COUNTS.ended["refused"] += done.result.refused
    COUNTS.ended["delivered"] += len(done.result.entries) - done.result.refused
    (core.mailroom.wake if said.refuses else core.mailroom.told)(done.result.senders)
    return done.result
