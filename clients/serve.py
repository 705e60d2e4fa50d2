"""One node process: the role that ``node.toml`` names, on the node base; for a hospital its local API too."""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.routing import Mount

from clients import config, durable
from clients.code_service import CodeService
from clients.config import NodeConfig
from clients.hospital import icd_tables, listing, record
from clients.hospital.api import Api
from clients.hospital.cashier.pages import Cashier
from clients.hospital.driving import Driving
from clients.hospital.eligibility import Questions
from clients.hospital.filing import Filing
from clients.hospital.mandates import Mandates
from clients.hospital.offers import Offers
from clients.hospital.pseudonym import Pseudonyms
from clients.hospital.redeem import Codes
from clients.hospital.role import Hospital
from clients.hospital.settlement import Settlements
from clients.insurer import core_system, product, progress
from clients.insurer import product as products
from clients.insurer.core_system import CoreSystem
from clients.insurer.reviewing import Reviewing
from clients.insurer.role import Insurer
from clients.node import Node, serve
from clients.parcel_service import Fetching
from clients.pseudonym_service import PseudonymService
from clients.public_payer import rules
from clients.public_payer.role import PublicPayer
from clients.role import Role
from clients.steady import steady
from clients.web import bounded
from policies import load
from zhifu.errors import Error, Refused
from zhifu.statement import KeyStatement

_CALLING: Final = ("hospital", "insurer")
_PORT: Final = "api.port"
DEFAULT_TABLE: Final = "example-city"


@dataclass(frozen=True, slots=True)
class Options:
    """What a role needs besides its folder."""

    product: str = products.DEFAULT
    table: str = DEFAULT_TABLE
    api_port: int = 0
    core: str = ""
    core_timeout: float = core_system.TIMEOUT_S
    core_decides: bool = False
    metrics_port: int | None = None


class _Server(uvicorn.Server):
    """The node handles signals itself: a second handler would end the one and leave the other."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def role(settings: NodeConfig, options: Options) -> Role:
    """The role's code. Raises `Refused` (usage.argument) for a role that has no node, `Malformed` (usage.argument)."""
    if settings.role == "public-payer":
        return PublicPayer(rules.load(options.table))
    if settings.role == "insurer":
        terms = product.load(options.product)
        return Insurer(terms, core_decides=options.core_decides, folder=settings.directory)
    if settings.role == "hospital":
        return Hospital()
    raise Refused("usage.argument", f"the role {settings.role} has no node to serve: zhifu audit, zhifu console")


