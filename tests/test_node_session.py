"""A node on its stream, against a peer that follows a script and sometimes lies: handshake, results, deliveries.

Long, since all of it is one stream and its script.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from nacl.signing import SigningKey

from clients.inbox import Inbox
from clients.keystore import state_keys
from clients.node import Accepted, Node
from clients.store import Job, Mandate
from tests.node_peer import (
    ORIGIN,
    Member,
    Peer,
    Recorder,
    Running,
    Sender,
    Stream,
    Taken,
    claim,
    node_of,
    now,
    opening,
    presented,
    statutory,
)
from zhifu import acknowledgement, envelope, epoch, presentation, schema
from zhifu.deletion import Deletion
from zhifu.envelope import Envelope
from zhifu.errors import Exit, NotAuthentic, Refused
from zhifu.receipt import Detail, Entry, Head, Meta
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1.signed_pb2 import DELETION_OUTCOME_DELETED

DECISION = {"outcome": "paid", "amounts": [["public", 1200000]]}


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture
async def members(peer: Peer, tmp_path: Path) -> list[Member]:
    return peer.enrol(tmp_path, "hospital", "public-payer")


@pytest_asyncio.fixture
async def hospital(peer: Peer, members: list[Member]) -> AsyncIterator[Running]:
    running = Running(peer, members[0])
    yield running
    await running.close()


@pytest_asyncio.fixture
async def payer(peer: Peer, members: list[Member]) -> AsyncIterator[Running]:
    running = Running(peer, members[1])
    yield running
    await running.close()


@pytest.fixture
def sender(peer: Peer, members: list[Member]) -> Any:
    found = Sender(peer, members[0])
    yield found
    found.node.close()


async def acknowledged(stream: Stream, member: Member) -> list[acknowledgement.Acknowledgement]:
    """The acknowledgements of the next frame, verified."""
    frame = await stream.expect("acknowledgements")
    key = bytes(member.keys.signing.verify_key)
    payloads = list(frame.acknowledgements)
    signed = envelope.verify_frame(envelope.ACKNOWLEDGEMENT, payloads, frame.signature, key)
    return [acknowledgement.parse(one.payload) for one in signed]


# Handshake


async def test_a_node_introduces_itself_and_offers_its_epoch(hospital: Running, members: list[Member]) -> None:
    stream = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    hello = await stream.expect("hello")
    assert (hello.version, hello.head_size, hello.head_root, hello.notices_through) == (1, 0, b"", 0)
    assert abs(hello.clock_ms - time.time() * 1000) < 10_000
    stream.send(welcome=hospital.peer.welcome(members[0].id))
    stream.send(directory=hospital.peer.directory())
    await hospital.node.attached()
    presented(hospital.node, members[1].id)
    offered = await stream.expect("epoch_offer")
    signed = envelope.from_proto(envelope.EPOCH_OFFER, offered)
    offer = epoch.verify_offer(signed, members[0].id, bytes(members[0].keys.signing.verify_key))
    (own,) = hospital.node.store.trust.epochs(now())
    assert epoch.unwrap(offer, hospital.peer.gate) == own.secret


def stated_beside(node: Node, member: Member) -> Envelope:
    """A further statement of the node's, by a command beside it; the broker has not seen it."""
    newer = state_keys(member.keys, 2, now())
    with node.store.transaction():
        node.store.trust.put_statement(member.id, 2, newer.to_bytes())
    node.directory._remember(member.id)
    return newer


