"""The wallet's pages: home, enrolment, a request's consent screen, the code, a grant, statements."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients.patient import requests, screen
from clients.patient import wallet as wallets
from clients.patient.consent import Choice
from clients.patient.wallet import Wallet
from clients.patient.web import asked, errand, shown
from clients.patient.web.api import Api
from clients.patient.web.claim_pages import ClaimPages
from clients.patient.web.key_pages import KeyPages
from clients.patient.web.report_pages import ReportPages
from clients.web import door
from clients.web.entrance import Entrance
from clients.web.guard import LOOPBACK
from clients.web.pages import Pages
from zhifu.errors import CATALOGUE, Error

PACKAGE: Final = "clients.patient.web"


class Site:
    """The pages of one wallet."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._api = Api(wallet)
        self._pages = Pages(PACKAGE)
        self._claims = ClaimPages(wallet, self._api, self._show)
        self._reports = ReportPages(wallet, self._api, self._show)
        self._keys = KeyPages(wallet, self._api, self._show)

    def app(self, entrance: Entrance, hosts: frozenset[str] = LOOPBACK) -> Starlette:
        """The application, for whom ``entrance`` lets in."""
        pages = {
            "/": self._home, "/enrol": self._enrol, "/requests/{name}": self._review, "/code": self._code,
            "/grants/{name}": self._grant, "/history": self._history, "/statements": self._statements,
        }  # fmt: skip
        pages |= {**self._claims.pages(), **self._reports.pages(), **self._keys.pages()}
        routes = [Route(path, self._guarded(page), methods=["GET"]) for path, page in pages.items()]
        inner = [Middleware(door.Door, name="wallet", entrance=entrance, home="/", outside=door.closed("wallet"))]
        calls = [*self._api.routes(), *self._claims.routes(), *self._reports.routes(), *self._keys.routes()]
        return self._pages.app([*routes, *calls], hosts=hosts, inner=inner)

    def _guarded(self, page: Callable[[Request, str], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        """Our errors as a page, with the reason and what it means."""

        async def respond(request: Request) -> Response:
            try:
                return await page(request, self._pages.language(request))
            except Error as error:
                meaning = CATALOGUE[error.reason].meaning
                return self._show(request, "refused.html", 404, reason=error.reason, meaning=meaning)

        return respond

    def _show(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        said = self._pages.words.all(self._pages.language(request))
        script = {key.removeprefix("js-"): text for key, text in said.items() if key.startswith("js-")}
        whose = {"origin": self._wallet.contact.origin, "wallet": self._wallet.id}
        return self._pages.render(request, template, status, said=script, **whose, **context)

    async def _home(self, request: Request, language: str) -> Response:
        now = int(time.time())
        listed = shown.grants(self._wallet, now, language)
        offers = self._claims.offers(language)
        offered = {one["claim"] for one in offers}
        listed_ = requests.listed(self._wallet, now)
        waiting = [one for one in listed_ if one.state == "open" and one.request_hash.hex() not in offered]
        enrolled = any(pair.enrolled for pair in self._wallet.pairs)
        statements = shown.statements(self._wallet, language)[:1]
        return self._show(
            request, "home.html", grants=listed, asked=waiting, offers=offers, enrolled=enrolled, statements=statements,
            active=[one for one in listed if one["state"] == "active"], news=self._keys.news(language),
            hospitals=_hospitals(listed),
        )  # fmt: skip

    async def _enrol(self, request: Request, language: str) -> Response:
        parties = list(self._wallet.parties.values())
        pairs = [
            {
                "hospital": self._wallet.name(bytes.fromhex(pair.hospital)),
                "recipient": self._wallet.name(bytes.fromhex(pair.recipient)),
                "enrolled": pair.enrolled,
            }
            for pair in self._wallet.pairs
        ]
        return self._show(request, "enrol.html", parties=parties, pairs=pairs)

    async def _review(self, request: Request, language: str) -> Response:
        seen = self._api.review(request.path_params["name"])
        view = screen.document(self._wallet, seen, Choice.as_asked(seen), language)
        return self._show(
            request, "review.html", view=view, asked=asked.units(seen, view, language), **asked.signed(seen, view)
        )

    async def _code(self, request: Request, language: str) -> Response:
        listed = shown.grants(self._wallet, int(time.time()), language)
        usable = [one for one in listed if one["state"] == "active" and one["direct_pay"]]
        hospitals = {one["hospital_id"]: one["hospital"] for one in usable}
        return self._show(request, "code.html", hospitals=hospitals, usable=usable)

    async def _grant(self, request: Request, language: str) -> Response:
        name = request.path_params["name"]
        found = [one for one in shown.grants(self._wallet, int(time.time()), language) if one["hash"] == name]
        if not found:
            return self._show(request, "refused.html", 404, reason="consent.unknown", meaning="")
        accesses = [row for row in shown.accesses(self._wallet, self._api.seen, language) if row["basis"] == name]
        return self._show(request, "grant.html", grant=found[0], accesses=accesses)

    async def _history(self, request: Request, language: str) -> Response:
        return self._show(request, "history.html", accesses=shown.accesses(self._wallet, self._api.seen, language))

    async def _statements(self, request: Request, language: str) -> Response:
        return self._show(request, "statements.html", statements=shown.statements(self._wallet, language))


def _hospitals(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Hospitals with grants in force: id and name."""
    return {one["hospital_id"]: one["hospital"] for one in listed if one["state"] == "active"}


@contextmanager
def open_wallet(folder: Path, contact: Path | None) -> Iterator[Wallet]:
    """The folder's wallet, which is the pages' alone within the block (`wallets.served`), signed for by the browser."""
    with wallets.served(folder, contact) as found:
        found.signer = errand.sign
        yield found
