"""`CodeService`: what a hospital does with the code that its patient shows. Callers are participants (mTLS)."""

from __future__ import annotations

from typing import Any

import grpc

from broker import redemption
from broker.core import Core
from broker.services import frames, identity
from broker.services.errors import refusing
from broker.services.frames import Known
from broker.store import tables
from zhifu import envelope, strict
from zhifu.errors import Refused
from zhifu.receipt import Head
from zhifu.v1 import code_pb2, code_pb2_grpc, signed_pb2

_Context = grpc.aio.ServicerContext[Any, Any]


class CodeService(code_pb2_grpc.CodeServiceServicer):
    """On the node port. Whoever is not the hospital that a code or a grant names learns nothing but that."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def FetchCode(self, request: code_pb2.FetchCodeRequest, context: _Context) -> code_pb2.FetchCodeResponse:
        async with refusing(context):
            core, caller = self._core, identity.caller(context, self._core.directory, self._core.now())
            done = await core.committer.run(
                lambda state, _, now_ms: redemption.fetch(request.code, caller.id, core.pepper, state, now_ms)
            )
            if done.result is None:  # counted, so it is refused after the commit
                raise Refused("ticket.unknown")
            return code_pb2.FetchCodeResponse(sealed=done.result, clock_ms=core.clock_ms())
        raise AssertionError  # the context manager ended the call

    async def FetchGrant(self, request: code_pb2.FetchGrantRequest, context: _Context) -> code_pb2.FetchGrantResponse:
        async with refusing(context):
            core, caller = self._core, identity.caller(context, self._core.directory, self._core.now())
            row = core.store.reader.get(tables.Grant, strict.exactly("grant_hash", request.grant_hash, 32))
            if row is None or row.cnf != caller.id:
                raise Refused("consent.not_usable")
            if row.status != "active":
                raise Refused("consent.revoked")
            attested = core.store.reader.find(tables.Attested, subject=row.subject)
            return code_pb2.FetchGrantResponse(
                grant=signed_pb2.Envelope.FromString(row.envelope),
                attestations=[signed_pb2.Envelope.FromString(one.document) for one in attested],
                clock_ms=core.clock_ms(),
            )
        raise AssertionError  # the context manager ended the call

    async def RedeemTicket(
        self, request: code_pb2.RedeemTicketRequest, context: _Context
    ) -> code_pb2.RedeemTicketResponse:
        async with refusing(context):
            core, caller = self._core, identity.caller(context, self._core.directory, self._core.now())
            signed = envelope.from_proto(envelope.TICKET, request.ticket)
            workflow = strict.exactly("workflow", request.workflow, 16)
            done = await core.committer.run(
                lambda state, sequence, now_ms: redemption.redeem(signed, workflow, caller.id, state, sequence, now_ms)
            )
            entry = done.result.entry
            commit = core.log.commit_of(entry.index)
            return code_pb2.RedeemTicketResponse(
                until_ms=done.result.until_ms,
                proof=Known(Head()).prove(core.log, commit, entry.index, entry.index + 1),
                entry=frames.opening(entry),
            )
        raise AssertionError  # the context manager ended the call
