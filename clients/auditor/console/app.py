"""``zhifu console serve``: the pages. Every address is a view: what it shows stands in it and nowhere else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from clients import config
from clients.auditor import exports, filters, histories, moments, pins, remote
from clients.auditor.console import alerts, charts, matrix, verifier
from clients.auditor.console.memory import Memory
from clients.auditor.console.omissions import Omissions
from clients.auditor.console.reviews import Reviews
from clients.auditor.exports import Context, document
from clients.auditor.remote import Auditor
from clients.auditor.report import Report
from clients.auditor.rows import Row
from clients.auditor.verify import Verification
from clients.keystore import FileKeystore
from clients.web.door import Door, closed
from clients.web.entrance import Entrance
from clients.web.pages import Pages
from policies import load
from zhifu import schema
from zhifu.errors import CATALOGUE, Error, Malformed, NotAuthentic, Refused
from zhifu.presentation import PURPOSES
from zhifu.receipt import EVENTS
from zhifu.trail import OUTCOMES, Query

PACKAGE: Final = "clients.auditor.console"
_PAGE: Final = 50
_MEDIA: Final = {"csv": "text/csv", "ndjson": "application/x-ndjson", "ocsf": "application/x-ndjson",
                 "fhir": "application/fhir+ndjson"}  # fmt: skip
_MAX_FORM: Final = 16_384
_LINES: Final = 256
"""Of the log, so many are awaited in one go."""
Handler = Callable[[Request], Awaitable[Response]]


class Console:
    """The pages of one auditor. It connects when the first page is asked for, on the server's own loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages = Pages(PACKAGE)
        self._memory = Memory(folder)
        self._omissions = Omissions(self._memory)
        self._stack = AsyncExitStack()
        self._auditor: Auditor | None = None
        self._checking: asyncio.Task[None] | None = None
        self._units = {unit.name: unit for name in schema.names() for unit in schema.load(name).units}

    def app(self, entrance: Entrance, hosts: frozenset[str]) -> Starlette:
        """The application, behind the guard, for whom ``entrance`` lets in."""
        pages: Mapping[str, Handler] = {
            "/": self._overview,
            "/search": self._search,
            "/complete": self._complete,
            "/entry/{index:int}": self._entry,
            "/entry/{index:int}/receipt.json": self._receipt,
            "/entry/{index:int}/verify.html": self._verifier,
            "/timeline": self._timeline,
            "/integrity": self._integrity,
            "/alerts": self._alerts,
            "/policy": self._policy,
            "/export": self._export,
        }
        changes: Mapping[str, Handler] = {
            "/complete": self._begin_reading,
            "/complete/stop": self._stop_reading,
            "/integrity/check": self._check,
            "/alerts/review": self._review,
            "/filters": self._save,
            "/filters/forget": self._forget,
        }
        routes = [Route(path, self._guarded(handler)) for path, handler in pages.items()]
        routes += [Route(path, self._guarded(handler), methods=["POST"]) for path, handler in changes.items()]
        door = Middleware(Door, name="console", entrance=entrance, home="/", outside=closed("console"))
        return self._pages.app(routes, hosts=hosts, inner=[Middleware(_Tidy), door])

    def _guarded(self, handler: Handler) -> Handler:
        """A page that says what went wrong, in place of a traceback."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Error as error:
                status = 502 if error.retryable else 409 if isinstance(error, NotAuthentic) else 400
                return self._render(request, "trouble.html", status=status, error=error)

        return answer

    @cached_property
    def _reviews(self) -> Reviews:
        return Reviews(self._folder, FileKeystore.load(config.load(self._folder).keys).identity)

    async def _connected(self) -> Auditor:
        if self._auditor is None:
            self._auditor = await self._stack.enter_async_context(remote.connect(self._folder))
        return self._auditor

    def _render(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        shown = {
            "when": moments.local, "day": _day, "event_word": self._word(request, "event"), "here": request.url.path,
            "outcome_word": self._word(request, "outcome"), "purpose_word": self._word(request, "purpose"),
            "state_word": self._word(request, "state"), "role_word": self._word(request, "role"),
            "unit_word": self._unit_word(request),
        }  # fmt: skip
        return self._pages.render(request, template, status, **shown, **context)

    def _word(self, request: Request, kind: str) -> Callable[[str], str]:
        """What the pages call a word of the protocol; the word itself where they have no other."""
        language = self._pages.language(request)

        def say(word: str) -> str:
            key = f"{kind}.{word}"
            return self._pages.words.say(language, key) if key in self._pages.words.texts else word

        return say

    def _unit_word(self, request: Request) -> Callable[[str], str]:
        language = self._pages.language(request)
        return lambda name: self._units[name].title(language) if name in self._units else name

    async def _overview(self, request: Request) -> Response:
        auditor = await self._connected()
        standing = await auditor.standing()
        counts = await auditor.count(Query(since_ms=max(0, standing.clock_ms - alerts.WINDOW_H * alerts.HOUR_MS)))
        bars, (delays, shares) = charts.volume(counts), charts.latency(counts)
        found = alerts.open_ones(await alerts.find(auditor, standing), self._reviews.read())
        return self._render(
            request, "overview.html", standing=standing, bars=bars, delays=delays, shares=shares, alerts=found,
            svg=charts.svg, check=self._memory.check(), waiting=len(counts.waiting), name=auditor.name,
            evidence=len(auditor.evidence()), me=auditor.settings.name,
        )  # fmt: skip

    async def _search(self, request: Request) -> Response:
        auditor = await self._connected()
        given = _given(request.query_params)
        try:
            query, problem = filters.parse(given, auditor.settings.pins), ""
        except Malformed as error:
            query, problem = Query(), error.detail
        before = _number(request.query_params.get("before", ""))
        standing = await auditor.standing()
        page = None if problem else await auditor.search(query, before, _PAGE)
        view = _view(given)
        return self._render(
            request, "search.html", given=given, page=page, problem=problem, before=before, view=view,
            rows=[_shown(row, auditor) for row in page.rows] if page else [],
            pinned=auditor.settings.pins, pinned_ids=[one.hex() for one in auditor.settings.pins],
            events=EVENTS, purposes=PURPOSES, outcomes=OUTCOMES, units=sorted(self._units),
            reasons=sorted(CATALOGUE), saved=self._memory.filters(), formats=exports.FORMATS,
            reading=self._omissions.reading, read=self._omissions.found(view), scope=standing.scope,
        )  # fmt: skip

    async def _complete(self, request: Request) -> Response:
        """Whether the answer to a search left anything out. Asks the broker nothing, so it may be looked at often."""
        given, settings = _given(request.query_params), config.load(self._folder)
        filters.parse(given, settings.pins)
        view = _view(given)
        names = {id_.hex(): pin.name for id_, pin in settings.pins.items()}
        return self._render(
            request, "complete.html", given=given, view=view, names=names,
            reading=self._omissions.reading, read=self._omissions.found(view),
        )  # fmt: skip

    async def _begin_reading(self, request: Request) -> Response:
        auditor, form = await self._connected(), await _form(request)
        given = _given(QueryParams(form["view"]))
        view = _view(given)
        self._omissions.begin(auditor, filters.parse(given, auditor.settings.pins), view)
        return RedirectResponse(f"/complete?{view}", 303)

    async def _stop_reading(self, request: Request) -> Response:
        form = await _form(request)
        self._omissions.stop()
        return RedirectResponse(f"/complete?{_view(_given(QueryParams(form['view'])))}", 303)

    async def _entry(self, request: Request) -> Response:
        auditor = await self._connected()
        row = await self._row(request, auditor)
        return self._render(
            request, "entry.html", row=row, found=document(row, auditor.name),
            receipt=json.dumps(row.receipt(), ensure_ascii=False, indent=1), log_key=auditor.settings.log_key.encode(),
            names=[one.hex() for one in row.names], origin=auditor.settings.origin,
        )  # fmt: skip

    async def _row(self, request: Request, auditor: Auditor) -> Row:
        await auditor.standing()
        page = await auditor.search(Query(entries=(int(request.path_params["index"]),)), limit=1)
        if not page.rows:
            raise Refused("exchange.unknown", "there is no such entry, or it is not for this auditor")
        return page.rows[0]

    async def _receipt(self, request: Request) -> Response:
        row = await self._row(request, await self._connected())
        content = json.dumps(row.receipt(), ensure_ascii=False, indent=1)
        return _attachment(content, "application/json", f"receipt-{row.index}.json")

    async def _verifier(self, request: Request) -> Response:
        """A page to be kept: it verifies this receipt by itself, wherever and whenever it is opened."""
        auditor = await self._connected()
        row = await self._row(request, auditor)
        content = verifier.page(row.receipt(), self._pages.words.all(self._pages.language(request)))
        return _attachment(content, "text/html", f"receipt-{row.index}.html")

    async def _timeline(self, request: Request) -> Response:
        auditor = await self._connected()
        word = request.query_params.get("about", "")
        await auditor.standing()
        rows = await histories.timeline(auditor, filters.hash_of(word)) if word else []
        return self._render(request, "timeline.html", about=word, rows=[_shown(row, auditor) for row in rows])

    async def _integrity(self, request: Request) -> Response:
        auditor = await self._connected()
        try:
            standing, fault = await auditor.standing(), None
        except NotAuthentic as error:
            standing, fault = None, error
        return self._render(
            request, "integrity.html", standing=standing, fault=fault, head=auditor.head, name=auditor.name,
            pinned=auditor.settings.pins, evidence=auditor.evidence(), check=self._memory.check(),
            checking=self._checking is not None and not self._checking.done(), now=int(time.time()),
        )  # fmt: skip

    async def _check(self, request: Request) -> Response:
        """Begin a full check; the page shows what it found."""
        auditor = await self._connected()
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_all(auditor))
        return RedirectResponse("/integrity", 303)

    async def _check_all(self, auditor: Auditor) -> None:
        try:
            report = asdict(await full_check(auditor, self._folder))
        except Error as error:
            report = {"verified": False, "size": 0, "entries": {},
                      "first_bad": {"index": None, "reason": error.reason, "detail": error.detail}}  # fmt: skip
        self._memory.keep_check({**report, "at": int(time.time())})

    async def _alerts(self, request: Request) -> Response:
        auditor = await self._connected()
        found = await alerts.find(auditor, await auditor.standing())
        reviews = self._reviews.read()
        open_ = alerts.open_ones(found, reviews)
        closed = [one for one in found if one not in open_]
        return self._render(request, "alerts.html", open=open_, closed=closed, reviews=reviews)

    async def _review(self, request: Request) -> Response:
        form = await _form(request)
        self._reviews.add(form["alert"], form["by"].strip(), form["note"].strip(), closed=form["action"] == "close")
        return RedirectResponse("/alerts", 303)

    async def _policy(self, request: Request) -> Response:
        known = matrix.bundles(self._folder)
        chosen = request.query_params.get("hash", next(iter(known)))
        against = request.query_params.get("against", "")
        if chosen not in known or (against and against not in known):
            raise Malformed("usage.argument", "there is no such policy in this folder")
        language = self._pages.language(request)
        return self._render(
            request, "policy.html", known=list(known), chosen=chosen, against=against,
            matrices=matrix.matrices(known[chosen], language),
            changes=matrix.changes(known[against], known[chosen]) if against else [],
        )  # fmt: skip

    async def _export(self, request: Request) -> Response:
        auditor = await self._connected()
        form = request.query_params.get("format", "ndjson")
        if form not in exports.FORMATS:
            raise Malformed("usage.argument", "no such format")
        query = filters.parse(_given(request.query_params), auditor.settings.pins)
        await auditor.standing()
        # Whole before the first byte goes out: half an export would look like a small one.
        rows = [row async for page in auditor.export(query) for row in page.rows]
        context = Context(auditor.settings.origin, auditor.id, auditor.name)
        name = f"audit-{datetime.now():%Y%m%d-%H%M%S}.{'csv' if form == 'csv' else form + '.ndjson'}"
        lines = (f"{line}\n" for line in exports.write(form, rows, context))
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(lines, media_type=_MEDIA[form], headers=headers)

    async def _save(self, request: Request) -> Response:
        form = await _form(request)
        self._memory.save_filter(form["name"].strip(), form["view"])
        return RedirectResponse(f"/search?{form['view']}", 303)

    async def _forget(self, request: Request) -> Response:
        form = await _form(request)
        self._memory.forget_filter(form["name"])
        return RedirectResponse("/search", 303)


class _Tidy:
    """Answers without a body for what is no page, so that a browser's probes are no errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/favicon.ico":
            await Response(status_code=204)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def full_check(auditor: Auditor, folder: Path) -> Report:
    """Every entry, node and signature, as `zhifu audit verify` checks a kept log; a good head is remembered.

    Raises `Refused` (policy.denied, unavailable.*).
    """
    verification = Verification(auditor.pins, pins.load_head(folder), [load.load()])
    # As they come: a whole log does not fit into memory.
    report = await asyncio.to_thread(verification.run, _awaited(auditor.mirror(), asyncio.get_running_loop()))
    if report.verified:
        pins.move_head(folder, verification.head)
    return report


