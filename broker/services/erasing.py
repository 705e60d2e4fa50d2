"""`LogService`: erasure and legal holds, on the public port; the officers' signatures are what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from broker import erasure
from broker.core import Core
from broker.services import frames
from broker.services.errors import refusing
from broker.services.frames import Known
from zhifu import envelope
from zhifu import erasure as orders
from zhifu.errors import Malformed
from zhifu.receipt import Head
from zhifu.v1 import log_pb2, log_pb2_grpc

BACKUP_S: Final = 35 * 86_400
"""How long backups are kept that may still hold a destroyed key: erasure is complete after that."""
_Context = grpc.aio.ServicerContext[Any, Any]


class LogService(log_pb2_grpc.LogServiceServicer):
    """``officers`` are the public keys of who may order: the broker's operators, as its folder names them.

    ``forget`` is told of the entries that were erased: what was derived from their details goes too.
    """

    def __init__(self, core: Core, officers: tuple[bytes, ...], forget: Callable[[Sequence[int]], None]) -> None:
        self._core = core
        self._officers = officers
        self._forget = forget

    async def Erase(self, request: log_pb2.EraseRequest, context: _Context) -> log_pb2.EraseResponse:
        async with refusing(context):
            core = self._core
            signed = _envelopes(envelope.ERASURE, request.orders)
            order = orders.verify_order(signed, self._officers, core.log.origin, core.now())
            done = await core.committer.run(
                lambda state, sequence, now_ms: erasure.erase(order, signed, state, sequence, now_ms),
                essential=True,
            )
            self._forget(done.result.erased)
            await asyncio.to_thread(core.store.forget)
            index = done.result.entry.index
            return log_pb2.EraseResponse(
                erased=len(done.result.erased),
                proof=Known(Head()).prove(core.log, done.commit, index, index + 1),
                entry=frames.opening(done.result.entry),
                complete_at=core.now() + BACKUP_S,
            )
        raise AssertionError  # the context manager ended the call

    async def Hold(self, request: log_pb2.HoldRequest, context: _Context) -> log_pb2.HoldResponse:
        async with refusing(context):
            core = self._core
            signed = _envelopes(envelope.HOLD, request.orders)
            order = orders.verify_hold(signed, self._officers, core.log.origin, core.now())
            done = await core.committer.run(
                lambda state, sequence, now_ms: erasure.hold(order, signed, state, sequence, now_ms),
                essential=True,
            )
            index = done.result.index
            proof = Known(Head()).prove(core.log, done.commit, index, index + 1)
            return log_pb2.HoldResponse(proof=proof, entry=frames.opening(done.result))
        raise AssertionError  # the context manager ended the call


def _envelopes(kind: envelope.Kind, messages: Any) -> tuple[envelope.Envelope, ...]:
    if not 1 <= len(messages) <= orders.OFFICERS:
        raise Malformed("malformed.size", "one or two officers sign")
    return tuple(envelope.from_proto(kind, one) for one in messages)
