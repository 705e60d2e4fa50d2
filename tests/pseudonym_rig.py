"""A broker with its pseudonym service behind real TLS in this process, and participants who really enrolled with it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import grpc
from nacl.signing import SigningKey

from broker import enrolment, home
from broker.home import Home
from broker.pseudonym_keys import PseudonymKeys
from broker.serving import Listen, Served, build, start
from broker.store import tables
from broker.witnesses import Pace
from clients import channel, config, enrol
from clients.config import NodeConfig, Pin
from clients.directory import Directory
from clients.enrol import Invitation
from clients.keystore import FileKeystore, participant_of
from clients.pseudonym_service import PseudonymService
from clients.store import Store
from tests.formats import seed
from tests.fresh import fresh_database
from zhifu import cbor, pseudonym, receipt
from zhifu.bill_forms import citizen_check_digit
from zhifu.envelope import Envelope
from zhifu.pseudonym import CITIZEN_ID, identifier
from zhifu.quota import Quota
from zhifu.v1 import pseudonym_pb2_grpc

ORIGIN: Final = "log.example/pseudonyms"
OPERATORS: Final = tuple(SigningKey(seed(f"operator {i}")) for i in range(2))
ROLES: Final[Mapping[str, str]] = {
    "hospital": "hospital", "other hospital": "hospital", "insurer": "insurer", "rival": "insurer",
    "payer": "public-payer",
}  # fmt: skip


def now() -> int:
    return int(time.time())


def citizen(number: int) -> str:
    """A citizen ID in a region that is none."""
    first17 = f"999999{1950 + number % 50}0101{number % 1000:03d}"
    return first17 + citizen_check_digit(first17)


def person(number: int) -> bytes:
    return identifier(CITIZEN_ID, citizen(number))


@dataclass
class Participant:
    """An enrolled participant with its keys, its memory, and its way to the service."""

    settings: NodeConfig
    keystore: FileKeystore
    store: Store
    service: PseudonymService

    @property
    def id(self) -> bytes:
        return participant_of(self.keystore)

    def stub(self) -> pseudonym_pb2_grpc.PseudonymServiceStub:
        """For what the client would not send."""
        opened = channel.secure(self.settings.node_address, channel.node_credentials(self.settings, self.keystore))
        return pseudonym_pb2_grpc.PseudonymServiceStub(opened)


@dataclass
class World:
    """A broker's folder, its running service, and who enrolled."""

    home: Home
    served: Served
    members: dict[str, Participant] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Participant:
        return self.members[name]

    @property
    def keys(self) -> PseudonymKeys:
        """The folder of keys, as the operator's commands see it."""
        return PseudonymKeys(self.home.path)

    def quota(self, allowed: int, epoch: int = 1, whose: str = "insurer", at: int = 0) -> list[Envelope]:
        """What two operators sign."""
        one = Quota(ORIGIN, self[whose].id, epoch, allowed, at or now())
        return [one.sign(key) for key in OPERATORS]

    def recorded(self) -> list[tuple[str, str, str, int, str]]:
        """The pseudonym service's entries: (event, caller, recipient, how many, reason), by the members' names."""
        names = {one.id: name for name, one in self.members.items()} | {b"": ""}
        found = []
        for row in self.served.core.store.reader.scan(tables.Entry):
            meta = receipt.parse_meta(row.meta) if row.kind == 0 else None
            if meta is not None and meta.event.startswith("pseudonym.") and meta.event != "pseudonym.quota":
                _, _, count = cbor.array(receipt.parse_detail(row.detail).documents[0], 64, 3)
                who, whom = names[meta.sender], names[meta.recipient]
                found.append((meta.event.removeprefix("pseudonym."), who, whom, count, meta.reason))
        return found

    async def restart(self) -> None:
        """Stop the broker and start it again on its ports; what it held in memory is gone."""
        await self.served.stop()
        # No node is attached to be a witness, so none is waited for.
        self.served = await start(build(self.home, None, pace=Pace(hear_s=0.0)), self.home, Listen(*self.served.ports))


@asynccontextmanager
async def world(path: Path, *names: str) -> AsyncIterator[World]:
    """A broker and the participants of these names (of `ROLES`), who pin each other."""
    opened = home.create(path / "broker", ORIGIN, now(), [bytes(key.verify_key) for key in OPERATORS])
    fresh_database(opened.database)
    found = World(opened, await start(build(opened, None), opened))
    try:
        for name in names or tuple(ROLES):
            found.members[name] = await _join(found, path / name, ROLES[name], name)
        _pin(found.members)
        yield found
    finally:
        for member in found.members.values():
            await member.service.close()
            member.store.close()
        await found.served.stop()


async def _join(found: World, path: Path, role: str, name: str) -> Participant:
    core, opened = found.served.core, found.home
    done = await core.committer.run(lambda state, _, now_ms: enrolment.invite(role, name, state, now_ms))
    node, public = (f"127.0.0.1:{port}" for port in found.served.ports)
    invitation = Invitation(done.result, role, name, node, public, ORIGIN, opened.vkey.encode(), opened.read("ca.crt"))
    settings = await enrol.enrol(invitation, path)
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    return Participant(settings, keystore, store, service_of(settings, keystore, store))


def service_of(settings: NodeConfig, keystore: FileKeystore, store: Store) -> PseudonymService:
    own = Directory(settings.pins, keystore, store)
    return PseudonymService(settings, keystore, store, lambda: own.own(now()))


def _pin(members: Mapping[str, Participant]) -> None:
    for one in members.values():
        pins = {other.id: Pin(other.settings.role, other.settings.name) for other in members.values() if other != one}
        one.settings = replace(one.settings, pins=pins)
        config.write(one.settings)


def reason(error: grpc.aio.AioRpcError) -> str:
    """The catalogue's reason of a refused call."""
    return channel.refusal(error).reason


async def refusal(call: Any) -> str:
    """The reason with which an awaited stub call is refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    raise AssertionError("it was not refused")


def elements(count: int) -> Sequence[bytes]:
    """Blinded elements as a client sends them."""
    return [one.element for one in pseudonym.blind(person(i) for i in range(count))]
