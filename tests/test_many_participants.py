"""Participants whose key statements together are more than any message may be: five thousand usual ones, say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import grpc
import pytest
from nacl.signing import SigningKey

from broker import directory
from broker.services import frames
from broker.store import tables
from clients.auditor import remote
from clients.channel import MAX_RECEIVE
from clients.patient import calls
from tests.broker_rig import Server, present, reason, serving, statement_of
from tests.formats import EVERYONE, HOSPITAL, INSURER, NOW, ORIGIN, PAYER, claim, party, seed
from tests.test_receive import statement_to_patient
from tests.test_wallet_calls import hers
from zhifu import envelope
from zhifu.keys import SUITE, VERSION, participant_id
from zhifu.receipt import Head
from zhifu.statement import KeyStatement
from zhifu.v1 import audit_pb2, audit_pb2_grpc, signed_pb2, wallet_pb2, wallet_pb2_grpc

MANY: Final = 1000
AUDITOR: Final = party("an auditor")
EVERYBODY: Final = MANY + len(EVERYONE)


@cache
def stated() -> Sequence[tuple[bytes, bytes]]:
    """Of each of them its id and its statement: few, since each costs time, and as long as five."""
    found = []
    for number in range(MANY):
        identity = SigningKey(seed(f"participant {number}"))
        public = bytes(identity.verify_key)
        one = KeyStatement(
            participant_id(public), 1, NOW - 60, NOW + 86_400, public, public, public, PAYER.statement().kem_keys,
            tuple(seed(f"tls {number} {place}") for place in range(220)), (),
        )  # fmt: skip
        found.append((one.participant, one.sign(identity).to_bytes()))
    return found


async def joined(server: Server) -> None:
    everybody = [(one, "hospital", "示例医院", "active", 0, b"") for one, _ in stated()]
    await server.run(lambda state, _s, _n: state.insert(tables.Participant, everybody))
    await server.run(lambda state, _s, _n: state.insert(tables.Statement, [(one, 1, kept) for one, kept in stated()]))
    server.core.directory.reload()
    listed = [frames.directory_entry(one).ByteSize() for one in server.core.directory.members]
    assert sum(listed) > MAX_RECEIVE, "it would be no test"


async def test_a_wallet_fetches_the_statements_of_its_own_two(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.grant(claim())
        told = present(statement_to_patient(sent := present(claim())))
        assert {reason(one) for one in await server.submit(sent)} == {""}
        assert {reason(one) for one in await server.submit(told)} == {""}
        await joined(server)
        wallet, pair = hers(server, tmp_path)
        box = await calls.mailbox(wallet, pair)
        assert len(box.frames) == 1
        assert {one.participant for one in box.directory} == {HOSPITAL.id, INSURER.id}
        assert box.ByteSize() < 64 << 10

        asked = wallet_pb2.FetchMailboxRequest(proof=await proof(server, pair.key))
        before = await public(server).FetchMailbox(asked)
        assert before.directory[0].participant == HOSPITAL.id, "a wallet that names nobody learns who wrote"
        assert len(before.directory) > 1
        asked = wallet_pb2.FetchMailboxRequest(proof=await proof(server, pair.key), participants=[bytes(32)] * 65)
        with pytest.raises(grpc.aio.AioRpcError, match="larger"):
            await public(server).FetchMailbox(asked)


def public(server: Server) -> wallet_pb2_grpc.WalletServiceAsyncStub:
    return wallet_pb2_grpc.WalletServiceStub(server.channel(None, public=True))


async def proof(server: Server, key: SigningKey) -> signed_pb2.Envelope:
    challenge = (await public(server).Challenge(wallet_pb2.ChallengeRequest())).challenge
    said = signed_pb2.WalletProof(version=VERSION, suite=SUITE, aud=ORIGIN, challenge=challenge, method="FetchMailbox")
    return envelope.seal_one(envelope.WALLET, said.SerializeToString(deterministic=True), key).to_proto()


async def test_a_node_that_wants_all_gets_all_and_itself_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await joined(server)
        stream = await server.attach(HOSPITAL)
        found = [stream.directory]
        while sum(len(one.entries) for one in found) < EVERYBODY:
            found.append(await stream.next("directory"))
        assert found[0].entries[0].participant == HOSPITAL.id
        assert len({one.participant for part in found for one in part.entries}) == EVERYBODY
        assert max(one.ByteSize() for one in found) < frames.FRAME_BYTES


async def test_an_auditor_is_shown_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.run(
            lambda state, sequence, now_ms: directory.enrol(
                AUDITOR.id, "auditor", AUDITOR.name, statement_of(AUDITOR), state, sequence, now_ms
            )
        )
        await joined(server)
        stub = audit_pb2_grpc.AuditServiceStub(server.node(AUDITOR))
        first = await stub.Status(audit_pb2.StatusRequest())
        assert first.ByteSize() < frames.FRAME_BYTES
        answer = await remote.status(stub.Status, Head())
        assert len({one.participant for one in answer.directory}) == EVERYBODY + 1
