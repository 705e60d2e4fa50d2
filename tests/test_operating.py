"""A house as its operators see it: figures, probes and log lines of processes, that tell the truth and nothing more."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker.counts import COUNTS
from broker.readiness import Readiness
from clients.hospital.sample import sample_bill
from tests.broker_rig import rig
from tests.house import House, ask, open_house, until
from tests.test_commit import Faults, FaultyStore
from tests.test_deploy import mentioned
from zhifu import bill as bills

METRICS = ("--metrics-port", "0")
SEED = 42
HISTOGRAM = ("bucket", "sum", "count")


class Operated(House):
    """A house whose broker and nodes tell figures."""

    def start(self, role: str, *more: str, code: str = "") -> None:
        House.start(self, role, *METRICS, *more, code=code)

    def get(self, role: str, path: str) -> httpx.Response:
        return ask("GET", f"http://127.0.0.1:{self.said(role)['metrics_port']}{path}", timeout=20)

    def figures(self, role: str) -> dict[str, float]:
        lines = self.get(role, "/metrics").raise_for_status().text.splitlines()
        found = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in found}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with open_house(tmp_path_factory.mktemp("operating"), kind=Operated) as opened:
        assert isinstance(opened, Operated)
        bill = sample_bill(SEED)
        patient = opened.enrol(bill)
        opened.settle(bill, opened.consent(patient, bill)).ok()
        yield opened


def test_figures_of_a_settlement(house: Operated) -> None:
    def settled() -> dict[str, float] | None:
        found = house.figures("broker")
        return found if found['zhifu_broker_queued_deliveries{recipient="patients"}'] else None

    # The statement to the patient is the last of it, and waits in her mailbox.
    found = until(settled, "the statement is queued")
    assert found['zhifu_broker_exchanges_total{outcome="accepted",purpose="public-settlement"}'] >= 2
    assert found['zhifu_broker_exchanges_total{outcome="accepted",purpose="commercial-settlement"}'] >= 2
    assert found['zhifu_broker_exchanges_ended_total{state="delivered"}'] >= 4
    assert {name: found[f'zhifu_broker_streams{{role="{name}"}}'] for name in ("hospital", "insurer")} == {
        "hospital": 1,
        "insurer": 1,
    }
    assert found["zhifu_broker_commit_exchanges_count"] > 0
    assert found["zhifu_broker_ready"] == 1
    with house.store("hospital") as store:
        assert 0 < store.trust.head().size <= found["zhifu_broker_log_entries"]
    node = house.figures("hospital")
    assert node["zhifu_node_attached"] == node["zhifu_node_ready"] == 1
    assert node['zhifu_node_results_total{result="accepted"}'] >= 4
    assert node["zhifu_node_evidence"] == 0
    assert node["zhifu_node_cosigned_entries"] > 0
    # A witness of every participant, by the beginning of its id; and of certificates the days that are left.
    assert sum("zhifu_broker_witness_age_seconds" in name for name in found) == 3
    assert 'zhifu_broker_certificate_expiry_timestamp_seconds{certificate="tls.crt"}' in found


def test_what_the_operators_watch_is_told(house: Operated, repo_root: Path) -> None:
    """Every metric in the dashboard and the alarms is one that these processes have."""
    told = "\n".join(house.get(role, "/metrics").text for role in ("broker", "insurer"))
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", told, re.MULTILINE))
    names = set(kinds) | {f"{name}_{end}" for name, kind in kinds.items() if kind == "histogram" for end in HISTOGRAM}
    for where, found in mentioned(repo_root / "deploy").items():
        assert found <= names, where


def test_nothing_that_is_told_names_the_patient(house: Operated) -> None:
    """Neither figures nor log lines, of either side: JSON, without a value of the bill."""
    bill = json.loads(sample_bill(SEED))
    head = bills.parse(sample_bill(SEED)).setlinfo
    values = {str(value) for value in bill["setlinfo"].values() if len(str(value)) >= 6 or value == head.psn_name}
    assert head.psn_name in values
    assert head.certno in values
    for role in ("broker", *house.nodes):
        told = house.get(role, "/metrics").text
        lines = house.log(role)
        for line in lines.splitlines():
            assert isinstance(json.loads(line), dict)
        assert not [value for value in values if value in told or value in lines]


def test_a_node_without_its_broker_is_not_ready(house: Operated) -> None:
    assert house.get("insurer", "/readyz").json()["ready"] is True
    house.kill("broker")
    until(lambda: house.get("insurer", "/readyz").status_code == 503, "the node misses its broker")
    said = house.get("insurer", "/readyz").json()
    assert (said["ready"], said["reasons"]) == (False, ["unavailable.broker"])
    assert house.get("insurer", "/livez").status_code == 200
    house.restart("broker")
    until(lambda: house.get("insurer", "/readyz").status_code == 200, "the node is back")


def test_a_draining_broker_says_so(house: Operated) -> None:
    quiet = {"ready": True, "reasons": [], "notes": []}
    until(lambda: house.get("broker", "/readyz").json() == quiet, "a majority of witnesses was heard")
    with house.frozen("hospital"):
        # A node that does not read keeps the broker draining for as long as it waits for it.
        house.running["broker"].process.send_signal(signal.SIGTERM)
        until(lambda: house.get("broker", "/readyz").status_code == 503, "the broker drains")
        assert house.get("broker", "/readyz").json()["reasons"] == ["unavailable.draining"]
    house.running["broker"].process.wait(40)
    house.restart("broker")


async def test_a_store_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    """It says so within one look, keeps looking, and says when it can be written again."""
    said: list[bool] = []
    failures = COUNTS.commit_failures

    async def say(ready: bool) -> None:
        said.append(ready)

    faults = Faults()
    async with rig(tmp_path, store=lambda store: FaultyStore(store, faults)) as broker:
        readiness = Readiness(broker.core, say)

        async def look(*, fails: bool) -> str:
            faults.before_commit = fails
            await readiness.look()
            return " ".join(readiness.why_not)

        assert await look(fails=False) == ""
        broker.core.committer.committed_s = float("-inf")
        # A commit that failed is tried again at once, not only when nothing was committed for a while.
        assert [await look(fails=True), await look(fails=True)] == ["unavailable.store"] * 2
        assert COUNTS.commit_failures == failures + 2
        assert await look(fails=False) == ""
        await readiness.drain()
        assert await look(fails=False) == "unavailable.draining"
        assert said == [True, False, True, False]
