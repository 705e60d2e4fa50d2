"""A seeded slice of what ``make soak`` sends to every method: each call ends with a status of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.core import Timing
from tests.broker_rig import serving
from tests.formats import HOSPITAL
from tests.soak import rpcs

FRAMES = 24


async def test_no_request_brings_out_what_is_inside(tmp_path: Path) -> None:
    async with serving(tmp_path, timing=Timing(hello_s=0.2)) as server:
        found = await rpcs.fuzz(server.node(HOSPITAL), server.channel(None, public=True), FRAMES, seed=7)
    assert found.faults == ()
    assert found.calls == FRAMES * len(list(rpcs.methods()))
    assert len(found.answers) >= 4, "the requests reach different checks"


async def test_a_method_that_writes_by_itself_is_served_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        stub: Any = health_pb2_grpc.HealthStub(server.channel(None, public=True))
        call = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        call.cancel()


def test_bytes_are_read_or_are_no_request() -> None:
    found = rpcs.decode(50, seed=3)
    assert found.faults == ()
    assert found.calls == 50 * len(list(rpcs.methods()))
    assert len(found.answers) == 2


def test_every_method_is_asked(repo_root: Path) -> None:
    declared = [path.read_text("utf-8") for path in (repo_root / "proto/zhifu/v1").glob("*.proto")]
    names = sorted(name for text in declared for name in re.findall(r"^  rpc (\w+)\(", text, re.MULTILINE))
    assert sorted(method.name for method in rpcs.methods()) == names
    assert {method.containing_service.name for method in rpcs.methods()} >= set(rpcs.PUBLIC)
