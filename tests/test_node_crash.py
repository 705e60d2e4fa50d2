"""Processes that die at the worst moment: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.node_peer import POLICY, WAIT_S, Member, Peer, Running, Sender
from zhifu import acknowledgement, presentation

HEADER = f"""
import os, signal, sys, time
from pathlib import Path
from clients import config, log_to_stderr, session
from clients.keystore import FileKeystore
from clients.node import Node, run_process, serve
from clients.store import Store
from tests.node_peer import Recorder, presented
from zhifu.v1 import exchange_pb2 as pb

log_to_stderr()
settings = config.load(Path(sys.argv[1]))
keys = FileKeystore.load(settings.keys)
role = Recorder()

async def opened():
    return Node(settings, keys, Store(settings.database, keys), role, frozenset([bytes.fromhex("{POLICY.hex()}")]))
"""

COMMITS_AND_DIES = (
    HEADER
    + """
async def main():
    node = await opened()
    node.directory.update(pb.Directory.FromString(sys.stdin.buffer.read()).entries, int(time.time()))
    os.write(1, presented(node, next(iter(settings.pins))))
    os.kill(os.getpid(), signal.SIGKILL)

run_process(main())
"""
)

DIES_BEFORE_IT_ACKNOWLEDGES = (
    HEADER
    + """
role.answer = {"outcome": "paid"}
# The commit is done; not a byte of acknowledgement or answer has left.
session.Session._waiting = lambda self: iter(()) if not role.opened else os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await serve(await opened())

run_process(main())
"""
)

SERVES = (
    HEADER
    + """
async def main():
    node = await opened()
    await serve(node)
    node.close()

run_process(main())
"""
)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture
async def members(peer: Peer, tmp_path: Path) -> list[Member]:
    return peer.enrol(tmp_path, "hospital", "public-payer")


async def started(script: str, member: Member) -> Process:
    folder = str(member.config.directory)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, folder, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def test_what_was_committed_and_never_sent_is_sent_by_the_next_process(peer: Peer, members: list[Member]) -> None:
    process = await started(COMMITS_AND_DIES, members[0])
    said, _ = await asyncio.wait_for(process.communicate(peer.directory().SerializeToString()), WAIT_S)
    assert process.returncode == -signal.SIGKILL
    running = Running(peer, members[0])
    stream = await running.attach()
    frame = await peer.submissions(stream, members[0])
    assert [presentation.hash_of(one.presentation) for one in frame.submissions] == [said]
    (taken,) = peer.accept(frame, members[0])
    stream.send(results=peer.results(stream, [taken]))
    assert (await running.node.result_of(said)).exchange == said
    await running.close()


async def test_an_answer_is_neither_lost_nor_made_twice(peer: Peer, members: list[Member]) -> None:
    process = await started(DIES_BEFORE_IT_ACKNOWLEDGES, members[1])
    sender = Sender(peer, members[0])
    stream = await peer.attach(members[1])
    taken = sender.present(members[1])
    stream.send(deliveries=peer.deliveries(stream, taken))
    await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == -signal.SIGKILL
    running = Running(peer, members[1])
    again = await running.attach()
    answer = (await peer.submissions(again, members[1])).submissions[0]
    assert presentation.parse(answer.presentation).in_reply_to == taken[0].hash
    again.send(deliveries=peer.deliveries(again, taken))
    frame = await again.expect("acknowledgements")
    assert acknowledgement.parse(frame.acknowledgements[0]).opened
    assert running.role.opened == [], "it was opened by the process that died"
    assert running.node.store._database.row("SELECT count(*) FROM outgoing") == (1,)
    await running.close()
    sender.node.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_node_in_peace(peer: Peer, members: list[Member], number: int) -> None:
    process = await started(SERVES, members[1])
    stream = await peer.attach(members[1])
    sender = Sender(peer, members[0])
    stream.send(deliveries=peer.deliveries(stream, sender.present(members[1])))
    await stream.expect("acknowledgements")
    process.send_signal(number)
    _, logged = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0
    lines = [json.loads(line) for line in logged.decode().splitlines()]
    assert {"stream.open", "delivery.opened"} <= {line["event"] for line in lines}
    for value in ("测试患者甲", "1984", "13800000000", "I21"):
        assert value not in logged.decode()
    sender.node.close()


async def test_two_processes_do_not_run_one_node(peer: Peer, members: list[Member]) -> None:
    first, second = Running(peer, members[0]), Running(peer, members[0])
    await first.attach()
    await first.node.attached()
    error = await second.ends()
    assert error.reason == "usage.argument"
    assert "another process runs the node" in str(error)
    second.node.close()
    await first.close()
