"""The pseudonym service with real clients over TLS: who may ask for whom, how often, under which key (DESIGN 4.5)."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from nacl.signing import SigningKey

from broker import __main__ as operator
from broker import pseudonym as rules
from broker import pseudonym_home
from broker.directory import Member
from broker.home import write_private
from broker.pseudonym import Limits, Question, Rate
from broker.services.pseudonym import PseudonymService as Servicer
from broker.store import tables
from clients import channel
from clients.auditor import pins as auditor
from clients.auditor.cli import audit
from clients.config import Pin
from clients.demo.process import Process
from clients.pseudonym_service import PseudonymService
from tests.formats import seed
from tests.house import PATIENCE_S
from tests.postgres import free_port
from tests.pseudonym_rig import (
    OPERATORS,
    ORIGIN,
    ROLES,
    Participant,
    World,
    elements,
    now,
    person,
    refusal,
    service_of,
    world,
)
from tests.wire import Wire
from zhifu import pseudonym
from zhifu import quota as quotas
from zhifu.errors import Error, Refused
from zhifu.quota import Quota
from zhifu.statement import PseudonymKey
from zhifu.v1 import pseudonym_pb2, pseudonym_pb2_grpc
from zhifu.voprf import KeyPair

ALONE: Final = "pseudonyms.example/log"
EVERYONE: Final = tuple(ROLES)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


def asking(recipient: bytes, blinded: Sequence[bytes], epoch: int = 1) -> pseudonym_pb2.EvaluateRequest:
    return pseudonym_pb2.EvaluateRequest(recipient=recipient, epoch=epoch, blinded=blinded)


async def refused(reason: str, call: Any) -> Error:
    """Await a call that is refused with just this reason."""
    with pytest.raises(Error) as caught:
        await call
    assert caught.value.reason == reason, caught.value
    return caught.value


# --- who may ask for whom ---------------------------------------------------------------------------------------------


async def test_a_hospital_and_an_insurer_come_to_the_same_pseudonym(house: World) -> None:
    """The point of it all; two insurers' differ, and everything is in the log."""
    insurer, rival = house["insurer"], house["rival"]
    await insurer.service.raise_quota(house.quota(10))
    table = dict(
        zip(await insurer.service.evaluate(insurer.id, 1, [person(i) for i in range(5)]), range(5), strict=True)
    )
    for name in ("hospital", "other hospital"):
        (found,) = await house[name].service.evaluate(insurer.id, 1, [person(3)])
        assert table[found] == 3
    (other,) = await house["hospital"].service.evaluate(rival.id, 1, [person(3)])
    assert other not in table
    assert house.recorded() == [
        ("evaluated", "insurer", "insurer", 5, ""),
        ("evaluated", "hospital", "insurer", 1, ""),
        ("evaluated", "other hospital", "insurer", 1, ""),
        ("evaluated", "hospital", "rival", 1, ""),
    ]


@pytest.mark.parametrize(
    ("caller", "recipient", "count"),
    [
        ("rival", "insurer", 1),  # an insurer, for another
        ("payer", "insurer", 1),
        ("payer", "payer", 1),  # calls nobody by pseudonyms
        ("hospital", "payer", 1),
        ("hospital", "hospital", 1),
        ("hospital", "insurer", 2),  # more than the patient at the desk
        ("hospital", "insurer", 256),
    ],
)
async def test_what_is_not_theirs_is_refused_and_recorded(
    house: World, caller: str, recipient: str, count: int
) -> None:
    await house["hospital"].service.refresh()
    asked = asking(house[recipient].id, elements(count))
    assert await refusal(house[caller].stub().Evaluate(asked)) == "policy.denied"
    assert house.recorded() == [("denied", caller, recipient, count, "policy.denied")]


async def test_what_is_malformed_is_refused_and_counts_for_nothing(house: World) -> None:
    insurer = house["insurer"]
    await insurer.service.refresh()
    await insurer.service.raise_quota(house.quota(1000))
    stub = insurer.stub()
    for blinded in ([], [*elements(1)] * 257, [bytes(32)], [b"\xff" * 32], [*elements(1), b"short"]):
        assert (await refusal(stub.Evaluate(asking(insurer.id, blinded)))).startswith("malformed.")
    assert (await refusal(stub.Evaluate(asking(b"x", elements(1))))) == "malformed.size"
    assert (await refusal(stub.Evaluate(asking(seed("nobody"), elements(1))))) == "participant.unknown"
    assert (await refusal(stub.Evaluate(asking(insurer.id, elements(1), epoch=2)))) == "pseudonym.epoch"
    assert house.recorded() == []
    assert await insurer.service.raise_quota(house.quota(1000)) == (1000, 0)


