"""Witnesses: a node cosigns what extends what it saw, and finds a fork or a rollback; the broker keeps what they say,
and signs nothing when they have seen more than it kept (DESIGN section 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from nacl.signing import SigningKey

from broker import directory, feeding
from broker.serving import build
from broker.store import tables
from broker.witnesses import ALARM_S, Pace, Seen
from clients.config import WITNESSES
from tests.broker_rig import Attached, Clock, Server, present, reason, serving, statement_of
from tests.formats import HOSPITAL, INSURER, NOW, PAYER, Party, party, seed
from tests.node_peer import ORIGIN as PEER_ORIGIN
from tests.node_peer import Member, Peer, Running, Stream, presented
from zhifu import checkpoint, merkle, tlogpolicy, witness
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.errors import Error, Refused
from zhifu.receipt import Detail, Head, Meta
from zhifu.v1 import exchange_pb2 as pb

FAST = Pace(cosign_s=0.02)


# --- a node ---------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def members(peer: Peer, tmp_path: Path) -> list[Member]:
    return peer.enrol(tmp_path, "hospital", "public-payer", "insurer")


@pytest_asyncio.fixture
async def hospital(peer: Peer, members: list[Member]) -> AsyncIterator[Running]:
    running = Running(peer, members[0])
    yield running
    await running.close()


def shown(peer: Peer, stream: Stream, size: int, lines: Sequence[bytes] = ()) -> pb.CheckpointFrame:
    """The peer's checkpoint of ``size``, from what the node knows."""
    head, known = peer.log.head(size), stream.known
    note = checkpoint.sign(Checkpoint(PEER_ORIGIN, head.size, head.root), PEER_ORIGIN, peer.log.key)
    old, new = sorted((known.size, size))
    proof = merkle.consistency_proof(old, new, merkle.in_memory(peer.log.leaves)) if old else []
    stream.known = max(known, head, key=lambda one: one.size)
    return pb.CheckpointFrame(
        checkpoint=checkpoint.with_cosignatures(note, lines), known_size=known.size, consistency=b"".join(proof)
    )


def cosigned_by(member: Member, peer: Peer, size: int) -> bytes:
    head = peer.log.head(size)
    name = witness.name_of(member.id)
    return checkpoint.cosign(Checkpoint(PEER_ORIGIN, head.size, head.root), name, member.keys.cosigning, NOW)


def grow(peer: Peer, count: int) -> None:
    for _ in range(count):
        peer.log.append(Meta("key.stated"), Detail())


async def test_a_node_persists_the_head_before_it_cosigns(hospital: Running, members: list[Member]) -> None:
    peer, stream = hospital.peer, await hospital.attach()
    sizes = (3, 3, 7, 8)
    grow(peer, sizes[-1])
    for size in sizes[:1] + sizes[2:]:
        stream.send(checkpoint=shown(peer, stream, size))
        said = await stream.expect("cosignature")
        assert hospital.node.store.trust.head() == peer.log.head(size)
        key = witness.key_of(hospital.node.directory.statements(NOW)[members[0].id])
        head = peer.log.head(size)
        checkpoint.verify_cosignature(Checkpoint(PEER_ORIGIN, size, head.root), said.line, key)
        assert (said.size, hospital.node.store.trust.cosigned(key.name)) == (size, size)


async def test_a_node_never_cosigns_less_than_it_saw(hospital: Running) -> None:
    peer, stream = hospital.peer, await hospital.attach()
    grow(peer, 9)
    for size in (6, 4, 9):  # the smaller one is an honest prefix: no evidence, and no cosignature
        stream.send(checkpoint=shown(peer, stream, size))
    assert [(await stream.expect("cosignature")).size for _ in range(2)] == [6, 9]
    assert hospital.node.store.receipts.evidence() == []