async def test_keys_are_stated_where_the_broker_shows_older_ones(peer: Peer, members: list[Member]) -> None:
    older = peer.statements[members[0].id]
    running = Running(peer, members[0], lambda: time.time_ns() // 1_000_000)
    newer = stated_beside(running.node, members[0])
    assert newer != older
    stream = await running.attach()
    stated = await stream.expect("key_statement")
    assert envelope.from_proto(envelope.KEY_STATEMENT, stated) == newer
    await running.close()


async def test_keys_are_stated_before_what_rests_on_them_however_late_the_directory_is(
    hospital: Running, members: list[Member]
) -> None:
    """Something was presented while the node waited for it: that is signed with keys that the broker does not know."""
    first = await hospital.attach()
    await hospital.node.attached()
    newer = stated_beside(hospital.node, members[0])
    before = hospital.node._session
    first.close()
    stream = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    await stream.expect("hello")
    stream.send(welcome=hospital.peer.welcome(members[0].id))
    async with asyncio.timeout(20):
        while hospital.node._session in (None, before) or hospital.node._session._gate is None:
            await asyncio.sleep(0.01)
        presented(hospital.node, members[1].id)
        while not hospital.node._session._ticked:
            await asyncio.sleep(0)
    stream.send(directory=hospital.peer.directory())
    kinds = []
    while "submissions" not in kinds:
        request = await stream.next()
        kinds.append(request.WhichOneof("frame"))
        if kinds[-1] == "key_statement":
            assert envelope.from_proto(envelope.KEY_STATEMENT, request.key_statement) == newer
    assert kinds[0] == "key_statement"


async def test_a_word_on_erasing_is_sent_after_the_keys_that_sign_it(peer: Peer, members: list[Member]) -> None:
    """The node was away until its statement was over and its keys replaced: the broker believes neither any more."""
    running, exchange = Running(peer, members[0]), os.urandom(32)
    said = Deletion(ORIGIN, members[0].id, exchange, DELETION_OUTCOME_DELETED, "", 0, now()).to_bytes()
    by_a_replaced_key = envelope.seal_one(envelope.DELETION, said, SigningKey.generate()).to_bytes()
    with running.node.store.transaction():
        running.node.store.jobs.put(Job("deletion", exchange, "signed", by_a_replaced_key, now() * 1000))
    running.node.directory.own(now() + 6 * 86_400 + 5)
    stream = await running.attach()
    kinds: list[str | None] = []
    while "deletion" not in kinds:
        request = await stream.next()
        kinds.append(request.WhichOneof("frame"))
    assert "key_statement" in kinds
    signed = envelope.from_proto(envelope.DELETION, request.deletion)
    assert envelope.verify(signed, bytes(members[0].keys.signing.verify_key)) == said
    await running.close()


def refused_with(reason: str, code: grpc.StatusCode) -> grpc.Status:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="zhifu", metadata={"retryable": "false"}))
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message="no", details=[info]))


async def test_a_refused_stream_names_the_brokers_reason(peer: Peer, members: list[Member]) -> None:
    peer.refuse_with = refused_with("key.unknown", grpc.StatusCode.UNAUTHENTICATED)
    running = Running(peer, members[0])
    assert (await running.ends()).reason == "key.unknown"
    running.node.close()


async def test_a_suspended_node_comes_again_until_it_may(peer: Peer, members: list[Member]) -> None:
    peer.refuse_with = refused_with("participant.suspended", grpc.StatusCode.PERMISSION_DENIED)
    running = Running(peer, members[0])
    await asyncio.sleep(0.5)
    assert not running.task.done()
    peer.refuse_with = None
    await running.attach()
    await running.close()


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"clock_ms": 1_000}, "unavailable.clock", "s ahead of the broker's"),
        ({"origin": "other"}, "log.signature", "another log"),
        ({"node": bytes(32)}, "participant.unknown", "another participant"),
        ({"version": 2}, "malformed.version", "another version"),
    ],
)
async def test_a_wrong_welcome_stops_the_node(
    hospital: Running, members: list[Member], changes: dict[str, Any], reason: str, said: str
) -> None:
    stream = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    stream.send(welcome=hospital.peer.welcome(members[0].id, **changes))
    error = await hospital.ends()
    assert error.reason == reason
    assert said in str(error)


async def test_a_gate_key_by_another_key_than_the_logs_stops_the_node(hospital: Running, members: list[Member]) -> None:
    stream = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    forged = hospital.peer.gate_statement(SigningKey.generate()).to_proto()
    stream.send(welcome=hospital.peer.welcome(members[0].id, gate_key_statement=forged))
    assert (await hospital.ends()).reason == "key.not_pinned"


async def test_a_statement_in_our_name_that_we_did_not_sign_stops_the_node(
    hospital: Running, members: list[Member]
) -> None:
    stream = await asyncio.wait_for(hospital.peer.streams.get(), 20)
    stream.send(welcome=hospital.peer.welcome(members[0].id))
    hospital.peer.statements[members[0].id] = hospital.peer.statements[members[1].id]
    stream.send(directory=hospital.peer.directory())
    error = await hospital.ends()
    assert (error.reason, error.exit) == ("key.foreign", Exit.INTEGRITY)
    (kept,) = hospital.node.store.receipts.evidence()
    assert kept.reason == "key.foreign"


