"""What a broker does beside its calls, for as long as it serves: a mistake in it is logged, and it goes on.

A task that dies is noticed by nobody, and what it did stands still: nothing expires, nobody is shown a checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
_log = logging.getLogger("broker.steady")


def steadily(run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """A task of ``run``, which is run anew where it raises: after a second, and later each time, up to a minute.

    What went well for longer than that begins with a second again. It ends when ``run`` returns, or is cancelled.
    """
    return asyncio.create_task(_steady(run))


async def _steady(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_S
    while True:
        begun = loop.time()
        try:
            return await run()
        except Exception as error:
            _log.critical("task failed", exc_info=error, extra={"reason": "internal"})
        if loop.time() - begun > LONGEST_PAUSE_S:
            pause = FIRST_PAUSE_S
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
