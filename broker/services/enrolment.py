"""`EnrolmentService`: an invite and a certificate request for a certificate; the next one; who takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from broker import authority, directory, enrolment
from broker.core import Core
from broker.home import Home
from broker.services import frames, identity
from broker.services.errors import refusing
from broker.services.frames import Known
from broker.services.identity import spki_hash
from broker.store import tables
from zhifu import envelope, standing
from zhifu.errors import Refused
from zhifu.receipt import Head
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc

_Any = grpc.aio.ServicerContext[Any, Any]
_Context = grpc.aio.ServicerContext[enrolment_pb2.EnrolRequest, enrolment_pb2.EnrolResponse]


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """On the public port: who enrols has no certificate yet, only an invite; who renews may have none any more."""

    def __init__(self, core: Core, home: Home, changed: Callable[[], None]) -> None:
        self._core = core
        self._home = home
        self._changed = changed

    async def Enrol(self, request: enrolment_pb2.EnrolRequest, context: _Context) -> enrolment_pb2.EnrolResponse:
        async with refusing(context):
            return await self._enrol(request)
        raise AssertionError  # the context manager ended the call

    async def _enrol(self, request: enrolment_pb2.EnrolRequest) -> enrolment_pb2.EnrolResponse:
        if (
            len(request.invite) > 64
            or self._core.store.reader.get(tables.Invite, enrolment.code_hash(request.invite)) is None
        ):
            raise Refused("enrolment.invite")
        csr = authority.read_request(request.csr)
        signed = envelope.from_proto(envelope.KEY_STATEMENT, request.key_statement)
        done = await self._core.committer.run(
            lambda state, sequence, now_ms: enrolment.redeem(
                request.invite, spki_hash(csr), signed, state, sequence, now_ms
            )
        )
        self._core.directory.reload()
        self._changed()
        ca = self._home.read("ca.crt")
        certificate = authority.issue(csr, done.result, ca, self._home.read("ca.key"))
        return enrolment_pb2.EnrolResponse(certificate=certificate, authority=ca, participant=done.result)

    async def Renew(self, request: enrolment_pb2.RenewRequest, context: _Any) -> enrolment_pb2.RenewResponse:
        async with refusing(context):
            csr = authority.read_request(request.csr)
            # The request is signed by the key that it is for, which a certificate that has expired does not change.
            member = self._core.directory.peer(identity.spki_hash(csr))
            found = authority.issue(csr, member.id, self._home.read("ca.crt"), self._home.read("ca.key"))
            return enrolment_pb2.RenewResponse(certificate=found)
        raise AssertionError  # the context manager ended the call

    async def SetStanding(
        self, request: enrolment_pb2.SetStandingRequest, context: _Any
    ) -> enrolment_pb2.SetStandingResponse:
        async with refusing(context):
            core = self._core
            signed = envelope.from_proto(envelope.STANDING, request.order)
            order = standing.verify(signed, self._home.operators, core.log.origin, core.clock_ms())
            done = await core.committer.run(
                lambda state, sequence, now_ms: directory.set_standing(order, signed, state, sequence, now_ms)
            )
            core.directory.reload()
            self._changed()
            index = done.result.index
            proof = Known(Head()).prove(core.log, done.commit, index, index + 1)
            return enrolment_pb2.SetStandingResponse(proof=proof, entry=frames.opening(done.result))
        raise AssertionError  # the context manager ended the call
