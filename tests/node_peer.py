"""A scripted peer for node tests: real TLS, the real messages, a real log; it does what a test tells it, lies included.

It stands in for a broker in what a node can see of one. What it accepts it checks as a broker must, so that a node
that sends nonsense fails here too.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from clients import config, durable
from clients.channel import SERVER_NAME
from clients.config import NodeConfig, Pin
from clients.keystore import FileKeystore, participant_of, state_keys, tls_private
from clients.node import Node
from clients.role import Draft, Noticed, Transaction
from clients.store import Mandate, Store
from tests import plans
from zhifu import (
    checkpoint,
    envelope,
    epoch,
    manifest,
    merkle,
    presentation,
    ranges,
    receipt,
    schema,
    sealed,
    statement,
)
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error
from zhifu.keys import Alg, KemPrivate, participant_id
from zhifu.manifest import Manifest
from zhifu.presentation import Presentation
from zhifu.receipt import Detail, Entry, Head, Meta
from zhifu.receive import Opened
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1 import exchange_pb2_grpc

ORIGIN: Final = "log.example/zhifu"
POLICY: Final = bytes(range(32))
WAIT_S: Final = 20.0


def now() -> int:
    return int(time.time())


# Certificates


@dataclass(frozen=True, slots=True)
class Authority:
    """A transport CA."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @staticmethod
    def draw() -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("test CA")
        builder = _certificate(name, name, key.public_key())
        extension = x509.BasicConstraints(ca=True, path_length=0)
        return Authority(key, builder.add_extension(extension, critical=True).sign(key, hashes.SHA256()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, key: ec.EllipticCurvePublicKey, name: str) -> x509.Certificate:
        builder = _certificate(_name(name[:64]), self.certificate.subject, key)
        return builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(
            self.key, hashes.SHA256()
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    today = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(hours=1))
        .not_valid_after(today + timedelta(days=1))
    )


# Participants


@dataclass(frozen=True, slots=True)
class Member:
    """A participant with a folder of its own."""

    role: str
    config: NodeConfig
    keys: FileKeystore

    @property
    def id(self) -> bytes:
        return participant_of(self.keys)

    def entry(self, signed: Envelope) -> pb.DirectoryEntry:
        return pb.DirectoryEntry(participant=self.id, role=self.role, name=self.role, key_statement=signed.to_proto())


def enrolled(folder: Path, authority: Authority, address: str, log_key: VerifierKey, *roles: str) -> list[Member]:
    """Members that pin each other, each with its folder as enrolment leaves it."""
    folders = [folder / role for role in roles]
    for one in folders:
        one.mkdir(mode=0o700)
    drawn = [FileKeystore.draw(one / "keys") for one in folders]
    pins = {participant_of(keys): Pin(role, role) for keys, role in zip(drawn, roles, strict=True)}
    members = []
    for one, keys, role in zip(folders, drawn, roles, strict=True):
        others = {participant: pin for participant, pin in pins.items() if participant != participant_of(keys)}
        settings = NodeConfig(one, role, role, address, address, ORIGIN, log_key, others)
        certificate = authority.issue(tls_private(keys).public_key(), participant_of(keys).hex())
        config.write(settings)
        durable.write(settings.certificate, certificate.public_bytes(Encoding.PEM))
        durable.write(settings.authority, authority.pem)
        members.append(Member(role, settings, keys))
    return members


# The log


class Log:
    """An append-only log in memory that signs whatever head it is asked for."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.vkey = VerifierKey(ORIGIN, SignatureType.ED25519, bytes(self.key.verify_key))
        self.leaves: list[bytes] = []

    def append(self, meta: Meta, detail: Detail) -> Entry:
        one = receipt.entry(len(self.leaves), time.time_ns() // 1_000_000, meta.to_bytes(), detail.to_bytes())
        self.leaves.append(one.leaf_hash)
        return one

    def head(self, size: int | None = None) -> Head:
        leaves = self.leaves[:size]
        return Head(len(leaves), merkle.root(leaves))

    def proof(self, begin: int, end: int, size: int, known: Head) -> pb.LogProof:
        """Leaves [begin, end) in the tree of ``size``, from the node's head ``known``."""
        fetch = merkle.in_memory(self.leaves)
        at = self.head(size)
        shown = ranges.build_range(begin, end, size, fetch)
        old, new = sorted((known.size, size))
        return pb.LogProof(
            checkpoint=checkpoint.sign(Checkpoint(ORIGIN, at.size, at.root), ORIGIN, self.key),
            range=pb.LogRange(
                begin=begin,
                left=b"".join(shown.left),
                leaves=b"".join(shown.leaves),
                right=b"".join(shown.right),
            ),
            known_size=known.size,
            consistency=b"".join(merkle.consistency_proof(old, new, fetch)),
        )


