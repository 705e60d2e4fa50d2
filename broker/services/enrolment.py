"""`EnrolmentService`: an invite and a certificate request for a certificate."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from broker import authority, enrolment
from broker.core import Core
from broker.home import Home
from broker.services.errors import refusing
from broker.services.identity import spki_hash
from broker.store import tables
from zhifu import envelope
from zhifu.errors import Refused
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc

_Context = grpc.aio.ServicerContext[enrolment_pb2.EnrolRequest, enrolment_pb2.EnrolResponse]


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """On the public port: who enrols has no certificate yet, only an invite."""

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
