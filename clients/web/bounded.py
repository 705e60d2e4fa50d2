"""Our pages and local APIs on uvicorn, with bounds: whoever reaches the port holds a place only while it gets on.

Another user or program of the computer needs no key to connect. Places are few and for everybody: nobody keeps one by
saying nothing, by saying it slowly, or by not taking the answer, and when all are taken the one that has asked for
nothing the longest goes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CALLERS: Final = 128
STILL_S: Final = 30.0
"""How long a connection may bring no request to its end, too little of a body, or take too little of an answer: it is
closed within twice this. An answer that is not there yet is the application's to bound.
"""
LEAST: Final = 16_384
"""Bytes of a body that come in that time at the least."""
PARTING_S: Final = 3
"""How long an answer may take once the server is to stop."""


def settings(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """Of a server of ``app`` that tells nobody what it is made of; ``more`` as `uvicorn.Config` has it."""
    return uvicorn.Config(
        app, http=Bounded, ws="none", log_config=None, access_log=False, lifespan="off", server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=PARTING_S, **more,
    )  # fmt: skip


class Bounded(H11Protocol):
    """A connection that must get on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._received = self._resumed = 0
        self._since = self.loop.time()
        if len(self.connections) > MAX_CALLERS:
            self._make_place()
        self.loop.call_later(STILL_S, self._look, self._standing())

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def _asks_nothing(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_place(self) -> None:
        others = [one for one in self.connections if isinstance(one, Bounded) and one is not self and one._asks_nothing]
        gone = min(others, key=lambda one: one._since, default=self)
        gone.connections.discard(gone)
        gone.transport.abort()

    def _standing(self) -> object:
        """What does not change where the other end does not get on."""
        if self._asks_nothing:
            return self.cycle, "asks"
        if self.cycle.more_body and not self.flow.read_paused:
            return self.cycle, "brings", self._received // LEAST
        if self.flow.write_paused or self.transport.get_write_buffer_size():
            return self.cycle, "takes", self._resumed
        return object()

    def _look(self, before: object) -> None:
        if self not in self.connections:
            return
        if (now := self._standing()) == before:
            # What waits to be written would keep a connection that is closed in any other way.
            self.transport.abort()
        else:
            self.loop.call_later(STILL_S, self._look, now)
