"""What the single steps cost, in microseconds: a member of the household alone, without gRPC and without the disk."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final

from nacl.signing import SigningKey

from broker.audit import Sequence as Entries
from broker.consent import Consent
from broker.core import Core
from broker.pipeline import verify
from broker.stages import Submission
from broker.store.interface import Transaction
from clients.hospital import record
from clients.hospital.sample import sample_bill
from policies.bundle import Bundle, Request
from policies.decide import release
from tests.bench.load import claim
from tests.bench.world import ORIGIN, Participant, Patient
from zhifu import bill, capsule, envelope, manifest, presentation, schema, sealed
from zhifu.consent import verify_grant
from zhifu.envelope import MAX_FRAME, PRESENTATION
from zhifu.keys import verify_signature
from zhifu.receipt import Detail, Meta
from zhifu.v1 import exchange_pb2

REPEATS: Final = 7
TURNS: Final = 101
COLD: Final = 3.0
CACHED: Final = 0.1
"""What checking a grant may cost, as a multiple of one verification of a signature."""
_CLAIM: Final = schema.load("inpatient-claim")


@dataclass(frozen=True, slots=True)
class Cost:
    """One step: its name, what it is about, and the median over `REPEATS` batches in microseconds."""

    name: str
    about: str
    micros: float


def median_micros(step: Callable[[], object], seconds: float, each: int = 1) -> float:
    """The median of `REPEATS` batches, together ``seconds`` long; a call does ``each`` of what is counted."""
    step()
    begun = time.perf_counter()
    step()
    count = max(1, int(seconds / REPEATS / max(time.perf_counter() - begun, 1e-7)))
    found = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(count):
            step()
        found.append((time.perf_counter() - begun) / count)
    return 1e6 * statistics.median(found) / each


def frame(sender: Participant, patients: Sequence[Patient], count: int) -> exchange_pb2.SubmissionFrame:
    """``count`` claims by one hospital under one signature."""
    parcels = [claim(one) for one, _ in zip(cycle(patients), range(count), strict=False)]
    signature, signed = envelope.seal_frame(PRESENTATION, [one.presentation for one in parcels], sender.keys.signing)
    return exchange_pb2.SubmissionFrame(key_id=signed[0].key_id, signature=signature, submissions=parcels)


def costs(core: Core, payer: Participant, patients: Sequence[Patient], seconds: float) -> Iterator[Cost]:
    """Every step in turn, ``seconds`` each; ``core`` is a broker that knows the patients and serves nobody."""
    yield from _records(payer, patients[0], seconds)
    yield from _broker(core, patients, seconds)


def _records(payer: Participant, patient: Patient, seconds: float) -> Iterator[Cost]:
    parcel, hospital = patient.claim, patient.sender
    values = record.claim(bill.parse(sample_bill(1)), os.urandom(32))
    about = f"{len(_CLAIM.leaves)} leaves, {len(parcel.record.leaves)} bytes"
    yield Cost(
        "seal", about, median_micros(lambda: sealed.seal(_CLAIM, values, hospital.id, time.time_ns() // 10**6), seconds)
    )
    root, listed = os.urandom(32), parcel.record.manifest
    places = sealed.released_places(_CLAIM, parcel.ceilings)
    about = f"{len(places)} of {len(_CLAIM.leaves)} leaves released"
    yield Cost(
        "gate", about, median_micros(lambda: sealed.gate(listed, parcel.record.leaves, parcel.ceilings), seconds)
    )
    yield Cost("gate shares", about, median_micros(lambda: sealed.gate_shares(root, _CLAIM), seconds))
    own = capsule.own_shares(parcel.record, parcel.ceilings, root)
    every = sealed.gate_shares(root, _CLAIM)
    shares = b"".join(every[place] for place in places)
    kept = sealed.gate(listed, parcel.record.leaves, parcel.ceilings)
    made = capsule.seal(
        capsule.Capsule(parcel.ceilings, own, None, (), None, ()), payer.kem.public, listed.rid,
        parcel.manifest_hash, hospital.id,
    )  # fmt: skip

    def opened() -> object:
        found = capsule.open_capsule(made, payer.kem, listed, parcel.manifest_hash, hospital.id)
        return sealed.open_released(listed, parcel.ceilings, kept, shares, found.shares)

    yield Cost("open", f"{about}, X-Wing capsule", median_micros(opened, seconds))
    key, message = SigningKey.generate(), os.urandom(200)
    signature, public = bytes(key.sign(message).signature), bytes(key.verify_key)
    yield Cost("verify", "PyNaCl Ed25519", median_micros(lambda: verify_signature(public, message, signature), seconds))
    yield Cost("sign", "PyNaCl Ed25519", median_micros(lambda: key.sign(message), seconds))


def _broker(core: Core, patients: Sequence[Patient], seconds: float) -> Iterator[Cost]:
    sender = patients[0].sender
    sent = frame(sender, patients, MAX_FRAME)
    public = bytes(sender.keys.signing.verify_key)
    yield Cost(
        "verify a frame",
        f"each of {MAX_FRAME}: signature, presentation, manifest",
        median_micros(partial(_verify_new, sent, sender.id, public), seconds, MAX_FRAME),
    )
    taken = [one for one in verify(sent, sender.id, public, ORIGIN) if isinstance(one, Submission)]
    assert len(taken) == MAX_FRAME
    state = core.store.begin()
    try:
        yield from _shown(grant_costs(core, state, taken[0], patients[0].signed.payload, seconds))
        yield _append(core, state, taken[0], seconds)
    finally:
        core.store.rollback()
    yield _decision(core, patients[0], seconds)


@dataclass(frozen=True, slots=True)
class GrantCosts:
    """Checking a grant beside one verification of a signature over as many bytes, in microseconds."""

    verify: float
    cold: float
    cached: float


def grant_costs(core: Core, state: Transaction, one: Submission, grant: bytes, seconds: float) -> GrantCosts:
    """Measured by turns: a computer that is busy for a while slows all three. ``grant`` is its payload."""
    key, policy, now = SigningKey.generate(), bytes(32), core.now()
    message, public = grant, bytes(key.verify_key)
    signature, sequence, warm = bytes(key.sign(message).signature), core.log.begin(state), Consent(policy)
    steps = (
        lambda: verify_signature(public, message, signature),
        lambda: _cold(Consent(policy), one, state, sequence, now),
        lambda: warm.check(one, {}, state, sequence, now),
    )
    return GrantCosts(*interleaved_micros(steps, seconds))


def _verify_new(sent: exchange_pb2.SubmissionFrame, sender: bytes, public: bytes) -> None:
    """As of a frame that was not seen before."""
    presentation.parse.cache_clear()
    manifest.parse.cache_clear()
    verify(sent, sender, public, ORIGIN)


def _cold(fresh: Consent, one: Submission, state: Transaction, sequence: Entries, now: int) -> None:
    """As of a grant that nobody saw before: what was verified is remembered by its bytes as well."""
    verify_grant.cache_clear()
    fresh.check(one, {}, state, sequence, now)


def _shown(found: GrantCosts) -> Iterator[Cost]:
    for name, about, micros, most in (
        ("grant, cold", "signature, parse, status, scope", found.cold, COLD),
        ("grant, cached", "status and scope as remembered", found.cached, CACHED),
    ):
        yield Cost(name, f"{about}; ÷ verify {micros / found.verify:.2f} (budget ≤ {most:.1f})", micros)


def interleaved_micros(steps: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The median of each step over `TURNS` turns that take ``seconds`` together, in microseconds; a turn is a batch
    of each.
    """
    batches = []
    for step in steps:
        step()
        begun = time.perf_counter()
        step()
        took = max(time.perf_counter() - begun, 1e-7)
        batches.append(max(1, int(seconds / TURNS / len(steps) / took)))
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(TURNS):
        for step, count, times in zip(steps, batches, found, strict=True):
            begun = time.perf_counter()
            for _ in range(count):
                step()
            times.append((time.perf_counter() - begun) / count)
    return [1e6 * statistics.median(times) for times in found]


