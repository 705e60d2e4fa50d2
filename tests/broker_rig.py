"""Builders for the broker's tests: a whole broker over real keys, at a time that stands still until a test moves it.

`Rig` is a broker without sockets; `serving` puts the same broker behind its real ones, and `Attached` is a node's end
of a stream that says what a test tells it. Both verify every proof they are given. When a rig is closed it looks at
everything that is stored: whatever a test did, the log must be whole and fit the rows beside it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from broker import authority, directory, enrolment, grants, home
from broker.audit import stored_entry
from broker.commit import Committer
from broker.core import Core, Timing
from broker.joint import Apply
from broker.quota import DEFAULT, Quota, Quotas
from broker.revocation import Revoked
from broker.services import frames
from broker.services.frames import Known
from broker.services.identity import spki_hash
from broker.services.session import acknowledge
from broker.services.submitting import submit
from broker.serving import Served, build, start
from broker.store import tables
from broker.store.interface import Reader, Store
from broker.witnesses import Pace
from clients import wire
from tests import plans
from tests.formats import (
    EVERYONE,
    HOSPITAL,
    INSURER,
    NOW,
    ORIGIN,
    PAYER,
    RIVAL,
    Exchange,
    Party,
    Sent,
    claim,
    further_key,
    seed,
)
from tests.fresh import fresh_database
from zhifu import acknowledgement, checkpoint, envelope, epoch, merkle, presentation, receipt
from zhifu.checkpoint import Checkpoint
from zhifu.consent import Revocation, hash_of
from zhifu.envelope import Envelope, from_bytes
from zhifu.epoch import Epoch
from zhifu.keys import Alg, key_id
from zhifu.receipt import Detail, Entry, Head, Meta, Proven
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1 import exchange_pb2_grpc
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE

T = TypeVar("T")
WAIT_S: Final = 20.0
ROLES: Final = {HOSPITAL.id: "hospital", PAYER.id: "public-payer", INSURER.id: "insurer", RIVAL.id: "insurer"}
STATUTE: Final = {"encounter": 0, "name": 0, "birth-date": 0, "address": 0, "diagnosis": 0, "totals": 0}


class Clock:
    """Unix ms that stand still until they are moved."""

    def __init__(self, seconds: int = NOW) -> None:
        self.ms = seconds * 1000

    def __call__(self) -> int:
        return self.ms

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


# Keys and what is signed with them


@cache
def tls_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def tls_pem(name: str) -> bytes:
    return tls_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def request(name: str) -> x509.CertificateSigningRequest:
    """A certificate request for the TLS key of this name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(tls_key(name), hashes.SHA256())


def statement_of(party: Party, serial: int = 1, issued_at: int = NOW - 3600, **changed: Any) -> Envelope:
    """The party's key statement, with the TLS key that it really has."""
    found = replace(party.statement(serial, issued_at), tls_spki=(spki_hash(request(party.name)),))
    return replace(found, **changed).sign(party.identity)


def epoch_of(party: Party) -> Epoch:
    return Epoch(seed(f"epoch id {party.name}")[:16], seed(f"epoch {party.name}"), NOW - 60, NOW + 36 * 3600)


def present(exchange: Exchange, **changed: Any) -> Sent:
    """An exchange under its sender's epoch, ready to be submitted; ``changed`` replaces fields of the presentation."""
    found = replace(exchange, epoch_secret=epoch_of(exchange.sender).secret).send()
    return replace(found, shown=replace(found.shown, **{"epoch_id": epoch_of(exchange.sender).epoch_id} | changed))


def fresh(exchange: Exchange, **changed: Any) -> Exchange:
    """The same record for another exchange: a nonce and a workflow of its own."""
    drawn = {"nonce": presentation.new_nonce(NOW * 1000), "workflow": os.urandom(16)}
    return replace(exchange, **drawn | changed)


def submission(sent: Sent, **changed: bytes) -> pb.Submission:
    parts = {
        "presentation": sent.shown.to_bytes(),
        "manifest": sent.exchange.record.encoded_manifest,
        "leaves": sent.exchange.record.leaves,
        "capsule": sent.capsule,
    }
    return pb.Submission(**(parts | changed))


