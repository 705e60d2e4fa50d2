"""Whole exchanges against a running broker, and calls against the bare relay; as many in flight as asked.

An exchange is a claim that is delivered, acknowledged and answered, until the decision has arrived at the hospital,
which acknowledges it as well: two submissions, two deliveries, two acknowledgements.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from clients.channel import SERVER_NAME
from tests.bench import relay
from tests.bench.link import Link
from tests.bench.process import cpu_s
from tests.bench.world import ORIGIN, Parcel, Participant, Patient, World
from zhifu import presentation, sealed
from zhifu.envelope import MAX_FRAME
from zhifu.presentation import Presentation
from zhifu.v1 import exchange_pb2, signed_pb2
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT

DRAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one window gave: wall seconds, CPU seconds of the process under measure, ms of each exchange."""

    wall_s: float
    cpu_s: float
    latencies_ms: tuple[float, ...]


def submission(shown: Presentation, parcel: Parcel) -> exchange_pb2.Submission:
    """A presentation with the record that it presents."""
    return exchange_pb2.Submission(
        presentation=shown.to_bytes(),
        manifest=parcel.manifest,
        leaves=parcel.record.leaves,
        capsule=parcel.capsule,
    )


def present(
    sender: Participant, recipient: bytes, parcel: Parcel, purpose: str, basis: tuple[signed_pb2.BasisKind, bytes],
    encounter: bytes, workflow: bytes, correlation: bytes,
) -> exchange_pb2.Submission:  # fmt: skip
    """A new presentation of a sealed record, under a nonce of its own."""
    now_ms = time.time_ns() // 10**6
    nonce, now, rid = presentation.new_nonce(now_ms), now_ms // 1000, parcel.record.manifest.rid
    root = sealed.gate_root(sender.epoch.secret, rid, recipient, nonce)
    shown = Presentation(
        aud=ORIGIN,
        sender=sender.id,
        recipient=recipient,
        key_id=parcel.key_id,
        basis_kind=basis[0],
        basis=basis[1],
        purpose=purpose,
        encounter=encounter,
        manifest_hash=parcel.manifest_hash,
        ceilings=parcel.ceilings,
        capsule_hash=parcel.capsule_hash,
        gate_commitment=sealed.gate_commitment(rid, root),
        epoch_id=sender.epoch.epoch_id,
        workflow=workflow,
        correlation=correlation,
        in_reply_to=basis[1] if basis[0] == BASIS_KIND_ANSWER else b"",
        ticket_hash=b"",
        nonce=nonce,
        issued_at=now,
        not_after=min(now + presentation.MAX_LIFETIME_S, sender.epoch.not_after),
    )
    return submission(shown, parcel)


def claim(patient: Patient) -> exchange_pb2.Submission:
    """The hospital's claim under the patient's grant, in a workflow of its own."""
    grant, basis = patient.grant, (BASIS_KIND_GRANT, patient.grant_hash)
    random = os.urandom(32)
    return present(
        patient.sender, grant.recipient, patient.claim, grant.purpose, basis, grant.encounter, random[:16], random[16:]
    )


async def arrivals(rate: float, seconds: float) -> AsyncIterator[float]:
    """When each arrival is due (`time.perf_counter`), ``rate`` a second, evenly; late ones come at once, all of them.

    Whoever counts from when it was due counts what waited for a slow answer too (no coordinated omission).
    """
    begun = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        yield due


class Asker:
    """A hospital that keeps ``in_flight`` claims open until it is told to stop, or asks at a rate of its own."""

    def __init__(self, me: Participant, patients: Sequence[Patient]) -> None:
        self.link = Link(me, self._answered)
        self.latencies_ms: list[float] = []
        self._patients = itertools.cycle(patients)
        self._open: dict[bytes, float] = {}
        self._goes_on = False
        self._idle = asyncio.Event()

    def start(self, in_flight: int, per_frame: int) -> None:
        self.link.per_frame, self._goes_on = per_frame, True
        self.latencies_ms = []
        for _ in range(in_flight):
            self._ask()

    async def paced(self, rate: float, seconds: float) -> None:
        """Ask ``rate`` times a second, whatever comes back."""
        self.link.per_frame, self.latencies_ms = MAX_FRAME, []
        async for due in arrivals(rate, seconds):
            self._ask(due)

    async def finish(self) -> None:
        """Ask nothing more, and wait for the answers that are due. Raises what the stream broke with."""
        self._goes_on = False
        until = time.monotonic() + DRAIN_S
        while self._open and time.monotonic() < until:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), 0.2)
            except TimeoutError:
                self.link.check()
        if self._open:
            raise TimeoutError(f"{len(self._open)} exchanges were never answered")

    def _ask(self, begun: float = 0.0) -> None:
        made = claim(next(self._patients))
        self._open[presentation.hash_of(made.presentation)] = begun or time.perf_counter()
        self.link.submit(made)

    def _answered(self, delivery: exchange_pb2.Delivery) -> None:
        shown = signed_pb2.Presentation.FromString(delivery.presentation.payload)
        begun = self._open.pop(shown.in_reply_to, None)
        if begun is None:
            return
        self.latencies_ms.append(1000 * (time.perf_counter() - begun))
        if self._goes_on:
            self._ask()
        if not self._open:
            self._idle.set()

    def serve(self, patients: Sequence[Patient]) -> None:
        """Ask for these from now on."""
        self._patients = itertools.cycle(patients)


