"""The door: who may see the pages. The address that `zhifu wallet serve`, or `zhifu console serve`, prints holds a key;
a cookie keeps the session that it opened.

Without it another user or program of the same computer could read what a patient or an officer was shown, and sign as
that officer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clients.web.entrance import LIFE_S, Entrance
from clients.web.words import LANGUAGES

SIGN_OUT: Final = "/sign-out"
_CLOSED: Final = "请用 zhifu {0} serve 给出的完整网址打开。\nOpen the whole address that zhifu {0} serve printed.\n"


def closed(name: str) -> Callable[[Request], Response]:
    """What is shown outside: which command, ``zhifu NAME serve``, says how to come in."""
    return lambda _request: PlainTextResponse(_CLOSED.format(name), 403)


class Door:
    """ASGI middleware: lets in who has a session's cookie, and gives one to who comes with the key in the address;
    ``name`` begins the cookie's, ``home`` is the first page, ``outside`` what everybody else sees.
    """

    def __init__(
        self, app: ASGIApp, name: str, entrance: Entrance, home: str, outside: Callable[[Request], Response]
    ) -> None:
        self._app = app
        self._cookie = entrance.cookie(name)
        self._entrance = entrance
        self._home = home
        self._outside = outside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        token, key = request.cookies.get(self._cookie, ""), request.query_params.get("key", "")
        answer = self._within(request, token) if self._entrance.knows(token) else self._before(request, key)
        await answer(scope, receive, send)

    def _within(self, request: Request, token: str) -> ASGIApp:
        if "key" in request.query_params:
            return self._entered(request, token)
        return self._left(token) if (request.method, request.url.path) == ("POST", SIGN_OUT) else self._app

    def _before(self, request: Request, key: str) -> ASGIApp:
        token = self._entrance.enter(key) if key else None
        return self._entered(request, token) if token else self._outside(request)

    def _entered(self, request: Request, token: str) -> Response:
        language = request.query_params.get("lang")
        asked = f"?{urlencode({'lang': language})}" if language in LANGUAGES else ""
        answer = RedirectResponse(f"{self._home}{asked}", 303)
        # Else a browser would say it on any port and in the clear to whoever stands in between.
        secure = request.url.scheme == "https"
        answer.set_cookie(self._cookie, token, LIFE_S, httponly=True, samesite="strict", secure=secure)
        return answer

    def _left(self, token: str) -> Response:
        self._entrance.leave(token)
        answer = RedirectResponse(self._home, 303)
        answer.delete_cookie(self._cookie)
        # Not what it stores: a wallet's signing keys are nowhere else. Not all cookies: they are other pages' too.
        answer.headers["Clear-Site-Data"] = '"cache"'
        return answer
