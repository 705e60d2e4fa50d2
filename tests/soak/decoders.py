"""Every decoder against hostile bytes: it reads them or refuses with one of our errors, and never anything else.

What it reads of a canonical format encodes to the very bytes it was given.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from google.protobuf.message import DecodeError
from nacl.signing import SigningKey

from broker import authority
from clients import wire
from clients.auditor import entries
from clients.hospital import intake, record
from clients.hospital.fhir import bundle, document
from clients.hospital.openbill import of_bill
from clients.hospital.sample import sample_bill
from tests.formats import HOSPITAL, INSURER, NOW, Log, bill, recipient
from tests.soak.mutate import junk, mutated
from tests.test_capsule import HASH, KEY, content, info
from tests.test_fuzz import DECODERS, PARTS, READERS, RECEIVED, SENT, Decoder, Reader
from zhifu import bill as bills
from zhifu import capsule, cbor, checkpoint, envelope, leaf, receive, sealed
from zhifu.errors import Error
from zhifu.receipt import Head
from zhifu.v1 import exchange_pb2

JUNK: Final = 8
"""One input in so many is not made from a valid one."""
MAX_FAULTS: Final = 20
Run = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes from outside; ``run`` raises nothing but `Error` for any of them."""

    run: Run
    sample: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """An input that was not refused as it should be."""

    target: str
    data: bytes
    what: str

    def __str__(self) -> str:
        return f"{self.target}: {self.what} on {self.data.hex()}"


def _canonical(one: Decoder) -> Run:
    def run(data: bytes) -> None:
        assert one.encode(one.read(data)) == data, "read, but encodes to other bytes"

    return run


def _signed(one: Reader) -> Run:
    """A signed document that was changed on its way."""
    honest = one.signed.to_bytes()

    def run(data: bytes) -> None:
        one.verify(envelope.from_bytes(one.signed.kind, data))
        assert data == honest, "a changed document verified"

    return run


def _by_its_signer(one: Reader, key: SigningKey) -> Run:
    """The signer itself is hostile: any payload under the right key."""
    return lambda data: one.verify(envelope.seal_one(one.signed.kind, data, key))


def _message(data: bytes) -> exchange_pb2.DeliveryFrame:
    """What gRPC does before our code sees anything."""
    found = exchange_pb2.DeliveryFrame()
    try:
        found.ParseFromString(data)
    except DecodeError:
        return exchange_pb2.DeliveryFrame()
    return found


def _delivered(data: bytes) -> None:
    """A frame of deliveries, as a node takes it: proof, then the eight checks."""
    frame = _message(data)
    if not frame.deliveries:
        return
    proven = wire.prove(frame.proof, Head(), LOG.verifier)
    for one in frame.deliveries:
        receive.receive(wire.received(one, proven), recipient(INSURER), NOW)


def _part(name: str, honest: bytes) -> Run:
    """One part of a delivery, changed by the broker."""

    def run(data: bytes) -> None:
        receive.receive(replace(RECEIVED, **{name: cast(Any, data)}), recipient(INSURER), NOW)
        assert data == honest, "a changed part was accepted"

    return run


def _capsule(data: bytes) -> None:
    """What a sender can put into a capsule that opens."""
    made = KEY.public.seal(data, info())
    capsule.open_capsule(made, KEY, bill().manifest, HASH, HOSPITAL.id)


def _request() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sample")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


def _sealed_as_a_bill(data: bytes) -> None:
    """A file of a hospital's own system, FHIR or national, all the way to the levels that would be sealed."""
    found = bills.parse(intake.national_file(data))
    list(sealed.ladders(record.schema_of(found), record.claim(found, bytes(32))))


FILES: Final[Mapping[str, bytes]] = {
    "a stay": sample_bill(1),
    "a visit": sample_bill(1, outpatient=True),
    "a stay in FHIR": document.dumps(bundle.bundle(of_bill(bills.parse(sample_bill(1))))).encode(),
    "a visit in FHIR": document.dumps(bundle.bundle(of_bill(bills.parse(sample_bill(1, outpatient=True))))).encode(),
}
LOG: Final = Log().fill(5)


