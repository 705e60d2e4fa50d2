"""What the services share: one broker's parts, wired by `broker.serving`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from broker import delivery, parcels
from broker.audit import Log
from broker.clock import clock_ms
from broker.commit import Committer
from broker.counts import COUNTS
from broker.delivery import Mailroom
from broker.directory import Directory
from broker.gate import Gate
from broker.in_force import InForce
from broker.pipeline import Pipeline
from broker.quota import Quotas
from broker.revocation import Revoker
from broker.store.interface import Store
from broker.witnesses import Witnesses
from zhifu.envelope import MAX_FRAME, Envelope
from zhifu.errors import Error
from zhifu.keys import VERSION
from zhifu.v1 import exchange_pb2

LAPSE_S = 600
"""How often parcels are looked through (s)."""
_log = logging.getLogger("broker.core")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the broker waits for others, in seconds."""

    hello_s: float = 10.0
    lease_s: float = delivery.LEASE_S
    idle_s: float = 15.0
    flush_s: float = 5.0
    sweep_s: float = 1.0
    watch_s: float = 15.0
    keepalive_ms: int = 20_000


@dataclass(frozen=True, slots=True)
class Core:
    """A running broker without its sockets."""

    store: Store
    log: Log
    committer: Committer
    directory: Directory
    gate: Gate
    pipeline: Pipeline
    witnesses: Witnesses
    revoker: Revoker
    pepper: bytes = field(repr=False)
    gate_statement: Callable[[], Envelope]
    in_force: InForce
    clock_ms: Callable[[], int] = clock_ms
    timing: Timing = Timing()
    mailroom: Mailroom = field(default_factory=Mailroom)
    quotas: Quotas = field(default_factory=Quotas)

    def now(self) -> int:
        """Unix s."""
        return self.clock_ms() // 1000

    def welcome(self, node: bytes) -> exchange_pb2.Welcome:
        return exchange_pb2.Welcome(
            version=VERSION,
            origin=self.log.origin,
            clock_ms=self.clock_ms(),
            node=node,
            gate_key_statement=self.gate_statement().to_proto(),
            max_frame=MAX_FRAME,
        )

    async def sweep(self) -> None:
        """Every second, end what outlived its presentation; senders are told. At start, what the gate cannot open."""
        lapse_at, looked_through = 0, False
        while True:
            try:
                if not looked_through:
                    await self._strand()
                    looked_through = True
                if self.now() >= lapse_at:
                    lapse_at = self.now() + LAPSE_S
                    await self._lapse()
                if self.store.reader.overdue(self.now()):
                    ended = (await self.committer.run(delivery.expire, essential=True)).result
                    COUNTS.ended["expired"] += len(ended)
                    self.mailroom.wake(ended)
            except Error as error:
                # The store's trouble is logged where it happened; the next round tries again.
                _log.warning("sweep failed", extra={"reason": error.reason})
            await asyncio.sleep(self.timing.sweep_s)

    async def _lapse(self) -> None:
        """Parcels that nobody completed or took in time."""
        if parcels.overdue(self.store.reader, self.clock_ms()):
            await self.committer.run(lambda state, _, now_ms: parcels.lapse(state, now_ms))

    async def _strand(self) -> None:
        gone = self.gate.gone(self.store.reader, self.now())
        after: int | None = -1
        # A slice a commit: a long queue must keep nobody waiting.
        while gone and after is not None:
            done = await self.committer.run(partial(delivery.strand, gone, after), essential=True)
            after, told = done.result
            self.mailroom.wake(told)
