"""An operator with two logs under one key: each party is shown a history of its own, and both hold by themselves.

Neither party alone can tell. The recipient's signed acknowledgement repeats what it was shown, the operator cannot
change it, and it must reach the sender or the exchange is never settled: so the two find out between themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.node_peer import Log, Member, Peer, Running, Stream, Taken, presented
from zhifu import envelope, presentation, receipt
from zhifu.errors import Exit, NotAuthentic, Refused
from zhifu.receipt import Detail, Meta
from zhifu.v1 import exchange_pb2 as pb

OTHERS = Meta("exchange.denied", reason="consent.missing")


def another(log: Log) -> None:
    """Something that is nobody's business here."""
    log.append(OTHERS, Detail())


@dataclass
class Operator:
    """A broker that serves two real nodes, the hospital from ``peer``'s log and the payer from whatever it likes."""

    peer: Peer
    hospital: Running
    payer: Running
    to_hospital: Stream
    to_payer: Stream

    async def accept(self) -> Taken:
        """An exchange of the hospital's, accepted in the hospital's log and answered from it."""
        presented(self.hospital.node, self.payer.member.id)
        frame = await self.peer.submissions(self.to_hospital, self.hospital.member)
        (taken,) = self.peer.accept(frame, self.hospital.member)
        self.to_hospital.send(results=self.peer.results(self.to_hospital, [taken]))
        await self.hospital.node.result_of(taken.hash)
        return taken

    async def deliver(self, taken: Taken, log: Log) -> pb.AcknowledgementFrame:
        """The same exchange as ``log`` has it, to the payer; what the payer says."""
        shown, self.peer.log = self.peer.log, log
        try:
            self.to_payer.send(deliveries=self.peer.deliveries(self.to_payer, [taken]))
        finally:
            self.peer.log = shown
        found: pb.AcknowledgementFrame = await self.to_payer.expect("acknowledgements")
        return found

    def pass_on(self, number: int, taken: Taken, said: pb.AcknowledgementFrame) -> None:
        """The operator can leave the payer's word out, but not write another."""
        key = bytes(self.payer.member.keys.signing.verify_key)
        (signed,) = envelope.verify_frame(
            envelope.ACKNOWLEDGEMENT, list(said.acknowledgements), said.signature, key
        )  # fmt: skip
        notice = pb.Notice(
            id=number, presentation_hash=taken.hash, state="delivered", acknowledgement=signed.to_proto()
        )
        self.to_hospital.send(notices=pb.NoticeFrame(notices=[notice]))


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    peer = Peer()
    await peer.start()
    members: list[Member] = peer.enrol(tmp_path, "hospital", "public-payer")
    another(peer.log)
    hospital = Running(peer, members[0])
    to_hospital = await hospital.attach()
    payer = Running(peer, members[1])
    to_payer = await payer.attach()
    for one in (hospital, payer):
        # Until the directory came it knows nobody to send to.
        await one.node.attached()
    yield Operator(peer, hospital, payer, to_hospital, to_payer)
    await hospital.close()
    await payer.close()
    await peer.stop()


def copy(log: Log) -> Log:
    found = Log()
    found.key, found.vkey, found.leaves = log.key, log.vkey, list(log.leaves)
    return found


def recorded(taken: Taken, log: Log) -> Taken:
    """The exchange as another log has it: an entry of its own for the same presentation."""
    before = receipt.parse_meta(taken.entry.meta), receipt.parse_detail(taken.entry.detail)
    entry = log.append(*before)
    return replace(taken, entry=entry, size=len(log.leaves))


def omits(log: Log) -> None:
    """What came before is left out."""
    log.leaves.pop()


def adds(log: Log) -> None:
    """Something stands before it that the hospital was never shown."""
    another(log)


def rewrites(log: Log) -> None:
    """Another entry stands in the place of one that the hospital was shown."""
    log.leaves.pop()
    another(log)


def repeats(log: Log) -> None:
    """All that came before is the same; only the exchange's own entry is another (its keys are drawn anew)."""


async def test_one_log_settles(operator: Operator) -> None:
    taken = await operator.accept()
    operator.pass_on(1, taken, await operator.deliver(taken, operator.peer.log))
    assert (await operator.to_hospital.expect("notices_read")).through == 1
    assert [one.state for one in operator.hospital.role.noticed] == ["delivered"]
    assert operator.hospital.node.store.receipts.evidence() == []


@pytest.mark.parametrize("fork", [omits, adds, rewrites, repeats])
async def test_two_logs_are_found_by_the_acknowledgement(operator: Operator, fork: Callable[[Log], None]) -> None:
    second = copy(operator.peer.log)
    fork(second)
    taken = await operator.accept()
    waiting = asyncio.create_task(operator.hospital.node.answer_to(taken.hash))
    said = await operator.deliver(recorded(taken, second), second)
    # What it was shown holds by itself, so the payer opened it: there is nothing that it could have seen.
    assert [one.hash for one in operator.payer.role.opened] == [taken.hash]
    assert operator.payer.node.store.receipts.evidence() == []
    operator.pass_on(1, taken, said)
    with pytest.raises(NotAuthentic, match=r"log\.fork") as found:
        await waiting
    assert found.value.exit == Exit.INTEGRITY
    (kept,) = operator.hospital.node.store.receipts.evidence()
    assert kept.reason == "log.fork"
    assert presentation.hash_of(taken.envelope.payload) in kept.content
    assert operator.hospital.role.noticed == []


async def test_without_the_payers_word_nothing_is_settled(operator: Operator) -> None:
    """The operator's only way to hide a fork: then the hospital has no delivery, and says so."""
    second = copy(operator.peer.log)
    adds(second)
    taken = await operator.accept()
    await operator.deliver(recorded(taken, second), second)
    with pytest.raises(Refused, match=r"unavailable\.deadline"):
        await operator.hospital.node.answer_to(taken.hash, 0.5)
    sent = operator.hospital.node.store.outgoing.get(taken.hash)
    assert sent is not None
    assert sent.state == "accepted"


async def test_who_was_shown_one_log_does_not_follow_the_other(operator: Operator) -> None:
    """A fork cannot be joined again: the payer's next proof must continue what it was shown."""
    second = copy(operator.peer.log)
    rewrites(second)
    taken = await operator.accept()
    await operator.deliver(recorded(taken, second), second)
    next_one = await operator.accept()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await operator.deliver(next_one, operator.peer.log)
    error = await operator.payer.ends()
    assert (error.reason, error.exit) == ("log.inconsistent", Exit.INTEGRITY)
    assert [one.hash for one in operator.payer.role.opened] == [taken.hash]
