"""The door: who may see the pages. The address that `zhifu wallet serve`, or `zhifu console serve`, prints holds a key;
a cookie keeps it.

Without it another user or program of the same computer could read what a patient or an officer was shown, and sign as
that officer.
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
_YEAR_S: Final = 365 * 86_400
_CLOSED: Final = "请用 zhifu {0} serve 给出的完整网址打开。\nOpen the whole address that zhifu {0} serve printed.\n"


def key(folder: Path) -> str:
    """The folder's key to the pages, drawn the first time; the file is its owner's only."""
    path = folder / FILE
    if not path.exists():
        config.write_file(path, secrets.token_urlsafe(32).encode())
    return config.read_file(path, 256).decode("ascii")


class Door:
    """ASGI middleware: lets in who has the cookie, and gives it to who comes with the key in the address; ``name`` is
    the cookie's and the command's.
    """

    def __init__(self, app: ASGIApp, name: str, key: str) -> None:
        self._app = app
        self._name = name
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._fits(request.cookies.get(self._name)):
            await self._app(scope, receive, send)
        elif self._fits(request.query_params.get("key")):
            entered = RedirectResponse("/", 303)
            # Else a browser would say it on any port and in the clear to whoever stands in between.
            secure = scope["scheme"] == "https"
            entered.set_cookie(self._name, self._key, _YEAR_S, httponly=True, samesite="strict", secure=secure)
            await entered(scope, receive, send)
        else:
            closed = PlainTextResponse(_CLOSED.format(self._name), 403)
            await closed(scope, receive, send)

    def _fits(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._key.encode())
