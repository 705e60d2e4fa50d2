"""NATS JetStream with ``sync_interval: always``: what a message that is on the disk costs elsewhere (DESIGN section 8).

The server listens on loopback and keeps its files on the disk that the broker's store is on. A message is as long as
an exchange's row, and is published by one connection with so many acknowledgements outstanding.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import nats
from nats.js import JetStreamContext

FLOOR: Final = 2.0
MESSAGES: Final = 512
_START_S: Final = 20.0
_SUBJECT: Final = "bench.exchange"
_CONFIG: Final = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{folder}", sync_interval: always }}
"""


@asynccontextmanager
async def stream(folder: Path) -> AsyncIterator[JetStreamContext]:
    """A server with one stream on files below ``folder``; both end with the block."""
    port, config = _free_port(), folder / "nats.conf"
    config.write_text(_CONFIG.format(port=port, folder=folder / "nats"))
    binary = Path(sys.executable).with_name("nats-server")
    server = subprocess.Popen([binary, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = await nats.connect(
            f"nats://127.0.0.1:{port}", connect_timeout=1, max_reconnect_attempts=int(_START_S / 0.1),
            reconnect_time_wait=0.1, error_cb=_nothing,
        )  # fmt: skip
        try:
            found = connection.jetstream(timeout=_START_S)
            await found.add_stream(name="bench", subjects=[_SUBJECT])
            yield found
        finally:
            await connection.close()
    finally:
        server.terminate()
        server.wait()


async def _nothing(error: Exception) -> None:
    """Until the server listens, connecting fails."""


def _free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


async def per_second(target: JetStreamContext, size: int, in_flight: int) -> float:
    """Acknowledged messages of ``size`` bytes a second, with ``in_flight`` outstanding."""
    content, gate = os.urandom(size), asyncio.Semaphore(in_flight)

    async def one() -> None:
        async with gate:
            await target.publish(_SUBJECT, content)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(MESSAGES)))
    return MESSAGES / (time.perf_counter() - begun)
