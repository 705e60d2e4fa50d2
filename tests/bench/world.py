"""Who takes part in a measurement: a broker process, participants enrolled for real, patients with grants.

Everything is made as in life, and before anything is timed: keys, certificates, attestations, sealed bills, grants.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nacl.signing import SigningKey

from broker import enrolment
from broker.store.sqlite import SqliteStore
from clients import config, enrol
from clients.config import NodeConfig
from clients.demo.stage import Actor, Stage, call
from clients.hospital import record
from clients.hospital.request import PURPOSE, scopes
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore, participant_of
from clients.patient import calls, wallet
from clients.patient.wallet import Contact
from policies import load
from policies.bundle import Bundle
from tests.formats import further_key
from zhifu import bill, capsule, consent, envelope, manifest, schema, sealed
from zhifu.capsule import Capsule, Terms
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.epoch import Epoch
from zhifu.keys import SUITE, VERSION, KemPrivate, KemPublic, strongest
from zhifu.schema import Schema
from zhifu.sealed import SealedRecord
from zhifu.statement import Attestation
from zhifu.v1 import signed_pb2, wallet_pb2
from zhifu.v1.signed_pb2 import GRANT_MODE_REQUEST

ORIGIN: Final = "bench.zhifu.example/log"
DAY: Final = 86_400
_DECISION: Final = {
    "outcome": "reserved",
    "amounts": [["pay", 123_456]],
    "clauses": [["pay", 123_456, "样例条款", "share"]],
    "reservation": bytes(32),
    "expires": 2_000_000_000,
}


@dataclass(frozen=True, slots=True)
class Participant:
    """An enrolled organisation and its epoch of the day, with the one offer of it to each gate key."""

    id: bytes
    settings: NodeConfig
    keys: FileKeystore
    epoch: Epoch
    offers: dict[bytes, signed_pb2.Envelope] = field(default_factory=dict)

    def offer(self, gate: KemPublic) -> signed_pb2.Envelope:
        """The epoch's offer to a broker's gate key: made once, since an epoch is offered once."""
        if gate.id not in self.offers:
            self.offers[gate.id] = self.epoch.offer(self.id, gate, self.keys.signing).to_proto()
        return self.offers[gate.id]

    @property
    def kem(self) -> KemPrivate:
        """The key that others seal to."""
        chosen = strongest([one.public for one in self.keys.kem_keys.values()])
        return self.keys.kem_keys[chosen.id]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A sealed record on its way: what stays the same however often it is presented.

    One capsule serves every presentation: the broker can read neither, so it costs the same.
    """

    record: SealedRecord
    manifest: bytes
    manifest_hash: bytes
    capsule: bytes
    capsule_hash: bytes
    key_id: bytes
    ceilings: bytes


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient's bill at one hospital, the grant for the payer, and the decision that the payer will answer with."""

    sender: Participant
    subject: SigningKey
    attestations: tuple[bytes, ...]
    grant: Grant
    signed: Envelope
    grant_hash: bytes
    claim: Parcel
    answer: Parcel


@dataclass(frozen=True, slots=True)
class World:
    """A running broker and everyone around it; the first hospital has most of the patients."""

    stage: Stage
    broker: Actor
    relay: Actor
    payer: Participant
    hospitals: tuple[Participant, ...]
    patients: tuple[Patient, ...]

    @property
    def pid(self) -> int:
        return self.broker.process.pid

    def patients_of(self, hospital: Participant) -> list[Patient]:
        return [one for one in self.patients if one.sender is hospital]


def open_world(stage: Stage, hospitals: int, patients: int) -> World:
    """Start broker and relay; enrol a payer, ``hospitals`` and ``patients`` of the first (one of each other)."""
    folder = stage.path / "broker"
    call("broker", "init", str(folder), "--origin", ORIGIN)
    broker = stage.start("broker", "broker", "serve", str(folder))
    stage.ready(broker)
    relay = stage.start("relay", "tests.bench.relay", str(folder))
    stage.ready(relay)
    payer, *others = asyncio.run(_join(stage, ["insurer", *["hospital"] * hospitals]))
    first, *rest = others
    drawn = [draw_patient(load.load(), first, payer, number) for number in range(patients)]
    drawn += [draw_patient(load.load(), one, payer, patients + number) for number, one in enumerate(rest)]
    asyncio.run(register(contact(stage), drawn))
    return World(stage, broker, relay, payer, tuple(others), tuple(drawn))


def contact(stage: Stage) -> Contact:
    """Where the broker is, as wallets know it."""
    path = stage.path / "contact.json"
    call("broker", "contact", str(stage.path / "broker"), "-o", str(path))
    return wallet.contact(path)


async def _join(stage: Stage, roles: Sequence[str]) -> list[Participant]:
    template = stage.path / "template.invitation"
    call("broker", "invite", str(stage.path / "broker"), "--role", roles[0], "--name", "样例", "-o", str(template))
    invitation = enrol.read_invitation(template)
    joined = []
    for number, (role, code) in enumerate(zip(roles, _codes(stage, roles), strict=True)):
        given = dataclasses.replace(invitation, role=role, name=f"样例{number}", code=code)
        settings = await enrol.enrol(given, stage.path / f"{role}-{number}")
        joined.append(participant(settings))
    return joined