def frame_of(parcels: Sequence[pb.Submission], key: SigningKey) -> pb.SubmissionFrame:
    """Submissions under one signature."""
    signature, signed = envelope.seal_frame(envelope.PRESENTATION, [one.presentation for one in parcels], key)
    return pb.SubmissionFrame(key_id=signed[0].key_id, signature=signature, submissions=parcels)


def frame(*sent: Sent) -> pb.SubmissionFrame:
    """An honest frame of its sender."""
    return frame_of([submission(one) for one in sent], sent[0].exchange.sender.signing)


def acknowledgements(
    party: Party, deliveries: Sequence[tuple[pb.Delivery, Proven]], reason: str = "", **changed: Any
) -> pb.AcknowledgementFrame:
    """A frame of acknowledgements by ``party``; ``changed`` replaces fields of each."""
    said = [
        replace(
            acknowledgement.acknowledge(
                ORIGIN, party.id, presentation.hash_of(one.presentation.payload), wire.entry(one.entry), proven, reason,
                NOW,
            ),
            **changed,
        )
        for one, proven in deliveries
    ]  # fmt: skip
    payloads = [one.to_bytes() for one in said]
    signature, signed = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, payloads, party.signing)
    return pb.AcknowledgementFrame(key_id=signed[0].key_id, signature=signature, acknowledgements=payloads)


# A broker without sockets


