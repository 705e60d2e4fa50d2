"""The tasks in which settlements are driven: one for each, for as long as there is something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clients.clock import Clock
from clients.hospital import case as cases
from clients.hospital import driving as service
from clients.hospital.case import Case, Desk
from clients.hospital.driving import Driving
from clients.hospital.sample import sample_bill
from clients.hospital.settlement import Settlements
from clients.keystore import FileKeystore
from clients.store import Store

ONE, OTHER = (bytes([place] * 16) for place in (1, 2))


class Counted(Settlements):
    """Notes which settlements it was to go on with."""

    def __init__(self, store: Store) -> None:
        node: Any = SimpleNamespace(store=store, outbox=None)
        nothing: Any = None
        super().__init__(node, nothing, {}, nothing, lambda: 1)
        self.ran: list[bytes] = []

    async def run(self, case_id: bytes) -> Case:
        self.ran.append(case_id)
        return await super().run(case_id)


class Asked(Counted):
    """Waits for its payers, who hold nothing, until a test lets them answer."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def _ask(self, case: Case, *_: object) -> tuple[Case, dict[str, Any]]:
        self.asked.set()
        await self.answer.wait()
        return replace(case, state="reserved", amounts={"patient": 0}), {}


@pytest.fixture
def settlements(tmp_path: Path) -> Iterator[Counted]:
    """Two that ended."""
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        for one in (ONE, OTHER):
            cases.put(store, Case(one, "cancelled", "direct", sample_bill(1), b"", b"", (), b"", 1), 1)
    yield Counted(store)
    store.close()


def driving_of(settlements: Counted, clock: Clock | None = None) -> Driving:
    return Driving(settlements, settlements._node.store, clock or Clock(lambda: 1))


async def test_a_settlement_that_ended_leaves_no_task(settlements: Counted) -> None:
    driving = driving_of(settlements)
    for one in (ONE, OTHER):
        driving.drive(one)
        driving.drive(one)
    assert len(driving._tasks) == 2
    for one in (ONE, OTHER):
        await driving.wait(one, 20)
    await asyncio.sleep(0)
    assert driving._tasks == {}
    assert settlements.ran == [ONE, OTHER], "each by one task"


async def test_what_is_driven_anew_as_it_ends_is_driven_and_known(settlements: Counted) -> None:
    driving = driving_of(settlements)
    driving.drive(ONE)
    first = driving._tasks[ONE]
    # Comes when the first has ended, and before anybody was told so.
    asyncio.get_running_loop().call_soon(driving.drive, ONE)
    await asyncio.wait([first])
    (second,) = driving._tasks.values()
    assert second is not first
    await second
    assert settlements.ran == [ONE, ONE]


async def test_what_the_desk_says_while_payers_are_asked_is_heard(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        cases.put(store, Case(ONE, "open", "direct", sample_bill(1), b"", b"", (), b"", 1, Desk(hold=True)), 1)
    settlements = Asked(store)
    driving = driving_of(settlements)
    driving.drive(ONE)
    await settlements.asked.wait()
    wished = asyncio.create_task(driving.wish(ONE, "confirm"))
    await asyncio.sleep(0)
    settlements.answer.set()
    await wished
    await driving.wait(ONE, 20)
    assert cases.get(store, ONE).state == "confirmed"
    await driving.close()
    store.close()


async def test_a_split_that_waits_for_the_desk_outlives_a_clock_that_jumped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SWEEP_S", 0)
    store, own, passed = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys")), [1000], [1000]
    with store.transaction():
        held = Case(ONE, "reserved", "direct", sample_bill(1), b"", b"", (), b"", 1, Desk(hold=True), expires=3600)
        cases.put(store, held, 1)
    clock = Clock(lambda: own[0], lambda: passed[0])
    clock.learn(1000)
    driving = driving_of(Counted(store), clock)
    sweeping = asyncio.create_task(driving.sweep())
    own[0] += 86_400_000
    for _ in range(100):
        await asyncio.sleep(0)
    assert cases.get(store, ONE).state == "reserved"
    passed[0] += 86_400_000
    async with asyncio.timeout(20):
        while cases.get(store, ONE).state != "cancelled":
            await asyncio.sleep(0.01)
    sweeping.cancel()
    await driving.close()
    store.close()
