"""Requests that are no message of ours: refused like everything else, with a reason and without a word in the log.

gRPC by itself answers UNKNOWN and calls it an error of the server, so that anybody could fill the log with them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from broker.services.errors import refusing
from zhifu.errors import Malformed

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
UNREADABLE: Final = object()
"""In place of a request that is none."""


class Decoding(grpc.aio.ServerInterceptor):
    """For methods with one request; what cannot be read on a stream is met by `broker.services.errors.refusing`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        # None: no such method.
        if handler is None or handler.request_streaming:
            return handler
        make, behaviour = (
            (grpc.unary_stream_rpc_method_handler, _refusing_unreadable_stream(handler.unary_stream))
            if handler.response_streaming
            else (grpc.unary_unary_rpc_method_handler, _refusing_unreadable(handler.unary_unary))
        )
        return make(
            behaviour,
            request_deserializer=reading(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def reading(deserialize: Any) -> Callable[[bytes], Any]:
    """What reads a request: its message, or `UNREADABLE`. Never raises."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return UNREADABLE

    return read


def _refusing_unreadable(behaviour: Any) -> Any:
    async def call(request: Any, context: Context) -> Any:
        await _refuse_unreadable(request, context)
        return await behaviour(request, context)

    return call


def _refusing_unreadable_stream(behaviour: Any) -> Any:
    async def call(request: Any, context: Context) -> None:
        await _refuse_unreadable(request, context)
        # gRPC takes both: one that yields, and one that writes by itself.
        answers = behaviour(request, context)
        if not isinstance(answers, AsyncIterator):
            await answers
            return
        async for answer in answers:
            await context.write(answer)

    return call


async def _refuse_unreadable(request: Any, context: Context) -> None:
    if request is UNREADABLE:
        async with refusing(context):
            raise Malformed("malformed.encoding", "not a message of this method")