@dataclass
class Rig:
    """One broker and what a test wants to know about it."""

    home: home.Home
    core: Core
    clock: Clock
    known: dict[bytes, tuple[Known, Head]] = field(default_factory=dict)
    proven: Proven | None = None

    @property
    def policy_hash(self) -> bytes:
        return self.core.pipeline._bundle.hash

    # Setting up

    async def run(self, apply: Apply[T]) -> T:
        return (await self.core.committer.run(apply)).result

    async def enrol(self, *parties: Party) -> None:
        """Participants with their statements and today's epochs."""
        await asyncio.gather(*(self._enrol(one) for one in parties), *(self.offer(one) for one in parties))
        self.core.directory.reload()

    async def _enrol(self, party: Party) -> None:
        await self.run(
            lambda state, sequence, now_ms: directory.enrol(
                party.id, ROLES[party.id], party.name, statement_of(party), state, sequence, now_ms
            )
        )

    async def offer(self, party: Party, one: Epoch | None = None) -> None:
        """The party's epoch, as the broker stores it."""
        gate_key = next(iter(self.home.gate_keys.values())).public
        offer = (one or epoch_of(party)).offer(party.id, gate_key, party.signing)
        found = epoch.verify_offer(offer, party.id, bytes(party.signing.verify_key))
        row = (
            found.epoch_id, found.node, found.gate_key_id, found.not_before, found.not_after, found.sealed_secret
        )  # fmt: skip
        await self.run(lambda state, _s, _n: state.insert(tables.Epoch, [row]))

    async def attest(self, key: SigningKey) -> None:
        """Enrol a subject key, attested by hospital and public payer."""
        public = bytes(key.verify_key)
        said = [from_bytes(envelope.ATTESTATION, one.attests(public)) for one in (HOSPITAL, PAYER)]
        await self.run(
            lambda state, sequence, now_ms: enrolment.enrol_subject(
                public, said, [further_key(key)], self.core.directory, ORIGIN, state, sequence, now_ms
            )
        )

    async def grant(self, exchange: Exchange) -> bytes:
        """Enrol the exchange's subject key and register its grant; the grant's hash."""
        signed, key = exchange.grant_envelope, exchange.subject
        assert signed is not None
        assert key is not None
        if not self.core.store.reader.find(tables.Subject, key_id=key_id(Alg.ED25519, bytes(key.verify_key))):
            await self.attest(key)
        return await self.register(signed)

    async def register(self, signed: Envelope) -> bytes:
        done = await self.run(
            lambda state, sequence, now_ms: grants.register(
                signed, ORIGIN, self.core.directory, state, sequence, now_ms
            )
        )
        return done.grant_hash

    async def revoke(self, exchange: Exchange) -> Revoked:
        signed, key = exchange.grant_envelope, exchange.subject
        assert signed is not None
        assert key is not None
        said = Revocation(ORIGIN, hash_of(signed.payload), NOW).sign(key)
        return await self.run(lambda state, sequence, now_ms: self.core.revoker.revoke(said, state, sequence, now_ms))

    async def suspend(self, party: Party) -> None:
        await self.run(lambda state, _s, _n: state.update(tables.Participant, {"status": "suspended"}, id=party.id))
        self.core.directory.reload()

    def statute(self, to: Party = PAYER, **changed: Any) -> Exchange:
        """The hospital's claim to the public payer, on this broker's policy."""
        found = claim(to, STATUTE)
        return fresh(
            replace(
                found,
                purpose="public-settlement",
                grant=None,
                subject=None,
                basis_kind=BASIS_KIND_STATUTE,
                basis=self.policy_hash,
                terms=None,
                pseudonym=None,
                attestations=(),
            ),
            **changed,
        )

    # Doing

    async def submit(self, sent: pb.SubmissionFrame | Sent, *more: Sent, sender: Party = HOSPITAL) -> list[pb.Result]:
        """Results of a frame, each proven from what ``sender`` knew of the log before."""
        made = sent if isinstance(sent, pb.SubmissionFrame) else frame(sent, *more)
        known, _ = self.known.setdefault(sender.id, (Known(Head()), Head()))
        found: list[pb.Result] = []
        done = await submit(self.core, sender.id, made)
        for answer in frames.results(done.told, done.commit, self.core.log, known):
            proven = None
            if answer.HasField("proof"):
                # Not read before: other frames of this sender may have been answered in between.
                _, head = self.known[sender.id]
                proven = wire.prove(answer.proof, head, self.core.log.vkey)
                self.known[sender.id] = known, proven.head_after(head)
                self.proven = proven
            for one in answer.results:
                if one.HasField("entry"):
                    wire.proven_entry(one.entry, proven)
            found += answer.results
        order = [presentation.hash_of(one.presentation) for one in made.submissions]
        return sorted(found, key=lambda one: order.index(one.presentation_hash))

    async def acknowledge(self, party: Party, said: pb.AcknowledgementFrame) -> tuple[int, ...]:
        return (await acknowledge(self.core, party.id, bytes(party.signing.verify_key), said)).entries

    # Looking

    def rows(self, table: type[T], reader: Reader | None = None) -> list[T]:
        return list((reader or self.core.store.reader).scan(table))  # type: ignore[type-var]

    def entries(self, reader: Reader | None = None) -> list[tuple[Entry, Meta, Detail]]:
        """The log's entries that have contents, opened."""
        found = []
        for row in self.rows(tables.Entry, reader):
            if row.kind == 0:
                one = stored_entry(row.index, reader or self.core.store.reader)
                found.append((one, receipt.parse_meta(one.meta), receipt.parse_detail(one.detail)))
        return found

    def events(self, exchange: bytes) -> list[tuple[str, str]]:
        """(event, reason) of every entry about an exchange, in order."""
        return [(meta.event, meta.reason) for _, meta, detail in self.entries() if detail.exchange == exchange]

    def check(self) -> None:
        """Everything that is stored fits together: the log is whole, and the rows say what it says.

        And whatever was asked of the store, no large table was looked through for it.
        """
        if not self.home.store:
            plans.check("broker", self.home.path / "broker.db")
        # As of one moment: what came last may be committed while we look.
        with closing(self.home.open_read_only()) as stored:
            leaves = self._check_log(stored)
            opened = self.entries(stored)
            accepted = {one.index: detail.exchange for one, meta, detail in opened if meta.event == _ACCEPTED}
            rows = {row.entry: row for row in self.rows(tables.Exchange, stored)}
            assert accepted == {entry: row.hash for entry, row in rows.items()}
            for delivery in self.rows(tables.Delivery, stored):
                assert rows[delivery.entry].state in ("accepted", "answered")
            uses = Counter(row.grant_hash for row in self.rows(tables.GrantUse, stored))
            for grant in self.rows(tables.Grant, stored):
                assert uses[grant.hash] == grant.uses <= grant.max_uses
            assert self.core.log.frontier.size <= len(leaves)

    def _check_log(self, stored: Reader) -> list[bytes]:
        """Every entry is the leaf at its index, without holes, and every checkpoint signs a prefix."""
        leaves: list[bytes] = []
        for row in self.rows(tables.Entry, stored):
            assert row.index == len(leaves)
            one = stored_entry(row.index, stored)
            leaf = receipt.statement_leaf(row.index, row.time_ms, row.detail) if row.kind else one.leaf
            leaves.append(merkle.leaf_hash(leaf))
        assert stored.nodes([(0, i) for i in range(len(leaves))]) == leaves
        for signed in self.rows(tables.Checkpoint, stored):
            root = merkle.root(leaves[: signed.size])
            assert checkpoint.verify(signed.note, self.home.vkey) == Checkpoint(ORIGIN, signed.size, root)
        heads = self.rows(tables.Head, stored)
        assert [(one.size, one.root) for one in heads] == ([(len(leaves), merkle.root(leaves))] if leaves else [])
        return leaves


