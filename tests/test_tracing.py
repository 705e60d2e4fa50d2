"""Spans as a collector gets them over a real socket: which stages, how many, why not; nothing of a record."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from broker import tracing
from tests.broker_rig import present, rig
from tests.formats import RIVAL

STAGES = {"accept", "decide", "consent", "consume", "gate.check", "gate.release", "commit"}


@dataclass
class Collector:
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for one in requests for resource in one.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Taking) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


async def test_spans_name_stages_and_nothing_else(tmp_path: Path, collector: Collector) -> None:
    async with rig(tmp_path) as broker:
        flush = tracing.instrument(broker.core)
        await broker.submit(present(broker.statute()))
        # Statute is a basis towards the public payer only: refused, and said why.
        await broker.submit(present(broker.statute(RIVAL)))
        flush()
    spans = collector.spans
    assert {span.name for span in spans} >= STAGES
    said = {(one.key, one.value.WhichOneof("value")) for span in spans for one in span.attributes}
    assert said == {("zhifu.count", "int_value"), ("zhifu.reason", "string_value")}
    reasons = {one.value.string_value for span in spans for one in span.attributes if one.key == "zhifu.reason"}
    assert reasons == {"policy.denied"}
    assert not [span for span in spans if span.events or span.status.message]


async def test_without_it_no_stage_is_wrapped(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        assert not [vars(owner) for owner in (broker.core.gate, broker.core.committer) if "check" in vars(owner)]
        assert "run" not in vars(broker.core.committer)
