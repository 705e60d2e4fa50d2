"""A real broker and nodes: enrolment, an exchange with its answer, and a broker that dies in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nacl.signing import SigningKey

from clients import config, durable, enrol
from clients.config import NodeConfig, Pin
from clients.demo.process import Process as Running
from clients.demo.stage import call
from clients.keystore import FileKeystore, participant_of
from clients.node import Node, policy_in_force
from clients.role import Draft
from clients.store import Mandate
from policies import load
from tests import node_peer
from tests.node_peer import Authority, Log, Recorder, claim, now
from zhifu import schema, sealed
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import participant_id
from zhifu.statement import PolicyStatement

ORIGIN = "log.example/zhifu"
WAIT_S = 40.0

PAYER = """
import sys
from pathlib import Path
from clients import log_to_stderr
from clients.node import Node, run_process, serve
from clients.role import Draft

class Payer:
    def on_opened(self, opened, tx):
        return Draft.answering(opened, "decision", {"outcome": "paid", "amounts": [["public", 1200000]]})
    def on_notice(self, noticed, tx):
        pass
    def on_refused(self, noticed, tx):
        pass

async def main():
    node = Node.open(Path(sys.argv[1]), Payer())
    try:
        await serve(node)
    finally:
        node.close()

log_to_stderr()
run_process(main())
"""


class Broker:
    """``python -m broker`` in a folder; it keeps its ports over a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = (0, 0)
        self.process: Running | None = None

    async def command(self, *arguments: str) -> str:
        _, said = await asyncio.to_thread(call, "broker", *arguments)
        return said

    async def start(self) -> None:
        ports = [f"--node-port={self.ports[0]}", f"--public-port={self.ports[1]}"]
        self.process = Running("broker", ["serve", str(self.folder), *ports], self.folder.parent / "log.jsonl")
        ready = json.loads(await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), WAIT_S))
        self.ports = (ready["node_port"], ready["public_port"])

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            await asyncio.to_thread(self.process.wait, WAIT_S)
            self.process.stdout.close()
            self.process.stderr.close()
            self.process = None

    async def invite(self, role: str) -> Path:
        path = self.folder.parent / f"{role}.invite"
        await self.command("invite", str(self.folder), "--role", role, "--name", f"测试{role}", "-o", str(path))
        return path


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    found = Broker(tmp_path / "broker")
    await found.command("init", str(found.folder), "--origin", ORIGIN)
    await found.start()
    yield found
    await found.stop()


async def enrolled(broker: Broker, role: str) -> NodeConfig:
    invitation = enrol.read_invitation(await broker.invite(role))
    return await enrol.enrol(invitation, broker.folder.parent / role)


def identity(settings: NodeConfig) -> bytes:
    return participant_of(FileKeystore.load(settings.keys))


def trusting(settings: NodeConfig, registrar: SigningKey, *others: NodeConfig) -> None:
    """Pin the others and the registrar, whose word puts the packaged policy in force."""
    pins = {identity(one): Pin(one.role, one.name) for one in others}
    public = bytes(registrar.verify_key)
    config.write(replace(settings, pins=pins, registrar=public))
    word = PolicyStatement(participant_id(public), load.load().hash, now(), now() + 3600).sign(registrar)
    durable.write(settings.policy_statement, word.to_bytes())


async def started(settings: NodeConfig) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PAYER, str(settings.directory), stderr=PIPE)


def draft(hospital: Node, recipient: bytes, secret: bytes) -> Draft:
    mandate = Mandate.by_statute(
        load.load().hash,
        recipient,
        schema.load("inpatient-claim").finest,
        purpose="public-settlement",
        encounter=sealed.encounter_handle(secret, recipient),
        workflow=os.urandom(16),
    )
    return Draft("inpatient-claim", claim(secret), mandate)


async def settled(node: Node, recipient: bytes) -> Any:
    secret = os.urandom(32)
    accepted = await node.send(draft(node, recipient, secret), WAIT_S)
    answer = await node.answer_to(accepted.exchange, WAIT_S)
    assert answer.values["encounter"] == secret
    return accepted, answer


