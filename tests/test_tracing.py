"""Spans as a collector gets them over a real socket: which stages, how many, why not; nothing of a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import tracing
from tests.broker_rig import present, rig
from tests.collector import Collector, collecting
from tests.formats import RIVAL

STAGES = {"accept", "decide", "consent", "consume", "gate.check", "gate.release", "commit"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


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
