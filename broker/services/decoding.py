"""Requests that are no message of ours: refused like everything else, with a reason and without a word in the log.

gRPC by itself answers UNKNOWN and calls it an error of the server, so that anybody could fill the log with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from broker.services.errors import refusing
from zhifu.errors import Malformed

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_UNREADABLE: Final = object()


class Decoding(grpc.aio.ServerInterceptor):
    """For unary methods; what cannot be read on a stream is met by `broker.services.errors.refusing`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        # None: no such method.
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _refusing_unreadable(handler.unary_unary),
            request_deserializer=_reading(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _reading(deserialize: Any) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return read


def _refusing_unreadable(behaviour: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request is _UNREADABLE:
            async with refusing(context):
                raise Malformed("malformed.encoding", "not a message of this method")
        return await behaviour(request, context)

    return call
