"""A wallet's calls to the broker, each proving possession of one subject key (`WalletService`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import grpc

from clients import channel, wire
from clients.patient.wallet import Contact, Pair, Wallet
from zhifu import envelope
from zhifu.envelope import Envelope
from zhifu.keys import SUITE, VERSION
from zhifu.receipt import Entry, Head
from zhifu.v1 import exchange_pb2, signed_pb2, wallet_pb2, wallet_pb2_grpc

DEADLINE_S: Final = 10.0
Stub: TypeAlias = "wallet_pb2_grpc.WalletServiceAsyncStub"


@asynccontextmanager
async def broker(contact: Contact) -> AsyncIterator[Stub]:
    """The broker's wallet service. Failed calls raise our own errors (`clients.channel.refusal`)."""
    async with channel.public_channel(contact.public_address, contact.ca.encode()) as opened:
        try:
            yield wallet_pb2_grpc.WalletServiceStub(opened)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error


async def _proof(stub: Stub, pair: Pair, origin: str, method: str) -> signed_pb2.Envelope:
    found = await stub.Challenge(wallet_pb2.ChallengeRequest(), timeout=DEADLINE_S)
    proof = signed_pb2.WalletProof(
        version=VERSION, suite=SUITE, aud=origin, challenge=found.challenge, method=method
    ).SerializeToString(deterministic=True)
    return envelope.seal_one(envelope.WALLET, proof, pair.key).to_proto()


def _proven(wallet: Wallet, proof: exchange_pb2.LogProof, entry: exchange_pb2.EntryOpening) -> Entry:
    """The entry of a receipt that stands by itself. Raises `NotAuthentic` (log.*, receipt.*), `Malformed`."""
    proven = wire.prove(proof, Head(), wallet.contact.vkey)
    return wire.proven_entry(entry, proven)


async def enrol(wallet: Wallet, pair: Pair, attestations: list[Envelope]) -> Entry:
    """Enrol a pair's subject key with two attestations; the receipt's entry. Raises `Refused`, `NotAuthentic`."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.EnrolSubjectRequest(
            proof=await _proof(stub, pair, wallet.contact.origin, "EnrolSubject"),
            subject_key=pair.public,
            attestations=[one.to_proto() for one in attestations],
        )
        found = await stub.EnrolSubject(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry)


async def register(wallet: Wallet, grant: Envelope) -> Entry:
    """Register a grant; the receipt's entry. Raises `Refused` (consent.*, unavailable.*), `NotAuthentic`."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.RegisterGrantRequest(grant=grant.to_proto())
        found = await stub.RegisterGrant(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry)


async def revoke(wallet: Wallet, revocation: Envelope) -> tuple[Entry, int, int]:
    """Revoke a grant: the receipt's entry, how many exchanges were delivered before, how many are withheld."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.RevokeGrantRequest(revocation=revocation.to_proto())
        found = await stub.RevokeGrant(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry), found.delivered, found.withheld


async def accesses(wallet: Wallet, pair: Pair) -> list[wallet_pb2.Access]:
    """What was exchanged under this pair's key, as the broker says; presentations are to be verified."""
    async with broker(wallet.contact) as stub:
        proof = await _proof(stub, pair, wallet.contact.origin, "ListAccesses")
        found = await stub.ListAccesses(wallet_pb2.ListAccessesRequest(proof=proof), timeout=DEADLINE_S)
    return list(found.accesses)


async def mailbox(wallet: Wallet, pair: Pair) -> wallet_pb2.FetchMailboxResponse:
    """Statements that wait for this pair, with proofs from the wallet's own head on."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.FetchMailboxRequest(
            proof=await _proof(stub, pair, wallet.contact.origin, "FetchMailbox"),
            head_size=wallet.head.size,
            head_root=wallet.head.root,
        )
        return await stub.FetchMailbox(request, timeout=DEADLINE_S)


async def acknowledge(wallet: Wallet, pair: Pair, payloads: list[bytes]) -> None:
    """Send signed acknowledgements for opened or refused statements."""
    signature, _ = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, payloads, pair.key)
    frame = exchange_pb2.AcknowledgementFrame(key_id=pair.key_id, signature=signature, acknowledgements=payloads)
    async with broker(wallet.contact) as stub:
        await stub.AcknowledgeMailbox(wallet_pb2.AcknowledgeMailboxRequest(acknowledgements=frame), timeout=DEADLINE_S)