def opening(one: Entry) -> pb.EntryOpening:
    return pb.EntryOpening(
        index=one.index,
        time_ms=one.time_ms,
        meta_key=one.meta_key,
        meta=one.meta,
        detail_key=one.detail_key,
        detail=one.detail,
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """A submission that the peer accepted, with its entry and the size of the accepting checkpoint."""

    envelope: Envelope
    shown: Presentation
    manifest: Manifest
    parcel: pb.Submission
    entry: Entry
    size: int
    shares: bytes

    @property
    def hash(self) -> bytes:
        return presentation.hash_of(self.envelope.payload)

    def result(self) -> pb.Result:
        return pb.Result(presentation_hash=self.hash, entry=opening(self.entry), released=self.shown.ceilings)

    def delivery(self) -> pb.Delivery:
        """Everything that was presented is released."""
        return pb.Delivery(
            presentation=self.envelope.to_proto(),
            manifest=self.parcel.manifest,
            released=self.shown.ceilings,
            leaves=sealed.gate(self.manifest, self.parcel.leaves, self.shown.ceilings),
            shares=self.shares,
            capsule=self.parcel.capsule,
            entry=opening(self.entry),
            attempt=1,
        )


# The peer


@dataclass(eq=False, slots=True)
class Stream:
    """One attached node: what it sent, in order, and a way to send to it."""

    received: asyncio.Queue[pb.ConnectRequest] = field(default_factory=asyncio.Queue)
    _unsent: asyncio.Queue[pb.ConnectResponse | None] = field(default_factory=asyncio.Queue)
    known: Head = field(default_factory=Head)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, **frame: Any) -> None:
        self._unsent.put_nowait(pb.ConnectResponse(**frame))

    def close(self) -> None:
        """End the stream in peace, after what is to be sent."""
        self._unsent.put_nowait(None)

    async def next(self) -> pb.ConnectRequest:
        return await asyncio.wait_for(self.received.get(), WAIT_S)

    async def expect(self, kind: str) -> Any:
        """The next frame of a kind; frames of other kinds before it are dropped."""
        while True:
            request = await self.next()
            if request.WhichOneof("frame") == kind:
                return getattr(request, kind)

    def is_quiet(self) -> bool:
        return self.received.empty()


