"""A hospital node's calls about direct-pay codes (`CodeService`), each on a connection of its own: a scan is rare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from clients import channel, wire
from clients.config import NodeConfig
from clients.keystore import Keystore
from zhifu import consent, envelope, ticket
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.receipt import Head, parse_detail, parse_meta
from zhifu.ticket import Code
from zhifu.v1 import code_pb2, code_pb2_grpc

CALL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A grant that this hospital holds, its signature verified, with the attestations of its subject key."""

    signed: Envelope
    grant: Grant
    attestations: tuple[Envelope, ...]


class CodeService:
    """The broker's, as the node sees it. What it answers is checked here: it holds no key of the patient's."""

    def __init__(self, settings: NodeConfig, keystore: Keystore, hospital: bytes) -> None:
        self._settings = settings
        self._keystore = keystore
        self._hospital = hospital

    @asynccontextmanager
    async def _stub(self) -> AsyncIterator[code_pb2_grpc.CodeServiceAsyncStub]:
        async with channel.node_channel(self._settings, self._keystore) as opened:
            try:
                yield code_pb2_grpc.CodeServiceStub(opened)
            except grpc.aio.AioRpcError as error:
                raise channel.refusal(error) from error

    async def fetch(self, digits: str) -> Code:
        """What an 18-digit code stands for. Raises `Refused` (ticket.unknown, ticket.limit), `NotAuthentic`."""
        digits = ticket.check_digits(digits)
        async with self._stub() as stub:
            found = await stub.FetchCode(code_pb2.FetchCodeRequest(code=digits), timeout=CALL_S)
        failed: NotAuthentic | None = None
        for key in self._keystore.kem_keys.values():
            try:
                return ticket.open_online(found.sealed, key, self._hospital)
            except NotAuthentic as error:
                failed = error
        raise NotAuthentic("capsule.open", "the code is sealed to a key that is not ours") from failed

    async def grant(self, grant_hash: bytes) -> Fetched:
        """A grant by its hash. Raises `Refused` (consent.*), `NotAuthentic` (consent.signature, consent.missing)."""
        async with self._stub() as stub:
            found = await stub.FetchGrant(code_pb2.FetchGrantRequest(grant_hash=grant_hash), timeout=CALL_S)
        signed = wire.signed(envelope.GRANT, found.grant)
        if consent.hash_of(signed.payload) != grant_hash:
            raise NotAuthentic("consent.signature", "the broker showed another grant")
        attested = tuple(wire.signed(envelope.ATTESTATION, one) for one in found.attestations)
        return Fetched(signed, consent.verify_grant(signed), attested)

    async def redeem(self, signed: Envelope, workflow: bytes) -> int:
        """Bind a ticket to a workflow; until when it may be used (Unix ms), once the log has it.

        Raises `Refused` (ticket.*, consent.*), `NotAuthentic` (log.*, receipt.*).
        """
        async with self._stub() as stub:
            request = code_pb2.RedeemTicketRequest(ticket=signed.to_proto(), workflow=workflow)
            found = await stub.RedeemTicket(request, timeout=CALL_S)
        proven = wire.prove(found.proof, Head(), self._settings.log_key)
        entry = wire.proven_entry(found.entry, proven)
        detail = parse_detail(entry.detail)
        if parse_meta(entry.meta).event != "ticket.redeemed" or detail.documents != (signed.to_bytes(), workflow):
            raise NotAuthentic("receipt.invalid", "the entry is not about this ticket")
        return found.until_ms
