"""The cashier's pages on the hospital node's local API: loopback, behind the guard of all pages.

`zhifu hospital cashier` prints the address that opens them, with a key of its own: the local API's token opens more.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from clients.hospital.api import Api, named
from clients.hospital.cashier import KEY_FILE
from clients.hospital.driving import Driving
from clients.plain import yuan
from clients.reasons import ended
from clients.web.door import Door
from clients.web.entrance import Entrance
from clients.web.pages import Pages
from zhifu.errors import Error, Malformed

KINDS: Final = ("medical", "city-supplementary", "group", "outpatient")
_HOME: Final = "/desk"
_WISHES: Final = {"confirm": "confirm", "cancel": "cancel", "refund": "reverse"}
_SETTLED_S: Final = 20.0
_MAX_FILE: Final = 8 << 20
Handler = Callable[[Request], Awaitable[Response]]


class Cashier:
    """The pages; every figure on them is the API's."""

    def __init__(self, api: Api, driving: Driving, folder: Path) -> None:
        self._api = api
        self._driving = driving
        self._entrance = Entrance(folder, KEY_FILE)
        self._pages = Pages(__package__, _HOME)

    def app(self) -> Starlette:
        """``/desk`` and what it leads to."""
        return self._pages.app(
            [
                Route("/desk", self._guard(self._start), methods=["GET"]),
                Route("/desk", self._guard(self._open), methods=["POST"]),
                Route("/desk/{id}", self._guard(self._show), methods=["GET"]),
                Route("/desk/{id}/state", self._guard(self._state), methods=["GET"]),
                Route("/desk/{id}/statement", self._guard(self._statement), methods=["GET"]),
                Route("/desk/{id}/{wish}", self._guard(self._wish), methods=["POST"]),
            ],
            inner=[Middleware(Door, name="desk", entrance=self._entrance, home=_HOME, outside=self._locked)],
        )

    def _locked(self, request: Request) -> Response:
        if not request.url.path.startswith(_HOME):
            # Whoever has the API's token and asks for what it has not comes here too.
            return PlainTextResponse("not found\n", 404)
        return self._pages.render(request, "locked.html", 401, within=False)

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Error as error:
                return self._pages.render(request, "refused.html", 400, reason=error.reason, detail=error.detail)

        return guarded

    async def _start(self, request: Request) -> Response:
        return self._pages.render(request, "start.html", kinds=KINDS, recent=self._api.recent(), yuan=yuan)

    async def _open(self, request: Request) -> Response:
        async with request.form(max_files=16, max_part_size=_MAX_FILE) as form:
            document, code = await _document(form), str(form.get("code") or "").strip()
        given = await self._api.redeem(code, document["bill"]) if code else ()
        case = self._api.begin({**document, "hold": True}, given)
        await self._driving.wait(case.id, _SETTLED_S)
        return RedirectResponse(f"/desk/{case.id.hex()}", 303)

    async def _show(self, request: Request) -> Response:
        found = self._api.show(named(request.path_params["id"]))
        language = self._pages.language(request)
        told = self._api.statement(request.path_params["id"], language) if found["total_fen"] is not None else None
        why = ended(found["reason"], found["detail"], language)
        return self._pages.render(request, "settlement.html", found=found, told=told, yuan=yuan, why=why)

    async def _state(self, request: Request) -> Response:
        found = self._api.show(named(request.path_params["id"]))
        return Response(json.dumps({"state": found["state"]}), media_type="application/json")

    async def _statement(self, request: Request) -> Response:
        told = self._api.statement(request.path_params["id"], self._pages.language(request))
        return self._pages.render(request, "statement.html", told=told, yuan=yuan)

    async def _wish(self, request: Request) -> Response:
        said = _WISHES.get(request.path_params["wish"])
        if said is None:
            raise Malformed("usage.argument", "confirm, cancel or refund")
        case_id = named(request.path_params["id"])
        await self._driving.wish(case_id, said)
        await self._driving.wait(case_id, _SETTLED_S)
        return RedirectResponse(f"/desk/{case_id.hex()}", 303)


async def _document(form: FormData) -> dict[str, Any]:
    """The form as a request to the API: the bill's file, and each scanned code or consent file with its kind."""
    consents = []
    for number, kind in enumerate(KINDS):
        text = await _text(form, f"consent-{number}")
        if text.strip():
            consents.append(_json(text) | {"kind": kind})
    sums = {name: str(form.get(name) or "").strip() for name in ("account", "deposit")}
    route = "public" if form.get("public") else "direct"
    return {"bill": await _text(form, "bill"), "consents": consents, "route": route, **sums}


async def _text(form: FormData, name: str) -> str:
    """What was scanned or pasted, or else the file."""
    typed, given = form.get(f"{name}-text"), form.get(name)
    if isinstance(typed, str) and typed.strip():
        return typed
    if not isinstance(given, UploadFile):
        return ""
    return (await given.read()).decode("utf-8", "replace")


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("usage.file", "the scanned code is not a consent") from error
    if not isinstance(found, dict):
        raise Malformed("usage.file", "the scanned code is not a consent")
    return found
