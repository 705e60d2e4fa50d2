"""What runs beside calls and streams: one mistake does not end it for good, on either side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import pytest

import broker.steady
import clients.steady
from clients.steady import steady
from zhifu.errors import Refused

Run = Callable[[], Coroutine[Any, Any, None]]
SIDES: Final[dict[str, tuple[Any, Callable[[Run], Awaitable[None]]]]] = {
    "node": (clients.steady, lambda run: steady(run, "filing")),
    "broker": (broker.steady, broker.steady.steadily),
}


class Trouble:
    """Raises what it is given, one each time, and then returns how often it was run."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.runs = 0

    async def run(self) -> int:
        self.runs += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.runs

    async def serve(self) -> None:
        await self.run()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long what failed waited each time (s); nobody waits for it here."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return found


async def test_a_node_goes_on_after_a_mistake_and_says_where_it_was(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert await steady(Trouble(KeyError("of a person"), Refused("unavailable.store")).run, "filing") == 3
    said = [clients.JsonLines().format(one) for one in caplog.records]
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2
    assert all('"task": "filing"' in line and "test_steady.py" in line for line in said)
    assert "person" not in "".join(said)


async def test_a_task_of_the_broker_goes_on_after_a_mistake(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble(KeyError("of a person"))
    await broker.steady.steadily(trouble.serve)
    assert trouble.runs == 2
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.CRITICAL, "task failed")


@pytest.mark.parametrize("side", SIDES)
async def test_each_pause_is_twice_the_one_before_up_to_the_longest(side: str, pauses: list[float]) -> None:
    module, start = SIDES[side]
    await start(Trouble(*(ValueError() for _ in range(12))).serve)
    assert pauses == [min(module.FIRST_PAUSE_S * 2**times, module.LONGEST_PAUSE_S) for times in range(12)]
    assert pauses[-1] == module.LONGEST_PAUSE_S


@pytest.mark.parametrize("side", SIDES)
async def test_what_went_well_for_long_begins_with_a_short_pause(
    side: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, start = SIDES[side]
    lasted = [0.0, 0.0, module.LONGEST_PAUSE_S, module.LONGEST_PAUSE_S + 1, 0.0]
    now = 0.0

    async def run() -> None:
        nonlocal now
        if lasted:
            now += lasted.pop(0)
            raise ValueError

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    await start(run)
    assert [round(one / module.FIRST_PAUSE_S) for one in pauses] == [1, 2, 4, 1, 2]


@pytest.mark.parametrize("side", SIDES)
async def test_what_is_cancelled_ends(side: str, pauses: list[float]) -> None:
    _, start = SIDES[side]
    begun, forever = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        # A second time it would go on: a cancellation that was swallowed shows, and the test still ends.
        if not begun.is_set():
            begun.set()
            await forever.wait()

    task = asyncio.ensure_future(start(run))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
