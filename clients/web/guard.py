"""The guard before every page: which host may be asked for, from where a change may come, what a page may load.

A page on loopback can be reached by any site that the same browser visits. A foreign name for our address (DNS
rebinding) is refused by the ``Host`` header, a foreign site's form or script by where the request says it comes from.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
CSP: Final = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "font-src 'self'",
        "connect-src 'self'", "manifest-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    )
)  # fmt: skip
"""Nothing inline, nothing foreign, no frames, and no text that becomes markup (Trusted Types)."""

_HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE: Final = frozenset({"GET", "HEAD"})
MAX_BODY: Final = 8 << 20


class Guard:
    """ASGI middleware, the outermost. ``hosts`` are the names that a browser may use for this server, without port."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = LOOPBACK, max_body: int = MAX_BODY) -> None:
        self._app = app
        self._hosts = hosts
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # Pages hold what is personal; code is asked for again so that an update is never half there.
                headers.setdefault("Cache-Control", "no-cache" if "/static/" in scope["path"] else "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        if _name(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("unknown host\n", 421)
        if method in _SAFE:
            return None
        if not _from_here(headers):
            return PlainTextResponse("a change can come from our own pages only\n", 403)
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > self._max_body:
            return PlainTextResponse("a body of a stated and moderate length is needed\n", 413)
        return None


def _name(host: str) -> str | None:
    """The host name of a ``Host`` header; None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _from_here(headers: Headers) -> bool:
    """Whether a browser says that our own page asks. What sends neither header is no browser, so nobody's tool."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        # No page can set it. A form of ours then comes with the origin "null", since we send no referrer.
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
