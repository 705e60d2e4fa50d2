"""`WalletService`: what a patient's wallet asks, proving possession of a subject key in each call (DESIGN section
5).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc

from broker import enrolment, grants, parcels, redemption, subject_keys
from broker.audit import stored_entry
from broker.core import Core
from broker.counts import COUNTS
from broker.delivery import Leased, Outgoing
from broker.quota import Bucket
from broker.services import frames
from broker.services.errors import refusing
from broker.services.frames import Known
from broker.services.session import acknowledge
from broker.store import tables
from broker.store.interface import Reader
from zhifu import envelope, receipt, strict
from zhifu.envelope import Envelope
from zhifu.errors import Error, Exit, Malformed, NotAuthentic, Refused
from zhifu.keys import check_signing_key
from zhifu.parcel import PARCEL
from zhifu.receipt import Entry, Head
from zhifu.subject_key import SignedChange
from zhifu.v1 import exchange_pb2, signed_pb2, wallet_pb2, wallet_pb2_grpc

CHALLENGE_S: Final = 60
MOST_LISTED: Final = 1000
"""Accesses in one answer."""
_MAX_CHALLENGES: Final = 65_536
_MAX_WANTED: Final = 64
_REFUSALS_PER_S: Final = 1.0
"""Refused grants written down: anybody may send some in a patient's name."""
_REFUSALS_BURST_S: Final = 120.0
_Context = grpc.aio.ServicerContext[Any, Any]


class Challenges:
    """Single-use challenges, in memory: a restart costs a wallet one more call."""

    def __init__(self) -> None:
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def issue(self, now: int) -> bytes:
        """32 random bytes, good for `CHALLENGE_S` from ``now`` (Unix s)."""
        challenge = secrets.token_bytes(32)
        self._open[challenge] = now + CHALLENGE_S
        while len(self._open) > _MAX_CHALLENGES or next(iter(self._open.values())) < now:
            self._open.popitem(last=False)
        return challenge

    def prove(self, signed: signed_pb2.Envelope, key: bytes, method: str, aud: str, now: int) -> None:
        """``signed`` is a `WalletProof` by ``key`` for this call. Raises `NotAuthentic`, `Refused`, `Malformed`."""
        proof = envelope.from_proto(envelope.WALLET, signed)
        message = strict.parse(signed_pb2.WalletProof, envelope.verify(proof, key), proof.kind.cap)
        until = self._open.pop(message.challenge, -1)
        if until < now:
            raise Refused("unavailable.deadline", "the challenge is over: ask for another")
        if (message.aud, message.method) != (aud, method):
            raise NotAuthentic("signature.invalid", "the proof is for another call")


