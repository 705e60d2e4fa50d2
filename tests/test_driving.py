"""The tasks in which settlements are driven: what stands still is not held on to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clients.hospital import case as cases
from clients.hospital.case import Case
from clients.hospital.driving import Driving
from clients.hospital.sample import sample_bill
from clients.hospital.settlement import Settlements
from clients.keystore import FileKeystore
from clients.store import Store


async def test_a_settlement_that_ended_leaves_no_task(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    ended = [Case(bytes([place] * 16), "cancelled", "direct", sample_bill(1), b"", b"", (), b"", 1) for place in (1, 2)]
    with store.transaction():
        for one in ended:
            cases.put(store, one, 1)
    node: Any = SimpleNamespace(store=store, outbox=None)
    nothing: Any = None
    driving = Driving(Settlements(node, nothing, {}, nothing, lambda: 1), store, lambda: 1)
    for one in ended:
        driving.drive(one.id)
        driving.drive(one.id)
    assert len(driving._tasks) == 2
    for one in ended:
        await driving.wait(one.id, 20)
    await asyncio.sleep(0)
    assert driving._tasks == {}
    store.close()
