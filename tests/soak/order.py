"""Messages that come again, too early or too late: whatever the order, the exchange ends in one state.

Six events make an exchange under a grant and its answer. They come in an order that is permuted, each as often as
networks and senders that were not answered repeat them; then once more in their own order, as every sender does
until it was answered. And one submission comes thousands of times.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import permutations
from random import Random
from typing import Final, NamedTuple

from broker.store import tables
from tests.broker_rig import Rig, acknowledgements, frame, fresh, present
from tests.formats import HOSPITAL, INSURER, NOW, Party, Sent, answer, claim
from zhifu import acknowledgement, envelope, presentation, receipt
from zhifu.errors import Error
from zhifu.receipt import Proven
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1.signed_pb2 import OUTCOME_OPENED

REPLAYS: Final = 10_000
EVENTS: Final = 6
_FRAME: Final = 50
_AT_ONCE: Final = 60
DECIDED: Final = {
    "outcome": "reserved",
    "amounts": [["pay", 1]],
    "clauses": [],
    "reservation": bytes(32),
    "expires": NOW,
}
ENDS: Final = ("answered", "delivered", 1, 2, 2, 0)
"""States of claim and answer, uses of the grant, entries of acceptance and of acknowledgement, what waits."""


@dataclass(frozen=True, slots=True)
class Told:
    """Orders that were tried, replays that were sent, and what did not hold."""

    orders: int
    replays: int
    faults: tuple[str, ...]


class Written(NamedTuple):
    """How often the log says of an exchange that it was accepted, and that it was acknowledged."""

    accepted: Counter[bytes]
    acknowledged: Counter[bytes]

    @staticmethod
    def since(rig: Rig, size: int) -> Written:
        """Of the entries from ``size`` on."""
        found = Written(Counter(), Counter())
        for row in rig.core.store.reader.find(tables.Entry, after=size - 1):
            event, detail = receipt.parse_meta(row.meta).event, receipt.parse_detail(row.detail)
            if event == "exchange.accepted":
                found.accepted[detail.exchange] += 1
            elif event == "exchange.acknowledged":
                found.acknowledged.update(_about(document) for document in detail.documents)
        return found


def _about(document: bytes) -> bytes:
    """The exchange that an acknowledgement is about."""
    signed = envelope.from_bytes(envelope.ACKNOWLEDGEMENT, document)
    return acknowledgement.parse(signed.payload).presentation_hash


@dataclass(slots=True)
class Life:
    """One exchange and its answer, on a grant of its own."""

    rig: Rig
    claim: Sent
    answer: Sent
    random: Random
    proven: dict[bytes, tuple[pb.Delivery, Proven]] = field(default_factory=dict)

    @staticmethod
    def new(rig: Rig, random: Random) -> Life:
        plain = claim()
        assert plain.grant is not None
        own = replace(plain, grant=replace(plain.grant, grant_id=random.randbytes(16)))
        sent = present(fresh(own, nonce=_nonce(random), workflow=random.randbytes(16)))
        answered = present(replace(answer(sent, DECIDED), nonce=_nonce(random)))
        return Life(rig, sent, answered, Random(random.randbytes(16)))

    @property
    def events(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """In their own order."""
        return (self._grant, self._claim, self._again, self._claim_taken, self._answer, self._answer_taken)

    async def _grant(self) -> None:
        await self.rig.grant(self.claim.exchange)

    async def _claim(self) -> None:
        await self._submit(HOSPITAL, self.claim)

    async def _again(self) -> None:
        await self._submit(HOSPITAL, self.claim, self.claim)

    async def _claim_taken(self) -> None:
        await self._acknowledge(INSURER, self.claim)

    async def _answer(self) -> None:
        await self._submit(INSURER, self.answer)

    async def _answer_taken(self) -> None:
        await self._acknowledge(HOSPITAL, self.answer)

    async def _submit(self, party: Party, *sent: Sent) -> None:
        for one in sent:
            (result,) = await self.rig.submit(frame(one), sender=party)
            if result.released and self.rig.proven is not None:
                delivery = pb.Delivery(presentation=one.envelope.to_proto(), entry=result.entry)
                self.proven.setdefault(one.hash, (delivery, self.rig.proven))

    async def _acknowledge(self, party: Party, sent: Sent) -> None:
        """By who got it; before it was accepted, by one who only says so."""
        if sent.hash in self.proven:
            await self.rig.acknowledge(party, acknowledgements(party, [self.proven[sent.hash]]))
        else:
            await self.rig.acknowledge(party, _invented(party, sent))

    def state(self, written: Written) -> tuple[object, ...]:
        """As in `ENDS`, with the entries that were written meanwhile."""
        reader = self.rig.core.store.reader
        rows = [reader.find(tables.Exchange, hash=one.hash) for one in (self.claim, self.answer)]
        states = [found[0].state if found else "" for found in rows]
        signed = self.claim.exchange.grant_envelope
        assert signed is not None
        uses = reader.find(tables.GrantUse, grant_hash=presentation.hash_of(signed.payload))
        waits = [row for found in rows for row in found if reader.get(tables.Delivery, row.entry) is not None]
        counted = [sum(one[sent.hash] for sent in (self.claim, self.answer)) for one in written]
        return (*states, len(uses), *counted, len(waits))


def _nonce(random: Random) -> bytes:
    return (NOW * 1000).to_bytes(6, "big") + random.randbytes(10)


def _invented(party: Party, sent: Sent) -> pb.AcknowledgementFrame:
    said = acknowledgement.Acknowledgement(
        sent.shown.aud, party.id, sent.hash, bytes(32), 0, 1, bytes(32), OUTCOME_OPENED, "", NOW
    )
    payloads = [said.to_bytes()]
    signature, signed = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, payloads, party.signing)
    return pb.AcknowledgementFrame(key_id=signed[0].key_id, signature=signature, acknowledgements=payloads)


async def run(rig: Rig, seconds: float, seed: int, replays: int = REPLAYS) -> Told:
    """Every order, again and again for ``seconds``, then the replays; ``rig`` has the parties enrolled.

    Many exchanges live at once, so that a commit holds messages of some that are too early and of others too late.
    """
    random, faults, orders, until = Random(f"{seed} order"), list[str](), 0, time.monotonic() + seconds
    every = _every_order(random)
    while time.monotonic() < until and not faults:
        lives = [(Life.new(rig, random), next(every)) for _ in range(_AT_ONCE)]
        begun = rig.core.log.size
        await asyncio.gather(*(_live(life, order) for life, order in lives))
        written = Written.since(rig, begun)
        ends = [(order, life.state(written)) for life, order in lives]
        faults += [f"the order {order} ends as {end}" for order, end in ends if end != ENDS]
        orders += len(lives)
    return Told(orders, replays, (*faults, *await _replay(rig, random, replays)))


def _every_order(random: Random) -> Iterator[tuple[int, ...]]:
    while True:
        every = list(permutations(range(EVENTS)))
        random.shuffle(every)
        yield from every


async def _live(life: Life, order: Sequence[int]) -> None:
    for at in (*order, *range(EVENTS)):
        for _ in range(life.random.choice((1, 1, 2))):
            with suppress(Error):  # too early, or done before
                await life.events[at]()


async def _replay(rig: Rig, random: Random, count: int) -> list[str]:
    life, begun = Life.new(rig, random), rig.core.log.size
    for event in life.events:
        await event()
    size, state = rig.core.log.size, life.state(Written.since(rig, begun))
    for _ in range(count // _FRAME):
        for result in await rig.submit(*[life.claim] * _FRAME):
            if result.presentation_hash != life.claim.hash or result.HasField("refusal"):
                return [f"a replay was answered with {result.refusal.reason}"]
    if (rig.core.log.size, life.state(Written.since(rig, begun))) != (size, state):
        return ["replays had an effect"]
    return []
