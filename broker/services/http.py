"""HTTP of the broker: an application on a socket, until the block ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from zhifu.errors import Refused

LOOPBACK = "127.0.0.1"
MAX_CALLERS: Final = 64
STILL_S: Final = 30.0
"""How long a connection may bring no request to its end: it is closed within twice this."""
PARTING_S: Final = 3
"""How long an answer may take once the server is to stop."""


class _Moving(H11Protocol):
    """A connection that must get on. There are few places, and they are for everybody: nobody keeps one by saying
    nothing, by saying it slowly, or by not taking the answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(STILL_S, self._look, self._stand())

    def _stand(self) -> tuple[object, bool]:
        return self.cycle, self.cycle is not None and self.cycle.response_complete

    def _look(self, before: tuple[object, bool]) -> None:
        if self not in self.connections:
            return
        if self._stand() == before:
            # What waits to be written would keep a connection that is closed in any other way.
            self.transport.abort()
        else:
            self.loop.call_later(STILL_S, self._look, self._stand())


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
        # Whoever is told the port may connect at once.
        found.listen(MAX_CALLERS)
    except OSError as error:
        found.close()
        raise Refused("unavailable.port", f"{address} port {port}: {error.strerror}") from error
    return found


@asynccontextmanager
async def serving(app: Starlette, bound: socket.socket) -> AsyncIterator[int]:
    """Within the block ``app`` is served there; the port."""
    # What answers a few callers, and tells nobody what it is made of.
    settings = uvicorn.Config(
        app, http=_Moving, log_config=None, access_log=False, lifespan="off", server_header=False,
        limit_concurrency=MAX_CALLERS, timeout_graceful_shutdown=PARTING_S,
    )  # fmt: skip
    server = _Server(settings)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
