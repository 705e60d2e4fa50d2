"""The door: who may see the pages. The address that `zhifu wallet serve` prints holds a key; a cookie keeps it.

Without it another user or program of the same computer could read what a patient was shown.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clients import config

FILE: Final = "web.key"
_COOKIE: Final = "wallet"
_YEAR_S: Final = 365 * 86_400
_CLOSED: Final = (
    "请用 zhifu wallet serve 给出的完整网址打开。\nOpen the whole address that zhifu wallet serve printed.\n"
)


def key(folder: Path) -> str:
    """The folder's key to the pages, drawn the first time; the file is its owner's only."""
    path = folder / FILE
    if not path.exists():
        config.write_file(path, secrets.token_urlsafe(32).encode())
    return config.read_file(path, 256).decode("ascii")


class Door:
    """ASGI middleware: lets in who has the cookie, and gives it to who comes with the key in the address."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._fits(request.cookies.get(_COOKIE)):
            await self._app(scope, receive, send)
        elif self._fits(request.query_params.get("key")):
            entered = RedirectResponse("/", 303)
            entered.set_cookie(_COOKIE, self._key, _YEAR_S, httponly=True, samesite="strict")
            await entered(scope, receive, send)
        else:
            closed = PlainTextResponse(_CLOSED, 403)
            await closed(scope, receive, send)

    def _fits(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._key.encode())