@pytest.mark.parametrize("lie", ["fork", "rollback", "unsigned", "other log"])
async def test_a_forked_log_is_found_at_the_next_checkpoint(hospital: Running, lie: str) -> None:
    peer, stream = hospital.peer, await hospital.attach()
    grow(peer, 5)
    stream.send(checkpoint=shown(peer, stream, 5))
    await stream.expect("cosignature")
    peer.log.leaves[2] = seed("another history")
    grow(peer, 4)
    frame = shown(peer, stream, 3 if lie == "rollback" else 8)
    if lie == "unsigned":
        frame.checkpoint = frame.checkpoint[:-10] + b"AAAAAAAA=\n"
    if lie == "other log":
        head = peer.log.head(8)
        frame.checkpoint = checkpoint.sign(Checkpoint("evil.example", 8, head.root), PEER_ORIGIN, peer.log.key)
    stream.send(checkpoint=frame)
    ended = await hospital.ends()
    assert ended.reason in ("log.inconsistent", "log.signature", "malformed.encoding")
    assert (lie in ("fork", "rollback")) == (ended.reason == "log.inconsistent")
    (kept,) = hospital.node.store.receipts.evidence()
    assert (kept.reason, kept.head.size) == (ended.reason, 5)
    assert pb.ConnectResponse.FromString(kept.content).checkpoint == frame
    assert hospital.node.store.trust.cosigned(witness.name_of(hospital.member.id)) == 5


async def test_an_exchange_is_final_with_both_parties_and_one_other(hospital: Running, members: list[Member]) -> None:
    peer, stream = hospital.peer, await hospital.attach()
    await hospital.node.attached()
    exchange = presented(hospital.node, members[1].id)
    taken = peer.accept(await peer.submissions(stream, members[0]), members[0])
    stream.send(results=peer.results(stream, taken))
    await hospital.node.result_of(exchange)
    receipts = hospital.node.store.receipts

    async def state_after(*cosigners: Member) -> int:
        stream.send(checkpoint=shown(peer, stream, 1, [cosigned_by(one, peer, 1) for one in cosigners]))
        grow(peer, 1)  # a later checkpoint that it answers says that the one before was read
        stream.send(checkpoint=shown(peer, stream, len(peer.log.leaves)))
        while (await stream.expect("cosignature")).size < len(peer.log.leaves):
            pass
        found = receipts.get(exchange)
        assert found is not None
        return found.final

    assert await state_after(members[0]) == 0
    assert await state_after(members[1]) == 0
    assert await state_after(members[1], members[2]) == 1
    note = receipts.cosigned_note(1)
    assert note is not None
    keys = [witness.key_of(one) for one in hospital.node.directory.statements(NOW).values()]
    assert len(checkpoint.verify_cosignatures(note, keys)) == 2


REGULATOR = SigningKey(seed("regulator"))
REGULATOR_KEY = VerifierKey("regulator.example/w", SignatureType.COSIGNATURE_V1, bytes(REGULATOR.verify_key))
POLICY = f"witness regulator {REGULATOR_KEY.encode()}\nquorum regulator\n".encode()


@pytest.mark.parametrize(("policy", "final"), [(POLICY, 1), (b"", 0)])
async def test_a_regulator_whom_the_node_names_is_the_other_witness(
    peer: Peer, members: list[Member], policy: bytes, final: int
) -> None:
    if policy:
        (members[0].config.directory / WITNESSES).write_bytes(policy)
    running = Running(peer, members[0])
    try:
        stream = await running.attach()
        await running.node.attached()
        exchange = presented(running.node, members[1].id)
        taken = peer.accept(await peer.submissions(stream, members[0]), members[0])
        stream.send(results=peer.results(stream, taken))
        await running.node.result_of(exchange)
        head = peer.log.head(1)
        said = checkpoint.cosign(Checkpoint(PEER_ORIGIN, 1, head.root), REGULATOR_KEY.name, REGULATOR, NOW)

        async def state_after(*lines: bytes) -> int:
            stream.send(checkpoint=shown(peer, stream, 1, lines))
            grow(peer, 1)
            stream.send(checkpoint=shown(peer, stream, len(peer.log.leaves)))
            while (await stream.expect("cosignature")).size < len(peer.log.leaves):
                pass
            found = running.node.store.receipts.get(exchange)
            assert found is not None
            return found.final

        # Both parties and nobody else; where the node asks for the regulator, its word is the missing one.
        assert await state_after(cosigned_by(members[1], peer, 1)) == 0
        assert await state_after(cosigned_by(members[1], peer, 1), said) == final
    finally:
        await running.close()