class Peer(exchange_pb2_grpc.ExchangeServiceServicer):
    """Serves streams; what happens on them is up to the test."""

    def __init__(self) -> None:
        self.log = Log()
        self.gate = KemPrivate.generate(Alg.X25519)
        self.authority = Authority.draw()
        self.members: list[Member] = []
        self.statements: dict[bytes, Envelope] = {}
        self.epochs: dict[bytes, bytes] = {}
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.refuse_with: grpc.Status | None = None
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.authority.issue(key.public_key(), SERVER_NAME)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        credentials = grpc.ssl_server_credentials(
            [(pem, certificate.public_bytes(Encoding.PEM))], self.authority.pem, require_client_auth=True
        )
        options = [("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    def enrol(self, folder: Path, *roles: str) -> list[Member]:
        address = f"127.0.0.1:{self.port or 1}"
        self.members = enrolled(folder, self.authority, address, self.log.vkey, *roles)
        for one in self.members:
            self.statements[one.id] = signed = state_keys(one.keys, 1, now())
            store = Store(one.config.database, one.keys)
            with store.transaction():
                store.trust.put_statement(one.id, 1, signed.to_bytes())
            store.close()
        return self.members

    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        if self.refuse_with is not None:
            await context.abort_with_status(self.refuse_with)
        stream = Stream()
        self.streams.put_nowait(stream)
        reader = asyncio.create_task(self._read(stream, request_iterator))
        try:
            while (frame := await stream._unsent.get()) is not None:
                await context.write(frame)
        finally:
            reader.cancel()
            stream.ended.set()

    @staticmethod
    async def _read(stream: Stream, requests: AsyncIterator[pb.ConnectRequest]) -> None:
        try:
            async for request in requests:
                stream.received.put_nowait(request)
        finally:
            stream.close()

    async def SubmitExchange(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nodes speak over their stream")

    # What a broker says

    def welcome(self, node: bytes, /, **changes: Any) -> pb.Welcome:
        fields: dict[str, Any] = {
            "version": 1,
            "origin": ORIGIN,
            "clock_ms": time.time_ns() // 1_000_000,
            "node": node,
            "gate_key_statement": self.gate_statement(self.log.key).to_proto(),
            "max_frame": 64,
        }
        return pb.Welcome(**(fields | changes))

    def gate_statement(self, key: SigningKey) -> Envelope:
        public = bytes(key.verify_key)
        found = statement.KeyStatement(
            participant_id(public), 1, now(), now() + 86_400, public, public, public, (self.gate.public,), ()
        )
        return found.sign(key)

    def directory(self) -> pb.Directory:
        return pb.Directory(entries=[one.entry(self.statements[one.id]) for one in self.members])

    async def attach(self, member: Member) -> Stream:
        """The next stream, through the handshake until its epoch is known if it offers one."""
        stream = await asyncio.wait_for(self.streams.get(), WAIT_S)
        hello = await stream.expect("hello")
        stream.known = Head(hello.head_size, hello.head_root or Head().root)
        stream.send(welcome=self.welcome(member.id))
        stream.send(directory=self.directory())
        return stream

    def learn(self, request: pb.ConnectRequest, member: Member) -> None:
        """Take a key statement or an epoch offer."""
        kind = request.WhichOneof("frame")
        if kind == "key_statement":
            signed = envelope.from_proto(envelope.KEY_STATEMENT, request.key_statement)
            statement.verify_key_statement(signed, member.id, now())
            self.statements[member.id] = signed
        elif kind == "epoch_offer":
            signed = envelope.from_proto(envelope.EPOCH_OFFER, request.epoch_offer)
            offer = epoch.verify_offer(signed, member.id, bytes(member.keys.signing.verify_key))
            self.epochs[offer.epoch_id] = epoch.unwrap(offer, self.gate)

    async def submissions(self, stream: Stream, member: Member) -> pb.SubmissionFrame:
        """The next submission frame, after whatever keys and epochs came before it."""
        while True:
            request = await stream.next()
            if request.WhichOneof("frame") == "submissions":
                return request.submissions
            self.learn(request, member)

    def accept(self, frame: pb.SubmissionFrame, member: Member) -> list[Taken]:
        """Verify a frame as a broker does, and record it under one checkpoint."""
        payloads = [one.presentation for one in frame.submissions]
        key = bytes(member.keys.signing.verify_key)
        signed = envelope.verify_frame(envelope.PRESENTATION, payloads, frame.signature, key)
        size = len(self.log.leaves) + len(payloads)
        return [self._take(one, parcel, size) for one, parcel in zip(signed, frame.submissions, strict=True)]

    def _take(self, signed: Envelope, parcel: pb.Submission, size: int) -> Taken:
        shown = presentation.parse(signed.payload)
        shown.check_time(now())
        record = manifest.check_hash(parcel.manifest, shown.manifest_hash)
        root = sealed.gate_root(self.epochs[shown.epoch_id], record.rid, shown.recipient, shown.nonce)
        sealed.check_gate_root(shown.gate_commitment, record.rid, root)
        g = sealed.gate_shares(root, record.schema)
        shares = b"".join(g[i] for i in sealed.released_places(record.schema, shown.ceilings))
        meta = Meta(
            "exchange.accepted", shown.sender, shown.recipient, shown.purpose, record.schema_hash, shown.ceilings,
            shown.ceilings, POLICY,
        )  # fmt: skip
        detail = Detail(presentation.hash_of(signed.payload), documents=(signed.to_bytes(),))
        return Taken(signed, shown, record, parcel, self.log.append(meta, detail), size, shares)

    def prove(self, stream: Stream, entries: Sequence[Entry], size: int) -> pb.LogProof:
        """Proof of neighbouring entries; the node knows this head afterwards."""
        proof = self.log.proof(entries[0].index, entries[-1].index + 1, size, stream.known)
        if size > stream.known.size:
            stream.known = self.log.head(size)
        return proof

    def results(self, stream: Stream, taken: Sequence[Taken]) -> pb.ResultFrame:
        proof = self.prove(stream, [one.entry for one in taken], taken[0].size)
        return pb.ResultFrame(proof=proof, results=[one.result() for one in taken])

    def deliveries(self, stream: Stream, taken: Sequence[Taken]) -> pb.DeliveryFrame:
        proof = self.prove(stream, [one.entry for one in taken], taken[0].size)
        return pb.DeliveryFrame(proof=proof, deliveries=[one.delivery() for one in taken])


class Sender:
    """A participant whose records come over the peer without a stream of its own."""

    def __init__(self, peer: Peer, member: Member) -> None:
        self._peer = peer
        self.member = member
        self.node = node_of(member, Recorder())
        self.node.directory.update(peer.directory().entries, now())

    def present(self, recipient: Member, **changes: Any) -> list[Taken]:
        """A claim for ``recipient``, accepted by the peer."""
        secret = os.urandom(32)
        record = self.node.outbox.seal("inpatient-claim", claim(secret))
        self.node.outbox.present(record, replace(statutory(recipient.id, secret), **changes))
        return self.sent()

    def sent(self) -> list[Taken]:
        """What waits in the outbox, accepted by the peer."""
        found = self.node.outbox.frame((), 64)
        if found is None:
            return []
        frame, exchanges = found
        self._peer.epochs |= {one.epoch_id: one.secret for one in self.node.store.trust.epochs(now())}
        taken = self._peer.accept(frame, self.member)
        with self.node.store.transaction():
            for exchange, one in zip(exchanges, taken, strict=True):
                self.node.store.outgoing.accepted(exchange, one.shown.ceilings)
        return taken


class Recorder:
    """A role that writes down what it was told, and answers with what it is given."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.noticed: list[Noticed] = []
        self.refused: list[Noticed] = []
        self.answer: dict[str, Any] | None = None
        self.fails: list[Exception] = []

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        if self.fails:
            raise self.fails.pop()
        self.opened.append(opened)
        return None if self.answer is None else Draft.answering(opened, "decision", self.answer)

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        self.noticed.append(noticed)

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        self.refused.append(noticed)

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        """A peer of tests registers its grants itself."""

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        return ""

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        return ""

    def holds(self, opened: Opened, store: Store) -> str:
        return ""


def node_of(member: Member, role: Recorder, clock_ms: Callable[[], int] | None = None) -> Node:
    """The member's node as a process would open it, with `POLICY` in force."""
    settings = config.load(member.config.directory)
    keys = FileKeystore.load(settings.keys)
    store = Store(settings.database, keys)
    clock = clock_ms or (lambda: time.time_ns() // 1_000_000)
    return Node(settings, keys, store, role, frozenset([POLICY]), clock)


def claim(secret: bytes) -> dict[str, Any]:
    """A plainly synthetic inpatient claim; ``secret`` is the encounter's."""
    return {
        "encounter": secret,
        "name": "测试患者甲",
        "birth-date": "1984-05-17",
        "phone": "13800000000",
        "diagnosis": [["I21.0", "测试诊断", 1]],
    }


def statutory(recipient: bytes, secret: bytes, **changes: Any) -> Mandate:
    """A mandate to show a claim to ``recipient`` because `POLICY` says so."""
    return Mandate.by_statute(
        POLICY,
        recipient,
        schema.load("inpatient-claim").finest,
        purpose="public-settlement",
        encounter=sealed.encounter_handle(secret, recipient),
        workflow=os.urandom(16),
        **changes,
    )


class Running:
    """A node that runs beside a test, with its role and its peer."""

    def __init__(self, peer: Peer, member: Member, clock_ms: Callable[[], int] | None = None) -> None:
        self.peer = peer
        self.member = member
        self.role = Recorder()
        plans.begin("node")
        self.node: Node = node_of(member, self.role, clock_ms)
        self.task = asyncio.create_task(self.node.run())

    async def attach(self) -> Stream:
        return await self.peer.attach(self.member)

    async def ends(self) -> Error:
        """The error that the node stopped with."""
        with pytest.raises(Error) as ended:
            await asyncio.wait_for(self.task, 20)
        return ended.value

    async def close(self) -> None:
        self.node.stop()
        await asyncio.wait([self.task], timeout=20)
        self.node.close()
        plans.check("node", self.node.config.database)


def presented(node: Node, recipient: bytes, **changes: Any) -> bytes:
    """A claim for ``recipient``, sealed and queued; the exchange's hash."""
    secret = os.urandom(32)
    with node.transaction() as tx:
        return tx.outbox.present(
            tx.outbox.seal("inpatient-claim", claim(secret)), statutory(recipient, secret, **changes)
        )