async def test_another_key_for_a_pinned_payer_is_refused_and_kept_as_evidence(
    hospital: Running, members: list[Member]
) -> None:
    """The active broker hands out its own key for the payer: nothing is ever sealed to it."""
    forged = hospital.peer.gate_statement(hospital.peer.log.key)
    hospital.peer.statements[members[1].id] = forged
    stream = await hospital.attach()
    await hospital.node.attached()
    with pytest.raises(Refused, match=r"unavailable\.recipient"):
        presented(hospital.node, members[1].id)
    (kept,) = hospital.node.store.receipts.evidence()
    assert kept.reason == "key.not_pinned"
    assert stream.is_quiet()


# Results


async def test_a_result_brings_levels_receipt_and_head(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    assert taken.hash == exchange
    stream.send(results=hospital.peer.results(stream, [taken]))
    assert await hospital.node.result_of(exchange) == Accepted(exchange, taken.shown.ceilings)
    assert hospital.node.store.trust.head() == hospital.peer.log.head()
    receipt = hospital.node.store.receipts.get(exchange)
    assert receipt is not None
    assert (receipt.leaf_hash, receipt.size) == (taken.entry.leaf_hash, 1)
    assert hospital.node.store.outgoing.capsule(exchange) == b""


def denial(peer: Peer, exchange: bytes, reason: str) -> Entry:
    return peer.log.append(Meta("exchange.denied", reason=reason), Detail(exchange))


@pytest.mark.parametrize(
    ("said", "reason"),
    [("policy.denied", "policy.denied"), ("consent.not_usable", "consent.not_usable"), ("new.in.v9", "internal")],
)
async def test_a_refusal_is_raised_with_the_brokers_reason(
    hospital: Running, members: list[Member], said: str, reason: str
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    await hospital.peer.submissions(stream, members[0])
    entry = denial(hospital.peer, exchange, "policy.denied")
    refusal = pb.Result(presentation_hash=exchange, refusal=pb.Refusal(reason=said), entry=opening(entry))
    stream.send(results=pb.ResultFrame(proof=hospital.peer.prove(stream, [entry], 1), results=[refusal]))
    with pytest.raises(Refused) as refused:
        await hospital.node.result_of(exchange)
    assert refused.value.reason == reason
    (told,) = hospital.role.refused
    assert (told.exchange, told.reason, told.by_recipient) == (exchange, reason, False)


async def test_what_the_broker_cannot_take_now_is_sent_again(
    hospital: Running, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.session.HOLD_S", 0.0)
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    first = await hospital.peer.submissions(stream, members[0])
    full = pb.Refusal(reason="unavailable.quota", retryable=True, retry_after_ms=300)
    stream.send(results=pb.ResultFrame(results=[pb.Result(presentation_hash=exchange, refusal=full)]))
    begun = time.monotonic()
    second = await hospital.peer.submissions(stream, members[0])
    assert second == first
    assert time.monotonic() - begun >= 0.3, "not before the time that the broker named"
    stream.send(results=hospital.peer.results(stream, hospital.peer.accept(second, members[0])))
    assert (await hospital.node.result_of(exchange)).exchange == exchange


async def test_an_epoch_that_the_broker_lost_is_replaced(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    first = await hospital.peer.submissions(stream, members[0])
    lost = pb.Result(presentation_hash=exchange, refusal=pb.Refusal(reason="gate.epoch"))
    stream.send(results=pb.ResultFrame(results=[lost]))
    second = await hospital.peer.submissions(stream, members[0])
    before, after = (presentation.parse(one.submissions[0].presentation) for one in (first, second))
    assert after.epoch_id != before.epoch_id
    assert after.manifest_hash == before.manifest_hash
    assert second.submissions[0].leaves == first.submissions[0].leaves
    stream.send(results=hospital.peer.results(stream, hospital.peer.accept(second, members[0])))
    assert (await hospital.node.result_of(exchange)).exchange == exchange, "known by the name it was first given"


async def test_a_broken_stream_loses_nothing(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    waiting = asyncio.create_task(submitted(hospital.node, members[1]))
    first = await hospital.peer.submissions(stream, members[0])
    (taken,) = hospital.peer.accept(first, members[0])
    stream.close()
    again = await hospital.attach()
    second = await hospital.peer.submissions(again, members[0])
    assert second.submissions[0] == first.submissions[0], "the same nonce, the same bytes"
    again.send(results=hospital.peer.results(again, [taken]))
    assert (await waiting).exchange == taken.hash


async def submitted(node: Node, recipient: Member) -> Accepted:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    return await node.submit(record, statutory(recipient.id, secret))


async def test_a_broker_that_restarts_is_found_again(hospital: Running, members: list[Member]) -> None:
    await hospital.attach()
    await hospital.node.attached()
    port = hospital.peer.port
    await hospital.peer.stop()
    exchange = presented(hospital.node, members[1].id)
    await hospital.peer.start(port)
    stream = await hospital.attach()
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    stream.send(results=hospital.peer.results(stream, [taken]))
    assert (await hospital.node.result_of(exchange)).exchange == exchange


async def test_a_draining_broker_is_left_and_found_again(hospital: Running, members: list[Member]) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    stream.send(reconnect=pb.Reconnect(reason="unavailable.draining"))
    await asyncio.wait_for(stream.ended.wait(), 20)
    again = await hospital.attach()
    await hospital.node.attached()
    presented(hospital.node, members[1].id)
    assert await hospital.peer.submissions(again, members[0])


async def test_the_head_is_remembered_over_streams_and_processes(
    hospital: Running, peer: Peer, members: list[Member]
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    (taken,) = peer.accept(await peer.submissions(stream, members[0]), members[0])
    stream.send(results=peer.results(stream, [taken]))
    await hospital.node.result_of(exchange)
    await hospital.close()
    running = Running(peer, members[0])
    stream = await asyncio.wait_for(peer.streams.get(), 20)
    hello = await stream.expect("hello")
    assert Head(hello.head_size, hello.head_root) == peer.log.head()
    assert (await running.node.result_of(exchange)).released == taken.shown.ceilings
    stream.close()
    await running.close()


async def test_no_result_within_the_deadline(hospital: Running, members: list[Member]) -> None:
    await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    with pytest.raises(Refused, match=r"unavailable\.deadline"):
        await hospital.node.result_of(exchange, timeout_s=0.05)
    with pytest.raises(Refused, match=r"exchange\.unknown"):
        await hospital.node.result_of(bytes(32))
    assert hospital.node.store.outgoing.unanswered(0, 10) != []


# Lies


def lies(peer: Peer, stream: Stream, taken: Taken, kind: str) -> pb.LogProof:
    """A proof with one thing wrong."""
    if kind == "unsigned":
        peer.log.key = SigningKey.generate()
    if kind == "range":
        peer.log.leaves[taken.entry.index] = bytes(32)
    proof = peer.prove(stream, [taken.entry], taken.size)
    if kind == "root":
        proof.range.leaves = bytes(32)
    if kind == "known":
        proof.known_size += 1
    return proof


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unsigned", "log.signature"),
        ("range", "receipt.invalid"),
        ("root", "receipt.invalid"),
        ("missing", "receipt.missing"),
    ],
)
async def test_a_delivery_whose_proof_does_not_hold_is_not_opened(
    payer: Running, sender: Sender, kind: str, reason: str
) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    (taken,) = sender.present(payer.member)
    proof = None if kind == "missing" else lies(payer.peer, stream, taken, kind)
    stream.send(deliveries=pb.DeliveryFrame(proof=proof, deliveries=[taken.delivery()]))
    error = await payer.ends()
    assert (error.reason, error.exit) == (reason, Exit.INTEGRITY)
    await not_opened(payer, stream, taken)
    (kept,) = payer.node.store.receipts.evidence()
    shown = pb.ConnectResponse.FromString(kept.content).deliveries.deliveries[0]
    assert (kept.reason, kept.head) == (reason, Head())
    assert shown.presentation.payload == taken.envelope.payload
    assert (shown.leaves, shown.shares, shown.capsule) == (b"", b"", b""), "evidence is shown to others"


async def not_opened(payer: Running, stream: Stream, taken: Taken) -> None:
    assert payer.role.opened == []
    assert payer.node.store.incoming.get(taken.hash) is None
    assert payer.node.store.trust.head() == Head()
    await asyncio.wait_for(stream.ended.wait(), 20)
    while not stream.is_quiet():
        assert (await stream.next()).WhichOneof("frame") != "acknowledgements"


async def test_a_log_that_was_rewritten_is_found_out(payer: Running, sender: Sender) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    first = sender.present(payer.member)
    stream.send(deliveries=payer.peer.deliveries(stream, first))
    await acknowledged(stream, payer.member)
    payer.peer.log.leaves[0] = bytes(32)
    second = sender.present(payer.member)
    stream.send(deliveries=payer.peer.deliveries(stream, second))
    error = await payer.ends()
    assert (error.reason, error.exit) == ("log.inconsistent", Exit.INTEGRITY)
    assert [one.hash for one in payer.role.opened] == [first[0].hash]
    (kept,) = payer.node.store.receipts.evidence()
    assert kept.head == payer.node.store.trust.head() == Head(1, first[0].entry.leaf_hash)


@pytest.mark.parametrize("kind", ["unsigned", "range", "other", "finer", "none"])
async def test_an_acceptance_that_is_not_proven_is_not_believed(
    hospital: Running, members: list[Member], kind: str
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    (taken,) = hospital.peer.accept(await hospital.peer.submissions(stream, members[0]), members[0])
    result = taken.result()
    if kind == "other":
        other = hospital.peer.log.append(Meta("exchange.accepted", sender=members[0].id), Detail(exchange))
        result.entry.CopyFrom(opening(other))
        proof = hospital.peer.prove(stream, [taken.entry, other], 2)
    else:
        proof = lies(hospital.peer, stream, taken, kind)
    if kind == "finer":
        result.released = bytes(len(result.released) - 1)
    if kind == "none":
        result.ClearField("entry")
    stream.send(results=pb.ResultFrame(proof=proof, results=[result]))
    error = await hospital.ends()
    assert error.exit == Exit.INTEGRITY
    with pytest.raises(NotAuthentic) as refused:
        await hospital.node.result_of(exchange)
    assert refused.value.reason == error.reason
    assert hospital.node.store.receipts.get(exchange) is None
    assert len(hospital.node.store.receipts.evidence()) == 1


# Deliveries


async def test_a_delivery_is_opened_once_and_acknowledged_alike_every_time(payer: Running, sender: Sender) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member)
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    (said,) = await acknowledged(stream, payer.member)
    assert said.opened
    assert (said.presentation_hash, said.leaf_hash, said.size) == (taken[0].hash, taken[0].entry.leaf_hash, 1)
    (opened,) = payer.role.opened
    assert opened.values["name"] == "测试患者甲"
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    assert await acknowledged(stream, payer.member) == [said]
    await payer.close()
    again = Running(payer.peer, payer.member)
    stream = await again.attach()
    await again.node.attached()
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    assert await acknowledged(stream, payer.member) == [said], "also by the next process"
    assert (again.role.opened, len(payer.role.opened)) == ([], 1)
    await again.close()


async def test_an_opened_record_is_kept_wrapped_and_comes_back_whole(payer: Running, sender: Sender) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member, pseudonym=b"\x5a" * 32)
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    await acknowledged(stream, payer.member)
    (opened,) = payer.role.opened
    stored = payer.node.store.incoming.get(opened.hash)
    assert stored is not None
    assert stored.opened is not None
    assert stored.opened.values == opened.values
    for name in ("hash", "presentation", "manifest", "released", "grant", "entry"):
        assert getattr(stored.opened, name) == getattr(opened, name)
    assert stored.opened.capsule.pseudonym == b"\x5a" * 32
    disk = b"".join(file.read_bytes() for file in payer.member.config.directory.glob("node.db*"))
    for value in ("测试患者甲".encode(), b"1984-05-17", b"13800000000", b"\x5a" * 32, opened.values["encounter"]):
        assert value not in disk


async def test_a_delivery_that_fails_a_check_is_refused_with_the_reason(payer: Running, sender: Sender) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member, basis=b"\7" * 32)
    good = sender.present(payer.member)
    taken = [replace(one, size=good[0].size) for one in (*taken, *good)]
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    refused, opened = await acknowledged(stream, payer.member)
    assert (refused.opened, refused.reason) == (False, "policy.denied")
    assert opened.opened
    assert [one.hash for one in payer.role.opened] == [taken[1].hash], "one bad delivery does not stop the others"
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    assert await acknowledged(stream, payer.member) == [refused, opened]


async def test_a_tampered_leaf_is_refused(payer: Running, sender: Sender) -> None:
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member)
    frame = payer.peer.deliveries(stream, taken)
    leaves = frame.deliveries[0].leaves
    frame.deliveries[0].leaves = leaves[:-1] + bytes([leaves[-1] ^ 1])
    stream.send(deliveries=frame)
    (said,) = await acknowledged(stream, payer.member)
    assert said.reason == "leaf.digest"


async def test_an_answer_is_sealed_with_the_delivery_and_made_once(payer: Running, sender: Sender) -> None:
    payer.role.answer = DECISION
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member)
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    answer = presentation.parse((await payer.peer.submissions(stream, payer.member)).submissions[0].presentation)
    assert answer.in_reply_to == answer.basis == taken[0].hash
    assert (answer.recipient, answer.workflow) == (sender.member.id, taken[0].shown.workflow)
    stream.send(deliveries=payer.peer.deliveries(stream, taken))
    await acknowledged(stream, payer.member)
    assert len(payer.node.store.outgoing.unanswered(0, 10)) == 1
    assert len(payer.role.opened) == 1


