"""Queued data is withheld within a second of a revocation: measured while a recipient is taking its queue.

Every grant has claims in the queue. The payer attaches and takes them as fast as it can, while the patients revoke, all
at once; what reaches the payer of a grant after its patient pressed the button is timed from that moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from clients.patient import calls
from tests.bench.link import Link
from tests.bench.load import claim
from tests.bench.world import ORIGIN, Patient, World, contact
from zhifu.consent import Revocation
from zhifu.v1 import exchange_pb2, signed_pb2, wallet_pb2

EACH: Final = 96
"""Claims that wait for each grant."""
MOST_MS: Final = 1000.0
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.05


@dataclass(slots=True)
class Withheld:
    """Milliseconds from the button: until the patient had her receipt, and until the last delivery of her grant."""

    receipt_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    queued: int = 0
    delivered: int = 0

    @property
    def worst_ms(self) -> float:
        return max(*self.receipt_ms, *self.late_ms, 0.0)

    @property
    def faults(self) -> list[str]:
        """What must not be: a second or more, or nothing that was there to be withheld."""
        found = [f"withheld after {self.worst_ms:.0f} ms"] if self.worst_ms > MOST_MS else []
        return (
            found
            if self.delivered < self.queued
            else [*found, "nothing was in the queue any more: the measurement says nothing"]
        )

    def __str__(self) -> str:
        late = max(self.late_ms, default=0.0)
        return (
            f"withheld {self.queued - self.delivered} of {self.queued} queued; worst {self.worst_ms:.0f} ms "
            f"(bar ≤ {MOST_MS:.0f}): receipt after {max(self.receipt_ms):.0f} ms, last delivery after {late:.0f} ms"
        )


class _Taking:
    """The payer: when each delivery came, counted against the moment that its grant was revoked."""

    def __init__(self, found: Withheld) -> None:
        self.found = found
        self.pressed: dict[bytes, float] = {}

    def __call__(self, delivery: exchange_pb2.Delivery) -> None:
        basis = signed_pb2.Presentation.FromString(delivery.presentation.payload).basis
        self.found.delivered += 1
        if basis in self.pressed:
            self.found.late_ms.append(1000 * (time.perf_counter() - self.pressed[basis]))


async def measure(world: World, tell: Callable[[str], None]) -> Withheld:
    """One round over the first hospital's patients; their grants have ended after it."""
    patients, found = world.patients_of(world.hospitals[0]), Withheld()
    await _queue(world, patients)
    found.queued = EACH * len(patients)
    tell(f"{found.queued} claims wait")
    taking = _Taking(found)
    payer = Link(world.payer, taking)
    try:
        async with calls.broker(contact(world.stage)) as stub:
            # Connected first: what is measured is the revocation, not a handshake.
            await stub.Challenge(wallet_pb2.ChallengeRequest())
            await payer.open()
            await asyncio.gather(*(_revoke(stub, one, taking) for one in patients))
        await _until(world, 0)
    finally:
        await payer.close()
    return found


async def _queue(world: World, patients: list[Patient]) -> None:
    hospital = Link(world.hospitals[0], lambda _: None)
    try:
        await hospital.open()
        for one in patients:
            for _ in range(EACH):
                hospital.submit(claim(one))
        await _until(world, EACH * len(patients))
        hospital.check()
    finally:
        await hospital.close()


async def _until(world: World, waiting: int) -> None:
    """Until so many deliveries wait for the payer. Raises `TimeoutError`."""
    end, path = time.monotonic() + _PATIENCE_S, world.stage.path / "broker" / "broker.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        query = "SELECT count(*) FROM delivery WHERE recipient = ?"
        while opened.execute(query, (world.payer.id,)).fetchone()[0] != waiting:
            if time.monotonic() > end:
                raise TimeoutError(f"{waiting} deliveries did not come to be in the queue")
            await asyncio.sleep(_LOOK_S)


async def _revoke(stub: calls.Stub, patient: Patient, taking: _Taking) -> None:
    said = Revocation(ORIGIN, patient.grant_hash, int(time.time())).sign(patient.subject)
    begun = taking.pressed[patient.grant_hash] = time.perf_counter()
    await stub.RevokeGrant(wallet_pb2.RevokeGrantRequest(revocation=said.to_proto()))
    taking.found.receipt_ms.append(1000 * (time.perf_counter() - begun))