async def run(directory: Path, options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `clients.node.Node.open` and `Node.run` do."""
    settings = config.load(directory)
    own = role(settings, options)
    node = Node.open(directory, own)
    try:
        # Before anything is driven or written: another process may be running this node.
        with node.alone():
            (directory / _PORT).unlink(missing_ok=True)
            await _run(node, own, settings, options)
    finally:
        node.store.close()


async def _run(node: Node, own: Role, settings: NodeConfig, options: Options) -> None:
    service = PseudonymService(settings, node.keystore, node.store, lambda: node.directory.own(int(time.time())))
    monitored = _bind(options.metrics_port) if options.metrics_port is not None else None
    beside = [asyncio.create_task(_announce(node, settings.role, monitored))]
    if monitored is not None:
        beside.append(asyncio.create_task(_monitor(node, monitored)))
    if settings.role == "hospital":
        beside.append(asyncio.create_task(asyncio.to_thread(record.prepare)))
    if settings.role in _CALLING:
        beside.append(asyncio.create_task(_keep_keys(node, service)))
    if settings.role == "insurer":
        reviewing = Reviewing(node.store, node.transaction, _core(settings, options))
        beside.append(asyncio.create_task(steady(reviewing.run, "reviewing")))
        if isinstance(own, Insurer):
            beside.append(asyncio.create_task(steady(_fetching(node, settings, own).run, "fetching")))
    try:
        if settings.role == "hospital":
            await _with_api(node, settings, options, service)
        else:
            await serve(node)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await service.close()


def _core(settings: NodeConfig, options: Options) -> CoreSystem | None:
    if not options.core:
        return None
    return CoreSystem(options.core, core_system.secret(settings.directory), options.core_timeout)


async def _monitor(node: Node, bound: socket.socket) -> None:
    # Only who asks for figures waits for what tells them.
    from clients import monitoring

    await _Server(bounded.settings(monitoring.app(node))).serve(sockets=[bound])


def _fetching(node: Node, settings: NodeConfig, own: Insurer) -> Fetching:
    """What an insurer's patients leave for it."""
    now = int(time.time())
    progress.keep_policy(node.store, load.load(settings.policies).hash, now)

    def statements() -> dict[bytes, KeyStatement]:
        at = node.clock_ms() // 1000
        return node.directory.statements(at)

    keystore = node.keystore
    return Fetching(
        settings, keystore, node.store, node.transaction, own, statements, node.clock_ms, lambda: node.is_attached
    )


async def _announce(node: Node, role_word: str, monitored: socket.socket | None) -> None:
    """One line of JSON on stdout once exchanges flow: for whoever started this process."""
    # What the node may end with instead is raised by its run.
    with suppress(Error):
        await node.attached(math.inf)
        said = {"role": role_word, "pid": os.getpid(), "participant": node.participant.hex()}
        if monitored is not None:
            said["metrics_port"] = monitored.getsockname()[1]
        print(json.dumps(said), flush=True)


async def _keep_keys(node: Node, service: PseudonymService) -> None:
    """Know the announced pseudonym keys before a claim needs them, once the broker was found to be ours."""
    with suppress(Error):
        await node.attached(math.inf)
        await steady(service.keep_fresh, "pseudonym-keys")


async def _with_api(node: Node, settings: NodeConfig, options: Options, service: PseudonymService) -> None:
    names = {participant: pin.name for participant, pin in settings.pins.items()}
    pseudonyms = Pseudonyms(node.store, service)
    bundle, keystore = load.load(settings.policies), node.keystore
    offers = Offers(
        node.store, node.outbox, bundle, keystore.signing, settings.origin, node.participant, node.clock_ms
    )  # fmt: skip
    mandates = Mandates(bundle)
    tables = icd_tables.load(settings.code_tables) if settings.code_tables else icd_tables.NO_TABLES
    settlements = Settlements(
        node,
        mandates,
        names,
        pseudonyms,
        node.clock_ms,
        tables,
        offers,
    )
    roles = {node.participant: settings.role} | {one: pin.role for one, pin in settings.pins.items()}
    service_of_codes = CodeService(settings, keystore, node.participant)
    codes = Codes(node.store, service_of_codes, node.participant, node.clock_ms)
    driving = Driving(settlements, node.store, node.clock_ms)
    public_payer = _public_payer(roles)
    questions = Questions(node, mandates, pseudonyms, names, public_payer, node.clock_ms, tables)
    api = Api(settlements, codes, driving, questions, node.store, roles, names, public_payer, _token(settings))
    cashier = Cashier(api, driving, settings.directory)
    bound = _bind(options.api_port)
    server = _Server(bounded.settings(api.app([Mount("/", cashier.app())])))
    durable.write(settings.directory / _PORT, str(bound.getsockname()[1]).encode())
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    listing.complete(node.store)
    driving.resume()
    sweeping = asyncio.create_task(steady(driving.sweep, "sweeping"))
    files = Filing(settlements, driving, service_of_codes, node.store, node.clock_ms)
    filing = asyncio.create_task(steady(files.run, "filing"))
    try:
        await serve(node)
    finally:
        filing.cancel()
        sweeping.cancel()
        server.should_exit = True
        await asyncio.gather(serving, filing, sweeping, driving.close(), return_exceptions=True)


def _public_payer(roles: Mapping[bytes, str]) -> bytes:
    return next((participant for participant, name in roles.items() if name == "public-payer"), b"")


def _token(settings: NodeConfig) -> str:
    """The local API's bearer token, in a file that only the node's owner can read."""
    return durable.once(settings.directory / "api.token", lambda: secrets.token_urlsafe(32).encode(), 256).decode()


def _bind(port: int) -> socket.socket:
    """Loopback only. Raises `Refused` (unavailable.port)."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise Refused("unavailable.port", f"port {port}: {error.strerror}") from error
    return bound