async def test_nobody_without_a_certificate_is_answered(house: World) -> None:
    """Nor one whose key is in no statement."""
    ca = house.home.read("ca.crt")
    options = [("grpc.ssl_target_name_override", "broker.zhifu.internal")]
    address = f"127.0.0.1:{house.served.ports[0]}"
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca), options=options) as bare:
        stub = type(house["hospital"].stub())(bare)
        assert await refusal(stub.Evaluate(asking(house["insurer"].id, elements(1)))) == "unavailable.broker"


async def test_nothing_that_identifies_stays_with_the_service(house: World) -> None:
    """Neither elements nor pseudonyms nor numbers are anywhere in its folder; counts are."""
    insurer = house["insurer"]
    await insurer.service.refresh()
    await insurer.service.raise_quota(house.quota(10))
    blinded = pseudonym.blind([person(1)])
    stub: Any = insurer.stub()
    answer = await stub.Evaluate(asking(insurer.id, [blinded[0].element]))
    (found,) = await house["hospital"].service.evaluate(insurer.id, 1, [person(1)])
    disk = b"".join(path.read_bytes() for path in house.home.path.rglob("*") if path.is_file())
    assert insurer.id in disk
    for trace in (blinded[0].element, *answer.evaluated, answer.proof, found, person(1), person(1)[-18:]):
        assert trace not in disk


# --- metering ---------------------------------------------------------------------------------------------------------


async def test_an_insurer_without_a_quota_evaluates_nobody(house: World) -> None:
    insurer = house["insurer"]
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(1)]))
    assert house.recorded() == [("denied", "insurer", "insurer", 1, "pseudonym.quota")]


async def test_a_quota_is_used_up_and_raised(house: World) -> None:
    insurer = house["insurer"]
    assert await insurer.service.raise_quota(house.quota(5, at=now() - 60)) == (5, 0)
    await insurer.service.evaluate(insurer.id, 1, [person(i) for i in range(4)])
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(i) for i in range(2)]))
    await insurer.service.evaluate(insurer.id, 1, [person(4)])
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(5)]))
    assert await insurer.service.raise_quota(house.quota(6, at=now() - 30)) == (6, 5)
    await insurer.service.evaluate(insurer.id, 1, [person(5)])
    # An older one, handed in late, does not take back what stands.
    assert await insurer.service.raise_quota(house.quota(500, at=now() - 45)) == (6, 6)
    await house.restart()
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(6)]))


async def test_a_quota_needs_two_operators(house: World) -> None:
    insurer = house["insurer"]
    one, two = house.quota(10)
    await refused("pseudonym.quota", insurer.service.raise_quota([one, one]))
    await refused("pseudonym.quota", insurer.service.raise_quota([one]))
    stranger = quotas.parse(one.payload).sign(SigningKey(seed("stranger")))
    await refused("key.unknown", insurer.service.raise_quota([one, stranger]))
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(1)]))
    assert await insurer.service.raise_quota([two, one]) == (10, 0)


def test_a_hospitals_rate_is_bounded() -> None:
    rate = Rate(Limits(a_minute=3))
    for at in (0, 10, 20):
        rate.take(b"hospital", at)
    with pytest.raises(Refused, match="minute"):
        rate.take(b"hospital", 59_999)
    rate.take(b"other hospital", 59_999)
    rate.take(b"hospital", 60_000)
    with pytest.raises(Refused):
        rate.take(b"hospital", 60_001)


def test_a_clock_that_ran_ahead_for_a_while_stops_no_hospital() -> None:
    rate, hour = Rate(Limits(a_minute=2)), 3_600_000
    for at in (5 * hour, 5 * hour + 10):
        rate.take(b"hospital", at)
    for at in (hour, hour + 10):
        rate.take(b"hospital", at)
    with pytest.raises(Refused, match="minute"):
        rate.take(b"hospital", hour + 20)