async def test_an_answer_is_awaited_also_by_another_process(
    hospital: Running, peer: Peer, members: list[Member]
) -> None:
    stream = await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    (taken,) = peer.accept(await peer.submissions(stream, members[0]), members[0])
    stream.send(results=peer.results(stream, [taken]))
    waiting = asyncio.create_task(hospital.node.answer_to(exchange))
    answering = Sender(peer, members[1])
    with answering.node.transaction() as tx:
        mandate = Mandate.answering(taken.shown, taken.hash, schema.load("decision").finest)
        secret = os.urandom(32)
        record = tx.outbox.seal("decision", {"encounter": secret, **DECISION})
        tx.outbox.present(record, mandate)
    wrong = answering.sent()
    stream.send(deliveries=peer.deliveries(stream, wrong))
    (said,) = await acknowledged(stream, members[0])
    assert said.reason == "answer.mismatch", "a record about another encounter"
    opened_claim = await answer_with_the_claims_secret(hospital, answering, taken)
    stream.send(deliveries=peer.deliveries(stream, opened_claim))
    answer = await waiting
    assert answer.values["outcome"] == "paid"
    found = hospital.node.store.outgoing.get(exchange)
    assert found is not None
    assert found.state == "answered"
    await hospital.close()
    again = node_of(members[0], Recorder())
    assert (await again.answer_to(exchange)).hash == answer.hash
    again.close()
    answering.node.close()


