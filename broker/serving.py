"""What serves: the broker's parts wired over its folder, their sockets, and the way down again.

The only place where the parts are put together. Data goes to stdout, log lines (JSON) to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import httpx
import uvloop
from starlette.applications import Starlette

from broker import feeding, home, log, pseudonym_home, tracing
from broker.audit import Log
from broker.commit import Committer
from broker.consent import Consent
from broker.core import Core
from broker.directory import Directory
from broker.gate import Gate
from broker.home import Home
from broker.in_force import InForce
from broker.indexing import Indexer
from broker.pipeline import Pipeline
from broker.quota import Quotas
from broker.readiness import Readiness
from broker.renewing import Renewal
from broker.revocation import Revoker
from broker.services import http
from broker.services import log as log_service
from broker.services import ports as listening
from broker.services.audit import AuditService
from broker.services.code import CodeService
from broker.services.enrolment import EnrolmentService
from broker.services.erasing import LogService
from broker.services.exchange import ExchangeService
from broker.services.http import LOOPBACK
from broker.services.parcel import ParcelService
from broker.services.wallet import WalletService
from broker.steady import steadily
from broker.store import opening
from broker.store.audit_index import AuditIndex
from broker.witnesses import Pace, Witnesses
from policies import load
from zhifu.errors import Error, Refused
from zhifu.v1 import (
    audit_pb2_grpc,
    code_pb2_grpc,
    enrolment_pb2_grpc,
    exchange_pb2_grpc,
    log_pb2_grpc,
    parcel_pb2_grpc,
    pseudonym_pb2_grpc,
    wallet_pb2_grpc,
)

DRAIN_S: Final = 10.0
_COUNT_S: Final = 15.0
_log = logging.getLogger("broker.serving")
_COLLECT_AFTER: Final = 20_000
"""New objects: a full frame makes some thousands, and drops them without a collector's help."""
AUDIT_INDEX: Final = "audit-index.db"
_PACE: Final = Pace()
_HEAR_SHARED_S: Final = 5.0
_ANY: Final = ("0.0.0.0", "[::]")


def build(opened: Home, policy: Path | None, clock: Callable[[], int] | None = None, pace: Pace = _PACE) -> Core:
    """Put the parts together over the folder's database; ``clock`` gives Unix ms, else the database does.

    Raises `Refused` (unavailable.store, policy.invalid), `NotAuthentic` (log.corrupt).
    """
    store = opened.open_store()
    clock = clock or store.clock_ms
    bundle = load.load(policy)
    audit = Log(opened.origin, opened.log_key, store.reader)
    directory = Directory(store.reader)
    gate = Gate(opened.gate_keys)
    committer = Committer(store, audit, clock)
    return Core(
        store=store,
        log=audit,
        committer=committer,
        directory=directory,
        gate=gate,
        pipeline=Pipeline(Consent(bundle.hash), gate, bundle, directory),
        witnesses=Witnesses(audit, committer, directory, clock, pace, feeding.policy_of(opened.path)),
        in_force=InForce(audit, store.reader),
        revoker=Revoker(opened.origin, directory, opened.hotline),
        pepper=opened.pepper,
        quotas=Quotas(opened.quota, opened.own_quotas),
        gate_statement=lambda: opened.gate_statement(clock() // 1000),
        clock_ms=clock,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A broker with its sockets: nodes on one port (mTLS), wallets and newcomers on the other."""

    core: Core
    exchange: ExchangeService
    servers: tuple[grpc.aio.Server, grpc.aio.Server]
    ports: tuple[int, int]
    readiness: Readiness
    background: Sequence[asyncio.Task[None]]
    indexer: Indexer

    async def stop(self) -> None:
        """Drain: not serving, reconnect frames, answer and commit what was taken, stop."""
        await self.readiness.drain()
        for task in self.background:
            task.cancel()
        self.exchange.drain("unavailable.draining")
        await asyncio.gather(*(server.stop(DRAIN_S) for server in self.servers))
        await self.core.committer.close()
        self.indexer.index.close()
        self.core.store.close()


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a broker listens: ports, 0 for a free one, ``metrics`` None for none; that one's address is its own, since
    it tells whoever asks. ``host`` is what invitations tell others to reach the broker by.
    """

    node: int = 0
    public: int = 0
    log: int = 0
    metrics: int | None = None
    address: str = LOOPBACK
    metrics_address: str = LOOPBACK
    host: str = LOOPBACK


_LISTEN: Final = Listen()


async def start(core: Core, opened: Home, at: Listen = _LISTEN) -> Served:
    """Bind, serve and say so. Raises `Refused` (unavailable.port)."""
    exchange = ExchangeService(core)
    nodes, wallets = listening.server(keepalive_ms=core.timing.keepalive_ms), listening.server(short_lived=True)
    exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(exchange, nodes)
    pseudonym_pb2_grpc.add_PseudonymServiceServicer_to_server(pseudonym_home.within(core, opened), nodes)
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
        EnrolmentService(core, opened, exchange.broadcast), wallets
    )
    wallet_pb2_grpc.add_WalletServiceServicer_to_server(WalletService(core), wallets)
    indexer = _indexer(core, opened)
    log_pb2_grpc.add_LogServiceServicer_to_server(LogService(core, opened.operators, indexer.index.forget), wallets)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(core, indexer, opened.open_read_only), nodes)
    code_pb2_grpc.add_CodeServiceServicer_to_server(CodeService(core), nodes)
    parcel_pb2_grpc.add_ParcelServiceServicer_to_server(ParcelService(core), nodes)
    checks = tuple(listening.health(server) for server in (nodes, wallets))
    ports = (
        listening.bind(nodes, opened, at.node, "ca.crt", at.address),
        listening.bind(wallets, opened, at.public, None, at.address),
    )
    exchange.tell_witnesses()
    background = [steadily(core.witnesses.run), steadily(core.sweep), steadily(Renewal(opened, core.clock_ms).run)]
    background.append(steadily(lambda: exchange.watch(lambda: _gate_key(core, opened))))
    bell = opening.bell_of(opened.store)
    if bell is not None:
        core.mailroom.ring = bell.ring
        background.append(steadily(partial(bell.run, exchange.heard)))
    await asyncio.gather(nodes.start(), wallets.start())
    opened.write_ports(*ports, at.host)
    readiness = Readiness(core, lambda ready: listening.say(checks, serving=ready))
    await readiness.look()
    background += [steadily(run) for run in (indexer.follow, readiness.run, partial(_count_queue, core, opened))]
    return Served(core, exchange, (nodes, wallets), ports, readiness, background, indexer)