async def test_what_the_node_asks_for_is_not_replaced_by_others(peer: Peer, members: list[Member]) -> None:
    (members[0].config.directory / WITNESSES).write_bytes(POLICY)
    running = Running(peer, members[0])
    try:
        stream = await running.attach()
        await running.node.attached()
        exchange = presented(running.node, members[1].id)
        taken = peer.accept(await peer.submissions(stream, members[0]), members[0])
        stream.send(results=peer.results(stream, taken))
        await running.node.result_of(exchange)
        stream.send(checkpoint=shown(peer, stream, 1, [cosigned_by(one, peer, 1) for one in members]))
        grow(peer, 1)
        stream.send(checkpoint=shown(peer, stream, 2))
        while (await stream.expect("cosignature")).size < 2:
            pass
        found = running.node.store.receipts.get(exchange)
        assert found is not None
        assert found.final == 0
    finally:
        await running.close()


# --- a broker -------------------------------------------------------------------------------------------------------


async def cosigning(server: Server, party: Party, note: bytes = b"") -> Attached:
    return await server.attach(party, cosigns=True, checkpoint=note)


async def cosign(one: Attached, frame: pb.CheckpointFrame, party: Party | None = None) -> int:
    """What an honest node does with a checkpoint; its size."""
    signed, by = checkpoint.verify(frame.checkpoint, one.vkey), party or one.party
    head = Head(signed.size, signed.root)
    assert frame.known_size == one.head.size
    proof = tuple(frame.consistency[i : i + 32] for i in range(0, len(frame.consistency), 32))
    assert witness.check_extends(one.head, head, frame.known_size, proof)
    one.head = head
    line = checkpoint.cosign(signed, witness.name_of(by.id), by.cosigning, NOW)
    await one.send(cosignature=pb.Cosignature(size=signed.size, line=line))
    return signed.size


async def lines(one: Attached, count: int) -> dict[str, int]:
    """Verified cosigners of the next checkpoint that has ``count`` of them."""
    keys = [witness.key_of(party.statement()) for party in (HOSPITAL, PAYER, INSURER)]
    while True:
        frame = await one.next("checkpoint")
        signed = checkpoint.verify(frame.checkpoint, one.vkey)
        one.head = Head(signed.size, signed.root)
        found = checkpoint.verify_cosignatures(frame.checkpoint, keys)
        if len(found) >= count:
            return {key.name: signed.size for key in found}


async def test_cosignatures_are_kept_and_told_to_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, INSURER, pace=FAST) as server:
        parties = (HOSPITAL, PAYER, INSURER)
        nodes = [await cosigning(server, one) for one in parties]
        assert server.core.witnesses.witnessed == 0
        size = {await cosign(one, await one.next("checkpoint")) for one in nodes}.pop()
        assert await lines(nodes[0], 3) == {witness.name_of(one.id): size for one in parties}
        assert server.core.witnesses.witnessed == size
        assert {(row.witness, row.size) for row in server.rows(tables.Witness)} == {
            (witness.name_of(one.id), size) for one in parties
        }
        again = build(server.home, None, server.clock)
        assert again.witnesses.witnessed == size
        again.store.close()


async def test_an_auditor_is_not_waited_for_and_one_who_stays_away_lets_nothing_pile_up(tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, INSURER, pace=FAST) as server:
        auditors = [party(f"auditor {number}") for number in range(4)]
        for one in auditors:
            enrol = partial(directory.enrol, one.id, "auditor", one.name, statement_of(one))
            await server.run(lambda state, sequence, now_ms, enrol=enrol: enrol(state, sequence, now_ms))
        server.core.directory.reload()
        log, witnesses = server.core.log, server.core.witnesses
        for _ in range(3):
            await server.submit(present(server.statute()))
            for one in (HOSPITAL, PAYER):
                signed = Checkpoint(log.origin, log.size, log.frontier.root())
                line = checkpoint.cosign(signed, witness.name_of(one.id), one.cosigning, NOW)
                await witnesses.take(one.id, log.size, line)
                await witnesses.take(one.id, log.size, line)
        assert {(row.witness, row.size) for row in server.rows(tables.Cosignature)} == {
            (witness.name_of(one.id), witnesses.witnessed) for one in (HOSPITAL, PAYER)
        }
        assert witnesses.witnessed >= log.size - 2
        # Of seven that may say hello, the two are a majority of the three that witness; auditors are none.
        again = build(server.home, None, server.clock)
        permitted = asyncio.create_task(again.witnesses.permission())
        for one in (*auditors, HOSPITAL):
            again.witnesses.hello(one.id, b"")
        assert not (await asyncio.wait([permitted], timeout=0))[0]
        again.witnesses.hello(PAYER.id, b"")
        await asyncio.wait_for(permitted, 30)
        again.store.close()