class WalletService(wallet_pb2_grpc.WalletServiceServicer):
    """On the public port: a patient has no certificate, but a key for each (hospital, recipient)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._challenges = Challenges()
        self._refusals = Bucket(_REFUSALS_PER_S, _REFUSALS_BURST_S, core.clock_ms() / 1000)

    async def Challenge(self, request: wallet_pb2.ChallengeRequest, context: _Context) -> wallet_pb2.ChallengeResponse:
        challenge = self._challenges.issue(self._core.now())
        return wallet_pb2.ChallengeResponse(challenge=challenge, clock_ms=self._core.clock_ms())

    async def EnrolSubject(
        self, request: wallet_pb2.EnrolSubjectRequest, context: _Context
    ) -> wallet_pb2.EnrolSubjectResponse:
        async with refusing(context):
            if len(request.attestations) > 8 or len(request.keys) > subject_keys.MAX_KEYS:
                raise Malformed("malformed.size", "at most 8 attestations and 16 further keys")
            core, key = self._core, request.subject_key
            check_signing_key(key)
            self._challenges.prove(request.proof, key, "EnrolSubject", core.log.origin, core.now())
            signed = [envelope.from_proto(envelope.ATTESTATION, one) for one in request.attestations]
            further = [_change(one) for one in request.keys]
            done = await core.committer.run(
                lambda state, sequence, now_ms: enrolment.enrol_subject(
                    key, signed, further, core.directory, core.log.origin, state, sequence, now_ms
                )
            )
            return wallet_pb2.EnrolSubjectResponse(proof=self._proof(done.result), entry=frames.opening(done.result))
        raise AssertionError  # the context manager ended the call

    async def RegisterGrant(
        self, request: wallet_pb2.RegisterGrantRequest, context: _Context
    ) -> wallet_pb2.RegisterGrantResponse:
        async with refusing(context):
            signed = envelope.from_proto(envelope.GRANT, request.grant)
            try:
                done = await self._core.committer.run(
                    lambda state, sequence, now_ms: grants.register(
                        signed, self._core.log.origin, self._core.directory, state, sequence, now_ms
                    )
                )
            except Error as error:
                await self._record_refusal(signed, error)
                raise
            entry = done.result.entry
            self._core.mailroom.wake(done.result.told)
            return wallet_pb2.RegisterGrantResponse(
                grant_hash=done.result.grant_hash, proof=self._proof(entry), entry=frames.opening(entry)
            )
        raise AssertionError  # the context manager ended the call

    async def _record_refusal(self, signed: Envelope, error: Error) -> None:
        """In the log too, as far as it is in a patient's name, and so slowly that nobody fills the log with it."""
        now = self._core.clock_ms() / 1000
        if error.exit is Exit.UNAVAILABLE or self._refusals.wait(now):
            return
        self._refusals.take(1)
        with suppress(NotAuthentic):
            await self._core.committer.run(
                lambda state, sequence, now_ms: grants.refuse(signed, error.reason, state, sequence, now_ms)
            )

    async def RevokeGrant(
        self, request: wallet_pb2.RevokeGrantRequest, context: _Context
    ) -> wallet_pb2.RevokeGrantResponse:
        async with refusing(context):
            core, signed = self._core, envelope.from_proto(envelope.REVOCATION, request.revocation)
            done = await core.committer.run(
                lambda state, sequence, now_ms: core.revoker.revoke(signed, state, sequence, now_ms),
                essential=True,
            )
            COUNTS.ended["withdrawn"] += done.result.withheld
            core.mailroom.wake(done.result.told)
            return wallet_pb2.RevokeGrantResponse(
                proof=self._proof(done.result.entry),
                entry=frames.opening(done.result.entry),
                delivered=done.result.delivered,
                withheld=done.result.withheld,
                grants=done.result.grants,
            )
        raise AssertionError  # the context manager ended the call

    async def ChangeKey(self, request: wallet_pb2.ChangeKeyRequest, context: _Context) -> wallet_pb2.ChangeKeyResponse:
        async with refusing(context):
            core, signed = self._core, _change(request.key)
            done = await core.committer.run(
                lambda state, sequence, now_ms: core.revoker.change_key(signed, state, sequence, now_ms),
                essential=True,
            )
            changed, told = done.result
            core.mailroom.wake(told)
            return wallet_pb2.ChangeKeyResponse(
                proof=self._proof(changed.entry), entry=frames.opening(changed.entry), active_ms=changed.active_ms
            )
        raise AssertionError  # the context manager ended the call

    async def ListKeys(self, request: wallet_pb2.ListKeysRequest, context: _Context) -> wallet_pb2.ListKeysResponse:
        async with refusing(context):
            subject, now_ms = self._caller(request.proof, "ListKeys"), self._core.clock_ms()
            reader = self._core.store.reader
            return wallet_pb2.ListKeysResponse(
                keys=[_key_entry(row, now_ms) for row in subject_keys.of(subject.id, reader)],
                grants=[_grant_entry(row, reader) for row in reader.find(tables.Grant, subject=subject.id)],
                clock_ms=now_ms,
            )
        raise AssertionError  # the context manager ended the call

    async def OfferCode(self, request: wallet_pb2.OfferCodeRequest, context: _Context) -> wallet_pb2.OfferCodeResponse:
        async with refusing(context):
            core = self._core
            enrolment.subject_of(request.proof.key_id, core.store.reader)
            self._caller(request.proof, "OfferCode")
            core.directory.check_active(request.hospital)
            done = await core.committer.run(
                lambda state, sequence, now_ms: redemption.offer(
                    request.hospital, request.sealed, core.pepper, state, now_ms
                )
            )
            code, until_ms = done.result
            return wallet_pb2.OfferCodeResponse(code=code, until_ms=until_ms, clock_ms=core.clock_ms())
        raise AssertionError  # the context manager ended the call

    async def LeaveParcel(
        self, request: wallet_pb2.LeaveParcelRequest, context: _Context
    ) -> wallet_pb2.LeaveParcelResponse:
        async with refusing(context):
            core, signed = self._core, envelope.from_proto(PARCEL, request.parcel)
            done = await core.committer.run(
                lambda state, _, now_ms: parcels.leave(signed, core.log.origin, core.directory, state, now_ms)
            )
            return wallet_pb2.LeaveParcelResponse(state=done.result.state, missing=done.result.missing)
        raise AssertionError  # the context manager ended the call

    async def PutChunk(self, request: wallet_pb2.PutChunkRequest, context: _Context) -> wallet_pb2.PutChunkResponse:
        async with refusing(context):
            core, digest = self._core, strict.exactly("parcel", request.parcel, 32)
            done = await core.committer.run(
                lambda state, sequence, now_ms: parcels.put(
                    digest, request.place, request.chunk, state, sequence, now_ms
                )
            )
            left, told = done.result
            if told:
                core.mailroom.wake([told])
            return wallet_pb2.PutChunkResponse(missing=left)
        raise AssertionError  # the context manager ended the call

    async def WithdrawParcel(
        self, request: wallet_pb2.WithdrawParcelRequest, context: _Context
    ) -> wallet_pb2.WithdrawParcelResponse:
        async with refusing(context):
            core, signed = self._core, envelope.from_proto(envelope.REVOCATION, request.revocation)
            done = await core.committer.run(
                lambda state, sequence, now_ms: parcels.withdraw(signed, core.log.origin, state, sequence, now_ms)
            )
            entry, taken, told = done.result
            core.mailroom.wake([told])
            return wallet_pb2.WithdrawParcelResponse(proof=self._proof(entry), entry=frames.opening(entry), taken=taken)
        raise AssertionError  # the context manager ended the call

    async def ListAccesses(
        self, request: wallet_pb2.ListAccessesRequest, context: _Context
    ) -> wallet_pb2.ListAccessesResponse:
        async with refusing(context):
            subject, reader = self._caller(request.proof, "ListAccesses"), self._core.store.reader
            found = reader.find(tables.Exchange, limit=MOST_LISTED, after=request.after, subject=subject.id)
            accesses = [self._access(row) for row in found]
            words = [one.deletion for one in accesses if one.HasField("deletion")]
            signed = [*(one.presentation for one in accesses), *words]
            more = found[-1].entry if len(found) == MOST_LISTED else 0
            return wallet_pb2.ListAccessesResponse(accesses=accesses, earlier=self._earlier(signed), next=more)
        raise AssertionError  # the context manager ended the call

    async def FetchMailbox(
        self, request: wallet_pb2.FetchMailboxRequest, context: _Context
    ) -> wallet_pb2.FetchMailboxResponse:
        async with refusing(context):
            core, subject = self._core, self._caller(request.proof, "FetchMailbox")
            if len(request.head_root) not in (0, 32):
                raise Malformed("malformed.field", "not a tree head")
            known = Known(Head(request.head_size, request.head_root or Head().root))
            rows = Outgoing(subject.id, core.store.reader).take(0.0)
            made = list(_fitting(frames.deliveries(rows, core, known)))
            mail = [one for frame in made for one in frame.deliveries]
            return wallet_pb2.FetchMailboxResponse(
                frames=made,
                directory=self._directory(request.participants, rows),
                earlier=self._earlier(one.presentation for one in mail),
            )
        raise AssertionError  # the context manager ended the call

    async def AcknowledgeMailbox(
        self, request: wallet_pb2.AcknowledgeMailboxRequest, context: _Context
    ) -> wallet_pb2.AcknowledgeMailboxResponse:
        async with refusing(context):
            subject = enrolment.subject_of(request.acknowledgements.key_id, self._core.store.reader)
            await acknowledge(self._core, subject.id, subject.public_key, request.acknowledgements)
            return wallet_pb2.AcknowledgeMailboxResponse()
        raise AssertionError  # the context manager ended the call

    def _caller(self, proof: signed_pb2.Envelope, method: str) -> tables.Subject:
        """Whoever may look: the patient, a further device, a guardian, the recovery code."""
        core = self._core
        signer = subject_keys.acting(proof.key_id, core.store.reader, core.clock_ms())
        self._challenges.prove(proof, signer.public_key, method, core.log.origin, core.now())
        return signer.subject

    def _directory(self, wanted: Sequence[bytes], mail: Sequence[Leased]) -> list[exchange_pb2.DirectoryEntry]:
        """Statements of ``wanted`` and of whoever wrote. Who names none gets these first, and others as far as they
        fit. Raises `Malformed`.
        """
        if len(wanted) > _MAX_WANTED:
            raise Malformed("malformed.size", f"at most {_MAX_WANTED} participants")
        first = {*wanted, *(one.row.sender for one in mail)}
        members = [one for one in self._core.directory.members if not wanted or one.id in first]
        members.sort(key=lambda one: one.id not in first)
        return next(frames.directory(members), [])

    def _earlier(self, signed: Iterable[signed_pb2.Envelope]) -> list[exchange_pb2.DirectoryEntry]:
        found = self._core.directory.earlier(signed, self._core.store.reader)
        return [frames.directory_entry(one) for one in found]

    def _proof(self, entry: Entry) -> exchange_pb2.LogProof:
        """By itself; of the commit that made the entry, which for a repeated call was an earlier one."""
        core = self._core
        commit = core.log.commit_of(entry.index)
        return Known(Head()).prove(core.log, commit, entry.index, entry.index + 1)

    def _access(self, row: tables.Exchange) -> wallet_pb2.Access:
        entry = stored_entry(row.entry, self._core.store.reader)
        due = self._core.store.reader.get(tables.Deletion, row.hash)
        return wallet_pb2.Access(
            presentation_hash=row.hash,
            sender=row.sender,
            recipient=row.recipient,
            purpose=row.purpose,
            state=row.state,
            schema_hash=row.schema_hash,
            released=row.released,
            time_ms=entry.time_ms,
            grant_hash=row.grant_hash,
            presentation=signed_pb2.Envelope.FromString(receipt.parse_detail(entry.detail).documents[0]),
            deletion=signed_pb2.Envelope.FromString(due.envelope) if due is not None and due.envelope else None,
            deletion_due=due is not None,
        )