async def test_a_claim_is_answered_through_a_real_broker_that_dies_in_between(broker: Broker) -> None:
    hospital, payer = await enrolled(broker, "hospital"), await enrolled(broker, "public-payer")
    registrar = SigningKey.generate()
    trusting(hospital, registrar, payer)
    trusting(payer, registrar, hospital)
    role = Recorder()
    node = Node.open(hospital.directory, role)
    running, process = asyncio.create_task(node.run()), await started(payer)
    try:
        await node.attached(WAIT_S)
        accepted, answer = await settled(node, identity(payer))
        assert answer.values["amounts"] == (("public", 1200000),)
        assert answer.presentation.in_reply_to == accepted.exchange
        # Policy releases less than was presented: the broker's levels and what it released are one thing.
        assert len(accepted.released) == len(schema.load("inpatient-claim").units)
        await broker.stop(signal.SIGKILL)
        waiting = asyncio.create_task(settled(node, identity(payer)))
        await broker.start()
        _, again = await waiting
        assert again.hash != answer.hash
        assert len(role.opened) == 2
        await broker.stop(signal.SIGTERM)
        exported = (await broker.command("export", str(broker.folder))).splitlines()
        assert len(exported) >= node.store.trust.head().size > 0
    finally:
        node.stop()
        process.terminate()
        _, logged = await asyncio.wait_for(process.communicate(), WAIT_S)
        await asyncio.wait_for(running, WAIT_S)
        node.close()
    assert process.returncode == 0
    assert_no_values(broker.folder.parent, logged)


def assert_no_values(folder: Path, logged: bytes) -> None:
    """Nothing of the patient is on any disk or in any log: broker's, hospital's and payer's."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"broker.db", "node.db"} <= {file.name for file in files}
    for value in ("测试患者甲".encode(), b"1984-05-17", b"13800000000", b"I21.0"):
        assert value not in logged
        assert [file.name for file in files if value in file.read_bytes()] == []
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# Enrolment


async def test_an_invitation_is_for_one_participant(broker: Broker) -> None:
    path = await broker.invite("hospital")
    invitation = enrol.read_invitation(path)
    settings = await enrol.enrol(invitation, path.parent / "first")
    assert (settings.role, settings.name, settings.origin) == ("hospital", "测试hospital", ORIGIN)
    assert settings.authority.read_bytes() == invitation.authority
    with pytest.raises(Refused, match=r"enrolment\.invite"):
        await enrol.enrol(invitation, path.parent / "second")
    with pytest.raises(Refused, match=r"enrolment\.exists"):
        await enrol.enrol(invitation, path.parent / "first")


async def test_an_interrupted_enrolment_is_taken_up_again_with_the_same_keys(broker: Broker) -> None:
    invitation = enrol.read_invitation(await broker.invite("insurer"))
    folder = broker.folder.parent / "insurer"
    nowhere = replace(invitation, public_address="127.0.0.1:9")
    with pytest.raises(Refused, match=r"unavailable\.broker"):
        await enrol.enrol(nowhere, folder)
    before = participant_of(FileKeystore.load(folder / "keys"))
    assert not (folder / config.FILE).exists()
    assert identity(await enrol.enrol(invitation, folder)) == before


async def test_a_broker_with_another_authority_is_not_spoken_to(broker: Broker, tmp_path: Path) -> None:
    invitation = enrol.read_invitation(await broker.invite("insurer"))
    with pytest.raises(Refused, match=r"unavailable\.broker"):
        await enrol.enrol(replace(invitation, authority=Authority.draw().pem), tmp_path / "insurer")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{}", "code is missing"), ("[]", "is not an invitation"), ('{"code": 1.5}', "code"), ("nothing", "not JSON")],
)
def test_a_file_that_is_no_invitation(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "invite.json").write_text(content)
    with pytest.raises(Malformed, match=complaint) as refused:
        enrol.read_invitation(tmp_path / "invite.json")
    assert refused.value.reason == "usage.file"


# The policy in force


def test_a_node_believes_its_own_policy_by_the_pinned_registrars_word_only(tmp_path: Path) -> None:
    (member,) = node_peer.enrolled(tmp_path, Authority.draw(), "127.0.0.1:1", Log().vkey, "hospital")
    registrar, other = SigningKey.generate(), SigningKey.generate()
    with pytest.raises(Malformed, match="pins no registrar"):
        Node.open(member.config.directory, Recorder())
    trusting(member.config, registrar)
    settings = config.load(member.config.directory)
    assert policy_in_force(settings, now()) == load.load().hash
    with pytest.raises(NotAuthentic, match=r"key\.expired"):
        policy_in_force(settings, now() + 7200)
    with pytest.raises(NotAuthentic, match=r"key\.unknown"):
        policy_in_force(replace(settings, registrar=bytes(other.verify_key)), now())
    word = PolicyStatement(participant_id(bytes(registrar.verify_key)), bytes(32), now(), now() + 3600).sign(registrar)
    durable.write(settings.policy_statement, word.to_bytes())
    with pytest.raises(NotAuthentic, match=r"policy\.invalid: the registrar signed another policy bundle"):
        Node.open(member.config.directory, Recorder())
    settings.policy_statement.unlink()
    with pytest.raises(Malformed, match=r"policy\.statement cannot be read"):
        Node.open(member.config.directory, Recorder())
