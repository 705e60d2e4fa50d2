"""Pages of one role: its templates on our base, its words, its static files beside ours, behind the guard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from clients.web import words
from clients.web.guard import LOOPBACK, Guard

BASE: Final = "clients.web"
_COOKIE: Final = "lang"
_YEAR_S: Final = 365 * 86_400


class Pages:
    """``package`` has ``templates/``, ``static/`` and ``words.toml``; ours are found behind its own.

    Templates extend ``base.html`` and say texts as ``{{ t("key") }}``; ``lang`` is the language, ``within`` whether the
    reader can sign out, ``home`` the first page.
    """

    def __init__(self, package: str, home: str = "/") -> None:
        self.words = words.load(BASE, package)
        self._home = home
        self._package = package
        self._templates = Environment(
            loader=ChoiceLoader([PackageLoader(package), PackageLoader(BASE)]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def language(self, request: Request) -> str:
        """``?lang=``, or what was chosen before, or what the browser prefers."""
        asked, kept = request.query_params.get("lang"), request.cookies.get(_COOKIE)
        return words.chosen(asked, kept, request.headers.get("accept-language", ""))

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page in the reader's language; an asked language is kept in a cookie."""
        language = self.language(request)

        def say(key: str, **places: object) -> str:
            return self.words.say(language, key, **places)

        usual = {"t": say, "lang": language, "path": request.url.path, "query": _query(request), "home": self._home}
        text = self._templates.get_template(template).render(**{**usual, "within": True, **context})
        response = HTMLResponse(text, status)
        if request.query_params.get("lang") == language:
            response.set_cookie(_COOKIE, language, _YEAR_S, httponly=True, samesite="strict")
        return response

    def app(
        self, routes: Sequence[BaseRoute], *, hosts: frozenset[str] = LOOPBACK, inner: Sequence[Middleware] = ()
    ) -> Starlette:
        """The application: ``routes``, ``/static/`` with the package's files before ours, behind the guard."""
        static = StaticFiles(packages=[(self._package, "static"), (BASE, "static")])
        return Starlette(
            routes=[*routes, Mount("/static", static, name="static")],
            middleware=[Middleware(Guard, hosts=hosts), *inner],
            exception_handlers={404: self._nothing},
        )

    async def _nothing(self, request: Request, _error: Exception) -> Response:
        return self.render(request, "nothing.html", 404, within=not request.url.path.startswith("/static/"))


def _query(request: Request) -> str:
    """The other query parameters, for a link that changes the language only: ``a=1&``, or nothing."""
    kept = request.query_params.multi_items()
    text = urlencode([(name, value) for name, value in kept if name != "lang"])
    return f"{text}&" if text else ""
