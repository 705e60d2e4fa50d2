"""The one table from our errors to gRPC status (DESIGN section 2). Messages never carry data of a record."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from broker.counts import COUNTS
from zhifu.errors import Error, Exit, Malformed, NotAuthentic, Refused
from zhifu.v1 import exchange_pb2

DOMAIN: Final = "zhifu"
_STATUS_S: Final = 1.0
_log = logging.getLogger("broker.services")

_BY_REASON: Final = {
    "unavailable.overload": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable.quota": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable.space": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable.deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "enrolment.exists": grpc.StatusCode.ALREADY_EXISTS,
    "exchange.unknown": grpc.StatusCode.NOT_FOUND,
    "participant.unknown": grpc.StatusCode.UNAUTHENTICATED,
    "participant.suspended": grpc.StatusCode.PERMISSION_DENIED,
    "internal": grpc.StatusCode.INTERNAL,
}
_BY_EXIT: Final = {
    Exit.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Exit.CONSENT: grpc.StatusCode.PERMISSION_DENIED,
    Exit.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}


def code(error: Error) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    if isinstance(error, Malformed):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, NotAuthentic):
        return grpc.StatusCode.UNAUTHENTICATED
    return _BY_EXIT.get(error.exit, grpc.StatusCode.FAILED_PRECONDITION)


def status(error: Error) -> grpc.Status:
    """The status with a ``google.rpc.ErrorInfo`` that has our reason and whether a retry can help; then with a
    ``RetryInfo`` too.
    """
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={"retryable": str(error.retryable).lower(), "detail": error.detail}
    )
    details = [_packed(info)]
    if error.retry_s:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(_ms(error))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    number: int = code(error).value[0]
    return rpc_status.to_status(status_pb2.Status(code=number, message=error.entry.meaning, details=details))


def _packed(message: Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def _ms(error: Error) -> int:
    return math.ceil(1000 * error.retry_s)


def refusal(error: Error) -> exchange_pb2.Refusal:
    """The same inside a frame."""
    return exchange_pb2.Refusal(
        reason=error.reason, detail=error.detail, retryable=error.retryable, retry_after_ms=_ms(error)
    )


@asynccontextmanager
async def refusing(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with our status for our errors, and with INTERNAL, saying nothing, for everything else."""
    try:
        yield
    except Error as error:
        await _abort(context, error)
    except DecodeError:
        await _abort(context, Malformed("malformed.encoding", "not a message of this method"))
    except (grpc.aio.AbortError, grpc.RpcError):
        raise
    except Exception as error:
        # The type is enough to find it in the log; its text could carry what the log must not.
        _log.error("unexpected", exc_info=error, extra={"reason": "internal"})
        await _abort(context, Refused("internal"))


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Error) -> None:
    COUNTS.calls_refused[error.reason] += 1
    try:
        await asyncio.wait_for(context.abort_with_status(status(error)), _STATUS_S)
    except TimeoutError:
        # The status waits in gRPC behind what the peer does not read; what the call holds must not wait with it.
        raise asyncio.CancelledError from None
