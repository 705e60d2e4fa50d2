"""Errands: what the wallet does in several steps while the signing keys lie in the browser.

An errand runs here until a signature is needed; the browser gets the payload, never bytes to sign blindly: it parses
the payload, compares it with what its screen shows, makes the signed bytes itself, and answers (`static/check.js`).
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from clients.patient.wallet import Pair
from zhifu.envelope import Kind
from zhifu.errors import Error, Refused

PATIENCE_S: Final = 20.0
"""How long an errand waits for its browser."""
HURRY_S: Final = 2.0
"""How long it waits while another wants to begin: a page that was left never answers, and must hold up nobody."""
MOST: Final = 16
_running: ContextVar[Errand] = ContextVar("errand")


@dataclass(slots=True)
class Errand:
    """One errand under way: what it asks of the browser next, and what the browser answered."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    asks: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    answers: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    awaited: Callable[[], bool] = lambda: False

    async def sign(self, pair: Pair, kind: Kind, payload: bytes) -> bytes:
        """The signature by the browser that holds the pair's key. Raises `Refused` (unavailable.deadline)."""
        text = base64.b64encode(payload).decode()
        self.asks.put_nowait({"sign": {"key": pair.public.hex(), "type": kind.media_type, "payload": text}})
        signature = await self._answer(time.monotonic() + PATIENCE_S)
        if signature is None:
            raise Refused("consent.not_usable", "the page would not sign this")
        return signature

    async def _answer(self, until: float) -> bytes | None:
        """What the browser answers. Raises `Refused` (unavailable.deadline)."""
        while True:
            try:
                return await asyncio.wait_for(self.answers.get(), HURRY_S)
            except TimeoutError as error:
                if self.awaited() or time.monotonic() > until:
                    raise Refused("unavailable.deadline", "the page did not sign in time") from error


async def sign(pair: Pair, kind: Kind, payload: bytes) -> bytes:
    """The wallet's `Signer`: the errand under way has its browser sign."""
    return await _running.get().sign(pair, kind, payload)


class Errands:
    """The errands under way. One runs at a time: a wallet's file and its head have one writer."""

    def __init__(self) -> None:
        self._open: dict[str, Errand] = {}
        self._turn = asyncio.Lock()

    async def begin(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Start ``work``; what it asks first, or how it ended. Raises `Refused` (unavailable.overload)."""
        if len(self._open) >= MOST:
            raise Refused("unavailable.overload")
        errand = Errand(awaited=lambda: len(self._open) > 1)
        self._open[errand.id] = errand
        errand.task = asyncio.create_task(self._run(errand, work))
        return await self._next(errand)

    async def go_on(self, name: str, signature: bytes | None) -> dict[str, Any]:
        """Hand a signature to an errand, or None if the browser declines; what it asks next, or how it ended.

        Raises `Refused` (exchange.unknown).
        """
        errand = self._open.get(name)
        if errand is None:
            raise Refused("exchange.unknown", "the page's errand is over")
        errand.answers.put_nowait(signature)
        return await self._next(errand)

    async def _run(self, errand: Errand, work: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        _running.set(errand)
        try:
            async with self._turn:
                errand.asks.put_nowait({"done": await work()})
        except Error as error:
            errand.asks.put_nowait({"refused": {"reason": error.reason, "detail": error.detail}})
            if error.reason == "unavailable.deadline":
                # The page was left, and nobody will ask how this ended: it must not count as open for ever.
                self._open.pop(errand.id, None)
        except Exception as error:
            errand.asks.put_nowait({"refused": {"reason": "internal", "detail": ""}})
            raise error

    async def _next(self, errand: Errand) -> dict[str, Any]:
        found = await errand.asks.get()
        if "sign" not in found:
            self._open.pop(errand.id, None)
            if errand.task is not None and not errand.task.cancelled():
                await asyncio.gather(errand.task, return_exceptions=True)
        return {"errand": errand.id, **found}