_ACCEPTED: Final = "exchange.accepted"


def reason(result: pb.Result) -> str:
    """Why a submission was refused; empty if it was accepted."""
    assert result.HasField("refusal") != bool(result.released)
    return result.refusal.reason


def create(
    path: Path,
    clock: Callable[[], int],
    timing: Timing = Timing(),  # noqa: B008
    pace: Pace = Pace(),  # noqa: B008
    operators: Sequence[bytes] = (),
    store: str = "",
) -> tuple[home.Home, Core]:
    """A new broker's folder and parts; ``store`` is the address of its database."""
    plans.begin("broker")
    opened = home.create(path / "broker", ORIGIN, NOW, operators, store)
    if not store:
        fresh_database(opened.database)
    return opened, replace(build(opened, None, clock, pace), timing=timing)


@asynccontextmanager
async def rig(
    path: Path,
    *parties: Party,
    store: Callable[[Store], Store] | None = None,
    timing: Timing = Timing(),  # noqa: B008
    address: str = "",
) -> AsyncIterator[Rig]:
    """A broker with ``parties`` enrolled, everyone if none are named; ``store`` wraps its database, which is at
    ``address`` if one is given.
    """
    clock = Clock()
    opened, core = create(path, clock, timing, store=address)
    if store is not None:
        wrapped = store(core.store)
        core = replace(core, store=wrapped, committer=Committer(wrapped, core.log, clock))
    core.committer.start()
    found = Rig(opened, core, clock)
    await found.enrol(*(parties or EVERYONE))
    try:
        yield found
        found.check()
    finally:
        await core.committer.close()
        core.store.close()


# A broker behind its sockets


@asynccontextmanager
async def serving(
    path: Path,
    *parties: Party,
    timing: Timing = Timing(),  # noqa: B008
    pace: Pace = Pace(),  # noqa: B008
    operators: Sequence[bytes] = (),
    quota: Quota = DEFAULT,
    store: str = "",
) -> AsyncIterator[Server]:
    """`rig` behind real TLS on free ports; ``quota`` is everybody's, ``store`` the address of its database."""
    clock = Clock()
    opened, core = create(path, clock, timing, pace, operators, store)
    core = replace(core, quotas=Quotas(quota))
    served = await start(core, opened)
    found = Server(opened, core, clock, served=served)
    await found.enrol(*(parties or EVERYONE))
    try:
        yield found
        found.check()
    finally:
        await asyncio.gather(*(one.leave() for one in found.attached))
        await asyncio.gather(*(one.close() for one in found.channels))
        await served.stop()


@dataclass
class Server(Rig):
    """A rig with sockets."""

    served: Served = field(kw_only=True)
    channels: list[grpc.aio.Channel] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)

    def certificate(self, name: str, participant: bytes) -> bytes:
        """A client certificate (PEM) for the TLS key of this name."""
        issued = authority.issue(
            request(name), participant, self.home.read("ca.crt"), self.home.read("ca.key")
        )  # fmt: skip
        return x509.load_der_x509_certificate(issued).public_bytes(Encoding.PEM)

    def channel(
        self, name: str | None, participant: bytes = b"", *, public: bool = False, port: int = 0
    ) -> grpc.aio.Channel:
        """To the node port, or another, as the holder of this name's TLS key, as nobody for None; or to the public
        port.
        """
        ca = self.home.read("ca.crt")
        if name is None:
            credentials = grpc.ssl_channel_credentials(ca)
        else:
            credentials = grpc.ssl_channel_credentials(ca, tls_pem(name), self.certificate(name, participant))
        options = [
            ("grpc.ssl_target_name_override", authority.SERVER_NAME),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", 64 << 20),
        ]
        address = f"127.0.0.1:{port or self.served.ports[1 if public else 0]}"
        opened = grpc.aio.secure_channel(address, credentials, options=options)
        self.channels.append(opened)
        return opened

    def node(self, party: Party, port: int = 0) -> grpc.aio.Channel:
        return self.channel(party.name, party.id, port=port)

    async def attach(self, party: Party, head: Head = Head(), **hello: Any) -> Attached:  # noqa: B008
        """A stream of ``party``, greeted and with the directory."""
        found = Attached(self, party, head)
        self.attached.append(found)
        said: dict[str, Any] = {"version": 1, "head_size": head.size, "head_root": head.root, "clock_ms": NOW * 1000}
        await found.send(hello=pb.Hello(**(said | hello)))
        await found.next("welcome")
        found.directory = await found.next("directory")
        return found