async def test_a_regulator_whom_the_operator_names_must_have_cosigned_too(tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, pace=FAST) as server:
        (server.home.path / feeding.FILE).write_bytes(POLICY)
        found, log = build(server.home, None, server.clock), server.core.log
        for party in (HOSPITAL, PAYER):
            found.witnesses.seen[witness.name_of(party.id)] = Seen(log.size, 1)
        assert found.witnesses.witnessed == 0
        server.clock.advance(2 * ALARM_S)
        assert found.witnesses.unwitnessed_s > ALARM_S
        found.committer.start()
        signed = Checkpoint(log.origin, log.size, log.frontier.root())
        await found.witnesses.keep(
            REGULATOR_KEY, log.size, checkpoint.cosign(signed, REGULATOR_KEY.name, REGULATOR, NOW)
        )
        assert found.witnesses.witnessed == log.size
        assert found.witnesses.unwitnessed_s == 0
        await found.committer.close()
        found.store.close()


async def test_a_regulator_is_fed_and_says_where_it_stands(tmp_path: Path) -> None:
    """First it says (409) that it has seen nothing else than size 1; then it cosigns."""
    asked: list[bytes] = []

    async with (
        serving(tmp_path, HOSPITAL, PAYER, pace=FAST) as server,
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
    ):
        vkey = server.home.vkey

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
            asked.append(body.splitlines()[0])
            signed = checkpoint.verify(body.split(b"\n\n", 1)[1], vkey)
            line = checkpoint.cosign(signed, REGULATOR_KEY.name, REGULATOR, NOW)
            status, said = (b"409 Conflict", b"1\n") if len(asked) == 1 else (b"200 OK", line)
            told = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (status, len(said))
            writer.write(told + said)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as there:
            url = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}"
            member = tlogpolicy.Member(REGULATOR_KEY, url)
            policy = tlogpolicy.Policy(witnesses={"regulator": member})
            feeder = feeding.Feeder(server.core.witnesses, policy, client)
            server.core.witnesses.show()
            assert await feeder.feed(member)
            assert not await feeder.feed(member)
        assert asked == [b"old 0", b"old 1"]
        assert server.core.witnesses.seen[REGULATOR_KEY.name].size == server.core.witnesses.shown.commit.size


async def test_a_regulator_who_answers_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + bytes(1 << 18))
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    async with (
        serving(tmp_path, HOSPITAL, PAYER, pace=FAST) as server,
        await asyncio.start_server(lie, "127.0.0.1", 0) as there,
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
    ):
        url = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}"
        member = tlogpolicy.Member(REGULATOR_KEY, url)
        feeder = feeding.Feeder(server.core.witnesses, tlogpolicy.Policy(witnesses={"regulator": member}), client)
        server.core.witnesses.show()
        with pytest.raises(Refused, match="no end"):
            await feeder.feed(member)


async def test_a_cosignature_that_does_not_verify_ends_the_stream(tmp_path: Path) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, pace=FAST) as server:
        node = await cosigning(server, HOSPITAL)
        await cosign(node, await node.next("checkpoint"), PAYER)  # another's key
        assert (await node.next("reconnect")).reason == "signature.invalid"
        assert server.rows(tables.Witness) == []


async def test_absent_witnesses_block_nothing_but_where_the_operator_wants_it(tmp_path: Path) -> None:
    limited = replace(FAST, max_unwitnessed_s=3 * ALARM_S)
    async with serving(tmp_path, HOSPITAL, PAYER, INSURER, pace=limited) as server:
        assert server.core.witnesses.unwitnessed_s == 0
        server.clock.advance(2 * ALARM_S)
        assert server.core.witnesses.unwitnessed_s > ALARM_S
        (result,) = await server.submit(present(server.statute()))
        assert reason(result) == ""
        server.clock.advance(2 * ALARM_S)
        (result,) = await server.submit(present(server.statute()))
        assert (reason(result), result.refusal.retryable) == ("unavailable.witnesses", True)


