"""Waiting, with an end: for a deadline, or for the first of several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from zhifu.errors import Refused


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raises `Refused` (unavailable.deadline) when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Refused("unavailable.deadline") from error


async def first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, then end the others; raises what that one raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