def _awaited(lines: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """What comes on the loop, for whoever reads it in a thread."""

    async def some() -> list[bytes]:
        found: list[bytes] = []
        while len(found) < _LINES and (line := await anext(lines, b"")):
            found.append(line)
        return found

    while found := asyncio.run_coroutine_threadsafe(some(), loop).result():
        yield from found


def _shown(row: Row, auditor: Auditor) -> dict[str, Any]:
    """An entry as a line of a page."""
    return document(row, auditor.name) | {"withheld": row.withheld, "local": moments.local(row.time_ms)}


def _given(params: QueryParams) -> dict[str, list[str]]:
    found = {name: params.getlist(name) for name in filters.NAMES}
    return {name: [one for one in values if one] for name, values in found.items() if any(values)}


def _view(given: Mapping[str, Sequence[str]]) -> str:
    """A search as it stands in an address: one way to write each."""
    return urlencode([(name, value) for name, values in given.items() for value in values])


async def _form(request: Request) -> Mapping[str, str]:
    async with request.form(max_files=0, max_fields=16, max_part_size=_MAX_FORM) as form:
        found = {name: str(value) for name, value in form.items()}
    return _Required(found)


class _Required(dict[str, str]):
    def __missing__(self, key: str) -> str:
        raise Malformed("usage.argument", f"the form lacks {key}")


def _number(word: str) -> int:
    return int(word) if word.isdecimal() and len(word) < 16 else 0


def _attachment(content: str, media: str, name: str) -> Response:
    return Response(content, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _day(seconds: int) -> str:
    return moments.local(seconds * 1000)