@pytest.mark.parametrize("case", ["smaller", "another root", "same", "forged", "unknown"])
async def test_a_broker_that_kept_less_than_it_signed_accepts_nothing(tmp_path: Path, case: str) -> None:
    async with serving(tmp_path, HOSPITAL, PAYER, pace=FAST) as server:
        log = server.core.log
        size, root = log.size, log.frontier.root()
        signed = {
            "smaller": Checkpoint(log.origin, size + 1, seed("root")),
            "another root": Checkpoint(log.origin, size, seed("root")),
            "same": Checkpoint(log.origin, size, root),
            "forged": Checkpoint(log.origin, size + 9, seed("root")),
        }
        note = checkpoint.sign(signed[case], log.origin, server.home.log_key) if case in signed else b""
        if case == "forged":
            note = checkpoint.sign(signed[case], log.origin, HOSPITAL.identity)
        await cosigning(server, HOSPITAL, note)
        (result,) = await server.submit(present(server.statute()))
        behind = case in ("smaller", "another root")
        assert reason(result) == ("unavailable.log" if behind else "")
        assert server.core.log.size == (size if behind else size + 1)


async def asked(path: Path, pace: Pace, age_s: int = 0, *, restored: bool = False) -> tuple[Any, Any]:
    """A broker whose participants exist already, and its task that waits to be permitted to sign."""
    async with serving(path, HOSPITAL, PAYER, INSURER) as server:
        opened = server.home
        if restored:
            await server.core.committer.run(lambda state, _s, now_ms: state.insert(tables.Restored, [(1, now_ms)]))
    core = build(opened, None, Clock(NOW + age_s), pace)
    return core, asyncio.create_task(core.witnesses.run())


async def test_a_restarted_broker_signs_once_a_majority_was_heard(tmp_path: Path) -> None:
    core, running = await asked(tmp_path, Pace(), restored=True)
    note = core.log.commit_at(core.log.size).note
    waits = asyncio.create_task(core.committer.run(lambda state, sequence, now_ms: 7))
    core.witnesses.hello(HOSPITAL.id, note)
    core.witnesses.hello(HOSPITAL.id, note)  # the same one twice is one
    await asyncio.sleep(0)
    assert not waits.done()
    core.witnesses.hello(PAYER.id, b"")
    assert (await asyncio.wait_for(waits, 20)).result == 7
    (await core.committer.run(lambda state, _s, _n: None))
    assert core.store.reader.get(tables.Restored, 1) is None
    await _stop(core, running)


@pytest.mark.parametrize("restored", [False, True])
async def test_after_a_while_it_signs_with_an_alarm_but_not_if_it_was_restored(
    tmp_path: Path, restored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    core, running = await asked(tmp_path, Pace(hear_s=0.05), restored=restored)
    waits = asyncio.create_task(core.committer.run(lambda state, sequence, now_ms: 7))
    while not any(one.levelname == "CRITICAL" for one in caplog.records):
        await asyncio.sleep(0.01)
    if restored:
        await asyncio.sleep(0.2)
        assert not waits.done()
    else:
        assert (await asyncio.wait_for(waits, 20)).result == 7
    await _stop(core, running)
    if restored:
        with pytest.raises(Error, match=r"unavailable\.draining"):
            await waits


@pytest.mark.parametrize(("age_s", "asks"), [(1, False), (61, True)])
async def test_a_broker_beside_another_asks_only_where_that_one_is_silent(
    tmp_path: Path, age_s: int, asks: bool
) -> None:
    core, running = await asked(tmp_path, Pace(is_shared=True), age_s)
    waits = asyncio.create_task(core.committer.run(lambda state, sequence, now_ms: 7))
    if asks:
        await asyncio.sleep(0.2)
        assert not waits.done()
        core.witnesses.hello(HOSPITAL.id, b"")
        core.witnesses.hello(PAYER.id, b"")
    assert (await asyncio.wait_for(waits, 20)).result == 7
    await _stop(core, running)


async def _stop(core: Any, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await core.committer.close()
    core.store.close()
