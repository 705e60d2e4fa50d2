"""What a stream waits with: a bell for one task, and room for so much in work."""

from __future__ import annotations

import asyncio

import pytest

from broker.bell import Bell
from broker.services import room


async def test_a_bell_wakes_who_waits_and_stays_rung() -> None:
    bell = Bell()
    waits = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    assert not waits.done()
    bell.set()
    await asyncio.wait_for(waits, 60)
    await asyncio.wait_for(bell.wait(), 60)
    bell.clear()
    assert not bell.is_set()


async def test_a_bell_that_is_not_rung_ends_in_time_and_can_be_waited_for_again() -> None:
    bell = Bell()
    with pytest.raises(TimeoutError):
        await bell.wait(0.01)
    given_up = asyncio.create_task(bell.wait(600))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    waits = asyncio.create_task(bell.wait(600))
    await asyncio.sleep(0)
    bell.set()
    await asyncio.wait_for(waits, 60)


async def test_room_is_for_so_many_and_so_many_bytes() -> None:
    held = room.Room(3, 100)
    await held.take(60)
    await held.take(40)
    waits = asyncio.create_task(held.take(1))
    await asyncio.sleep(0)
    assert not waits.done()
    held.give(60)
    await asyncio.wait_for(waits, 60)
    held.give(40)
    held.give(1)
    # Larger than all there is: alone, and only then.
    await held.take(5)
    alone = asyncio.create_task(held.take(1000))
    await asyncio.sleep(0)
    assert not alone.done()
    held.give(5)
    await asyncio.wait_for(alone, 60)