async def test_a_hospitals_day_is_bounded_over_restarts(house: World) -> None:
    core, one = house.served.core, Question(house["hospital"].id, "hospital", house["insurer"].id, "insurer", 1, 1)
    day, limits = 86_400_000, Limits(a_day=2)

    async def meter(now_ms: int) -> None:
        await core.committer.run(lambda state, sequence, _: rules.meter(one, limits, state, sequence, now_ms))

    await meter(5 * day)
    await meter(6 * day - 1)
    assert (await refused("unavailable.overload", meter(6 * day - 1))).retryable
    await meter(6 * day)
    assert [row[0] for row in house.recorded()] == ["evaluated"] * 3


async def test_over_the_rate_nothing_is_evaluated(house: World) -> None:
    await house["hospital"].service.refresh()
    limited = pseudonym_home.evaluator(house.served.core, house.home, Rate(Limits(a_minute=1)))
    one = Question(house["hospital"].id, "hospital", house["insurer"].id, "insurer", 1, 1)
    assert (await limited.evaluate(one, elements(1))).proof
    await refused("unavailable.overload", limited.evaluate(one, elements(1)))
    assert len(house.recorded()) == 1


# --- keys: pinned, in the log, never another --------------------------------------------------------------------------


async def test_everybody_is_shown_the_same_keys(house: World) -> None:
    found = {name: await house[name].service.refresh() for name in EVERYONE}
    assert len(set(found.values())) == 1
    keys = found["hospital"].pseudonym_keys
    assert [(key.recipient, key.epoch) for key in keys] == sorted((house[name].id, 1) for name in ("insurer", "rival"))
    assert found["hospital"].identity_key == bytes(house.home.log_key.verify_key)


async def test_keys_are_drawn_once_and_in_files_for_their_owner_only(house: World) -> None:
    await house["hospital"].service.refresh()
    files = {path.name: path.read_bytes() for path in (house.home.path / "pseudonym").iterdir()}
    assert len(files) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in (house.home.path / "pseudonym").iterdir())
    before = await house["hospital"].service.refresh()
    await house.restart()
    assert await house["hospital"].service.refresh() == before
    assert {path.name: path.read_bytes() for path in (house.home.path / "pseudonym").iterdir()} == files
    database = (house.home.path / "broker.db").read_bytes()
    assert not any(bytes.fromhex(seed_.decode()) in database for seed_ in files.values())


async def test_a_service_that_changes_a_key_is_found_out(house: World) -> None:
    """The evaluation first, by its proof; then the statement, by what the node remembers. The answer is evidence."""
    hospital, insurer = house["hospital"], house["insurer"]
    await hospital.service.refresh()
    (path,) = (house.home.path / "pseudonym").glob(f"{insurer.id.hex()}.*")
    path.write_text(seed("marked").hex())
    await house.restart()
    await refused("pseudonym.key", hospital.service.refresh())  # an honest one notices itself
    assert hospital.store.receipts.evidence() == []
    await house.served.core.committer.run(lambda state, *_: state.delete(tables.PseudonymKey))
    await refused("pseudonym.proof", hospital.service.evaluate(insurer.id, 1, [person(1)]))
    await refused("pseudonym.key", hospital.service.refresh())
    assert [one.reason for one in hospital.store.receipts.evidence()] == ["pseudonym.key"]
    await refused("pseudonym.proof", hospital.service.evaluate(insurer.id, 1, [person(1)]))


async def test_a_lost_key_is_not_drawn_anew_under_its_name(house: World) -> None:
    hospital, insurer = house["hospital"], house["insurer"]
    await hospital.service.refresh()
    for path in (house.home.path / "pseudonym").iterdir():
        path.unlink()
    await house.restart()
    for _ in range(2):
        assert (await hospital.service.refresh()).pseudonym_keys == ()
        await refused("pseudonym.epoch", hospital.service.evaluate(insurer.id, 1, [person(1)]))
    operate("pseudonym-rotate", str(house.home.path), "--recipient", insurer.id.hex())
    await hospital.service.refresh()
    assert list(await hospital.service.keys(insurer.id)) == [2]


class Lying(Servicer):
    """A service that shows this caller other keys than everybody: signed by its own key, but not what is logged."""

    changed: dict[str, Any]

    async def FetchKeys(self, request: Any, context: Any) -> pseudonym_pb2.FetchKeysResponse:
        answer = await super().FetchKeys(request, context)
        for name, value in self.changed.items():
            answer.ClearField(name)
            answer.MergeFrom(pseudonym_pb2.FetchKeysResponse(**{name: value}))
        return answer


