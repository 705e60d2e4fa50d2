"""An insurer's own core system behind the webhook: a real HTTP server that is late, wrong, silent, or says it twice."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from clients.hospital.sample import sample_bill
from clients.insurer import core_system
from clients.insurer.core_system import CoreSystem
from clients.insurer.review import Item
from tests.house import House, open_house, until
from zhifu.errors import Error

Answer = tuple[int, bytes, dict[str, str]]
Script = Callable[[int, dict[str, Any]], Answer]


@dataclass(slots=True)
class Core:
    """What it was asked, by claim: (headers, body) of each call; ``script`` answers the n-th call about a claim."""

    script: Script
    calls: dict[str, list[tuple[dict[str, str], bytes]]] = field(default_factory=lambda: defaultdict(list))
    lock: Lock = field(default_factory=Lock)

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        with self.lock:
            seen = self.calls[json.loads(body)["claim"]]
            seen.append((headers, body))
            number = len(seen)
        return self.script(number, json.loads(body))


def paid(yuan: str, **headers: str) -> Answer:
    said = {"outcome": "pay", "pay": yuan, "clause": "核心系统 第三条", "reason": "core.decision"}
    return 200, json.dumps(said, ensure_ascii=False).encode(), headers


def served(core: Core) -> tuple[ThreadingHTTPServer, str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content, headers = core.answer(dict(self.headers.items()), body)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # Whoever asked has hung up: that is what a late answer meets.

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/claims"


@dataclass(slots=True)
class Scene:
    house: House
    core: Core


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    core = Core(lambda number, asked: paid("1.00"))
    server, url = served(core)
    try:
        with open_house(tmp_path_factory.mktemp("core")) as house:
            house.end("insurer")
            house.restart("insurer", "--core", url, "--core-decides", "--core-timeout", "1")
            yield Scene(house, core)
    finally:
        server.shutdown()
        server.server_close()


def settled(scene: Scene, seed: int, script: Script) -> tuple[dict[str, Any], list[tuple[dict[str, str], bytes]]]:
    """A claim that the core system decides: how it ended, and the calls about it."""
    house, before = scene.house, set(scene.core.calls)
    scene.core.script = script
    bill = sample_bill(seed)
    consent = house.consent(house.enrol(bill, f"patient-{seed}"), bill)
    found = house.finish(house.submit(bill, [("medical", consent)], patient=True))
    (claim,) = set(scene.core.calls) - before
    return found, scene.core.calls[claim]


def test_calls_are_signed_and_name_their_claim(scene: Scene) -> None:
    found, calls = settled(scene, 41, lambda number, asked: paid("8000.00"))
    assert (found["state"], found["commercial_fen"]) == ("confirmed", 800_000)
    ((headers, body),) = calls
    key = core_system.secret(scene.house.path / "insurer")
    assert hmac.compare_digest(headers["Zhifu-Signature"], core_system.sign(key, body))
    asked = json.loads(body)
    assert headers["Idempotency-Key"] == asked["claim"]
    assert (asked["proposed"], asked["reasons"]) == ("8000.00", ["review.core_system"])
    assert "示例" not in body.decode(), "clauses and figures, and nothing that names a person"


@pytest.mark.parametrize(
    ("seed", "answers"),
    [(42, [(500, b"", {}), (200, b"not JSON", {})]), (47, [paid("8000.01"), (302, b"", {"Location": "http://x/"})])],
)
def test_what_is_wrong_is_asked_again_and_never_paid(scene: Scene, seed: int, answers: list[Answer]) -> None:
    """Two at a time, since each is waited for twice as long as the one before."""

    def wrong(number: int, asked: dict[str, Any]) -> Answer:
        return answers[number - 1] if number <= len(answers) else paid("500.00")

    found, calls = settled(scene, seed, wrong)
    assert (found["state"], found["commercial_fen"]) == ("confirmed", 50_000), "above the proposal nothing is paid"
    assert len(calls) == 3
    assert len({(headers["Idempotency-Key"], body) for headers, body in calls}) == 1, "the same question each time"


def test_a_late_answer_is_not_heard_and_the_claim_is_paid_once(scene: Scene) -> None:
    def late(number: int, asked: dict[str, Any]) -> Answer:
        if number == 1:
            time.sleep(1.5)  # Longer than the node waits: this answer reaches nobody.
            return paid("8000.00")
        return paid("700.00")

    before = len(scene.house.holdings("insurer"))
    found, calls = settled(scene, 43, late)
    assert (found["state"], found["commercial_fen"]) == ("confirmed", 70_000)
    assert len(calls) == 2
    assert len(scene.house.holdings("insurer")) == before + 1


def test_a_person_decides_later_and_it_is_asked_again(scene: Scene) -> None:
    def later(number: int, asked: dict[str, Any]) -> Answer:
        return (202, b"", {"Retry-After": "1"}) if number < 3 else paid("8000.00")

    found, calls = settled(scene, 44, later)
    assert (found["state"], found["commercial_fen"], len(calls)) == ("confirmed", 800_000, 3)


def test_a_slow_core_keeps_nobody_else_waiting(scene: Scene) -> None:
    """One claim is never answered in time; another, after it, is decided by a person at once."""
    house = scene.house

    def never_in_time(number: int, asked: dict[str, Any]) -> Answer:
        time.sleep(3)
        return paid("1.00")

    scene.core.script = never_in_time
    bill, other = sample_bill(45), sample_bill(46)
    slow = house.submit(bill, [("medical", house.consent(house.enrol(bill, "slow"), bill))], patient=True)
    quick = house.submit(other, [("medical", house.consent(house.enrol(other, "quick"), other))], patient=True)
    claim = until(lambda: claim_of(house, quick), "the insurer has the claim")
    house.decide("insurer", claim, "--proposed")
    assert house.finish(quick)["commercial_fen"] == 800_000
    assert house.look(slow)["state"] == "open"
    scene.core.script = lambda number, asked: paid("2.00")
    assert house.finish(slow)["commercial_fen"] == 200


def claim_of(house: House, settlement: str) -> str:
    """The claim's exchange, once its insurer answered that a person decides."""
    steps = {one["step"]: one["id"] for one in house.look(settlement)["exchanges"]}
    return str(steps["claim"]) if "claim-answer" in steps else ""


@pytest.mark.parametrize(
    ("piece", "pause_s", "expected"),
    [(b"x" * 65_536, 0.0, "usage.file"), (b" ", 0.05, "unavailable.recipient")],
)
async def test_an_answer_without_end_is_left(piece: bytes, pause_s: float, expected: str) -> None:
    left = asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        writer.close()
        left.set()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    core = CoreSystem(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"secret", 2.0)
    item = Item(b"c" * 32, "open", "p", b"a" * 32, 0, 0, {}, 0, (), 0, 0)
    async with server, asyncio.timeout(20):
        with pytest.raises(Error) as caught:
            await core.ask(item)
        await core.close()
        await left.wait()
    assert caught.value.reason == expected
