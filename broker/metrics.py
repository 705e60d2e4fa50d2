"""The broker's figures for Prometheus: what `broker.counts` counted, and what is looked up when somebody asks.

Names end in their unit; labels are closed lists, or ids of participants, which the directory bounds: patients, who are
recipients too, are one figure together.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final

from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.commit import MAX_WAITING
from broker.core import Core
from broker.counts import COUNTS, Counts, Histogram
from broker.home import Home
from broker.readiness import Readiness
from broker.store import tables
from zhifu import witness
from zhifu.errors import Error

PREFIX: Final = "zhifu_broker_"
_PATIENTS: Final = "patients"
_CERTIFICATES: Final = ("ca.crt", "tls.crt")


def name_of(participant: bytes) -> str:
    """A participant as in the log lines: the beginning of its id, in hex."""
    return participant.hex()[:16]


def render(core: Core, opened: Home, readiness: Readiness, queue: list[tuple[bytes, int, int]]) -> bytes:
    """All of it in Prometheus' text format; ``queue`` is `Reader.waiting`, which is read elsewhere than on the loop."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for families in (_counted(COUNTS), _running(core, readiness), _log(core), _queue(core, queue), _kept(opened)):
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
    found = CounterMetricFamily(
        PREFIX + "exchanges", "Submissions that were answered.", labels=("outcome", "purpose")
    )  # fmt: skip
    for (outcome, purpose), number in counts.exchanges.items():
        found.add_metric((outcome, purpose), number)
    yield found
    yield _counter("refusals", "Submissions that were refused.", "reason", counts.refusals)
    yield _counter("calls_refused", "Calls and streams that were ended with an error.", "reason", counts.calls_refused)
    yield _counter("exchanges_ended", "Exchanges that ended, by what became of them.", "state", counts.ended)
    yield _counter("streams_ended", "Streams that the broker ended.", "reason", counts.streams_ended)
    yield CounterMetricFamily(PREFIX + "deliveries", "Deliveries that were sent.", counts.deliveries)
    yield CounterMetricFamily(
        PREFIX + "redeliveries", "Deliveries that were sent again, their lease being over.", counts.redeliveries
    )
    yield CounterMetricFamily(PREFIX + "commit_failures", "Commits that failed.", counts.commit_failures)
    yield _histogram("commit_exchanges", "Exchanges in one commit.", counts.commits)
    yield _histogram("commit_duration_seconds", "From a batch's first row to its being durable.", counts.commit_seconds)
    yield _histogram("frame_duration_seconds", "From a frame's arrival to its answer.", counts.frame_seconds)


def _running(core: Core, readiness: Readiness) -> Iterator[Metric]:
    yield GaugeMetricFamily(PREFIX + "ready", "1 while exchanges are taken.", readiness.ready)
    yield GaugeMetricFamily(PREFIX + "waiting_exchanges", "Exchanges that wait for a commit.", core.committer.waiting)
    yield GaugeMetricFamily(PREFIX + "waiting_exchanges_limit", "Above this, exchanges are refused.", MAX_WAITING)
    streams = Counter(core.directory.member(node).role for node in core.mailroom.attached)
    yield _gauge("streams", "Attached nodes.", "role", streams)
    leased = sum(outgoing.leased for outgoing in core.mailroom.every)
    yield GaugeMetricFamily(PREFIX + "leased_deliveries", "Deliveries that were sent and not acknowledged.", leased)
    members = GaugeMetricFamily(PREFIX + "participants", "Who is enrolled.", labels=("role", "status"))
    for (role, status), number in Counter((one.role, one.status) for one in core.directory.members).items():
        members.add_metric((role, status), number)
    yield members
    yield GaugeMetricFamily(PREFIX + "clock_seconds", "The broker's clock.", core.clock_ms() / 1000)
    yield _gauge("build_info", "The version that runs.", "version", {version("zhifu"): 1})


def _log(core: Core) -> Iterator[Metric]:
    witnesses, now_ms = core.witnesses, core.clock_ms()
    yield GaugeMetricFamily(PREFIX + "log_entries", "Entries of the log.", core.log.size)
    yield GaugeMetricFamily(PREFIX + "witnessed_entries", "Entries that a majority has cosigned.", witnesses.witnessed)
    yield GaugeMetricFamily(
        PREFIX + "unwitnessed_seconds", "Age of the oldest checkpoint without a majority.", witnesses.unwitnessed_s
    )
    members = [(one.id, witnesses.seen.get(witness.name_of(one.id))) for one in core.directory.members]
    ages = {name_of(node): (now_ms - seen.time_ms) / 1000 for node, seen in members if seen is not None}
    yield _gauge("witness_age_seconds", "Since a witness cosigned last.", "witness", ages)


def _queue(core: Core, queue: list[tuple[bytes, int, int]]) -> Iterator[Metric]:
    counts = dict.fromkeys([*(name_of(one.id) for one in core.directory.members), _PATIENTS], 0)
    known = {one.id for one in core.directory.members}
    for recipient, number, _ in queue:
        counts[name_of(recipient) if recipient in known else _PATIENTS] += number
    yield _gauge("queued_deliveries", "Deliveries that are not acknowledged.", "recipient", counts)
    oldest = min((entry for recipient, _, entry in queue if recipient in known), default=None)
    entry = core.store.reader.get(tables.Entry, oldest) if oldest is not None else None
    age = (core.clock_ms() - entry.time_ms) / 1000 if entry is not None else 0
    yield GaugeMetricFamily(PREFIX + "queue_age_seconds", "Age of a node's oldest delivery that waits.", age)


def _kept(opened: Home) -> Iterator[Metric]:
    dates = {name: expiry(opened.read(name)) for name in _CERTIFICATES}
    yield _gauge("certificate_expiry_timestamp_seconds", "When a certificate ends.", "certificate", dates)
    sizes = {path.name: path.stat().st_size for path in opened.path.glob("*.db*")}
    yield _gauge("store_bytes", "Files of the database.", "file", sizes)
    free = shutil.disk_usage(opened.path).free
    yield GaugeMetricFamily(PREFIX + "disk_free_bytes", "Free on the disk of the broker's folder.", free)


def expiry(pem: bytes) -> float:
    """When a certificate (PEM) ends, Unix s."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


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


def _histogram(name: str, text: str, of: Histogram) -> HistogramMetricFamily:
    below, buckets = 0, []
    for bound, number in zip([*of.bounds, float("inf")], of.counts, strict=True):
        below += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(below)))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=of.sum)