@asynccontextmanager
async def serving(servicer: Servicer, house: World) -> AsyncIterator[int]:
    """The servicer behind the broker's own certificate; its port."""
    server = grpc.aio.server()
    pseudonym_pb2_grpc.add_PseudonymServiceServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials(
        [(house.home.read("tls.key"), house.home.read("tls.crt"))], house.home.read("ca.crt"), True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("another statement", "receipt.invalid"),
        ("another's statement", "key.not_pinned"),
        ("expired", "key.expired"),
        ("another time", "receipt.invalid"),
        ("no proof", "malformed.encoding"),
    ],
)
async def test_a_statement_that_is_not_the_logged_one_is_refused(house: World, lie: str, reason: str) -> None:
    """So no key can be for one hospital, or one patient, alone: all see the log."""
    hospital, insurer = house["hospital"], house["insurer"]
    directory = house.served.core.directory

    async def caller(*_: object) -> Member:
        return directory.member(hospital.id)

    servicer = Lying(pseudonym_home.evaluator(house.served.core, house.home), caller)
    marked = PseudonymKey(insurer.id, 1, KeyPair.derive(seed("marked"), b"").public)
    at = now()
    lies: dict[str, dict[str, Any]] = {
        "another statement": {"key_statement": house.home.key_statement(at, 99, (marked,)).to_proto()},
        "another's statement": {"key_statement": directory.member(insurer.id).envelope.to_proto()},
        "expired": {"key_statement": house.home.key_statement(at - 9 * 86_400, 99, (marked,)).to_proto()},
        "another time": {"time_ms": 12_345},
        "no proof": {"proof": pseudonym_pb2.FetchKeysResponse().proof},
    }
    servicer.changed = lies[lie]
    async with serving(servicer, house) as port:
        fooled = replace(hospital.settings, node_address=f"127.0.0.1:{port}")
        async with service_of(fooled, hospital.keystore, hospital.store) as service:
            await refused(reason, service.refresh())
    assert hospital.store.pseudonyms.listed(insurer.id) == {}
    assert [one.reason for one in hospital.store.receipts.evidence()] == [reason]


# --- rotation ---------------------------------------------------------------------------------------------------------


async def test_a_rotation_is_announced_overlaps_and_ends(house: World) -> None:
    hospital, insurer = house["hospital"], house["insurer"]
    first = await hospital.service.refresh()
    (before,) = await hospital.service.evaluate(insurer.id, 1, [person(1)])
    assert house.keys.rotate(insurer.id) == 2
    second = await hospital.service.refresh()
    assert second.serial == first.serial + 1
    assert sorted(await hospital.service.keys(insurer.id)) == [1, 2]
    assert sorted(await hospital.service.keys(house["rival"].id)) == [1]
    (again,), (after,) = [await hospital.service.evaluate(insurer.id, epoch, [person(1)]) for epoch in (1, 2)]
    assert again == before != after
    with pytest.raises(Refused, match="retire"):
        house.keys.rotate(insurer.id)
    with pytest.raises(Refused, match="newest"):
        house.keys.retire(insurer.id, 2)
    house.keys.retire(insurer.id, 1)
    await hospital.service.refresh()
    assert sorted(await hospital.service.keys(insurer.id)) == [2]
    assert hospital.store.pseudonyms.announced(insurer.id) == {1, 2}
    await refused("pseudonym.epoch", hospital.service.evaluate(insurer.id, 1, [person(1)]))
    assert house.keys.rotate(insurer.id) == 3


class Slow(Servicer):
    """A service whose first answer is on its way for long."""

    held: asyncio.Event
    waiting: asyncio.Event

    async def FetchKeys(self, request: Any, context: Any) -> pseudonym_pb2.FetchKeysResponse:
        answer = await super().FetchKeys(request, context)
        if not self.waiting.is_set():
            self.waiting.set()
            await self.held.wait()
        return answer