def _fitting(made: Iterable[exchange_pb2.DeliveryFrame]) -> Iterator[exchange_pb2.DeliveryFrame]:
    """The first frames that one answer has room for beside the directory, and the first one whatever its size."""
    room = frames.FRAME_BYTES
    for count, frame in enumerate(made):
        room -= frame.ByteSize()
        if room < 0 and count:
            return
        yield frame


def _change(message: wallet_pb2.SignedKeyChange) -> SignedChange:
    """Raises `Malformed`."""
    accepted = envelope.from_proto(envelope.SUBJECT_KEY, message.accepted) if message.HasField("accepted") else None
    return SignedChange(envelope.from_proto(envelope.SUBJECT_KEY, message.change), accepted)


def _key_entry(row: tables.SubjectKey, now_ms: int) -> wallet_pb2.KeyEntry:
    pending = row.status == "active" and now_ms < row.active_ms
    return wallet_pb2.KeyEntry(
        change=signed_pb2.Envelope.FromString(row.change),
        status="pending" if pending else row.status,
        active_ms=row.active_ms,
        signer=row.signer,
    )


def _grant_entry(row: tables.Grant, reader: Reader) -> wallet_pb2.GrantEntry:
    end = reader.get(tables.GrantEnd, row.hash)
    return wallet_pb2.GrantEntry(
        grant=signed_pb2.Envelope.FromString(row.envelope),
        status=row.status,
        uses=row.uses,
        revocation=signed_pb2.Envelope.FromString(end.document) if end is not None else None,
    )
