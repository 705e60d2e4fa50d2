"""Messages that come again, too early or too late: whatever the order, the exchange ends in one state.

Six events make an exchange under a grant and its answer. They come in an order that is permuted, each as often as
networks and senders that were not answered repeat them; then once more in their own order, as every sender does
until it was answered. A seed says which orders run side by side and what is repeated; each has a broker of its own,
and all 720 orders. And one submission comes thousands of times.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import permutations
from math import factorial
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
_AT_ONCE: Final = 120
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
    """Orders that were tried, and what did not hold."""

    orders: int
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every order was tried."""
        return self.orders == factorial(EVENTS)


@dataclass(frozen=True, slots=True)
class Message:
    """What is submitted, as its sender sends it each time, and its hash."""

    sent: Sent
    hash: bytes
    frame: pb.SubmissionFrame

    @staticmethod
    def of(sent: Sent) -> Message:
        return Message(sent, sent.hash, frame(sent))


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
    claim: Message
    answer: Message
    random: Random
    proven: dict[bytes, tuple[pb.Delivery, Proven]] = field(default_factory=dict)

    @staticmethod
    def new(rig: Rig, random: Random) -> Life:
        plain = claim()
        assert plain.grant is not None
        own = replace(plain, grant=replace(plain.grant, grant_id=random.randbytes(16)))
        sent = present(fresh(own, nonce=_nonce(random), workflow=random.randbytes(16)))
        answered = present(replace(answer(sent, DECIDED), nonce=_nonce(random)))
        return Life(rig, Message.of(sent), Message.of(answered), Random(random.randbytes(16)))

    @property
    def events(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """In their own order."""
        return (self._grant, self._claim, self._again, self._claim_taken, self._answer, self._answer_taken)

    async def _grant(self) -> None:
        await self.rig.grant(self.claim.sent.exchange)

    async def _claim(self) -> None:
        await self._submit(HOSPITAL, self.claim)

    async def _again(self) -> None:
        await self._submit(HOSPITAL, self.claim)
        await self._submit(HOSPITAL, self.claim)

    async def _claim_taken(self) -> None:
        await self._acknowledge(INSURER, self.claim)

    async def _answer(self) -> None:
        await self._submit(INSURER, self.answer)

    async def _answer_taken(self) -> None:
        await self._acknowledge(HOSPITAL, self.answer)

    async def _submit(self, party: Party, one: Message) -> None:
        (result,) = await self.rig.submit(one.frame, sender=party)
        if result.released and self.rig.proven is not None:
            delivery = pb.Delivery(presentation=one.sent.envelope.to_proto(), entry=result.entry)
            self.proven.setdefault(one.hash, (delivery, self.rig.proven))

    async def _acknowledge(self, party: Party, one: Message) -> None:
        """By who got it; before it was accepted, by one who only says so."""
        if one.hash in self.proven:
            await self.rig.acknowledge(party, acknowledgements(party, [self.proven[one.hash]]))
        else:
            await self.rig.acknowledge(party, _invented(party, one))

    def state(self, written: Written) -> tuple[object, ...]:
        """As in `ENDS`, with the entries that were written meanwhile."""
        reader = self.rig.core.store.reader
        rows = [reader.find(tables.Exchange, hash=one.hash) for one in (self.claim, self.answer)]
        states = [found[0].state if found else "" for found in rows]
        signed = self.claim.sent.exchange.grant_envelope
        assert signed is not None
        uses = reader.find(tables.GrantUse, grant_hash=presentation.hash_of(signed.payload))
        waits = [row for found in rows for row in found if reader.get(tables.Delivery, row.entry) is not None]
        counted = [sum(found[one.hash] for one in (self.claim, self.answer)) for found in written]
        return (*states, len(uses), *counted, len(waits))


def _nonce(random: Random) -> bytes:
    return (NOW * 1000).to_bytes(6, "big") + random.randbytes(10)


def _invented(party: Party, one: Message) -> pb.AcknowledgementFrame:
    said = acknowledgement.Acknowledgement(
        one.sent.shown.aud, party.id, one.hash, bytes(32), 0, 1, bytes(32), OUTCOME_OPENED, "", NOW
    )
    payloads = [said.to_bytes()]
    signature, signed = envelope.seal_frame(envelope.ACKNOWLEDGEMENT, payloads, party.signing)
    return pb.AcknowledgementFrame(key_id=signed[0].key_id, signature=signature, acknowledgements=payloads)


async def run(rig: Rig, seed: int, until_s: float) -> Told:
    """Every order once, as long as it is not ``until_s`` (`time.monotonic`); ``rig`` has the parties enrolled.

    Many exchanges live at once, so that a commit holds messages of some that are too early and of others too late.
    """
    random, faults, tried = Random(f"{seed} order"), list[str](), 0
    every = list(permutations(range(EVENTS)))
    random.shuffle(every)
    for together in (every[at : at + _AT_ONCE] for at in range(0, len(every), _AT_ONCE)):
        if time.monotonic() >= until_s:
            break
        lives = [(Life.new(rig, random), order) for order in together]
        begun = rig.core.log.size
        await asyncio.gather(*(_live(life, order) for life, order in lives))
        written = Written.since(rig, begun)
        ends = [(order, life.state(written)) for life, order in lives]
        faults += [f"seed {seed}: the order {order} ends as {end}" for order, end in ends if end != ENDS]
        tried += len(lives)
    return Told(tried, tuple(faults))


async def _live(life: Life, order: Sequence[int]) -> None:
    for at in (*order, *range(EVENTS)):
        for _ in range(life.random.choice((1, 1, 2))):
            with suppress(Error):  # too early, or done before
                await life.events[at]()


async def replay(rig: Rig, seed: int, count: int = REPLAYS) -> Sequence[str]:
    """One submission comes ``count`` times more, after its exchange ended: what changed by that."""
    life, begun = Life.new(rig, Random(f"{seed} replay")), rig.core.log.size
    for event in life.events:
        await event()
    size, state = rig.core.log.size, life.state(Written.since(rig, begun))
    for _ in range(count // _FRAME):
        for result in await rig.submit(*[life.claim.sent] * _FRAME):
            if result.presentation_hash != life.claim.hash or result.HasField("refusal"):
                return [f"a replay was answered with {result.refusal.reason}"]
    if (rig.core.log.size, life.state(Written.since(rig, begun))) != (size, state):
        return ["replays had an effect"]
    return []