async def test_an_answer_that_another_overtook_is_no_lie(house: World) -> None:
    """Keys are rotated between two questions, and the older answer comes last."""
    hospital, insurer = house["hospital"], house["insurer"]
    directory = house.served.core.directory

    async def caller(*_: object) -> Member:
        return directory.member(hospital.id)

    servicer = Slow(pseudonym_home.evaluator(house.served.core, house.home), caller)
    servicer.held, servicer.waiting = asyncio.Event(), asyncio.Event()
    async with serving(servicer, house) as port:
        behind = replace(hospital.settings, node_address=f"127.0.0.1:{port}")
        async with service_of(behind, hospital.keystore, hospital.store) as service:
            late = asyncio.create_task(service.refresh())
            await asyncio.wait_for(servicer.waiting.wait(), 20)
            assert house.keys.rotate(insurer.id) == 2
            newest = await service.refresh()
            servicer.held.set()
            assert await late == newest
    assert hospital.store.receipts.evidence() == []


async def test_a_quota_is_for_one_epoch(house: World) -> None:
    insurer = house["insurer"]
    await insurer.service.refresh()
    await insurer.service.raise_quota(house.quota(10))
    house.keys.rotate(insurer.id)
    await insurer.service.refresh()
    await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 2, [person(1)]))
    await insurer.service.raise_quota(house.quota(10, epoch=2))
    assert await insurer.service.evaluate(insurer.id, 2, [person(1)])


async def test_a_statement_is_renewed_before_it_ends(house: World) -> None:
    """By a clock that a test moves: the keys stay the same, the serial rises."""
    at = [now() * 1000]
    evaluator = replace(pseudonym_home.evaluator(house.served.core, house.home), clock_ms=lambda: at[0])
    first = await evaluator.announce()
    assert await evaluator.announce() == first
    at[0] += 6 * 86_400_000 + 1000
    second = await evaluator.announce()
    assert second.entry > first.entry
    assert await asyncio.gather(*(evaluator.announce() for _ in range(3)))
    at[0] -= 6 * 86_400_000
    third = await evaluator.announce()
    assert third.entry > second.entry, "the clock ran ahead and is right again: nobody takes the second yet"
    assert await evaluator.announce() == third


# --- the auditor ------------------------------------------------------------------------------------------------------


async def test_the_auditor_verifies_what_the_service_wrote(tmp_path: Path) -> None:
    async with world(tmp_path, "hospital", "insurer") as house:
        insurer = house["insurer"]
        await insurer.service.raise_quota(house.quota(4))
        await insurer.service.evaluate(insurer.id, 1, [person(i) for i in range(4)])
        await refused("pseudonym.quota", insurer.service.evaluate(insurer.id, 1, [person(4)]))
        await house["hospital"].service.evaluate(insurer.id, 1, [person(2)])
        house.keys.rotate(insurer.id)
        await house["hospital"].service.refresh()
        people = {one.id: Pin(one.settings.role, one.settings.name) for one in house.members.values()}
        operators = frozenset(bytes(key.verify_key) for key in OPERATORS)
        pins = auditor.Pins(ORIGIN, house.home.vkey, people, operators=operators)
    auditor.write(tmp_path / "auditor", pins)
    report = await asyncio.to_thread(audit, tmp_path)
    assert report.verified, report.first_bad
    counted = {event: number for event, number in report.entries.items() if event.startswith("pseudonym.")}
    assert counted == {"pseudonym.quota": 1, "pseudonym.evaluated": 2, "pseudonym.denied": 1}


# --- under another operator -------------------------------------------------------------------------------------------


@asynccontextmanager
async def alone(path: Path, house: World, *admitted: str) -> AsyncIterator[Path]:
    """The service as a process of its own, by its operator's commands; its contact file."""
    folder, contact, cards = path / "service", path / "service.contact", []
    for i, key in enumerate(OPERATORS):
        write_private(path / f"operator-{i}.key", key.encode().hex().encode())
    for name in admitted:
        one = house[name]
        cards.append(path / f"{name}.card")
        cards[-1].write_text(json.dumps({"id": one.id.hex(), "role": one.settings.role, "name": name}))
    operators = [word for i in range(2) for word in ("--operator", str(path / f"operator-{i}.key"))]
    operate("pseudonym-init", str(folder), "--origin", ALONE, *operators)
    operate("pseudonym-admit", str(folder), *map(str, cards), "--authority", str(house.home.path / "ca.crt"))
    process = Process("broker", ["pseudonym-serve", str(folder)], path / "service.log")
    with process.stdout, process.stderr:
        try:
            assert json.loads(await asyncio.to_thread(process.stdout.readline))["pid"] == process.pid
            operate("pseudonym-contact", str(folder), "-o", str(contact))
            yield contact
        finally:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0