def _delivery_frame() -> bytes:
    received = SENT.deliver(LOG)
    assert received.entry is not None
    assert received.grant is not None
    proof = LOG.proof(received.entry.index, received.entry.index + 1)
    sent = exchange_pb2.LogProof(
        checkpoint=proof.note,
        range=exchange_pb2.LogRange(
            begin=proof.leaves.begin,
            left=b"".join(proof.leaves.left),
            leaves=b"".join(proof.leaves.leaves),
            right=b"".join(proof.leaves.right),
        ),
    )
    one = exchange_pb2.Delivery(
        presentation=received.presentation.to_proto(),
        manifest=received.manifest,
        released=received.released,
        leaves=received.leaves,
        shares=received.shares,
        capsule=received.capsule,
        grant=received.grant.to_proto(),
        entry=wire.opening(received.entry),
    )
    return exchange_pb2.DeliveryFrame(proof=sent, deliveries=[one]).SerializeToString(deterministic=True)


_LINE: Final = b'{"line": "checkpoint", "size": 7, "root": "%b", "note": "00ff", "time_ms": 5}' % (b"ab" * 32)


def _targets() -> Iterator[tuple[str, Target]]:
    for name, decoder in DECODERS.items():
        yield name, Target(_canonical(decoder), decoder.sample)
    for name, reader in READERS.items():
        yield f"{name}, signed", Target(_signed(reader), reader.signed.to_bytes())
        yield f"{name}, by its signer", Target(_by_its_signer(reader, reader.key), reader.signed.payload)
    yield "capsule", Target(_capsule, cbor.encode(content()))
    yield "padded leaf", Target(leaf.unpad, leaf.pad([1, "甲", b"x"], 40))
    yield "bill", Target(bills.parse, sample_bill(1))
    for name, sample in FILES.items():
        yield name, Target(_sealed_as_a_bill, sample)
    yield "line of an export", Target(entries.parse, _LINE)
    yield (
        "verifier key",
        Target(
            lambda data: checkpoint.VerifierKey.parse(data.decode(errors="replace")), LOG.verifier.encode().encode()
        ),
    )
    yield "signed note", Target(lambda data: checkpoint.verify(data, LOG.verifier), LOG.note())
    yield "certificate request", Target(authority.read_request, _request())
    for part in PARTS:
        honest = getattr(RECEIVED, part)
        yield f"a delivery's {part}", Target(_part(part, honest), honest)
    yield "delivery frame", Target(_delivered, _delivery_frame())


TARGETS: Final[Mapping[str, Target]] = dict(_targets())


def fuzz(inputs: int, start: int, tell: Callable[[str], None] = lambda _: None) -> list[Fault]:
    """``inputs`` in all, shared by the targets; ``start`` seeds them. What went wrong, at most `MAX_FAULTS`."""
    faults: list[Fault] = []
    samples = [one.sample for one in TARGETS.values()]
    each = -(-inputs // len(TARGETS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, one in TARGETS.items():
            random = Random(f"{start} {name}")
            one.run(one.sample)
            for _ in range(each):
                data = junk(random) if random.randrange(JUNK) == 0 else mutated(random, one.sample, samples)
                fault = _try(name, one.run, data)
                faults += [fault] if fault else []
            tell(f"{name}: {each} inputs")
            if len(faults) >= MAX_FAULTS:
                break
    return faults[:MAX_FAULTS]


def _try(name: str, run: Run, data: bytes) -> Fault | None:
    try:
        run(data)
    except Error:
        return None
    except Exception as error:
        where: Any = traceback.extract_tb(error.__traceback__)[-1]
        return Fault(name, data, f"{type(error).__name__} ({error}) at {where.name}:{where.lineno}")
    return None