class Answerer:
    """A payer that answers every claim with the patient's decision."""

    def __init__(self, me: Participant, patients: Sequence[Patient]) -> None:
        self.link = Link(me, self._asked)
        self._me = me
        self._patients: dict[bytes, Patient] = {}
        self.serve(patients)

    def serve(self, patients: Sequence[Patient]) -> None:
        """Answer for these from now on."""
        self._patients = {one.grant_hash: one for one in patients}

    def _asked(self, delivery: exchange_pb2.Delivery) -> None:
        shown = signed_pb2.Presentation.FromString(delivery.presentation.payload)
        patient = self._patients.get(shown.basis)
        if patient is None:
            return
        basis = (BASIS_KIND_ANSWER, presentation.hash_of(delivery.presentation.payload))
        self.link.submit(
            present(
                self._me, shown.sender, patient.answer, shown.purpose, basis, shown.encounter, shown.workflow,
                shown.correlation,
            )
        )  # fmt: skip


class Attached:
    """A payer and one or more hospitals, attached."""

    def __init__(self, world: World, hospitals: Sequence[Participant]) -> None:
        self._pid = world.pid
        self._payer = Answerer(world.payer, world.patients)
        self._askers = [Asker(one, world.patients_of(one)) for one in hospitals]

    async def open(self) -> None:
        await self._payer.link.open()
        await asyncio.gather(*(one.link.open() for one in self._askers))

    async def close(self) -> None:
        await asyncio.gather(self._payer.link.close(), *(one.link.close() for one in self._askers))

    def serve(self, patients: Sequence[Patient]) -> None:
        """These patients of the first hospital from now on: the uses of a grant are counted, and they end."""
        self._payer.serve(patients)
        self._askers[0].serve(patients)

    async def measure(self, in_flight: int, per_frame: int, seconds: float) -> Measured:
        """Keep ``in_flight`` exchanges open for ``seconds``, shared evenly by the hospitals, and end them all."""
        self._payer.link.per_frame = per_frame
        cpu, begun = cpu_s(self._pid), time.perf_counter()
        for one in self._askers:
            one.start(in_flight // len(self._askers), per_frame)
        await asyncio.sleep(seconds)
        return await self._finished(cpu, begun)

    async def paced(self, rate: float, seconds: float) -> Measured:
        """Ask ``rate`` times a second for ``seconds``, shared evenly by the hospitals, and end them all."""
        self._payer.link.per_frame = MAX_FRAME
        cpu, begun = cpu_s(self._pid), time.perf_counter()
        await asyncio.gather(*(one.paced(rate / len(self._askers), seconds) for one in self._askers))
        return await self._finished(cpu, begun)

    async def _finished(self, cpu: float, begun: float) -> Measured:
        await asyncio.gather(*(one.finish() for one in self._askers))
        self._payer.link.check()
        wall, used = time.perf_counter() - begun, cpu_s(self._pid) - cpu
        return Measured(wall, used, tuple(itertools.chain.from_iterable(one.latencies_ms for one in self._askers)))


@asynccontextmanager
async def attached(world: World, hospitals: Sequence[Participant]) -> AsyncIterator[Attached]:
    """Attach a payer and hospitals for some measurements."""
    found = Attached(world, hospitals)
    try:
        await found.open()
        # The first frames pay for caches that every later one finds.
        await found.measure(MAX_FRAME, MAX_FRAME, 0.3)
        yield found
    finally:
        await found.close()


class Relay:
    """Calls to the bare relay over one channel."""

    def __init__(self, world: World) -> None:
        me = world.hospitals[0]
        settings = me.settings
        credentials = grpc.ssl_channel_credentials(
            settings.authority.read_bytes(), me.keys.tls_key, settings.certificate.read_bytes()
        )
        address = f"127.0.0.1:{world.relay.said['node_port']}"
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]
        self._pid = world.relay.process.pid
        self._channel = grpc.aio.secure_channel(address, credentials, options)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(relay.METHOD)
        self._asked = os.urandom(relay.ASKED_BYTES)

    async def close(self) -> None:
        await self._channel.close()

    async def paced(self, rate: float, seconds: float) -> Measured:
        """Call ``rate`` times a second for ``seconds``, whatever comes back."""
        latencies: list[float] = []

        async def one(due: float) -> None:
            await self._call(self._asked)
            latencies.append(1000 * (time.perf_counter() - due))

        cpu, begun = cpu_s(self._pid), time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            async for due in arrivals(rate, seconds):
                calls.create_task(one(due))
        return Measured(time.perf_counter() - begun, cpu_s(self._pid) - cpu, tuple(latencies))

    async def measure(self, in_flight: int, seconds: float) -> Measured:
        """Keep ``in_flight`` calls open for ``seconds``."""
        latencies: list[float] = []
        until = time.perf_counter() + seconds

        async def one_after_another() -> None:
            while (begun := time.perf_counter()) < until:
                await self._call(self._asked)
                latencies.append(1000 * (time.perf_counter() - begun))

        cpu, begun = cpu_s(self._pid), time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        return Measured(time.perf_counter() - begun, cpu_s(self._pid) - cpu, tuple(latencies))
