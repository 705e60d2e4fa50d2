"""Pages of claims that the patient reports herself: the report, documents, where it stands, accept or dispute."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients.patient import parcels, reports
from clients.patient.wallet import Pair, Wallet
from clients.patient.web import claim_pages
from clients.patient.web.api import Api, text_of
from clients.patient.web.claim_pages import Show
from zhifu import money
from zhifu.errors import Malformed, Refused
from zhifu.parcel import Document

_MOST_FILES: Final = 8


class ReportPages:
    """The reported claims of one wallet; ``show`` renders a template in the site's frame."""

    def __init__(self, wallet: Wallet, api: Api, show: Show) -> None:
        self._wallet = wallet
        self._api = api
        self._show = show

    def pages(self) -> Mapping[str, Callable[[Request, str], Coroutine[Any, Any, Response]]]:
        return {"/reports": self._list}

    def routes(self) -> list[Route]:
        works = {"/api/report": self._report, "/api/attach": self._attach, "/api/answer": self._answer}
        return [self._api.errand_route(path, work) for path, work in works.items()]

    async def _list(self, request: Request, language: str) -> Response:
        listed = []
        for one in reports.listed(self._wallet):
            kept = reports.one_of(self._wallet, one.request)
            files = [name for sent in kept["parcels"] for name in sent["files"]]
            listed.append({**claim_pages.row(one, language), "files": files})
        pairs = [
            {"key": pair.public.hex(), "recipient": self._wallet.name(bytes.fromhex(pair.recipient))}
            for pair in self._wallet.pairs
            if pair.grants_here
        ]
        return self._show(request, "reports.html", reports=listed, pairs=pairs)

    async def _report(self, body: Mapping[str, Any]) -> dict[str, Any]:
        stated = {
            "cert_type": "01",
            "cert_no": text_of(body, "number").upper(),
            "day": text_of(body, "day"),
            "outpatient": body.get("outpatient") is True,
            "hospital": text_of(body, "hospital"),
            "diagnosis": "",
            "note": text_of(body, "note"),
            **{name: _fen(body, name) for name in ("total", "public", "other")},
        }
        pair = self._pair(text_of(body, "pair"))
        made = await reports.report(self._wallet, pair, stated, int(time.time()), parcels.silent)
        return {"claim": made.hex()}

    async def _attach(self, body: Mapping[str, Any]) -> dict[str, Any]:
        claim = reports.find(self._wallet, text_of(body, "claim")).request
        kind = await reports.attach(self._wallet, claim, _files(body), int(time.time()), parcels.silent)
        return {"kind": kind}

    async def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        said = text_of(body, "answer")
        if said not in ("accept", "dispute"):
            raise Malformed("usage.argument", "accept or dispute")
        claim = reports.find(self._wallet, text_of(body, "claim")).request
        await reports.answer(self._wallet, claim, said, "", int(time.time()))
        return {"answer": said}

    def _pair(self, key: str) -> Pair:
        for pair in self._wallet.pairs:
            if pair.grants_here and pair.public.hex() == key:
                return pair
        raise Refused("consent.key_status", "this wallet has no such key")


def _fen(body: Mapping[str, Any], name: str) -> int:
    found = money.fen(text_of(body, name))
    if found is None or found < 0:
        raise Malformed("usage.argument", f"{name} is not an amount like 620.00")
    return found


def _files(body: Mapping[str, Any]) -> list[Document]:
    rows = body.get("files")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_FILES:
        raise Malformed("usage.argument", f"1 to {_MOST_FILES} files")
    try:
        return [
            Document(str(one["name"])[-128:], str(one["type"])[:64], base64.b64decode(one["data"], validate=True))
            for one in rows
        ]
    except (KeyError, TypeError, binascii.Error) as error:
        raise Malformed("usage.argument", "a file is a name, a type and base64") from error
