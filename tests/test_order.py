"""Messages again, too early and too late: a few of the orders, and of the replays, that ``make soak`` tries."""

from __future__ import annotations

import time
from pathlib import Path

from tests.broker_rig import rig
from tests.soak import order


async def test_whatever_the_order_an_exchange_ends_in_one_state(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        told = await order.run(broker, 1, time.monotonic() + 0.1)
    assert told.faults == ()
    assert told.orders > 0


async def test_what_comes_again_and_again_has_no_effect(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        assert await order.replay(broker, 1, count=200) == []
