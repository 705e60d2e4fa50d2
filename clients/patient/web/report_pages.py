"""Pages of claims that the patient reports herself: report, documents, where it stands, her word, taking it back."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients.patient import parcels, reports
from clients.patient.wallet import Pair, Wallet
from clients.patient.web import claim_pages
from clients.patient.web.api import Api, text_of, whole_of
from clients.patient.web.claim_pages import Show
from clients.patient.web.uploads import MOST_BYTES, MOST_FILES, PIECE, Uploads
from zhifu import money
from zhifu.errors import Malformed, Refused


class ReportPages:
    """The reported claims of one wallet; ``show`` renders a template in the site's frame."""

    def __init__(self, wallet: Wallet, api: Api, show: Show) -> None:
        self._wallet = wallet
        self._api = api
        self._show = show
        self._uploads = Uploads()
        self._sent = (0, 0)

    def pages(self) -> Mapping[str, Callable[[Request, str], Coroutine[Any, Any, Response]]]:
        return {"/reports": self._list}

    def routes(self) -> list[Route]:
        works = {
            "/api/report": self._report, "/api/attach": self._attach, "/api/answer": self._answer,
            "/api/withdraw": self._withdraw, "/api/send": self._send,
        }  # fmt: skip
        return [
            *(self._api.errand_route(path, work) for path, work in works.items()),
            self._api.plain_route("/api/upload", self._upload),
            self._api.plain_route("/api/sent", self._how_far),
            self._api.octets_route("/api/upload/{upload}", self._piece),
        ]

    async def _list(self, request: Request, language: str) -> Response:
        listed = []
        for one in reports.listed(self._wallet):
            kept = reports.one_of(self._wallet, one.request)
            files = [name for sent in kept["parcels"] for name in sent["files"]]
            left = [sent["hash"] for sent in kept["parcels"] if not sent.get("withdrawn")]
            shown = {"files": files, "parcels": " ".join(left), "halfway": self._uploads.halfway(one.request.hex())}
            listed.append({**claim_pages.row(one, language), **shown})
        pairs = [
            {"key": pair.public.hex(), "recipient": self._wallet.name(bytes.fromhex(pair.recipient))}
            for pair in self._wallet.pairs
            if pair.grants_here
        ]
        limits = {"piece": PIECE, "most": MOST_BYTES, "files": MOST_FILES}
        unsent = len(parcels.waiting(self._wallet))
        return self._show(request, "reports.html", reports=listed, pairs=pairs, limits=limits, unsent=unsent)

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

    async def _upload(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A file is to come in pieces, or to go on."""
        try:
            digest = bytes.fromhex(text_of(body, "digest"))
        except ValueError as error:
            raise Malformed("usage.argument", "digest is a SHA-256 in hex") from error
        claim = reports.find(self._wallet, text_of(body, "claim")).request.hex()
        name, media_type = text_of(body, "name"), text_of(body, "type")
        called, have = self._uploads.begin(claim, name, media_type, whole_of(body, "size"), digest)
        return {"upload": called, "have": have}

    async def _piece(self, request: Request) -> dict[str, Any]:
        at = request.query_params.get("at", "")
        if not at.isascii() or not at.isdecimal():
            raise Malformed("usage.argument", "at is a number of bytes")
        return {"have": self._uploads.add(request.path_params["upload"], int(at), await request.body())}

    async def _how_far(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """How many sealed pieces of what is being sent have arrived, and how many there are."""
        done, whole = self._sent
        return {"done": done, "whole": whole}

    def _progress(self, done: int, whole: int) -> None:
        self._sent = (done, whole)

    async def _attach(self, body: Mapping[str, Any]) -> dict[str, Any]:
        claim = reports.find(self._wallet, text_of(body, "claim")).request
        names = body.get("uploads")
        if not isinstance(names, list) or not 1 <= len(names) <= MOST_FILES:
            raise Malformed("usage.argument", f"1 to {MOST_FILES} files")
        self._progress(0, 0)
        called = [str(one) for one in names]
        files = self._uploads.read(called)

        def kept() -> None:
            for one in called:
                self._uploads.drop(one)

        kind = await reports.attach(self._wallet, claim, files, int(time.time()), self._progress, kept=kept)
        return {"kind": kind}

    async def _send(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """What did not arrive whole, from where it stopped."""
        return {"sent": len(await reports.resume(self._wallet, self._progress))}

    async def _withdraw(self, body: Mapping[str, Any]) -> dict[str, Any]:
        claim = reports.find(self._wallet, text_of(body, "claim")).request
        return {"told": await reports.withdraw(self._wallet, claim, int(time.time()))}

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
