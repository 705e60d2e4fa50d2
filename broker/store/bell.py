"""What brokers on one database tell one another: for which nodes something waits (LISTEN/NOTIFY, DESIGN section 8).

A ring is a hint. What counts are the rows, which every stream also looks at by itself now and then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from broker.store.postgres import CLIENT

ID_BYTES: Final = 32
_CHANNEL: Final = "zhifu"
_PER_NOTE: Final = 100
_PAUSE_S: Final = 1.0
_BEAT: Final = "zhifu_beat"
BEAT_S: Final = 4.0
"""A broker that rang for nobody for so long does so all the same. Who hears nothing for `DEAF_S` listens anew."""
DEAF_S: Final = 10.0
_log = logging.getLogger("broker.bell")

Heard = Callable[[Sequence[bytes] | None], None]


class Bell:
    """One broker's place at the bell of a database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._untold: set[bytes] = set()
        self._due = asyncio.Event()

    def ring(self, nodes: Iterable[bytes]) -> None:
        """Tell the others soon; never waits. Nodes that are rung again before that are told once."""
        self._untold.update(nodes)
        if self._untold:
            self._due.set()

    async def run(self, heard: Heard) -> None:
        """Listen and tell until cancelled. ``heard`` gets the nodes that were rung; None where some were missed."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(heard))
                    tasks.create_task(self._tell())
            except* (psycopg.Error, TimeoutError):
                _log.warning("bell lost", extra={"reason": "unavailable.store"})
            await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 1.0))

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        given: dict[str, Any] = {**CLIENT, "application_name": "zhifu-bell"}
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **given)

    async def _listen(self, heard: Heard) -> None:
        async with await self._connect() as connection:
            await connection.execute(f"LISTEN {_CHANNEL}; LISTEN {_BEAT}".encode())
            # Whatever was rung while nobody listened.
            heard(None)
            # A connection that is open and brings nothing looks like one with nothing to bring.
            async with asyncio.timeout(DEAF_S) as deaf:
                async for note in connection.notifies():
                    deaf.reschedule(asyncio.get_running_loop().time() + DEAF_S)
                    if note.channel == _CHANNEL:
                        heard(_nodes(note.payload))

    async def _tell(self) -> None:
        async with await self._connect() as connection:
            while True:
                try:
                    await asyncio.wait_for(self._due.wait(), BEAT_S)
                except TimeoutError:
                    await connection.execute(f"NOTIFY {_BEAT}".encode())
                self._due.clear()
                while self._untold:
                    some = [self._untold.pop() for _ in range(min(_PER_NOTE, len(self._untold)))]
                    payload = "".join(node.hex() for node in some)
                    await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, payload))


def _nodes(payload: str) -> Sequence[bytes] | None:
    """The ids in a note; None for one that cannot be read, as if something had been missed."""
    with suppress(ValueError):
        found = bytes.fromhex(payload)
        if found and len(found) % ID_BYTES == 0:
            return [found[i : i + ID_BYTES] for i in range(0, len(found), ID_BYTES)]
    return None
