"""One stream to the broker, from hello to its end: one reader and one writer task (DESIGN section 6).

The writer asks the store what is to be sent whenever it is woken, so that a stream that breaks loses nothing: the next
one asks again. The reader handles a frame to its commit before it reads another. Every wait has a deadline, except
for the broker's next frame: a peer that died in between is noticed by keepalive.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

import grpc

from clients import channel, deletion, offering, told, wire
from clients.inbox import Inbox
from clients.listening import Listening
from clients.outcome import CURSOR, Outcomes
from clients.role import Parts
from clients.told import Told
from clients.waiting import deadline, first_of
from clients.witness import Witness
from zhifu import envelope
from zhifu.envelope import ACKNOWLEDGEMENT, KEY_STATEMENT, MAX_FRAME
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.keys import VERSION, KemPublic, participant_id
from zhifu.statement import verify_key_statement
from zhifu.v1 import exchange_pb2, exchange_pb2_grpc

HANDSHAKE_S: Final = 10.0
WRITE_S: Final = 30.0
RESULT_S: Final = 60.0
DRAIN_S: Final = 5.0
TICK_S: Final = 1.0
HOLD_S: Final = 2.0
LONGEST_HOLD_S: Final = 30.0
SETTLED_S: Final = 10.0
WINDOW: Final = 4 * MAX_FRAME
MAX_UNSENT: Final = 1024
_log = logging.getLogger("zhifu.session")

Request: TypeAlias = exchange_pb2.ConnectRequest
Response: TypeAlias = exchange_pb2.ConnectResponse
Stream: TypeAlias = "grpc.aio.StreamStreamCall[Request, Response]"


class Session:
    """A stream. `run` returns when it ended in peace and raises where it broke.

    Where a frame shows that the broker lied, what shows it is kept as evidence first.
    """

    def __init__(self, parts: Parts, on_open: Callable[[], None]) -> None:
        self._parts = parts
        self._on_open = on_open
        self._inbox = Inbox(parts)
        self._outcomes = Outcomes(parts)
        self._witness = Witness(parts)
        self._cosignature: exchange_pb2.Cosignature | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._acknowledgements: deque[bytes] = deque()
        self._told = Told()
        self._notices_read: int | None = None
        self._noticed = False
        self._in_flight: dict[bytes, float] = {}
        self._held: dict[bytes, float] = {}
        self._tries: dict[bytes, int] = {}
        self._gate: KemPublic | None = None
        self._stated = b""
        self._deletions: set[bytes] = set()
        self._offered: set[bytes] = set()
        self._stopping = asyncio.Event()
        self._marked: set[bytes] = set()
        self._queued = -1
        self._begun = self._ticked = 0.0
        self._listening = Listening(_time)
        self._due = True
        """What can wait for a second is looked at again: keys, epochs, and how far notices were read."""
        self.since: float | None = None
        """When the directory came (the loop's time): from then on exchanges flow."""

    def wake(self) -> None:
        """Something may wait to be sent."""
        self._wake.set()

    def stop(self) -> None:
        """End the stream once what was opened is acknowledged."""
        self._stopping.set()
        self._wake.set()

    async def run(self, opened: grpc.aio.Channel) -> None:
        """Raises `Refused` (unavailable.*, participant.*), `NotAuthentic`, `Malformed`."""
        self._begun = _time()
        call = exchange_pb2_grpc.ExchangeServiceStub(opened).Connect()
        try:
            await first_of(self._greet(call), self._stopped())
            if self._gate is not None:
                await first_of(self._read(call), self._write(call))
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error
        except asyncio.InvalidStateError as error:
            # Written to a stream that was over: how it ended is what counts.
            raise channel.refusal(await _status(call)) from error
        finally:
            call.cancel()

    async def _stopped(self) -> None:
        await self._stopping.wait()

    # Handshake

    async def _greet(self, call: Stream) -> None:
        head = self._parts.store.trust.head()
        hello = exchange_pb2.Hello(
            version=VERSION,
            head_size=head.size,
            head_root=head.root if head.size else b"",
            clock_ms=self._parts.clock_ms(),
            notices_through=self._parts.store.trust.cursor(CURSOR),
            checkpoint=self._parts.store.trust.head_note(),
            cosigns=True,
            participants=self._parts.directory.pinned,
        )
        async with deadline(HANDSHAKE_S):
            await call.write(Request(hello=hello))
            answer = await call.read()
        if not isinstance(answer, Response):
            raise Refused("unavailable.broker", "the stream ended before the welcome")
        if answer.WhichOneof("frame") == "reconnect":
            raise Refused("unavailable.draining")
        if answer.WhichOneof("frame") != "welcome":
            raise Malformed("malformed.field", "the first frame is not a welcome")
        self._check_welcome(answer.welcome)

    def _check_welcome(self, welcome: exchange_pb2.Welcome) -> None:
        parts = self._parts
        if welcome.version != VERSION:
            raise Malformed("malformed.version", "the broker speaks another version")
        parts.clock_ms.learn(welcome.clock_ms)
        if welcome.origin != parts.origin:
            raise NotAuthentic("log.signature", "the broker serves another log")
        if welcome.node != parts.directory.participant:
            raise Refused("participant.unknown", "the broker knows our certificate as another participant")
        signed = wire.signed(KEY_STATEMENT, welcome.gate_key_statement)
        stated = verify_key_statement(signed, participant_id(parts.log_key.public_key), parts.now())
        self._gate = stated.kem_keys[0]

    # Reading

    async def _read(self, call: Stream) -> None:
        while True:
            with self._listening.reading():
                frame = await call.read()
            if not isinstance(frame, Response):
                return
            if frame.WhichOneof("frame") == "reconnect":
                self._reconnect(frame.reconnect.reason)
                return
            self._take(frame)
            await self._make_room()

    def _take(self, frame: Response) -> None:
        if frame.WhichOneof("frame") == "notices":
            if told.can_wait(frame.notices):
                if self._told.keep(frame.notices):
                    asyncio.get_running_loop().call_later(told.WAIT_S, self._ripen)
                # Not left to the writer alone: it waits as long as the broker does not read.
                if self._told.is_due():
                    self._take_told()
                return
            self._take_told()
        self._take_now(frame)

    def _ripen(self) -> None:
        self._told.ripen()
        self._wake.set()

    def _take_told(self) -> None:
        kept = self._told.take()
        if kept is not None:
            self._take_now(Response(notices=kept))

    def _take_now(self, frame: Response) -> None:
        try:
            self._dispatch(frame)
        except (Malformed, NotAuthentic) as error:
            self._keep_evidence(frame, error)
            _log.critical("alarm", extra={"about": {"reason": error.reason, "frame": frame.WhichOneof("frame")}})
            raise

    def _dispatch(self, frame: Response) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "deliveries":
            self._acknowledgements.extend(self._inbox.take(frame.deliveries))
        elif kind == "results":
            self._take_results(frame.results)
        elif kind == "notices":
            self._notices_read = self._outcomes.notices(frame.notices)
            self._noticed = True
        elif kind == "directory":
            self._take_directory(frame)
        elif kind == "checkpoint":
            self._cosignature = self._witness.take(frame.checkpoint) or self._cosignature
        else:
            raise Malformed("malformed.field", "a frame of no known kind")
        self._wake.set()

    def _take_results(self, frame: exchange_pb2.ResultFrame) -> None:
        later = self._outcomes.results(frame)
        for one in frame.results:
            self._in_flight.pop(one.presentation_hash, None)
            if one.presentation_hash in later:
                self._held[one.presentation_hash] = _time() + self._pause(one)
            else:
                self._tries.pop(one.presentation_hash, None)

    def _pause(self, one: exchange_pb2.Result) -> float:
        """How long a refused exchange is held, in seconds: as the broker says, longer each time, not all at once."""
        tries = self._tries[one.presentation_hash] = self._tries.get(one.presentation_hash, -1) + 1
        asked = min(one.refusal.retry_after_ms / 1000, LONGEST_HOLD_S)
        return min(max(HOLD_S, asked) * 2.0 ** min(tries, 5), LONGEST_HOLD_S) * random.uniform(1.0, 1.5)

    def _take_directory(self, frame: Response) -> None:
        directory = self._parts.directory
        for error in directory.update(frame.directory.entries, self._parts.now()):
            self._keep_evidence(frame, error)
        for entry in frame.directory.entries:
            if entry.participant == directory.participant:
                self._stated = entry.key_statement.SerializeToString(deterministic=True)
        if self.since is None:
            self.since = _time()
            _log.info("stream.open", extra={"about": {"participants": len(frame.directory.entries)}})
            self._on_open()

    def _keep_evidence(self, frame: Response, error: Error) -> None:
        store = self._parts.store
        with store.transaction():
            at, head = self._parts.clock_ms(), store.trust.head()
            store.receipts.keep_evidence(at, error.reason, head, wire.evidence(frame))

    def _reconnect(self, reason: str) -> None:
        _log.info("stream.reconnect", extra={"about": {"reason": reason[:64]}})
        if reason == "gate.epoch":
            # The broker has another epoch under that id, or none: present under new ones.
            with self._parts.store.transaction():
                for epoch in self._parts.store.trust.epochs(self._parts.now()):
                    self._parts.store.trust.retire_epoch(epoch.epoch_id)

    async def _make_room(self) -> None:
        """Read no further while more acknowledgements wait than the broker takes."""
        while len(self._acknowledgements) > MAX_UNSENT:
            self._room.clear()
            async with deadline(WRITE_S):
                await self._room.wait()

    # Writing

    async def _write(self, call: Stream) -> None:
        while True:
            self._wake.clear()
            if self._told.is_due():
                self._take_told()
            for frame in self._listening.each(self._waiting()):
                async with deadline(WRITE_S):
                    await call.write(frame)
            self._room.set()
            if self._stopping.is_set():
                await call.done_writing()
                await asyncio.sleep(DRAIN_S)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            settled = self.since is not None and _time() - self.since > SETTLED_S
            if ticked := _time() - self._ticked > TICK_S:
                self._tick()
            if self._outcomes.lapsed or (ticked and settled):
                await self._renew_overdue()

    async def _renew_overdue(self) -> None:
        for _ in self._listening.each(self._outcomes.renew_overdue()):
            # What is read in between may be the answer that makes the rest needless.
            await asyncio.sleep(0)

    def _waiting(self) -> Iterator[Request]:
        """Everything that is to be sent now, in the order that the broker needs: keys, epoch, then what rests on them.

        What somebody waits for goes before what is only to be known.
        """
        if self.since is not None and not self._stopping.is_set():
            if self._due:
                yield from self._unstated_keys()
                yield from self._unoffered_epochs()
            yield from self._unsent_submissions()
        yield from self._unsent_acknowledgements()
        if self.since is not None and (self._due or self._noticed):
            self._noticed = False
            for signed in deletion.unsent(self._parts, self._deletions):
                yield Request(deletion=signed.to_proto())
        if self._cosignature is not None and self.since is not None:
            said, self._cosignature = self._cosignature, None
            yield Request(cosignature=said)
        if self._notices_read is not None and (self._due or self._stopping.is_set()):
            through, self._notices_read = self._notices_read, None
            yield Request(notices_read=exchange_pb2.NoticesRead(through=through))
        # Keys are not stated before the directory came, and must be before anything that is signed with them.
        self._due = self.since is None

    def _unsent_submissions(self) -> Iterator[Request]:
        while (found := self._next_submissions()) is not None:
            # An epoch may have been drawn since: it is offered before what rests on it.
            yield from self._unoffered_epochs()
            yield Request(submissions=found)

    def _unsent_acknowledgements(self) -> Iterator[Request]:
        while self._acknowledgements:
            count = min(len(self._acknowledgements), MAX_FRAME)
            payloads = [self._acknowledgements.popleft() for _ in range(count)]
            signature, signed = envelope.seal_frame(ACKNOWLEDGEMENT, payloads, self._parts.keystore.signing)
            frame = exchange_pb2.AcknowledgementFrame(
                key_id=signed[0].key_id, signature=signature, acknowledgements=payloads
            )
            yield Request(acknowledgements=frame)

    def _unstated_keys(self) -> Iterator[Request]:
        # Only here: what is signed after this is sent after the statement that lists the key.
        self._parts.keystore.refresh()
        own = self._parts.directory.own(self._parts.now()).to_proto()
        encoded = own.SerializeToString(deterministic=True)
        if encoded != self._stated:
            self._stated = encoded
            yield Request(key_statement=own)

    def _unoffered_epochs(self) -> Iterator[Request]:
        for epoch in self._parts.store.trust.epochs(self._parts.now()):
            if epoch.epoch_id not in self._offered:
                self._offered.add(epoch.epoch_id)
                signed = offering.offer(self._parts, self._gate, epoch) if self._gate is not None else None
                if signed is not None:
                    yield Request(epoch_offer=signed.to_proto())

    def _next_submissions(self) -> exchange_pb2.SubmissionFrame | None:
        queued, room = self._parts.store.outgoing.queued, WINDOW - len(self._in_flight)
        if room <= 0 or (queued == self._queued and not self._due):
            return None
        found = self._parts.outbox.frame({*self._in_flight, *self._held}, room)
        if found is None:
            self._queued = queued
            return None
        frame, exchanges = found
        self._in_flight |= dict.fromkeys(exchanges, self._listening.seconds)
        return frame

    def _tick(self) -> None:
        now = self._ticked = _time()
        self._due = True
        self._mark_sent()
        self._held = {exchange: until for exchange, until in self._held.items() if until > now}
        if self._in_flight and self._listening.seconds - min(self._in_flight.values()) > RESULT_S:
            raise Refused("unavailable.deadline", "no result within the deadline")
        if self.since is None and now - self._begun > HANDSHAKE_S:
            raise Refused("unavailable.deadline", "no directory within the deadline")

    def _mark_sent(self) -> None:
        """For people who look: what has its result within the second never needs it."""
        now = self._listening.seconds
        late = {exchange for exchange, since in self._in_flight.items() if now - since > TICK_S}
        if late - self._marked:
            self._parts.outbox.mark_sent(late - self._marked)
        self._marked = late


def _time() -> float:
    return asyncio.get_running_loop().time()


async def _status(call: Stream) -> grpc.aio.AioRpcError:
    """How a call that is over ended."""
    async with deadline(WRITE_S):
        code, details = await call.code(), await call.details()
        return grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), details)
