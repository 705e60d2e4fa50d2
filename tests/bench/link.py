"""One stream to the broker as a load generator speaks it: the node's messages without the node's disk.

What waits is drained into frames of at most 64, as nodes do (DESIGN section 6). Proofs are not verified and records
not opened here: a generator that did its node's work would be slower than the broker that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, TypeVar

from clients import channel
from tests.bench.world import Participant
from zhifu import envelope, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.checkpoint import Checkpoint, Note
from zhifu.envelope import ACKNOWLEDGEMENT, MAX_FRAME, PRESENTATION
from zhifu.keys import VERSION, check_kem_public
from zhifu.v1 import exchange_pb2, exchange_pb2_grpc, signed_pb2
from zhifu.v1.signed_pb2 import OUTCOME_OPENED

T = TypeVar("T")
Request: TypeAlias = exchange_pb2.ConnectRequest
Response: TypeAlias = exchange_pb2.ConnectResponse
READ_S: Final = 1.0
_HASH_BYTES: Final = 32


class Link:
    """An attached participant. ``on_delivery`` is called with each delivery, once its acknowledgement is queued."""

    def __init__(self, me: Participant, on_delivery: Callable[[exchange_pb2.Delivery], None]) -> None:
        self.me = me
        self.per_frame = MAX_FRAME
        self._on_delivery = on_delivery
        self._submissions: deque[exchange_pb2.Submission] = deque()
        self._acknowledgements: deque[bytes] = deque()
        self._notices_read = 0
        self._read_s = float("-inf")
        self._wake = asyncio.Event()
        self._channel = channel.secure(me.settings.node_address, channel.node_credentials(me.settings, me.keys))
        self._call = exchange_pb2_grpc.ExchangeServiceStub(self._channel).Connect()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Introduce the participant, offer its epoch, and start to read and write."""
        # A node wants the statements of a few, its partners; these need none but their own.
        hello = exchange_pb2.Hello(version=VERSION, clock_ms=time.time_ns() // 10**6, participants=[self.me.id])
        await self._call.write(Request(hello=hello))
        answer = await self._call.read()
        assert isinstance(answer, Response)
        await self._call.write(Request(epoch_offer=self._offer(answer.welcome)))
        self._tasks = [asyncio.create_task(part) for part in (self._read(), self._write())]

    def _offer(self, welcome: exchange_pb2.Welcome) -> signed_pb2.Envelope:
        stated = signed_pb2.KeyStatement.FromString(welcome.gate_key_statement.payload)
        gate = check_kem_public(stated.kem_keys[0].alg, stated.kem_keys[0].public_key)
        return self.me.offer(gate)

    async def close(self) -> None:
        """Leave the broker."""
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    def check(self) -> None:
        """Raises what the stream broke with, if it did."""
        for task in self._tasks:
            if task.done():
                task.result()

    def submit(self, one: exchange_pb2.Submission) -> None:
        """Queue a submission; it leaves with what else waits."""
        self._submissions.append(one)
        self._wake.set()

    async def _read(self) -> None:
        while isinstance(frame := await self._call.read(), Response):
            self._take(frame)
        raise ConnectionError("the broker ended the stream")

    def _take(self, frame: Response) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "deliveries":
            self._deliveries(frame.deliveries)
        elif kind == "notices":
            self._notices_read = frame.notices.notices[-1].id
        elif kind == "reconnect":
            raise ConnectionError(frame.reconnect.reason)
        elif kind == "results":
            refused = [one.refusal.reason for one in frame.results.results if one.HasField("refusal")]
            if refused:
                raise ConnectionError(f"refused: {refused[0]}")
        self._wake.set()

    def _deliveries(self, frame: exchange_pb2.DeliveryFrame) -> None:
        signed = Checkpoint.parse(Note.parse(frame.proof.checkpoint).text)
        begin, leaves, now = frame.proof.range.begin, frame.proof.range.leaves, int(time.time())
        for one in frame.deliveries:
            place = _HASH_BYTES * (one.entry.index - begin)
            said = Acknowledgement(
                signed.origin, self.me.id, presentation.hash_of(one.presentation.payload),
                leaves[place : place + _HASH_BYTES], one.entry.index, signed.size, signed.root, OUTCOME_OPENED, "", now,
            )  # fmt: skip
            self._acknowledgements.append(said.to_bytes())
            self._on_delivery(one)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for frame in self._waiting():
                await self._call.write(frame)

    def _waiting(self) -> Iterator[Request]:
        """As a node writes (`clients.session`): first what somebody waits for, once a second what only was read."""
        key, now = self.me.keys.signing, time.monotonic()
        while parcels := _take(self._submissions, self.per_frame):
            signature, signed = envelope.seal_frame(PRESENTATION, [one.presentation for one in parcels], key)
            sent = exchange_pb2.SubmissionFrame(key_id=signed[0].key_id, signature=signature, submissions=parcels)
            yield Request(submissions=sent)
        while payloads := _take(self._acknowledgements, MAX_FRAME):
            signature, signed = envelope.seal_frame(ACKNOWLEDGEMENT, payloads, key)
            said = exchange_pb2.AcknowledgementFrame(
                key_id=signed[0].key_id, signature=signature, acknowledgements=payloads
            )
            yield Request(acknowledgements=said)
        if self._notices_read and now - self._read_s >= READ_S:
            read, self._notices_read, self._read_s = self._notices_read, 0, now
            yield Request(notices_read=exchange_pb2.NoticesRead(through=read))


def _take(waiting: deque[T], most: int) -> list[T]:
    return [waiting.popleft() for _ in range(min(len(waiting), most))]
