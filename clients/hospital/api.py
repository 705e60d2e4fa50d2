"""The hospital node's local HTTP API, for its own HIS on the same machine.

Bearer token, loopback only (DESIGN section 9). ``GET /openapi.json`` describes it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from clients import desk
from clients.hospital import case as cases
from clients.hospital import coordination, intake, listing, openapi, outcome, view
from clients.hospital.case import Case, Desk
from clients.hospital.consented import Consented
from clients.hospital.driving import Driving
from clients.hospital.eligibility import Question, Questions
from clients.hospital.fhir import answers, document, refusal, submitting
from clients.hospital.openbill import OpenBill, as_open
from clients.hospital.outcome import Outcome
from clients.hospital.redeem import Codes
from clients.hospital.settlement import MAX_POLICIES, Settlements
from clients.store import Store
from zhifu import bill as bills
from zhifu import schema
from zhifu.errors import Error, Exit, Malformed, NotAuthentic
from zhifu.fields import AMOUNT, FLAG, Fields, text

MAX_BODY: Final = 8 << 20
MAX_WAIT_S: Final = 60.0
LOOK_S: Final = 0.1
_STATUS: Final = {Exit.USAGE: 400, Exit.DENIED: 403, Exit.CONSENT: 403, Exit.INTEGRITY: 422, Exit.UNAVAILABLE: 503}
Handler = Callable[[Request], Awaitable[Response]]


def _refused(error: Error, status: int) -> Response:
    body = {"reason": error.reason, "detail": error.detail or error.entry.meaning, "exit": int(error.exit)}
    return JSONResponse(body, status)


def _refused_as_fhir(error: Error, status: int) -> Response:
    return _fhir_response(refusal.outcome(error), status)


def _fhir_response(found: dict[str, Any], status: int = 200) -> Response:
    return Response(document.dumps(found), status, media_type="application/fhir+json")


class Api:
    """Opens settlements, passes on what the desk says, and shows where they stand."""

    def __init__(
        self,
        settlements: Settlements,
        codes: Codes,
        driving: Driving,
        questions: Questions,
        store: Store,
        roles: Mapping[bytes, str],
        names: Mapping[bytes, str],
        public_payer: bytes,
        token: str,
    ) -> None:
        self._settlements = settlements
        self._codes = codes
        self._driving = driving
        self._questions = questions
        self._store = store
        self._roles = roles
        self._names = names
        self._public_payer = public_payer
        self._token = token

    def app(self, more: list[BaseRoute] | None = None) -> Starlette:
        """The application; `clients.hospital.openapi` lists every path. ``more`` are the cashier's pages."""
        guarded = [
            Route("/settlements", self._guard(self._open), methods=["POST"]),
            Route("/settlements", self._guard(self._find), methods=["GET"]),
            Route("/paid", self._guard(self._paid), methods=["POST"]),
            Route("/claims", self._guard(self._claims), methods=["GET"]),
            Route("/settlements/{id}/paid", self._guard(self._rest_paid), methods=["POST"]),
            Route("/quotes", self._guard(self._quote), methods=["POST"]),
            Route("/settlements/{id}", self._guard(self._show), methods=["GET"]),
            Route("/settlements/{id}/statement", self._guard(self._statement), methods=["GET"]),
            Route("/settlements/{id}/events", self._guard(self._events), methods=["GET"]),
            Route("/settlements/{id}/fhir", self._guard(self._fhir, _refused_as_fhir), methods=["GET"]),
            Route("/settlements/{id}/national", self._guard(self._national), methods=["GET"]),
            Route("/fhir/Claim/$submit", self._guard(self._submit, _refused_as_fhir), methods=["POST"]),
            Route("/eligibility", self._guard(self._ask_cover), methods=["POST"]),
            Route("/eligibility/{id}", self._guard(self._cover), methods=["GET"]),
        ]
        for word, wish in (("confirm", "confirm"), ("cancel", "cancel"), ("refund", "reverse")):
            guarded.append(Route(f"/settlements/{{id}}/{word}", self._guard(self._wish(wish)), methods=["POST"]))
        plain = [Route("/health", _health, methods=["GET"]), Route("/openapi.json", _describe, methods=["GET"])]
        return Starlette(routes=[*guarded, *plain, *(more or [])])

    def _guard(self, handler: Handler, refused: Callable[[Error, int], Response] = _refused) -> Handler:
        async def guarded(request: Request) -> Response:
            shown = request.headers.get("authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
                return refused(NotAuthentic("signature.invalid", "a bearer token is needed"), 401)
            try:
                return await handler(request)
            except Error as error:
                return refused(error, _STATUS.get(error.exit, 409))

        return guarded

    async def _open(self, request: Request) -> Response:
        """See the OpenAPI document. ``code`` instead of consents is what the patient's phone shows: a QR's text or 18
        digits.
        """
        return self._shown(await self._started(await _body(request)))

    async def _started(self, document: Mapping[str, Any]) -> Case:
        code, bill = document.get("code"), document.get("bill")
        if code is None or not isinstance(bill, str):
            return self.begin(document)
        if not isinstance(code, str):
            raise Malformed("usage.argument", "code is the text that the phone shows")
        # Before the code is used up: what else is wrong with the request.
        _consents(document), _desk(document)
        return self.begin(document, await self.redeem(code, bill))

    async def redeem(self, code: str, bill: str) -> list[Consented]:
        """What the code that a phone shows pays with, for the patient of this bill alone.

        Raises `Refused` (ticket.*, consent.*), `NotAuthentic`, `Malformed` (malformed.*, bill.*).
        """
        return await self._codes.redeem(code, bills.parse(intake.national_file(bill.encode())))

    async def _quote(self, request: Request) -> Response:
        """A settlement that stops at the split: every payer's reservation is the quote, cancelled or confirmed."""
        return self._shown(await self._started({**await _body(request), "hold": True}))

    async def _paid(self, request: Request) -> Response:
        """The patient paid a bill that was not settled here."""
        document = await _body(request)
        if not isinstance(bill := document.get("bill"), str):
            raise Malformed("bill.syntax", "the body has the text of the bill file as bill")
        made = self._settlements.paid(intake.claimable(bill.encode()))
        return JSONResponse([view.row(one) for one in made])

    async def _rest_paid(self, request: Request) -> Response:
        """She paid what a settlement left to her: all of it, where it failed or was cancelled."""
        made = self._settlements.paid(b"", named(request.path_params["id"]))
        return JSONResponse([view.row(one) for one in made])

    async def _claims(self, request: Request) -> Response:
        """Claims after payment, the newest first."""
        return JSONResponse([view.row(one) for one in listing.last(self._store, listing.CLAIM, view.MOST)])

    def _shown(self, opened: Case) -> Response:
        return JSONResponse(view.document(opened, self._store, self._roles), 202)

    def begin(self, document: Mapping[str, Any], given: Sequence[Consented] = ()) -> Case:
        """Open and drive a settlement from a request's body. Raises what `Settlements.open` raises.

        ``given`` are the consents that a code stands for, beside those in the body. ``narrow`` in the body is
        ``{"schema.unit": "level"}``: what this claim is to show at most, within what the patient agreed to.
        """
        bill, route = document.get("bill"), document.get("route", cases.PUBLIC)
        if not isinstance(bill, str) or not isinstance(route, str):
            raise Malformed("bill.syntax", "the body has the text of the bill file as bill")
        content = intake.national_file(bill.encode())
        narrow = _narrow(document.get("narrow"))
        shown = [replace(one, narrow=narrow) for one in (*given, *_consents(document))]
        opened = self._settlements.open(content, shown, route, self._public_payer, _desk(document))
        self._driving.drive(opened.id)
        return opened

    def show(self, case_id: bytes) -> dict[str, Any]:
        """A settlement as it stands. Raises `Refused` (exchange.unknown)."""
        return view.document(cases.get(self._store, case_id), self._store, self._roles)

    async def _show(self, request: Request) -> Response:
        """With ``?wait=S`` after at most S seconds, or as soon as it stands still."""
        case_id = named(request.path_params["id"])
        cases.get(self._store, case_id)
        await self._driving.wait(case_id, min(MAX_WAIT_S, _seconds(request)))
        return JSONResponse(self.show(case_id))

    async def _find(self, request: Request) -> Response:
        """Settlements, the newest first: those of ``?visit=`` or ``?invoice=``, or the last 50."""
        wanted = {name: request.query_params.get(name) for name in ("visit", "invoice")}
        return JSONResponse([view.row(one) for one in view.find(self._store, wanted["visit"], wanted["invoice"])])

    async def _statement(self, request: Request) -> Response:
        """Both the formal rows and the plain words, in ``?lang=`` zh or en."""
        return JSONResponse(self.statement(request.path_params["id"], _language(request)))

    def statement(self, settlement: str, language: str) -> dict[str, Any]:
        """The statement of a settlement, named in hex. Raises `Refused` (exchange.unknown, exchange.state)."""
        return view.statement(cases.get(self._store, named(settlement)), self._store, self._names, language)

    def recent(self) -> list[dict[str, Any]]:
        """The last settlements, the newest first."""
        return [view.row(one) for one in listing.last(self._store, listing.SETTLEMENT, 10)]

    def _wish(self, said: str) -> Handler:
        async def wished(request: Request) -> Response:
            case_id = named(request.path_params["id"])
            await self._driving.wish(case_id, said)
            await self._driving.wait(case_id, min(MAX_WAIT_S, _seconds(request)))
            return JSONResponse(self.show(case_id))

        return wished

    async def _ask_cover(self, request: Request) -> Response:
        """A question of cover about ``admission`` or ``bill``, with any number of consents for just that."""
        document = await _body(request)
        asked = await self._questions.ask(intake.visit(document), _consents(document))
        return await self._covered(asked, request, 202)

    async def _cover(self, request: Request) -> Response:
        return await self._covered(self._questions.find(named(request.path_params["id"])), request, 200)

    async def _covered(self, asked: Question, request: Request, status: int) -> Response:
        """With ``?wait=S`` after at most S seconds, or as soon as everybody answered."""
        await self._questions.wait(asked, min(MAX_WAIT_S, _seconds(request)))
        return JSONResponse(self._questions.document(asked, _language(request)), status)

    async def _events(self, request: Request) -> Response:
        """Server-sent events: the settlement whenever it changed, until it is over."""
        case_id = named(request.path_params["id"])
        cases.get(self._store, case_id)
        return StreamingResponse(self._changes(case_id), media_type="text/event-stream")

    async def _changes(self, case_id: bytes) -> AsyncIterator[bytes]:
        before = None
        while before is None or before.state not in cases.FINAL:
            case = cases.get(self._store, case_id)
            if case != before:
                yield b"data: " + json.dumps(view.brief(case)).encode() + b"\n\n"
            before = case
            await asyncio.sleep(LOOK_S)

    async def _fhir(self, request: Request) -> Response:
        """A Bundle: the Claim, a ClaimResponse of each payer, and the ExplanationOfBenefit of the whole."""
        return self._as_fhir(named(request.path_params["id"]), answers.document)

    def _as_fhir(self, case_id: bytes, form: Callable[[OpenBill, Outcome], dict[str, Any]]) -> Response:
        case = cases.get(self._store, case_id)
        bill = as_open(intake.open_bill(case.bill))
        return _fhir_response(form(bill, outcome.read(case, self._store, self._names)))

    async def _national(self, request: Request) -> Response:
        """The public payer's split in the fields of 2304, and beside it what insurers and the patient pay."""
        case = cases.get(self._store, named(request.path_params["id"]))
        return JSONResponse(outcome.national(outcome.read(case, self._store, self._names)))

    async def _submit(self, request: Request) -> Response:
        """FHIR ``Claim/$submit``: a Bundle with one Claim, or Parameters with it and the patient's consents; the
        ClaimResponse of one payer, or a Bundle with that of each.
        """
        case = await self._started(submitting.read(await _content(request)))
        await self._driving.wait(case.id, min(MAX_WAIT_S, _seconds(request) or MAX_WAIT_S))
        return self._as_fhir(case.id, answers.submitted)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _describe(_: Request) -> Response:
    return JSONResponse(openapi.DOCUMENT)


def _consents(document: Mapping[str, Any]) -> list[Consented]:
    given = document.get("consents")
    rows = given if isinstance(given, list) else [document["consent"]] if document.get("consent") else []
    if len(rows) > MAX_POLICIES or not all(isinstance(row, dict) for row in rows):
        raise Malformed("usage.argument", f"consents is a list of at most {MAX_POLICIES} consents")
    found = [(str(row.get("kind", coordination.USUAL)), desk.parse_consent(row, "consents")) for row in rows]
    return [Consented(kind, one.grant, one.attestations, one.terms) for kind, one in found]


def _narrow(found: object) -> tuple[tuple[bytes, bytes], ...]:
    """Levels by schema hash: the finest everywhere, but for the units that are named. Raises `Malformed`, `Refused`."""
    levels: dict[str, bytearray] = {}
    if not isinstance(found, dict | None):
        raise Malformed("usage.argument", "narrow is an object")
    for place, level in (found or {}).items():
        name, _, unit = str(place).partition(".")
        kind = schema.load(name)
        levels.setdefault(name, bytearray(kind.finest))[kind.unit(unit).index] = kind.unit(unit).level_named(str(level))
    return tuple((schema.load(name).hash, bytes(one)) for name, one in levels.items())


def _desk(document: Mapping[str, Any]) -> Desk:
    fields = Fields(document, "", "usage.argument")
    return Desk(
        order=fields.maybe(text(64), "order") or coordination.DEFAULT,
        hold=fields.maybe(FLAG, "hold") or False,
        patient=fields.maybe(FLAG, "patient") or False,
        account=fields.maybe(AMOUNT, "account") or 0,
        deposit=fields.maybe(AMOUNT, "deposit") or 0,
    )


async def _content(request: Request) -> bytes:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise Malformed("malformed.size", f"a body has at most {MAX_BODY} bytes")
    return content


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        found = json.loads(await _content(request))
    except (ValueError, RecursionError) as error:
        raise Malformed("bill.syntax", "the body is not JSON") from error
    if not isinstance(found, dict):
        raise Malformed("bill.syntax", "the body is not an object")
    return found


def named(text: str) -> bytes:
    """A settlement's id. Raises `Malformed` (usage.argument)."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Malformed("usage.argument", "a settlement is named in hex") from error


def _language(request: Request) -> str:
    language = request.query_params.get("lang", "zh")
    if language not in ("zh", "en"):
        raise Malformed("usage.argument", "lang is zh or en")
    return language


def _seconds(request: Request) -> float:
    try:
        return max(0.0, float(request.query_params.get("wait", "0")))
    except ValueError as error:
        raise Malformed("usage.argument", "wait is a number of seconds") from error
