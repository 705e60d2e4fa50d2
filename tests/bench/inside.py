"""Whole exchanges through the broker's parts in this process, without sockets: what they cost, without gRPC.

A frame of claims is accepted, delivered and acknowledged, then a frame of decisions on them, and both sides' notices
are read: the messages of `tests.bench.load`, from bytes to bytes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from broker.core import Core
from broker.delivery import Outgoing
from broker.services import frames
from broker.services.frames import Known
from broker.services.session import acknowledge
from broker.services.submitting import submit
from broker.store import tables
from tests.bench.load import claim, present
from tests.bench.world import ORIGIN, Participant, Patient
from zhifu import envelope, epoch, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import ACKNOWLEDGEMENT, PRESENTATION
from zhifu.receipt import Head
from zhifu.v1 import exchange_pb2
from zhifu.v1.exchange_pb2 import ConnectRequest, ConnectResponse
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, OUTCOME_OPENED


class Side:
    """One attached participant: what it signs, and what its stream has of the broker."""

    def __init__(self, core: Core, me: Participant) -> None:
        self._core = core
        self._me = me
        self._known = Known(Head())
        self._outgoing = Outgoing(me.id, core.store.reader, fresh=core.mailroom.fresh)
        core.mailroom.attach(me.id, self._outgoing)

    async def offer(self) -> None:
        """The participant's epoch, as its node offers it."""
        (gate,) = self._core.gate.public_keys
        signed = envelope.from_proto(envelope.EPOCH_OFFER, self._me.offer(gate))
        one = epoch.verify_offer(signed, self._me.id, bytes(self._me.keys.signing.verify_key))
        row = (one.epoch_id, one.node, one.gate_key_id, one.not_before, one.not_after, one.sealed_secret)
        await self._core.committer.run(lambda state, _s, _n: state.insert(tables.Epoch, [row]))

    def frame(self, parcels: Sequence[exchange_pb2.Submission]) -> bytes:
        """Submissions under one signature."""
        payloads = [one.presentation for one in parcels]
        signature, signed = envelope.seal_frame(PRESENTATION, payloads, self._me.keys.signing)
        made = exchange_pb2.SubmissionFrame(key_id=signed[0].key_id, signature=signature, submissions=parcels)
        return ConnectRequest(submissions=made).SerializeToString()

    def words(self, taken: Sequence[exchange_pb2.Delivery]) -> bytes:
        """Acknowledgements of deliveries, under one signature; the broker compares no heads, so these name none."""
        payloads = [
            Acknowledgement(
                ORIGIN, self._me.id, presentation.hash_of(one.presentation.payload), bytes(32), one.entry.index,
                one.entry.index + 1, bytes(32), OUTCOME_OPENED, "", int(time.time()),
            ).to_bytes()
            for one in taken
        ]  # fmt: skip
        signature, signed = envelope.seal_frame(ACKNOWLEDGEMENT, payloads, self._me.keys.signing)
        made = exchange_pb2.AcknowledgementFrame(
            key_id=signed[0].key_id, signature=signature, acknowledgements=payloads
        )
        return ConnectRequest(acknowledgements=made).SerializeToString()

    # The broker's side of it

    async def submit(self, data: bytes) -> None:
        asked = ConnectRequest.FromString(data).submissions
        found = await submit(self._core, self._me.id, asked)
        for made in frames.results(found.told, found.commit, self._core.log, self._known):
            ConnectResponse(results=made).SerializeToString()
            refused = [one.refusal.reason for one in made.results if one.HasField("refusal")]
            assert not refused, refused[0]

    def deliveries(self) -> list[exchange_pb2.Delivery]:
        made = list(frames.deliveries(self._outgoing.take(time.monotonic()), self._core, self._known))
        for one in made:
            ConnectResponse(deliveries=one).SerializeToString()
        return [one for frame in made for one in frame.deliveries]

    async def acknowledge(self, data: bytes) -> None:
        said = ConnectRequest.FromString(data).acknowledgements
        settled = await acknowledge(self._core, self._me.id, bytes(self._me.keys.signing.verify_key), said)
        self._outgoing.settled(settled.entries)

    def notices(self) -> None:
        told, me = self._outgoing.take_notices(), self._me.id
        for one in frames.notices(told, self._core.log, self._known, self._core.store.reader):
            ConnectResponse(notices=one).SerializeToString()
        through = told[-1].id

        def read(state: Any, _sequence: Any, _now_ms: Any) -> None:
            state.delete_through(tables.Notice, through, node=me)

        self._core.committer.defer(me, read)


class Inside:
    """A hospital and a payer at a broker in this process."""

    def __init__(self, core: Core, hospital: Participant, payer: Participant, patients: Sequence[Patient]) -> None:
        self._hospital, self._payer = Side(core, hospital), Side(core, payer)
        self._me = payer
        self._by_grant = {one.grant_hash: one for one in patients}
        self._patients = itertools.cycle(patients)

    async def begin(self) -> None:
        """Offer both epochs."""
        await self._hospital.offer()
        await self._payer.offer()

    async def exchange(self, count: int) -> float:
        """``count`` exchanges in one frame; the process's CPU seconds of the broker's part."""
        claims = self._hospital.frame([claim(next(self._patients)) for _ in range(count)])
        spent = _Spent()
        with spent:
            await self._hospital.submit(claims)
            taken = self._payer.deliveries()
        answers, words = self._payer.frame([self._answer(one) for one in taken]), self._payer.words(taken)
        with spent:
            await self._payer.acknowledge(words)
            self._hospital.notices()
            await self._payer.submit(answers)
            decided = self._hospital.deliveries()
        assert len(taken) == len(decided) == count
        words = self._hospital.words(decided)
        with spent:
            await self._hospital.acknowledge(words)
            self._payer.notices()
        return spent.seconds

    def _answer(self, delivery: exchange_pb2.Delivery) -> exchange_pb2.Submission:
        shown = presentation.parse(delivery.presentation.payload)
        basis = (BASIS_KIND_ANSWER, presentation.hash_of(delivery.presentation.payload))
        patient = self._by_grant[shown.basis]
        return present(
            self._me, shown.sender, patient.answer, shown.purpose, basis, shown.encounter, shown.workflow,
            shown.correlation,
        )  # fmt: skip


class _Spent:
    """CPU seconds of this process, all threads, between entering and leaving."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begun
