"""The hospital node's local HTTP API, for its own HIS on the same machine.

Bearer token, loopback only (DESIGN section 9).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients import desk
from clients.hospital import case as cases
from clients.hospital import coordination, intake, view
from clients.hospital.case import Case, Desk
from clients.hospital.settlement import MAX_POLICIES, Consented, Settlements
from clients.store import Store
from zhifu.errors import Error, Exit, Malformed, Refused
from zhifu.fields import AMOUNT, FLAG, Fields, text

MAX_BODY: Final = 8 << 20
MAX_WAIT_S: Final = 60.0
RETRY_S: Final = 1.0
_STATUS: Final = {Exit.USAGE: 400, Exit.DENIED: 403, Exit.CONSENT: 403, Exit.INTEGRITY: 422, Exit.UNAVAILABLE: 503}
_log = logging.getLogger("zhifu.api")
Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """Opens settlements, drives each in a task of its own, and shows where they stand."""

    def __init__(
        self, settlements: Settlements, store: Store, roles: Mapping[bytes, str], public_payer: bytes, token: str
    ) -> None:
        self._settlements = settlements
        self._store = store
        self._roles = roles
        self._public_payer = public_payer
        self._token = token
        self._tasks: dict[bytes, asyncio.Task[Case]] = {}

    def app(self) -> Starlette:
        """The application: POST /settlements, GET /settlements/{id}, GET /health."""
        return Starlette(
            routes=[
                Route("/settlements", self._guard(self._open), methods=["POST"]),
                Route("/settlements/{id}", self._guard(self._show), methods=["GET"]),
                Route("/health", _health, methods=["GET"]),
            ]
        )

    def resume(self) -> None:
        """Take up what an earlier process of this node left unfinished."""
        for found in cases.unfinished(self._store):
            self._drive(found.id)

    async def close(self) -> None:
        """Stop driving; the cases stay as they are on disk."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _drive(self, case_id: bytes) -> asyncio.Task[Case]:
        if case_id not in self._tasks:
            self._tasks[case_id] = asyncio.create_task(self._run(case_id))
        return self._tasks[case_id]

    async def _run(self, case_id: bytes) -> Case:
        while True:
            try:
                return await self._settlements.run(case_id)
            except Refused as error:
                if not error.retryable:
                    raise
                _log.warning("settlement.waits", extra={"about": {"settlement": case_id, "reason": error.reason}})
                await asyncio.sleep(RETRY_S)

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            shown = request.headers.get("authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
                return JSONResponse({"reason": "signature.invalid", "detail": "a bearer token is needed"}, 401)
            try:
                return await handler(request)
            except Error as error:
                body = {"reason": error.reason, "detail": error.detail or error.entry.meaning, "exit": int(error.exit)}
                return JSONResponse(body, _STATUS.get(error.exit, 409))

        return guarded

    async def _open(self, request: Request) -> Response:
        """``{"bill": text, national or FHIR, "consents": [a desk's consents], …}``: see the OpenAPI document."""
        document = await _body(request)
        bill, route = document.get("bill"), document.get("route", cases.PUBLIC)
        if not isinstance(bill, str) or not isinstance(route, str):
            raise Malformed("bill.syntax", "the body has the text of the bill file as bill")
        content = intake.national_file(bill.encode())
        opened = self._settlements.open(content, _consents(document), route, self._public_payer, _desk(document))
        self._drive(opened.id)
        return JSONResponse(view.document(opened, self._store, self._roles), 202)

    async def _show(self, request: Request) -> Response:
        """The settlement; with ``?wait=S`` after at most S seconds, or as soon as it ended."""
        case_id = _id(request.path_params["id"])
        cases.get(self._store, case_id)
        task = self._tasks.get(case_id)
        if task is not None:
            await asyncio.wait([task], timeout=min(MAX_WAIT_S, _seconds(request)))
        return JSONResponse(view.document(cases.get(self._store, case_id), self._store, self._roles))


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _consents(document: Mapping[str, Any]) -> list[Consented]:
    given = document.get("consents")
    rows = given if isinstance(given, list) else [document["consent"]] if document.get("consent") else []
    if len(rows) > MAX_POLICIES or not all(isinstance(row, dict) for row in rows):
        raise Malformed("usage.argument", f"consents is a list of at most {MAX_POLICIES} consents")
    found = [(str(row.get("kind", coordination.USUAL)), desk.parse_consent(row, "consents")) for row in rows]
    return [Consented(kind, one.grant, one.attestations) for kind, one in found]


def _desk(document: Mapping[str, Any]) -> Desk:
    fields = Fields(document, "", "usage.argument")
    return Desk(
        order=fields.maybe(text(64), "order") or coordination.DEFAULT,
        hold=fields.maybe(FLAG, "hold") or False,
        patient=fields.maybe(FLAG, "patient") or False,
        account=fields.maybe(AMOUNT, "account") or 0,
        deposit=fields.maybe(AMOUNT, "deposit") or 0,
    )


async def _body(request: Request) -> Mapping[str, Any]:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise Malformed("malformed.size", f"a body has at most {MAX_BODY} bytes")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Malformed("bill.syntax", "the body is not JSON") from error
    if not isinstance(found, dict):
        raise Malformed("bill.syntax", "the body is not an object")
    return found


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Malformed("usage.argument", "a settlement is named in hex") from error


def _seconds(request: Request) -> float:
    try:
        return max(0.0, float(request.query_params.get("wait", "0")))
    except ValueError as error:
        raise Malformed("usage.argument", "wait is a number of seconds") from error
