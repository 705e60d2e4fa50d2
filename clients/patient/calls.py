"""A wallet's calls to the broker, each proving possession of one subject key (`WalletService`)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import grpc

from clients import channel, wire
from clients.patient.wallet import Contact, Pair, Wallet
from zhifu import envelope
from zhifu.envelope import Envelope
from zhifu.errors import Error, Malformed
from zhifu.keys import SUITE, VERSION
from zhifu.receipt import Entry, Head
from zhifu.subject_key import SignedChange
from zhifu.v1 import exchange_pb2, signed_pb2, wallet_pb2, wallet_pb2_grpc

DEADLINE_S: Final = 10.0
CHUNK_S: Final = 30.0
LOOK_S: Final = 2.0
_MOST_PAGES: Final = 100
Stub: TypeAlias = "wallet_pb2_grpc.WalletServiceAsyncStub"


@asynccontextmanager
async def broker(contact: Contact) -> AsyncIterator[Stub]:
    """The broker's wallet service. Failed calls raise our own errors (`clients.channel.refusal`)."""
    async with channel.public_channel(contact.public_address, contact.ca.encode()) as opened:
        try:
            yield wallet_pb2_grpc.WalletServiceStub(opened)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error


async def _proof(stub: Stub, wallet: Wallet, pair: Pair, method: str) -> signed_pb2.Envelope:
    found = await stub.Challenge(wallet_pb2.ChallengeRequest(), timeout=DEADLINE_S)
    if found.clock_ms:
        wallet.learn(found.clock_ms, time.time_ns() // 1_000_000)
    proof = signed_pb2.WalletProof(
        version=VERSION, suite=SUITE, aud=wallet.contact.origin, challenge=found.challenge, method=method
    ).SerializeToString(deterministic=True)
    return (await wallet.sign(pair, envelope.WALLET, proof)).to_proto()


async def look_at_clock(wallet: Wallet) -> None:
    """Learn the broker's clock if it answers within `LOOK_S`; offline, what was learned last stands."""
    with suppress(Error):
        async with broker(wallet.contact) as stub:
            found = await stub.Challenge(wallet_pb2.ChallengeRequest(), timeout=LOOK_S)
            wallet.learn(found.clock_ms, time.time_ns() // 1_000_000)


def _proven(wallet: Wallet, proof: exchange_pb2.LogProof, entry: exchange_pb2.EntryOpening) -> Entry:
    """The entry of a receipt that stands by itself. Raises `NotAuthentic` (log.*, receipt.*), `Malformed`."""
    proven = wire.prove(proof, Head(), wallet.contact.vkey)
    return wire.proven_entry(entry, proven)


async def enrol(wallet: Wallet, pair: Pair, attestations: Sequence[Envelope], further: Sequence[SignedChange]) -> Entry:
    """Enrol a pair's subject key with two attestations and at least one further key; the receipt's entry.

    Raises `Refused` (consent.not_attested, consent.one_key), `NotAuthentic`.
    """
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.EnrolSubjectRequest(
            proof=await _proof(stub, wallet, pair, "EnrolSubject"),
            subject_key=pair.public,
            attestations=[one.to_proto() for one in attestations],
            keys=[_change(one) for one in further],
        )
        found = await stub.EnrolSubject(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry)


def _change(one: SignedChange) -> wallet_pb2.SignedKeyChange:
    accepted = one.accepted.to_proto() if one.accepted is not None else None
    return wallet_pb2.SignedKeyChange(change=one.change.to_proto(), accepted=accepted)


async def change_key(wallet: Wallet, one: SignedChange) -> tuple[Entry, int]:
    """Add a line to a key log: the receipt's entry, and from when the key counts (Unix ms)."""
    async with broker(wallet.contact) as stub:
        found = await stub.ChangeKey(wallet_pb2.ChangeKeyRequest(key=_change(one)), timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry), found.active_ms


async def keys(wallet: Wallet, pair: Pair) -> wallet_pb2.ListKeysResponse:
    """The subject's further keys and the state of its grants, as the broker says."""
    async with broker(wallet.contact) as stub:
        proof = await _proof(stub, wallet, pair, "ListKeys")
        return await stub.ListKeys(wallet_pb2.ListKeysRequest(proof=proof), timeout=DEADLINE_S)


async def offer_code(wallet: Wallet, pair: Pair, hospital: bytes, sealed: bytes) -> wallet_pb2.OfferCodeResponse:
    """An 18-digit handle to sealed tickets, good for 60 s."""
    async with broker(wallet.contact) as stub:
        proof = await _proof(stub, wallet, pair, "OfferCode")
        request = wallet_pb2.OfferCodeRequest(proof=proof, hospital=hospital, sealed=sealed)
        return await stub.OfferCode(request, timeout=DEADLINE_S)


async def register(wallet: Wallet, grant: Envelope) -> tuple[Entry, bytes]:
    """Register a grant: the receipt's entry, and the receipt to keep.

    Raises `Refused` (consent.*, unavailable.*), `NotAuthentic`.
    """
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.RegisterGrantRequest(grant=grant.to_proto())
        found = await stub.RegisterGrant(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry), found.SerializeToString(deterministic=True)


async def revoke(wallet: Wallet, revocation: Envelope) -> tuple[Entry, wallet_pb2.RevokeGrantResponse]:
    """Revoke: the receipt's entry, and the answer, which says what it came too late for."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.RevokeGrantRequest(revocation=revocation.to_proto())
        found = await stub.RevokeGrant(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry), found


async def leave_parcel(wallet: Wallet, signed: Envelope) -> tuple[str, list[int]]:
    """Leave a parcel's signed word, or ask how far it is: its state, and the places of chunks that are missing."""
    async with broker(wallet.contact) as stub:
        found = await stub.LeaveParcel(wallet_pb2.LeaveParcelRequest(parcel=signed.to_proto()), timeout=DEADLINE_S)
    return found.state, list(found.missing)


async def put_chunks(wallet: Wallet, digest: bytes, chunks: Iterable[tuple[int, bytes]]) -> AsyncIterator[int]:
    """Send sealed chunks on one connection; after each, how many are still missing."""
    async with broker(wallet.contact) as stub:
        for place, chunk in chunks:
            request = wallet_pb2.PutChunkRequest(parcel=digest, place=place, chunk=chunk)
            yield (await stub.PutChunk(request, timeout=CHUNK_S)).missing


async def withdraw_parcel(wallet: Wallet, revocation: Envelope) -> tuple[Entry, bool]:
    """Take a parcel back: the receipt's entry, and whether its recipient had taken it before."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.WithdrawParcelRequest(revocation=revocation.to_proto())
        found = await stub.WithdrawParcel(request, timeout=DEADLINE_S)
    return _proven(wallet, found.proof, found.entry), found.taken


async def accesses(wallet: Wallet, pair: Pair) -> wallet_pb2.ListAccessesResponse:
    """All that was exchanged under this pair's key, as the broker says; everything in it is to be verified.

    Raises `Malformed` (malformed.field) where the broker goes on without an end.
    """
    every, after = wallet_pb2.ListAccessesResponse(), 0
    async with broker(wallet.contact) as stub:
        for _ in range(_MOST_PAGES):
            proof = await _proof(stub, wallet, pair, "ListAccesses")
            request = wallet_pb2.ListAccessesRequest(proof=proof, after=after)
            found = await stub.ListAccesses(request, timeout=DEADLINE_S)
            every.accesses.extend(found.accesses)
            every.earlier.extend(found.earlier)
            if found.next <= after:
                return every
            after = found.next
    raise Malformed("malformed.field", "accesses without an end")


async def mailbox(wallet: Wallet, pair: Pair) -> wallet_pb2.FetchMailboxResponse:
    """Statements that wait for this pair, with proofs from the wallet's own head on."""
    async with broker(wallet.contact) as stub:
        request = wallet_pb2.FetchMailboxRequest(
            proof=await _proof(stub, wallet, pair, "FetchMailbox"),
            head_size=wallet.head.size,
            head_root=wallet.head.root,
            # No others, although more are known here: the broker is not to see which keys are one patient's.
            participants=[bytes.fromhex(one) for one in (pair.hospital, pair.recipient)],
        )
        return await stub.FetchMailbox(request, timeout=DEADLINE_S)


async def acknowledge(wallet: Wallet, pair: Pair, payloads: list[bytes]) -> None:
    """Send signed acknowledgements for opened or refused statements, each by itself."""
    async with broker(wallet.contact) as stub:
        for payload in payloads:
            signed = await wallet.sign(pair, envelope.ACKNOWLEDGEMENT, payload)
            frame = exchange_pb2.AcknowledgementFrame(
                key_id=signed.key_id, signature=signed.signature, acknowledgements=[payload]
            )
            request = wallet_pb2.AcknowledgeMailboxRequest(acknowledgements=frame)
            await stub.AcknowledgeMailbox(request, timeout=DEADLINE_S)