def _append(core: Core, state: Transaction, one: Submission, seconds: float) -> Cost:
    shown = one.presentation
    meta = Meta(
        "exchange.accepted", shown.sender, shown.recipient, shown.purpose, one.schema.hash, shown.ceilings,
        shown.ceilings, bytes(32),
    )  # fmt: skip
    detail = Detail(one.hash, shown.basis, bytes(32), (one.envelope.to_bytes(),))

    def append() -> None:
        state.mark()
        sequence = core.log.begin(state)
        for _ in range(MAX_FRAME):
            sequence.record(meta, detail, 1)
        sequence.seal(state, 1)
        state.rewind()

    about = f"each of {MAX_FRAME}: commitments, tree, rows, checkpoint, no commit"
    return Cost("entry and tree", about, median_micros(append, seconds, MAX_FRAME))


def _decision(core: Core, patient: Patient, seconds: float) -> Cost:
    bundle: Bundle = core.pipeline._bundle
    request = Request(
        sender_role="hospital", sender_status="active", recipient_role="insurer", recipient_status="active",
        same_participant=False, purpose=patient.grant.purpose, basis="grant", schema=_CLAIM.name, asked_purpose=None,
        asked_schema=None,
    )  # fmt: skip
    levels = patient.claim.ceilings
    return Cost(
        "decide, cached", "Cedar and release", median_micros(lambda: release(bundle, request, _CLAIM, levels), seconds)
    )