async def serve(
    opened: Home, policy: Path | None, at: Listen = _LISTEN, pace: Pace = _PACE, *, trace: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    core = build(opened, policy, pace=pace)
    flush = tracing.instrument(core) if trace else _nothing
    log_socket = http.bind(at.log, at.address)
    monitored = http.bind(at.metrics, at.metrics_address) if at.metrics is not None else None
    served = await start(core, opened, at)
    served.readiness.reserve = reserve = opening.reserve_of(opened.path, opened.store)
    # What was loaded by now stays: no collection need look through it again.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    node, public = served.ports
    feeder = steadily(partial(_feed, core, opened))
    async with AsyncExitStack() as stack:
        said = {"node_port": node, "public_port": public, "pid": os.getpid()}
        if monitored is not None:
            # Told until the end: what drains says so.
            said["metrics_port"] = await stack.enter_async_context(http.serving(_monitoring(served, opened), monitored))
        async with http.serving(log_service.app(core), log_socket) as log_port:
            print(json.dumps(said | {"log_port": log_port}), flush=True)
            await _terminated()
        feeder.cancel()
        await served.stop()
        reserve.close()
        flush()


async def _count_queue(core: Core, opened: Home) -> None:
    """Who has too much waiting is looked up now and then, elsewhere than on the loop."""
    while True:
        try:
            core.quotas.counted(await asyncio.to_thread(opened.waiting))
        except Error as error:
            _log.warning("queue not counted", extra={"reason": error.reason})
        await asyncio.sleep(_COUNT_S)


def _nothing() -> None:
    """No spans are waiting."""


def _monitoring(served: Served, opened: Home) -> Starlette:
    # Only who asks for figures waits for what tells them.
    from broker.services import monitoring

    return monitoring.app(served.core, opened, served.readiness)


async def _feed(core: Core, opened: Home) -> None:
    """The regulator's own witnesses, if the folder names some."""
    policy = feeding.policy_of(opened.path)
    if policy.witnesses:
        async with httpx.AsyncClient(timeout=feeding.TIMEOUT_S, trust_env=False) as client:
            await feeding.Feeder(core.witnesses, policy, client).run()


def _indexer(core: Core, opened: Home) -> Indexer:
    """It follows the log once there is an auditor, or somebody searched."""
    index = AuditIndex(opened.path / AUDIT_INDEX)

    def wait() -> bool:
        audited = index.size > 0 or any(one.role == "auditor" for one in core.directory.members)
        return core.committer.busy or core.committer.is_full or not audited

    return Indexer(index, core.log, core.store.reader, wait)


async def serve_pseudonyms(opened: Home, port: int) -> None:
    """The pseudonym service by itself, until SIGTERM or SIGINT."""
    if not (opened.path / pseudonym_home.AUTHORITIES).exists():
        raise Refused("usage.file", "nobody is admitted yet: zhifu pseudonym admit … --authority CA")
    parts, server = pseudonym_home.alone(opened), listening.server()
    pseudonym_pb2_grpc.add_PseudonymServiceServicer_to_server(parts.service, server)
    check = listening.health(server)
    bound = listening.bind(server, opened, port, pseudonym_home.AUTHORITIES)
    parts.committer.start()
    await server.start()
    opened.write_ports(bound, 0)
    await listening.say([check], serving=True)
    renewing = steadily(Renewal(opened).run)
    print(json.dumps({"port": bound, "pid": os.getpid()}), flush=True)
    await _terminated()
    renewing.cancel()
    await listening.say([check], serving=False)
    await server.stop(DRAIN_S)
    await parts.committer.close()
    parts.store.close()


def _gate_key(core: Core, opened: Home) -> bytes:
    """The id of the gate key that is stated now; whatever was drawn or destroyed since is known."""
    opened.read_gate_keys()
    return opened.gate_key(core.now()).id


async def _terminated() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def run(arguments: argparse.Namespace) -> None:
    """``zhifu broker serve``."""
    log.to_stderr()
    opened = home.named(arguments)
    pace = Pace(max_unwitnessed_s=arguments.max_unwitnessed)
    if opened.store:
        # The nodes may all be attached to another broker on the database: they are not waited for as long.
        pace = replace(pace, is_shared=True, hear_s=_HEAR_SHARED_S)
    at = Listen(
        arguments.node_port,
        arguments.public_port,
        arguments.log_port,
        arguments.metrics_port,
        arguments.listen,
        arguments.metrics_listen,
        arguments.host or (LOOPBACK if arguments.listen in _ANY else arguments.listen),
    )
    with opened.alone():
        uvloop.run(serve(opened, arguments.policy, at, pace, trace=arguments.trace))


def run_pseudonyms(arguments: argparse.Namespace) -> None:
    """``zhifu pseudonym serve``."""
    log.to_stderr()
    opened = home.named(arguments)
    with opened.alone():
        uvloop.run(serve_pseudonyms(opened, arguments.port))
