"""Fetching parcels: chunk by chunk, each checked against what the patient signed; what is here is not fetched again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final, Protocol

import grpc

from clients import channel, parcel_jobs, wire
from clients.config import NodeConfig
from clients.keystore import Keystore
from clients.parcel_jobs import Kept
from clients.role import Transaction
from clients.store import Store
from zhifu import envelope, parcel, receive
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.parcel import Message
from zhifu.statement import KeyStatement
from zhifu.v1 import parcel_pb2, parcel_pb2_grpc

LOOK_S: Final = 0.25
AGAIN_S: Final = 5.0
CALL_S: Final = 20.0
_log = logging.getLogger("zhifu.parcels")


class Taker(Protocol):
    """What an insurer does with a parcel. Raises `Error` where it is refused; then nothing of it is kept."""

    def on_parcel(self, one: Kept, message: Message, tx: Transaction) -> bytes:
        """Its claim: the parcel's own name for a report."""
        ...


class Fetching:
    """One node's. ``statements`` are those of pinned participants, as they stand now.

    ``is_attached``: after a while away they are those of then, and all of them may be over.
    """

    def __init__(
        self,
        settings: NodeConfig,
        keystore: Keystore,
        store: Store,
        transaction: Callable[[], AbstractContextManager[Transaction]],
        taker: Taker,
        statements: Callable[[], dict[bytes, KeyStatement]],
        clock_ms: Callable[[], int],
        is_attached: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._keystore = keystore
        self._store = store
        self._transaction = transaction
        self._taker = taker
        self._statements = statements
        self._clock_ms = clock_ms
        self._is_attached = is_attached

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause = LOOK_S
            for one in parcel_jobs.find(self._store, parcel_jobs.WAITING) if self._is_attached() else ():
                pause = max(pause, await self._take(one))
            await asyncio.sleep(pause)

    async def _take(self, one: Kept) -> float:
        try:
            async with channel.node_channel(self._settings, self._keystore) as opened:
                try:
                    await self._fetch(parcel_pb2_grpc.ParcelServiceStub(opened), one)
                except grpc.aio.AioRpcError as error:
                    raise channel.refusal(error) from error
        except Error as error:
            _log.warning("parcel.not_taken", extra={"about": {"parcel": one.hash, "reason": error.reason}})
            if error.retryable:
                return AGAIN_S
            with self._store.transaction():
                if self._waits(one):
                    parcel_jobs.put(self._store, replace(one, state=parcel_jobs.REFUSED), self._clock_ms())
        return LOOK_S

    def _waits(self, one: Kept) -> bool:
        found = parcel_jobs.get(self._store, one.hash)
        return found is not None and found.state == parcel_jobs.WAITING

    def _check_waits(self, one: Kept) -> None:
        """After every wait: it may have been taken back, and what was here erased. Raises `Refused`
        (exchange.state).
        """
        if not self._waits(one):
            raise Refused("exchange.state", "the parcel was taken back meanwhile")

    async def _fetch(self, stub: parcel_pb2_grpc.ParcelServiceAsyncStub, one: Kept) -> None:
        found = await stub.FetchParcel(parcel_pb2.FetchParcelRequest(parcel=one.hash), timeout=CALL_S)
        verified = self._verified(one, found)
        for place in range(len(verified.shown.digests)):
            await self._chunk(stub, verified, place)
        self._check_waits(one)
        message = parcel_jobs.content(self._settings.directory, verified)
        parcel_jobs.make_durable(self._settings.directory, verified)
        # Told first: every chunk is on the disk, and who is told twice changes nothing. What was told after it was
        # taken would never be told where the node died in between.
        await stub.TakeParcel(parcel_pb2.TakeParcelRequest(parcel=one.hash), timeout=CALL_S)
        with self._transaction() as tx:
            self._check_waits(one)
            claim = self._taker.on_parcel(verified, message, tx)
            parcel_jobs.put(tx.store, replace(verified, state=parcel_jobs.TAKEN, claim=claim), self._clock_ms())

    def _verified(self, one: Kept, found: parcel_pb2.FetchParcelResponse) -> Kept:
        """The patient's word, under a key that two organisations which we pinned attest. Raises `Error`."""
        signed = wire.signed(parcel.PARCEL, found.parcel)
        if parcel.hash_of(signed.payload) != one.hash:
            raise NotAuthentic("signature.invalid", "the broker showed another parcel")
        shown = parcel.verify(signed, found.subject_key)
        if shown.aud != self._settings.origin:
            raise NotAuthentic("presentation.audience")
        attested = tuple(wire.signed(envelope.ATTESTATION, row).to_bytes() for row in found.attestations)
        receive.check_attested(found.subject_key, attested, b"", self._statements(), self._clock_ms() // 1000)
        key = self._keystore.kem_keys.get(shown.key_id)
        if key is None:
            raise NotAuthentic("key.unknown", "the parcel is sealed to a key that is not ours")
        secret = parcel.secret_of(shown, key, parcel.subject_of(found.subject_key))
        return replace(one, subject_key=found.subject_key, secret=secret)

    async def _chunk(self, stub: parcel_pb2_grpc.ParcelServiceAsyncStub, one: Kept, place: int) -> None:
        path = parcel_jobs.chunk_path(self._settings.directory, one.hash, place)
        if path.exists():
            return
        request = parcel_pb2.FetchChunkRequest(parcel=one.hash, place=place)
        chunk = (await stub.FetchChunk(request, timeout=CALL_S)).chunk
        parcel.check_chunk(one.shown, place, chunk)
        self._check_waits(one)
        parcel_jobs.keep_chunk(self._settings.directory, one, place, chunk)