def operate(*words: str) -> None:
    assert operator.main(list(words)) == 0


def moved(one: Participant, contact: Path) -> PseudonymService:
    """The participant's way to a service of its own."""
    return service_of(replace(one.settings, pseudonym_service=contact), one.keystore, one.store)


async def test_the_service_runs_under_another_operator(house: World, tmp_path: Path) -> None:
    """Its own keys, log and quotas; callers show the statement that their identity key signed."""
    hospital, insurer = house["hospital"], house["insurer"]
    async with (
        alone(tmp_path, house, "hospital", "insurer") as contact,
        moved(hospital, contact) as desk,
        moved(insurer, contact) as bulk,
        moved(house["rival"], contact) as stranger,
    ):
        await refused("participant.unknown", stranger.refresh())
        await refused("pseudonym.epoch", desk.keys(insurer.id))  # the insurer never showed itself here
        await bulk.refresh()
        quota = Quota(ALONE, insurer.id, 1, 3, now())
        await refused("presentation.audience", bulk.raise_quota(house.quota(3)))
        assert await bulk.raise_quota([quota.sign(key) for key in OPERATORS]) == (3, 0)
        table = await bulk.evaluate(insurer.id, 1, [person(i) for i in range(3)])
        assert (await desk.evaluate(insurer.id, 1, [person(2)])) == table[2:]
        await desk.refresh()
        await refused("pseudonym.quota", bulk.evaluate(insurer.id, 1, [person(3)]))
    assert house.recorded() == []
    # Back at the broker's service the keys of epoch 1 are others: nobody takes them for the same.
    await refused("pseudonym.key", hospital.service.refresh())


async def test_of_several_brokers_the_one_that_answers_is_asked(house: World) -> None:
    """One that is not there, one that takes a connection and is silent, one that is known by name."""
    hospital = house["hospital"]
    port = hospital.settings.node_address.rpartition(":")[2]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"localhost:{free_port()}"
        addresses = f"{nobody},127.0.0.1:{silent.getsockname()[1]},localhost:{port}"
        async with service_of(
            replace(hospital.settings, node_address=addresses), hospital.keystore, hospital.store
        ) as service:
            assert await service.refresh()
    async with service_of(
        replace(hospital.settings, node_address=f"{nobody},{nobody}"), hospital.keystore, hospital.store
    ) as service:
        await refused("unavailable.broker", service.refresh())


async def test_a_connection_that_was_lost_is_not_waited_for(house: World) -> None:
    """The broker's computer is gone: whoever dials it hears nothing, and the other is asked."""
    hospital = house["hospital"]
    port = int(hospital.settings.node_address.rpartition(":")[2])
    async with Wire(port) as wire:
        settings = replace(hospital.settings, node_address=f"127.0.0.1:{wire.port},localhost:{port}")
        async with service_of(settings, hospital.keystore, hospital.store) as service:
            assert await service.refresh()
            opened = service._channel
            assert opened is not None
            wire.cut()
            wire.drop()
            async with asyncio.timeout(PATIENCE_S):
                await opened.wait_for_state_change(grpc.ChannelConnectivity.READY)
            assert await service.refresh()


async def test_the_service_knows_its_callers_by_their_statements(house: World, tmp_path: Path) -> None:
    """A TLS key alone, though the transport's authority signed it, is nobody; nor is it another's."""
    hospital, insurer = house["hospital"], house["insurer"]
    async with alone(tmp_path, house, "hospital", "insurer") as contact, moved(insurer, contact) as service:
        other = house.served.core.directory.member(hospital.id).envelope
        service._statement = lambda: other
        await refused("key.unknown", service.refresh())
        bare = pseudonym_pb2_grpc.PseudonymServiceStub(_channel(service, insurer))
        assert await refusal(bare.FetchKeys(pseudonym_pb2.FetchKeysRequest())) == "participant.unknown"


def _channel(service: PseudonymService, one: Participant) -> grpc.aio.Channel:
    found = service._contact
    certificate = one.settings.certificate.read_bytes()
    return channel.secure(found.address, channel.mutual(found.authority, one.keystore, certificate))