def _codes(stage: Stage, roles: Iterable[str]) -> list[str]:
    """One-time codes straight from the broker's store: a process for each would take longer than the measurement."""
    store = SqliteStore(stage.path / "broker" / "broker.db")
    state = store.begin()
    found = [
        enrolment.invite(role, f"样例{number}", state, time.time_ns() // 10**6) for number, role in enumerate(roles)
    ]
    store.commit()
    store.close()
    return found


def participant(settings: NodeConfig) -> Participant:
    """An enrolled node's folder, with a fresh epoch."""
    keys, now = FileKeystore.load(settings.keys), int(time.time())
    return Participant(participant_of(keys), config.load(settings.directory), keys, Epoch.draw(now, now + DAY))


def draw_patient(bundle: Bundle, hospital: Participant, payer: Participant, number: int) -> Patient:
    """A plainly synthetic patient with a sealed bill, a grant for it and the decision on it; nothing is sent yet."""
    secret, subject = os.urandom(32), SigningKey.generate()
    public = bytes(subject.verify_key)
    until = int(time.time()) + DAY
    attested = tuple(
        Attestation(public, one.id, one.settings.role, until).sign(one.keys.signing).to_bytes()
        for one in (hospital, payer)
    )
    grant = _grant(bundle, hospital, payer, public, secret)
    signed = grant.sign(subject)
    claim, decision = schema.load("inpatient-claim"), schema.load("decision")
    values = record.claim(bill.parse(sample_bill(number)), secret)
    levels = grant.levels(claim.hash)
    assert levels is not None
    asked = _parcel(claim, values, hospital, payer, levels, attested)
    answered = _parcel(decision, {"encounter": secret, **_DECISION}, payer, hospital, decision.finest, ())
    return Patient(hospital, subject, attested, grant, signed, consent.hash_of(signed.payload), asked, answered)


_TERMS: Final = Terms(bytes(32), b"\x84\x01\xf6\x62zh\x66\xe6\xa0\xb7\xe4\xbe\x8b")


def _grant(bundle: Bundle, hospital: Participant, payer: Participant, public: bytes, secret: bytes) -> Grant:
    now = int(time.time())
    return Grant(
        grant_id=os.urandom(16),
        subject_key=public,
        aud=ORIGIN,
        purpose=PURPOSE,
        sender=hospital.id,
        recipient=payer.id,
        encounter=sealed.encounter_handle(secret, payer.id),
        scopes=scopes(bundle, "insurer", schema.load("inpatient-claim")),
        max_uses=consent.MAX_USES,
        not_before=now - 60,
        expiry=now + DAY,
        issued_at=now - 60,
        mode=GRANT_MODE_REQUEST,
        cnf=hospital.id,
        data_erase_at=now + 180 * DAY,
        terms=_TERMS.digest,
        request_hash=os.urandom(32),
        wallet_key=os.urandom(32),
    )


def _parcel(
    kind: Schema, values: dict[str, object], sender: Participant, recipient: Participant, ceilings: bytes,
    attested: tuple[bytes, ...],
) -> Parcel:  # fmt: skip
    one = sealed.seal(kind, values, sender.id, time.time_ns() // 10**6)
    encoded, digest = one.encoded_manifest, manifest.hash_of(one.encoded_manifest)
    own = capsule.own_shares(one, ceilings, os.urandom(32))
    terms = _TERMS if attested else None
    content = Capsule(ceilings, own, os.urandom(32) if attested else None, (), terms, attested)
    made = capsule.seal(content, recipient.kem.public, one.manifest.rid, digest, sender.id)
    return Parcel(one, encoded, digest, made, hashlib.sha256(made).digest(), recipient.kem.public.id, ceilings)


async def register(where: Contact, patients: Sequence[Patient]) -> None:
    """Enrol every subject key and register every grant, some at a time."""
    gate = asyncio.Semaphore(8)

    async def one(stub: calls.Stub, patient: Patient) -> None:
        async with gate:
            await stub.EnrolSubject(await _enrolment(stub, where, patient))
            await stub.RegisterGrant(wallet_pb2.RegisterGrantRequest(grant=patient.signed.to_proto()))

    async with calls.broker(where) as stub:
        await asyncio.gather(*(one(stub, patient) for patient in patients))


async def _enrolment(stub: calls.Stub, where: Contact, patient: Patient) -> wallet_pb2.EnrolSubjectRequest:
    asked = await stub.Challenge(wallet_pb2.ChallengeRequest())
    proof = signed_pb2.WalletProof(
        version=VERSION, suite=SUITE, aud=where.origin, challenge=asked.challenge, method="EnrolSubject"
    ).SerializeToString(deterministic=True)
    return wallet_pb2.EnrolSubjectRequest(
        proof=envelope.seal_one(envelope.WALLET, proof, patient.subject).to_proto(),
        subject_key=bytes(patient.subject.verify_key),
        attestations=[envelope.from_bytes(envelope.ATTESTATION, one).to_proto() for one in patient.attestations],
        keys=[_further(patient.subject, where.origin)],
    )


def _further(key: SigningKey, origin: str) -> wallet_pb2.SignedKeyChange:
    one = further_key(key, origin, int(time.time()))
    assert one.accepted is not None
    return wallet_pb2.SignedKeyChange(change=one.change.to_proto(), accepted=one.accepted.to_proto())
