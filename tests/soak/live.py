"""Hostile frames against a running broker: it answers with reasons, stays up, goes on serving the honest.

Three kinds of hostility: bytes that are no message, messages that no key signed, nonsense that the right key signed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final, cast

import grpc

from clients import channel
from tests.bench.load import Attached, claim
from tests.bench.world import Participant, World
from tests.soak.mutate import junk, mutated
from zhifu import envelope, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import ACKNOWLEDGEMENT, PRESENTATION
from zhifu.keys import VERSION
from zhifu.presentation import Presentation
from zhifu.v1 import enrolment_pb2, exchange_pb2, signed_pb2, wallet_pb2

Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
PER_STREAM: Final = 12
ANSWER_S: Final = 10.0
_CONNECT: Final = "/zhifu.v1.ExchangeService/Connect"
_BAD: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


@dataclass(frozen=True, slots=True)
class Lived:
    """What came back, by status or reason, and what must never have."""

    frames: int
    answers: Counter[str]
    faults: tuple[str, ...]


class Hostile:
    """Makes hostile frames for one participant who holds its own keys."""

    def __init__(self, world: World, random: Random) -> None:
        self._random = random
        self._me = world.hospitals[0]
        self._patients = world.patients_of(self._me)
        self._samples = [one.SerializeToString() for one in self._honest()]

    @property
    def hello(self) -> bytes:
        """A hello; one in eight lies about the head."""
        size = self._random.choice((0, 0, 0, 0, 0, 0, 1, 2**40))
        hello = exchange_pb2.Hello(version=VERSION, head_size=size, head_root=bytes(32) if size else b"")
        return exchange_pb2.ConnectRequest(hello=hello).SerializeToString()

    def frame(self) -> bytes:
        """The next hostile frame."""
        kind = self._random.randrange(8)
        if kind == 0:
            return junk(self._random)
        if kind <= 3:
            return mutated(self._random, self._random.choice(self._samples), self._samples)
        return self._signed().SerializeToString()

    def _honest(self) -> Iterator[exchange_pb2.ConnectRequest]:
        yield exchange_pb2.ConnectRequest(hello=exchange_pb2.Hello(version=VERSION))
        yield exchange_pb2.ConnectRequest(submissions=self._submissions([claim(self._patients[0])]))
        yield exchange_pb2.ConnectRequest(acknowledgements=self._acknowledgements([self._said().to_bytes()]))
        yield exchange_pb2.ConnectRequest(notices_read=exchange_pb2.NoticesRead(through=5))
        signed = envelope.seal_one(envelope.EPOCH_OFFER, bytes(40), self._me.keys.signing).to_proto()
        yield exchange_pb2.ConnectRequest(epoch_offer=signed)
        yield exchange_pb2.ConnectRequest(key_statement=signed)

    def _signed(self) -> exchange_pb2.ConnectRequest:
        """The right key over nonsense."""
        random = self._random
        if random.randrange(4) == 0:
            said = self._said().to_bytes()
            payloads = [mutated(random, said) if random.randrange(3) else said for _ in range(random.randint(1, 4))]
            return exchange_pb2.ConnectRequest(acknowledgements=self._acknowledgements(payloads))
        count = random.choice((1, 1, 1, 2, 5, 64))
        made = [self._submission() if number < 3 else claim(self._patients[0]) for number in range(count)]
        return exchange_pb2.ConnectRequest(submissions=self._submissions(made))

    def _submission(self) -> exchange_pb2.Submission:
        """One part of an honest submission is changed, and the presentation signed as it then is."""
        random, one = self._random, claim(self._random.choice(self._patients))
        part = random.choice(("presentation", "field", "field", "manifest", "leaves", "capsule"))
        if part == "field":
            one.presentation = self._with_a_lie(one.presentation)
        else:
            setattr(one, part, mutated(random, getattr(one, part)))
        return one

    def _with_a_lie(self, payload: bytes) -> bytes:
        """An honest presentation but for one field, of which the rest of it knows nothing."""
        random, shown = self._random, presentation.parse(payload)
        name = random.choice([field.name for field in fields(Presentation)])
        value: Any = getattr(shown, name)
        if isinstance(value, bytes):
            value = random.choice((b"", random.randbytes(len(value) or 32), mutated(random, value)))
        elif isinstance(value, str):
            value = random.choice(("", "statement", "public-settlement", "x" * 300, "甲"))
        elif name == "basis_kind":
            value = random.choice((0, 1, 2, 3))
        else:
            value = random.choice((0, 1, 2**40, 2**63, value - 90_000, value + 90_000))
        return replace(shown, **{name: value}).to_bytes()

    def _said(self) -> Acknowledgement:
        index = self._random.choice((0, 1, 5, 2**40))
        random = self._random.randbytes(96)
        return Acknowledgement(
            self._me.settings.origin, self._me.id, random[:32], random[32:64], index, index + 1, random[64:],
            signed_pb2.OUTCOME_OPENED, "", 1_790_000_000,
        )  # fmt: skip

    def _submissions(self, made: Sequence[exchange_pb2.Submission]) -> exchange_pb2.SubmissionFrame:
        signature, key_id = self._sign(PRESENTATION, [one.presentation for one in made])
        return exchange_pb2.SubmissionFrame(key_id=key_id, signature=signature, submissions=made)

    def _acknowledgements(self, payloads: Sequence[bytes]) -> exchange_pb2.AcknowledgementFrame:
        signature, key_id = self._sign(ACKNOWLEDGEMENT, payloads)
        return exchange_pb2.AcknowledgementFrame(key_id=key_id, signature=signature, acknowledgements=payloads)

    def _sign(self, kind: envelope.Kind, payloads: Sequence[bytes]) -> tuple[bytes, bytes]:
        signature, signed = envelope.seal_frame(kind, payloads, self._me.keys.signing)
        return signature, signed[0].key_id


class Attack:
    """Sends hostile frames and calls, and writes down what came back."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self._hostile = Hostile(world, random)
        self._me: Participant = world.hospitals[0]
        self.frames = 0
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []

    async def stream(self) -> None:
        """One stream of up to `PER_STREAM` hostile frames."""
        random, sent = self._random, list[bytes]()
        async with channel.node_channel(self._me.settings, self._me.keys) as opened:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = opened.stream_stream(_CONNECT)()
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._send(call, sent, random.randint(1, PER_STREAM))
                    status = await call.code()
            except grpc.aio.AioRpcError as error:
                status = error.code()
            except asyncio.InvalidStateError:  # written to a stream that the broker had ended
                status = await call.code()
            except TimeoutError:
                self.faults.append(f"no end of the stream after {sent[-1].hex()}")
                call.cancel()
                return
            self._judge(status, sent)

    async def _send(self, call: Any, sent: list[bytes], count: int) -> None:
        sent.append(self._hostile.hello if self._random.randrange(10) else self._hostile.frame())
        await call.write(sent[0])
        for _ in range(count):
            sent.append(self._hostile.frame())
            await call.write(sent[-1])
            self.frames += 1
        await call.done_writing()
        while (answer := await call.read()) is not grpc.aio.EOF:
            self._read(exchange_pb2.ConnectResponse.FromString(answer), sent)

    def _read(self, answer: exchange_pb2.ConnectResponse, sent: Sequence[bytes]) -> None:
        kind = answer.WhichOneof("frame")
        reasons = [f"{kind}"]
        if kind == "reconnect":
            reasons = [answer.reconnect.reason]
        elif kind == "results":
            reasons = [one.refusal.reason if one.HasField("refusal") else "accepted" for one in answer.results.results]
        self.answers.update(reasons)
        if "internal" in reasons:
            self.faults.append(f"internal, after {[one.hex() for one in sent][-3:]}")

    def _judge(self, status: grpc.StatusCode, sent: Sequence[bytes]) -> None:
        self.answers[status.name] += 1
        if status in _BAD:
            self.faults.append(f"{status.name}, after {[one.hex() for one in sent][-3:]}")

    async def calls(self) -> None:
        """Each unary method once, with a changed request, on the port where it is served."""
        authority = self._me.settings.authority.read_bytes()
        async with (
            channel.public_channel(self._me.settings.public_address, authority) as public,
            channel.node_channel(self._me.settings, self._me.keys) as node,
        ):
            for method, request in _REQUESTS.items():
                opened = node if method.startswith("/zhifu.v1.ExchangeService") else public
                data = mutated(self._random, request) if self._random.randrange(4) else junk(self._random)
                self.frames += 1
                try:
                    await cast(Unary, opened.unary_unary(method))(data, timeout=ANSWER_S)
                    self.answers["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    self.answers[error.code().name] += 1
                    if error.code() in _BAD:
                        self.faults.append(f"{method}: {error.code().name} on {data.hex()}")


def _requests() -> Iterator[tuple[str, Any]]:
    signed = signed_pb2.Envelope(
        payload_type=envelope.GRANT.media_type, payload=bytes(90), key_id=bytes(32), signature=bytes(64), size=1
    )
    wallet = "/zhifu.v1.WalletService"
    yield f"{wallet}/Challenge", wallet_pb2.ChallengeRequest()
    yield (
        f"{wallet}/EnrolSubject",
        wallet_pb2.EnrolSubjectRequest(proof=signed, subject_key=bytes(32), attestations=[signed, signed]),
    )
    yield f"{wallet}/RegisterGrant", wallet_pb2.RegisterGrantRequest(grant=signed)
    yield f"{wallet}/RevokeGrant", wallet_pb2.RevokeGrantRequest(revocation=signed)
    yield f"{wallet}/ListAccesses", wallet_pb2.ListAccessesRequest(proof=signed)
    yield f"{wallet}/FetchMailbox", wallet_pb2.FetchMailboxRequest(proof=signed, head_size=3, head_root=bytes(32))
    said = exchange_pb2.AcknowledgementFrame(key_id=bytes(32), signature=bytes(64), acknowledgements=[bytes(80)])
    yield f"{wallet}/AcknowledgeMailbox", wallet_pb2.AcknowledgeMailboxRequest(acknowledgements=said)
    enrolled = enrolment_pb2.EnrolRequest(invite="x" * 22, csr=bytes(120), key_statement=signed)
    yield "/zhifu.v1.EnrolmentService/Enrol", enrolled
    one = exchange_pb2.Submission(presentation=bytes(300), manifest=bytes(300), leaves=bytes(300), capsule=bytes(300))
    frame = exchange_pb2.SubmissionFrame(key_id=bytes(32), signature=bytes(64), submissions=[one])
    yield "/zhifu.v1.ExchangeService/SubmitExchange", exchange_pb2.SubmitExchangeRequest(submissions=frame)


_REQUESTS: Final = {method: request.SerializeToString() for method, request in _requests()}


async def fuzz(world: World, seconds: float, start: int, tell: Callable[[str], None]) -> Lived:
    """Attack for ``seconds``; an honest exchange must still go through before, now and then, and afterwards."""
    attack = Attack(world, Random(f"{start} live"))
    loop = asyncio.get_running_loop()
    await _honest(world, world.hospitals)
    until, round_ = loop.time() + seconds, 1
    while loop.time() < until and not attack.faults:
        await asyncio.gather(*(attack.stream() for _ in range(4)), attack.calls())
        if round_ % 50 == 0:
            await _honest(world, world.hospitals[-1:])
            tell(f"{attack.frames} hostile frames")
        round_ += 1
    await _honest(world, world.hospitals[-1:])
    attack.faults += complaints(world)
    return Lived(attack.frames, attack.answers, tuple(attack.faults))


async def _honest(world: World, hospitals: Sequence[Participant]) -> None:
    """Some exchanges by participants who mean it. Raises what they fail with."""
    attached = Attached(world, hospitals)
    try:
        await attached.open()
        found = await attached.measure(4, 4, 0.05)
        assert found.latencies_ms
    finally:
        await attached.close()


def complaints(world: World) -> list[str]:
    """What the broker's log calls an error of its own, and whether its process still lives."""
    if world.broker.process.poll() is not None:
        return ["the broker's process ended"]
    lines = (world.stage.path / "broker" / "log.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["level"] in ("error", "critical")][:5]