class Attached:
    """A node's end of a stream: no node, but what verifies every proof and keeps every frame until it is asked for."""

    def __init__(self, server: Server, party: Party, head: Head = Head()) -> None:  # noqa: B008
        self.party = party
        self.head = head
        self.vkey = server.core.log.vkey
        self.frames: dict[str, asyncio.Queue[Any]] = {}
        self.proven: Proven | None = None
        self.directory = pb.Directory()
        self.order: list[str] = []
        self._writing = asyncio.Lock()
        self.call = exchange_pb2_grpc.ExchangeServiceStub(server.node(party)).Connect()
        self.reader = asyncio.create_task(self._read())

    async def send(self, **frame: Any) -> None:
        # gRPC takes one write at a time.
        async with asyncio.timeout(WAIT_S), self._writing:
            await self.call.write(pb.ConnectRequest(**frame))

    async def next(self, kind: str, timeout: float = WAIT_S) -> Any:
        """The next frame of a kind; deliveries come with what was proven. Raises what the stream ended with."""
        asked = asyncio.ensure_future(self._queue(kind).get())
        done, _ = await asyncio.wait((asked, self.reader), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if asked in done:
            return asked.result()
        asked.cancel()
        if self.reader in done:
            self.reader.result()
            raise EOFError(kind)
        raise TimeoutError(kind)

    def has(self, kind: str) -> bool:
        return not self._queue(kind).empty()

    async def ended(self) -> grpc.StatusCode:
        """How the broker ended the stream."""
        async with asyncio.timeout(WAIT_S):
            return await self.call.code()

    async def submit(self, *sent: Sent) -> list[pb.Result]:
        await self.send(submissions=frame(*sent))
        return await self.results(len(sent))

    async def results(self, count: int) -> list[pb.Result]:
        found: list[pb.Result] = []
        while len(found) < count:
            found += (await self.next("results")).results
        return found

    async def deliveries(self, count: int = 1) -> list[tuple[pb.Delivery, Proven]]:
        found: list[tuple[pb.Delivery, Proven]] = []
        while len(found) < count:
            frame, proven = await self.next("deliveries")
            found += [(one, proven) for one in frame.deliveries]
        return found

    async def notices(self, count: int = 1) -> list[pb.Notice]:
        found: list[pb.Notice] = []
        while len(found) < count:
            found += (await self.next("notices")).notices
        return found

    async def leave(self) -> None:
        self.call.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)

    def _queue(self, kind: str) -> asyncio.Queue[Any]:
        return self.frames.setdefault(kind, asyncio.Queue())

    async def _read(self) -> None:
        while isinstance(answer := await self.call.read(), pb.ConnectResponse):
            kind = answer.WhichOneof("frame")
            assert kind is not None
            frame = getattr(answer, kind)
            self.order.append(kind)
            if kind in ("results", "deliveries", "notices"):
                self._prove(frame)
            self._queue(kind).put_nowait((frame, self.proven) if kind == "deliveries" else frame)

    def _prove(self, frame: Any) -> None:
        self.proven = None
        if frame.HasField("proof"):
            self.proven = wire.prove(frame.proof, self.head, self.vkey)
            self.head = self.proven.head_after(self.head)
        for kind in ("results", "deliveries", "notices"):
            for one in getattr(frame, kind, ()):
                if one.HasField("entry"):
                    wire.proven_entry(one.entry, self.proven)
