"""HTTP of the broker: an application on a socket, until the block ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from zhifu.errors import Refused

LOOPBACK = "127.0.0.1"


class _Server(uvicorn.Server):
    """The broker handles signals itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(port: int, address: str = LOOPBACK) -> socket.socket:
    """``address``'s ``port``, 0 for a free one. Raises `Refused` (unavailable.port)."""
    found = socket.socket()
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address, port))
    except OSError as error:
        found.close()
        raise Refused("unavailable.port", f"{address} port {port}: {error.strerror}") from error
    return found


@asynccontextmanager
async def serving(app: Starlette, bound: socket.socket) -> AsyncIterator[int]:
    """Within the block ``app`` is served there; the port."""
    # What answers a few callers, and tells nobody what it is made of.
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, limit_concurrency=64
    )
    server = _Server(settings)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
