"""Every method of every service under hostile requests: bytes that are no message, and messages of nonsense.

Whatever comes, a call ends with a status of ours: never UNKNOWN or INTERNAL, never a word of what is inside.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker.services.decoding import UNREADABLE, reading
from tests.soak.mutate import junk, mutated
from zhifu.errors import CATALOGUE
from zhifu.v1 import (
    audit_pb2,
    code_pb2,
    enrolment_pb2,
    exchange_pb2,
    log_pb2,
    parcel_pb2,
    pseudonym_pb2,
    wallet_pb2,
)

PUBLIC: Final = ("EnrolmentService", "WalletService", "LogService")
"""On the public port; the others are on the nodes'."""
_MODULES: Final = (
    audit_pb2, code_pb2, enrolment_pb2, exchange_pb2, log_pb2, parcel_pb2, pseudonym_pb2, wallet_pb2
)  # fmt: skip
_BAD: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED)
_OWN: Final = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
"""gRPC's own ways to end, which have no details of ours."""
_ANSWER_S: Final = 10.0
_AT_ONCE: Final = 8
_DEPTH: Final = 4
_SAMPLES: Final = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """How calls ended, by status, and what must not have been."""

    calls: int
    answers: Counter[str]
    faults: tuple[str, ...]


def methods() -> Iterator[MethodDescriptor]:
    """Every method that a broker serves."""
    for module in _MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


async def fuzz(nodes: grpc.aio.Channel, public: grpc.aio.Channel, frames: int, seed: int) -> Answered:
    """``frames`` hostile requests to each method, over a channel to each of the broker's ports."""
    random, answers, faults, calls = Random(seed), Counter[str](), list[str](), 0
    for method in methods():
        channel = public if method.containing_service.name in PUBLIC else nodes
        for begin in range(0, frames, _AT_ONCE):
            requests = [_request(method, random) for _ in range(min(_AT_ONCE, frames - begin))]
            for status, fault in await asyncio.gather(*(_call(channel, method, one) for one in requests)):
                calls += 1
                answers[status] += 1
                faults += [f"{method.full_name}: {fault}"] if fault else []
    return Answered(calls, answers, tuple(faults))


def decode(frames: int, seed: int, tell: Callable[[str], None] = lambda _: None) -> Answered:
    """``frames`` hostile requests to each method, as far as what reads them in the broker, without a connection."""
    random, answers, faults = Random(seed), Counter[str](), list[str]()
    for method in methods():
        read = reading(GetMessageClass(method.input_type).FromString)
        samples = [nonsense(method.input_type, random).SerializeToString() for _ in range(_SAMPLES)]
        for _ in range(frames):
            data = junk(random) if random.randrange(8) == 0 else mutated(random, random.choice(samples), samples)
            try:
                answers["unreadable" if read(data) is UNREADABLE else "read"] += 1
            except Exception as error:
                faults.append(f"{method.full_name}: {type(error).__name__} on {data.hex()}")
        tell(f"{method.full_name}: {frames} requests")
    return Answered(answers.total(), answers, tuple(faults))


def _request(method: MethodDescriptor, random: Random) -> bytes:
    made = nonsense(method.input_type, random).SerializeToString()
    kind = random.randrange(4)
    if kind == 0:
        return junk(random)
    return mutated(random, made, [made]) if kind == 1 and made else made


def nonsense(kind: Descriptor, random: Random, depth: int = 0) -> Message:
    """A message of this kind with values in most of its fields that fit their types and mean nothing."""
    found = GetMessageClass(kind)()
    for one in kind.fields:
        if random.randrange(4) == 0 or depth > _DEPTH:
            continue
        count = random.randrange(4) if one.is_repeated else 1
        values = [_value(one, random, depth) for _ in range(count)]
        if one.is_repeated:
            if one.message_type is None:
                getattr(found, one.name).extend(values)
            else:
                for value in values:
                    getattr(found, one.name).add().CopyFrom(value)
        elif one.message_type is not None:
            getattr(found, one.name).CopyFrom(values[0])
        else:
            setattr(found, one.name, values[0])
    return found


def _value(one: FieldDescriptor, random: Random, depth: int) -> Any:
    if one.message_type is not None:
        return nonsense(one.message_type, random, depth + 1)
    if one.enum_type is not None:
        return random.choice([value.number for value in one.enum_type.values])
    if one.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.choice((0, 1, 16, 32, 32, 32, 64, 1000)))
    if one.type == FieldDescriptor.TYPE_STRING:
        return random.choice(("", "x", "hospital", "statement", "张三", "a" * 300, "\0", "' OR 1=1 --"))
    if one.type == FieldDescriptor.TYPE_BOOL:
        return random.random() < 0.5
    largest = 2**32 if one.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_INT32) else 2**64
    signed = one.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)
    return random.choice((0, 1, 2, 1000, largest // 2 - 1, (largest - 1) if not signed else -1))


async def _call(channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes) -> tuple[str, str]:
    """The status, and what is wrong with it; empty if nothing is."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            stream: Any = channel.stream_stream(path)(_once(request), timeout=_ANSWER_S)
            async for _ in stream:
                pass
        elif method.server_streaming:
            several: Any = channel.unary_stream(path)
            async for _ in several(request, timeout=_ANSWER_S):
                pass
        else:
            unary: Any = channel.unary_unary(path)
            await unary(request, timeout=_ANSWER_S)
    except grpc.aio.AioRpcError as error:
        return error.code().name, _fault(error)
    return "OK", ""


async def _once(request: bytes) -> Any:
    yield request


def _fault(error: grpc.aio.AioRpcError) -> str:
    if error.code() in _BAD:
        return f"{error.code().name}: {error.details()}"
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return "" if error.code() in _OWN else f"{error.code().name} without our details: {error.details()}"
    info = error_details_pb2.ErrorInfo()
    if not status.details[0].Unpack(info) or info.reason not in CATALOGUE:
        return "a reason that is not in the catalogue"
    inside = [word for word in ("Traceback", "sqlite", ".py", "Error", "SELECT") if word in info.metadata["detail"]]
    if status.message != CATALOGUE[info.reason].meaning or inside:
        return f"it says what is inside: {status.message} {info.metadata['detail']}"
    return ""
