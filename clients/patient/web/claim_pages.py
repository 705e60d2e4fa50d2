"""Pages of claims after payment: "you may claim now", one tap, where it stands and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients import plain
from clients.patient import claims, consent, requests, screen
from clients.patient.claims import Claim
from clients.patient.consent import Choice
from clients.patient.wallet import Wallet
from clients.patient.web import asked, shown
from clients.patient.web.api import Api, text_of
from zhifu.errors import Error

Show = Callable[..., Response]
STEPS = ("filed", "review", "decided", "paid")
_BEHIND = {
    "received": 1, "review": 1, "waiting": 1, "supplied": 1, "disputed": 1, "decided": 2, "accepted": 2, "refused": 2,
    "paid": 3, "reversed": 3,
}  # fmt: skip


class ClaimPages:
    """The claims of one wallet; ``show`` renders a template in the site's frame."""

    def __init__(self, wallet: Wallet, api: Api, show: Show) -> None:
        self._wallet = wallet
        self._api = api
        self._show = show

    def pages(self) -> Mapping[str, Callable[[Request, str], Coroutine[Any, Any, Response]]]:
        return {"/claims": self._list}

    def routes(self) -> list[Route]:
        return [self._api.errand_route("/api/claim", self._file)]

    def offers(self, language: str) -> list[dict[str, Any]]:
        """What may be claimed now, with what the browser needs to sign for it; none that cannot be reviewed."""
        now = int(time.time())
        found = (self._offer(one, now, language) for one in claims.listed(self._wallet, now) if one.state == "offered")
        return [one for one in found if one]

    def _offer(self, one: Claim, now: int, language: str) -> dict[str, Any]:
        try:
            seen = consent.review(self._wallet, requests.find(self._wallet, one.request.hex()), now)
        except Error:
            return {}
        view = screen.document(self._wallet, seen, Choice.as_asked(seen), language)
        signed = asked.signed(seen, view)
        return {**row(one, language), "view": view, "asked": asked.units(seen, view, language), **signed}

    async def _list(self, request: Request, language: str) -> Response:
        listed = [row(one, language) for one in claims.listed(self._wallet, int(time.time())) if one.state != "offered"]
        return self._show(request, "claims.html", offers=self.offers(language), claims=listed)

    async def _file(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One tap: agreed to as it was asked."""
        now = int(time.time())
        given = await claims.file(self._wallet, claims.find(self._wallet, text_of(body, "claim"), now), now)
        return {"grant": given.grant_hash.hex(), "entry": given.entry}


def row(one: Claim, language: str) -> dict[str, Any]:
    pay, late = one.amount("pay"), one.amount("late")
    return {
        "claim": one.request.hex(),
        "hospital": one.hospital,
        "insurer": one.insurer,
        "stay": " – ".join(dict.fromkeys(one.stay)),
        "known": bool(one.total),
        "total": plain.yuan(one.total),
        "public": plain.yuan(one.paid["public"]) if one.paid.get("public") else "",
        "cash": plain.yuan(one.paid.get("patient", 0)),
        "pay": plain.yuan(pay) if pay is not None and one.state in ("decided", "accepted", "paid", "reversed") else "",
        "late": plain.yuan(late) if late else "",
        "state": one.state,
        "state_words": claims.where(one, language),
        "words": claims.words(one, language),
        "until_day": shown.day(one.until) if one.until else "",
        "steps": _steps(one, language),
        "news": [{"time": shown.moment(int(said["at"])),
                  "words": claims.state_words(claims.told(one.news[: at + 1]), language)}
                 for at, said in enumerate(one.news)],
    }  # fmt: skip


def _steps(one: Claim, language: str) -> list[dict[str, Any]]:
    """The way of a claim, with what is behind it."""
    reached = _BEHIND.get(one.state, 0)
    return [
        {"words": claims.step_words(step, language), "done": place <= reached, "now": place == reached}
        for place, step in enumerate(STEPS)
    ]
