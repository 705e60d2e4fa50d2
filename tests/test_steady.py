"""What runs beside calls and streams: one mistake does not end it for good, on either side."""

from __future__ import annotations

import asyncio
import logging

import pytest

import broker.steady
import clients.steady
from clients.steady import steady
from zhifu.errors import Refused


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


async def test_a_node_goes_on_after_a_mistake_and_says_where_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients.steady, "FIRST_PAUSE_S", 0.01)
    assert await steady(Trouble(KeyError("of a person"), Refused("unavailable.store")).run, "filing") == 3
    said = [clients.JsonLines().format(one) for one in caplog.records]
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2
    assert all('"task": "filing"' in line and "test_steady.py" in line for line in said)
    assert "person" not in "".join(said)


async def test_a_node_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients.steady, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(clients.steady, "LONGEST_PAUSE_S", 0.08)
    begun = asyncio.get_running_loop().time()
    await steady(Trouble(*(ValueError() for _ in range(4))).run, "sweeping")
    assert asyncio.get_running_loop().time() - begun > 0.02 + 0.04 + 0.08 + 0.08 - 0.01


async def test_a_task_of_the_broker_goes_on_after_a_mistake(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker.steady, "FIRST_PAUSE_S", 0.01)
    trouble = Trouble(KeyError("of a person"))
    await broker.steady.steadily(trouble.serve)
    assert trouble.runs == 2
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.CRITICAL, "task failed")


@pytest.mark.parametrize("side", ["node", "broker"])
async def test_what_is_cancelled_ends(side: str) -> None:
    forever = asyncio.Event()

    async def run() -> None:
        await forever.wait()

    task = asyncio.create_task(steady(run, "filing")) if side == "node" else broker.steady.steadily(run)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
