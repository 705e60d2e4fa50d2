"""The console's rules without a browser: what makes an alert, what a chart adds up to, what a policy lets whom see."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from clients.auditor import report
from clients.auditor.console import alerts, charts, matrix
from clients.auditor.console.alerts import Rules
from clients.auditor.console.reviews import Review
from clients.auditor.remote import Auditor, Counts, Standing
from clients.auditor.rows import AWAITING, Proven, Row
from clients.config import NodeConfig, Pin
from clients.keystore import FileKeystore
from clients.store import Store
from policies import load
from tests.formats import HOSPITAL, INSURER, NOW, ORIGIN, seed
from zhifu import receipt
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.consent import Revocation
from zhifu.receipt import Detail, Entry
from zhifu.trail import Words
from zhifu.v1 import audit_pb2
from zhifu.v1.signed_pb2 import REVOKER_HOTLINE

NOON = int(datetime(2026, 3, 2, 12).timestamp()) // 3600
MIDNIGHT = int(datetime(2026, 3, 2, 0).timestamp()) // 3600


@pytest.fixture
def auditor(tmp_path: Path) -> Iterator[Auditor]:
    keystore = FileKeystore.draw(tmp_path / "keys")
    store = Store(tmp_path / "node.db", keystore)
    key = VerifierKey(ORIGIN, SignatureType.ED25519, bytes(keystore.identity.verify_key))
    pins = {HOSPITAL.id: Pin("hospital", "示例医院"), INSURER.id: Pin("insurer", "示例保险")}
    yield Auditor(NodeConfig(tmp_path, "auditor", "审计", "a:1", "a:2", ORIGIN, key, pins), keystore, store, None)
    store.close()


def hours(*rows: tuple[int, str, int], latency: int = 0) -> Counts:
    found = [
        audit_pb2.HourCount(
            hour=hour, actor=HOSPITAL.id, event=f"exchange.{outcome}", outcome=outcome, count=count, latency=latency
        )
        for hour, outcome, count in rows
    ]
    return Counts(found, [], True)


def standing(clock_ms: int, refused: dict[bytes, str] | None = None) -> Standing:
    head = Checkpoint(ORIGIN, 9, bytes(32))
    return Standing(head, 0, {}, {}, 2, 9, clock_ms, b"", {}, {}, refused or {})


def row(index: int, time_ms: int, event: str = "exchange.accepted", reason: str = "") -> Row:
    said = Words(event, HOSPITAL.id, INSURER.id, reason=reason)
    proven = Proven(bytes(32), (), b"", Checkpoint(ORIGIN, 9, bytes(32)))
    return Row(Entry(index, time_ms, b"", b"", b"", b""), False, proven, AWAITING, said=(said,))


def kinds(found: Iterator[alerts.Alert]) -> list[tuple[str, int]]:
    return [(one.kind, one.number) for one in found]


def test_spikes_bulk_and_nights(auditor: Auditor) -> None:
    rules = Rules()
    assert kinds(alerts._hourly(hours((NOON, "denied", 9), (NOON, "accepted", 499)), rules, auditor)) == []
    assert kinds(alerts._hourly(hours((NOON, "denied", 10)), rules, auditor)) == [("denial-spike", 10)]
    assert kinds(alerts._hourly(hours((NOON, "accepted", 500)), rules, auditor)) == [("bulk", 500)]
    assert kinds(alerts._hourly(hours((MIDNIGHT, "accepted", 1)), rules, auditor)) == [("after-hours", 1)]
    # Who is denied all the time is no spike: only what is far above the usual is.
    steady = hours(*((NOON - at, "denied", 20) for at in range(alerts.WINDOW_H)))
    assert kinds(alerts._hourly(steady, rules, auditor)) == []


def test_an_alert_keeps_its_name_and_shows_where_to_look(auditor: Auditor) -> None:
    (first,) = alerts._hourly(hours((NOON, "denied", 10)), Rules(), auditor)
    (again,) = alerts._hourly(hours((NOON, "denied", 12)), Rules(), auditor)
    assert first.id == again.id
    assert first.who == "示例医院"
    assert "outcome=denied" in first.link
    assert HOSPITAL.id.hex() in first.link
    noted, closed = (Review(first.id, "officer", "note", 1, closed) for closed in (False, True))
    assert alerts.open_ones([first], {first.id: [noted, closed]}) == []
    assert alerts.open_ones([first], {first.id: [noted]}) == [first]


def test_orphans_lateness_lies_and_emergencies(auditor: Auditor) -> None:
    rules, now = Rules(), 10_000_000_000
    old, young = row(3, now - 60 * 60_000), row(4, now - 59 * 60_000)
    assert kinds(alerts._orphans([old, young], standing(now), rules, auditor)) == [("orphan", 60)]
    late = [row(5, now - 10 * 60_000)]
    assert kinds(alerts._unwitnessed(late, standing(now), rules, auditor)) == [("unwitnessed", 10)]
    assert kinds(alerts._unwitnessed([row(5, now - 9 * 60_000)], standing(now), rules, auditor)) == []
    found = alerts._single([row(6, now, reason="leaf.grammar"), row(7, now, event="hold.lifted")], rules, auditor)
    assert kinds(found) == [("grammar", 6), ("break-glass", 7)]
    told = alerts._log(auditor, standing(now, {INSURER.id: "key.rollback"}))
    assert [(one.kind, one.who, one.grave) for one in told] == [("foreign-key", "示例保险", True)]


def test_of_revocations_only_a_hotlines_is_an_exceptional_power(auditor: Auditor) -> None:
    key, plain = SigningKey(seed("hotline")), row(3, 1, event="grant.revoked")
    hers = Revocation(ORIGIN, seed("grant"), NOW)
    theirs = replace(hers, by=REVOKER_HOTLINE, reason="caller 17")
    told = [replace(plain, detail=Detail(documents=(one.sign(key).to_bytes(),))) for one in (hers, theirs)]
    assert [alerts._by_hotline(one) for one in (*told, plain)] == [False, True, False]


def test_charts_add_up(auditor: Auditor) -> None:
    bars = charts.volume(hours((NOON, "accepted", 3), (NOON + 2, "denied", 1), (NOON + 2, "accepted", 4)))
    assert [bar.total for bar in bars] == [3, 0, 5]
    drawn = charts.svg(bars, "<title>")
    assert "&lt;title&gt;" in drawn
    assert "style=" not in drawn
    delays, shares = charts.latency(hours((NOON, "delivered", 9), latency=6))
    assert ([bar.total for bar in delays], shares) == ([9], {"p50": 64, "p95": 64})
    assert charts.latency(Counts([], [], True)) == ([], {})
    long = charts.volume(hours((NOON, "accepted", 1), (NOON + 24 * 13, "accepted", 2)))
    assert (len(long), sum(bar.total for bar in long)) == (14, 3)


def test_the_matrix_shows_what_the_policy_says(tmp_path: Path) -> None:
    bundle = load.load()
    known = matrix.bundles(tmp_path)
    assert list(known) == [bundle.hash.hex()]
    shown = {one.schema.hash: one for one in matrix.matrices(bundle, "en")}
    assert len(shown) == len({digest for _, _, digest in bundle.tables})
    for one in shown.values():
        for _, cells in one.rows:
            assert len(cells) == len(one.columns)
    assert matrix.changes(bundle, bundle) == []


def test_every_event_has_its_words() -> None:
    """In the console, and in the report of a full check: an officer reads no names of the program."""
    words = tomllib.loads((Path(alerts.__file__).parent / "words.toml").read_text("utf-8"))
    assert {event for event in receipt.EVENTS if not words.get(f"event.{event}", {}).keys() >= {"zh", "en"}} == set()
    assert set(receipt.EVENTS) - report.EVENTS.keys() == set()
