"""`ParcelService`: an insurer fetches what its patients left for it. Callers are participants (mTLS)."""

from __future__ import annotations

from typing import Any

import grpc

from broker import parcels
from broker.core import Core
from broker.services import identity
from broker.services.errors import refusing
from broker.store import tables
from zhifu import strict
from zhifu.errors import Refused
from zhifu.v1 import parcel_pb2, parcel_pb2_grpc, signed_pb2

_Context = grpc.aio.ServicerContext[Any, Any]


class ParcelService(parcel_pb2_grpc.ParcelServiceServicer):
    """On the node port. Whoever is not the recipient learns nothing."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def FetchParcel(
        self, request: parcel_pb2.FetchParcelRequest, context: _Context
    ) -> parcel_pb2.FetchParcelResponse:
        async with refusing(context):
            row, reader = self._row(request.parcel, context), self._core.store.reader
            subject = reader.get(tables.Subject, row.subject)
            attested = reader.find(tables.Attested, subject=row.subject)
            return parcel_pb2.FetchParcelResponse(
                parcel=signed_pb2.Envelope.FromString(row.envelope),
                subject_key=subject.public_key if subject is not None else b"",
                attestations=[signed_pb2.Envelope.FromString(one.document) for one in attested],
            )
        raise AssertionError  # the context manager ended the call

    async def FetchChunk(
        self, request: parcel_pb2.FetchChunkRequest, context: _Context
    ) -> parcel_pb2.FetchChunkResponse:
        async with refusing(context):
            row = self._row(request.parcel, context)
            found = self._core.store.reader.get(tables.Chunk, row.hash, request.place)
            if found is None:
                raise Refused("exchange.unknown")
            return parcel_pb2.FetchChunkResponse(chunk=found.content)
        raise AssertionError  # the context manager ended the call

    async def TakeParcel(
        self, request: parcel_pb2.TakeParcelRequest, context: _Context
    ) -> parcel_pb2.TakeParcelResponse:
        async with refusing(context):
            core, row = self._core, self._row(request.parcel, context)
            await core.committer.run(
                lambda state, sequence, now_ms: parcels.take(row.hash, row.recipient, state, sequence, now_ms)
            )
            return parcel_pb2.TakeParcelResponse()
        raise AssertionError  # the context manager ended the call

    def _row(self, digest: bytes, context: _Context) -> tables.Parcel:
        caller = identity.caller(context, self._core.directory, self._core.now())
        return parcels.fetch(strict.exactly("parcel", digest, 32), caller.id, self._core.store.reader)
