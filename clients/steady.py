"""What runs beside a node's stream for as long as the node does: a mistake in it is logged, and it goes on.

A task that dies is noticed by nobody, and what it did stands still: decisions are not sent, splits do not expire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
_log = logging.getLogger("zhifu.steady")


async def steady(run: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
    """What ``run`` returns. Where it raises, that is logged and it runs anew: after a second, and later each time.

    What went well for `LONGEST_PAUSE_S` begins with a second again. ``name`` is for the log. Raises nothing but
    `asyncio.CancelledError`.
    """
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE_S
    while True:
        begun = loop.time()
        try:
            return await run()
        except Exception:
            _log.exception("task.failed", extra={"about": {"task": name}})
        if loop.time() - begun > LONGEST_PAUSE_S:
            pause = FIRST_PAUSE_S
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
