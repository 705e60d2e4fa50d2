"""``/metrics``, ``/livez`` and ``/readyz`` of a node, over HTTP on loopback: for its operator's own monitoring."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage
from typing import Final

from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients import durable
from clients.counts import COUNTS, Counts
from clients.node import Node
from zhifu import witness
from zhifu.errors import Error

PREFIX: Final = "zhifu_node_"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_TRY_S: Final = 5.0
_MAX_PEM: Final = 65_536
_PROBE: Final = "readiness"


class Readiness:
    """Whether this node exchanges: it is attached, and its store can be written, which is tried every five seconds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tried_s = float("-inf")
        self._store = ""

    @property
    def reasons(self) -> list[str]:
        """Why it does not, as reasons of the catalogue; empty if it does."""
        self._try()
        failure = self._node.failure
        stopped = failure.reason if failure is not None else ""
        attached = "" if self._node.is_attached else "unavailable.broker"
        return [reason for reason in (stopped or attached, self._store) if reason]

    def _try(self) -> None:
        now = time.monotonic()
        if not self._store and now - self._tried_s < _TRY_S:
            return
        self._tried_s, store = now, self._node.store
        try:
            with store.transaction():
                store.trust.move_cursor(_PROBE, time.time_ns())
            self._store = ""
        except Error as error:
            self._store = error.reason


def app(node: Node) -> Starlette:
    """Probes answer 200 for yes and 503 for no, with reasons and the witness's state."""
    readiness = Readiness(node)

    async def figures(_request: Request) -> Response:
        return Response(render(node, readiness), media_type=_TEXT)

    async def alive(_request: Request) -> Response:
        # Whoever reads this runs, and everything runs on the same loop.
        return JSONResponse({"alive": True})

    async def ready(_request: Request) -> Response:
        reasons, ours = readiness.reasons, witness.name_of(node.participant)
        said = {
            "ready": not reasons,
            "reasons": reasons,
            "clock_offset_ms": node.clock_ms.offset_ms,
            "head": node.store.trust.head().size,
            "cosigned": node.store.trust.cosigned(ours),
        }
        return JSONResponse(said, 503 if reasons else 200)

    return Starlette(routes=[Route("/metrics", figures), Route("/livez", alive), Route("/readyz", ready)])


def render(node: Node, readiness: Readiness) -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for families in (_counted(COUNTS), _running(node, readiness), _witness(node), _kept(node)):
        registry.register(_Families(families))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Iterator[Metric]) -> None:
        self._families: list[Metric] = []
        try:
            self._families.extend(families)
        except Error:
            # A store that cannot be read is told by the figures that need none.
            return

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _counted(counts: Counts) -> Iterator[Metric]:
    yield _counter(
        "incoming", "Deliveries that were acknowledged, by reason; none: opened.", "reason", counts.incoming
    )  # fmt: skip
    yield _counter("postponed", "Deliveries that could not be taken yet.", "reason", counts.postponed)
    yield _counter("results", "Results of submissions: accepted, or why not.", "result", counts.results)
    yield CounterMetricFamily(PREFIX + "streams", "Streams that were opened.", counts.streams)
    yield _counter("streams_lost", "Streams that broke, or could not be opened.", "reason", counts.streams_lost)


def _running(node: Node, readiness: Readiness) -> Iterator[Metric]:
    yield _gauge("build_info", "The version that runs.", "version", {version("zhifu"): 1})
    yield GaugeMetricFamily(PREFIX + "attached", "1 while exchanges flow.", node.is_attached)
    yield GaugeMetricFamily(PREFIX + "ready", "1 while attached and the store can be written.", not readiness.reasons)
    offset = node.clock_ms.offset_ms / 1000
    yield GaugeMetricFamily(PREFIX + "clock_offset_seconds", "The broker's clock minus this one.", offset)


def _witness(node: Node) -> Iterator[Metric]:
    trust = node.store.trust
    yield GaugeMetricFamily(PREFIX + "log_entries", "Entries of the log as far as verified.", trust.head().size)
    cosigned = trust.cosigned(witness.name_of(node.participant))
    yield GaugeMetricFamily(PREFIX + "cosigned_entries", "Entries that this node has cosigned.", cosigned)
    when = COUNTS.cosigned_ms / 1000
    yield GaugeMetricFamily(PREFIX + "cosigned_timestamp_seconds", "When it cosigned last; 0: not since start.", when)
    found = node.store.backlog()
    yield GaugeMetricFamily(PREFIX + "unanswered_presentations", "What waits for a result.", found.unanswered)
    yield GaugeMetricFamily(PREFIX + "pending_receipts", "Receipts that are not final.", found.pending_receipts)
    yield GaugeMetricFamily(PREFIX + "evidence", "Pieces of evidence that the broker lied.", found.evidence)


def _kept(node: Node) -> Iterator[Metric]:
    settings = node.config
    dates = {path.name: _expiry(path) for path in (settings.authority, settings.certificate)}
    yield _gauge("certificate_expiry_timestamp_seconds", "When a certificate ends.", "certificate", dates)
    sizes = {path.name: path.stat().st_size for path in settings.directory.glob(settings.database.name + "*")}
    yield _gauge("store_bytes", "Files of the database.", "file", sizes)
    free = disk_usage(settings.directory).free
    yield GaugeMetricFamily(PREFIX + "disk_free_bytes", "Free on the disk of the node's folder.", free)


def _expiry(path: Path) -> float:
    return x509.load_pem_x509_certificate(durable.read(path, _MAX_PEM)).not_valid_after_utc.timestamp()


def _counter(name: str, text: str, label: str, numbers: Mapping[str, float]) -> CounterMetricFamily:
    found = CounterMetricFamily(PREFIX + name, text, labels=(label,))
    for value, number in numbers.items():
        found.add_metric((value,), number)
    return found


def _gauge(name: str, text: str, label: str, numbers: Mapping[str, float]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(PREFIX + name, text, labels=(label,))
    for value, number in numbers.items():
        found.add_metric((value,), number)
    return found