async def answer_with_the_claims_secret(hospital: Running, answering: Sender, taken: Taken) -> list[Taken]:
    """What a payer that opened the claim answers."""
    role = Recorder()
    role.answer = DECISION
    answering.node.directory.update(hospital.peer.directory().entries, now())
    Inbox(replace(answering.node._parts, role=role)).take(hospital.peer.deliveries(Stream(), [taken]))
    return answering.sent()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Refused("consent.cap"), "consent.cap"), (Refused("consent.subject_mismatch"), "consent.subject_mismatch")],
)
async def test_a_role_may_refuse(payer: Running, sender: Sender, error: Exception, reason: str) -> None:
    payer.role.fails = [error]
    stream = await payer.attach()
    await payer.node.attached()
    stream.send(deliveries=payer.peer.deliveries(stream, sender.present(payer.member)))
    (said,) = await acknowledged(stream, payer.member)
    assert said.reason == reason


async def test_a_role_that_cannot_now_is_asked_again(payer: Running, sender: Sender) -> None:
    payer.role.fails = [Refused("unavailable.store")]
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member)
    for _ in range(2):
        stream.send(deliveries=payer.peer.deliveries(stream, taken))
    (said,) = await acknowledged(stream, payer.member)
    assert said.opened
    assert len(payer.role.opened) == 1


async def test_a_role_that_always_fails_does_not_hold_up_the_rest(payer: Running, sender: Sender) -> None:
    payer.role.fails = [ValueError("测试患者甲") for _ in range(3)]
    stream = await payer.attach()
    await payer.node.attached()
    taken = sender.present(payer.member)
    for _ in range(3):
        stream.send(deliveries=payer.peer.deliveries(stream, taken))
    (said,) = await acknowledged(stream, payer.member)
    assert said.reason == "internal"
    assert payer.node.store.incoming.acknowledgement(taken[0].hash) == said.to_bytes()
