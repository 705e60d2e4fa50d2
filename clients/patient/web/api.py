"""What the pages' JavaScript asks for: JSON in and out, errands where a signature is needed."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import segno
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients import desk
from clients.patient import code as codes
from clients.patient import consent, kept, keys, mailbox, receipts, requests, stop
from clients.patient import wallet as wallets
from clients.patient.consent import Choice
from clients.patient.each import each
from clients.patient.keys import Further
from clients.patient.mailbox import Access
from clients.patient.stop import Granted
from clients.patient.wallet import Pair, Wallet
from clients.patient.web.errand import Errands
from zhifu.errors import Error, Exit, Malformed, Refused

Body = Mapping[str, Any]
_STATUS: Final = {Exit.USAGE: 400, Exit.INTEGRITY: 422, Exit.UNAVAILABLE: 503}


@dataclass(slots=True)
class Api:
    """The calls on one wallet.

    What the broker said last: ``seen`` of each subject's accesses, ``keys`` of the key log that each of our keys is in,
    ``granted`` of what somebody granted whom we watch over.
    """

    wallet: Wallet
    errands: Errands = field(default_factory=Errands)
    seen: dict[bytes, list[Access]] = field(default_factory=dict)
    keys: dict[bytes, list[Further]] = field(default_factory=dict)
    granted: dict[bytes, dict[bytes, Granted]] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """POST each, and receipts to download."""
        plain = {
            "/api/card": self._card, "/api/draw": self._draw, "/api/requests": self._take,
            "/api/refuse": self._refuse, "/api/qr": self._qr, "/api/sign": self._sign,
        }  # fmt: skip
        works = {
            "/api/enrol": self._enrol, "/api/grant": self._grant, "/api/code": self._code, "/api/online": self._online,
            "/api/revoke": self._revoke, "/api/refresh": self._refresh,
        }  # fmt: skip
        return [
            *(self.plain_route(path, call) for path, call in plain.items()),
            *(self.errand_route(path, work) for path, work in works.items()),
            Route("/receipts/{name}", self._receipt, methods=["GET"]),
        ]

    def plain_route(self, path: str, call: Callable[[Body], Awaitable[dict[str, Any]]]) -> Route:
        """A call that is answered at once."""
        return Route(path, _answer(call), methods=["POST"])

    def errand_route(self, path: str, work: Callable[[Body], Awaitable[dict[str, Any]]]) -> Route:
        """A call that needs the browser's signatures on its way."""
        return Route(path, _answer(self._errand(work)), methods=["POST"])

    def octets_route(self, path: str, call: Callable[[Request], Awaitable[dict[str, Any]]]) -> Route:
        """A call whose body is no JSON, answered at once."""

        async def respond(request: Request) -> Response:
            try:
                return JSONResponse(await call(request))
            except Error as error:
                return _refusal(error)

        return Route(path, respond, methods=["POST"])

    def _errand(self, work: Callable[[Body], Awaitable[dict[str, Any]]]) -> Callable[[Body], Awaitable[dict[str, Any]]]:
        async def begin(body: Body) -> dict[str, Any]:
            return await self.errands.begin(lambda: work(body))

        return begin

    async def _sign(self, body: Body) -> dict[str, Any]:
        signature = None if body.get("declined") is True else bytes_of(body, "signature")
        return await self.errands.go_on(text_of(body, "errand"), signature)

    # Enrolment

    async def _card(self, body: Body) -> dict[str, Any]:
        """Know an organisation by the card it handed over."""
        found = desk.parse_card(object_of(body, "card"), "the card")
        self.wallet.parties[found["id"]] = wallets.Party(found["id"], found["role"], found["name"])
        self.wallet.save()
        return {"id": found["id"], "name": found["name"]}

    async def _draw(self, body: Body) -> dict[str, Any]:
        """A pair whose signing key the browser drew."""
        pair = self.wallet.draw_pair(self.party(body, "hospital"), self.party(body, "recipient"), bytes_of(body, "key"))
        self.wallet.save()
        return {"key": pair.public.hex(), "enrolled": pair.enrolled, "wallet_key": pair.kem_key.public.raw.hex()}

    async def _enrol(self, body: Body) -> dict[str, Any]:
        """The recovery code stays in the browser, which makes its key from it and signs with that too."""
        pair = self.pair(body)
        attested = [desk.parse_attestation(one, "the attestation") for one in body.get("attestations", ())]
        hospital, recipient = self.wallet.parties[pair.hospital], self.wallet.parties[pair.recipient]
        way_back = keys.recovery_pair(hospital, recipient, pair.subject, bytes_of(body, "recovery"))
        entry = await keys.enrol(self.wallet, pair, attested, way_back, _now())
        return {"entry": entry.index if entry else None}

    def party(self, body: Body, name: str) -> wallets.Party:
        found = self.wallet.parties.get(text_of(body, name))
        if found is None:
            raise Refused("key.not_pinned", "this wallet does not know that organisation")
        return found

    def pair(self, body: Body) -> Pair:
        public = bytes_of(body, "key")
        for pair in self.wallet.pairs:
            if pair.public == public:
                return pair
        raise Refused("consent.key_status", "this wallet has no such key")

    # Requests

    async def _take(self, body: Body) -> dict[str, Any]:
        """Keep a request that the desk handed over, if it verifies."""
        shown_ = desk.parse_request(object_of(body, "request"), "the request")
        return {"request": requests.take(self.wallet, shown_, _now()).hex()}

    def review(self, name: str) -> consent.Review:
        """A kept request by its hash. Raises as `consent.review`."""
        return consent.review(self.wallet, requests.find(self.wallet, name), _now())

    async def _grant(self, body: Body) -> dict[str, Any]:
        seen = self.review(text_of(body, "request"))
        asked, chosen = Choice.as_asked(seen), object_of(body, "choice")
        levels = object_of(chosen, "levels")
        wishes = {_place(place): whole_of(levels, place) for place in levels}
        choice = Choice(
            consent.narrowed(asked.scopes, wishes),
            whole_of(chosen, "expiry"),
            whole_of(chosen, "data_erase_at"),
            None if chosen.get("cap") is None else whole_of(chosen, "cap"),
        )
        given = await consent.give(self.wallet, seen, choice, _now())
        return {"grant": given.grant_hash.hex(), "entry": given.entry, "consent": desk.consent_document(given.consent)}

    async def _refuse(self, body: Body) -> dict[str, Any]:
        said = consent.refuse(self.wallet, self.review(text_of(body, "request")), _now())
        return {"request": said["request"]}

    # The code

    async def _code(self, body: Body) -> dict[str, Any]:
        code = await codes.draw(self.wallet, bytes_of(body, "hospital"), _now())
        return {"text": code.text(), "issued_at": code.issued_at, "tickets": len(code.signed), **qr(code.text())}

    async def _online(self, body: Body) -> dict[str, Any]:
        code = await codes.draw(self.wallet, bytes_of(body, "hospital"), _now())
        found = await codes.online(self.wallet, code, _now())
        return {"digits": found.spaced, "until_ms": found.until_ms}

    async def _qr(self, body: Body) -> dict[str, Any]:
        return qr(text_of(body, "text"))

    # Afterwards

    async def _revoke(self, body: Body) -> dict[str, Any]:
        """One grant; every grant of a hospital; or all."""
        if body.get("grant"):
            done = [await stop.one(self.wallet, bytes_of(body, "grant"), _now())]
        else:
            hospital = bytes_of(body, "hospital") if body.get("hospital") else None
            done = await stop.every(self.wallet, _now(), hospital)
        for said in self.granted.values():
            said.update({digest: said[digest].ended() for one in done for digest in one.grants if digest in said})
        counted = {"delivered": sum(one.delivered for one in done), "withheld": sum(one.withheld for one in done)}
        return {"grants": [digest.hex() for one in done for digest in one.grants], **counted}

    async def _refresh(self, _: Body) -> dict[str, Any]:
        """Fetch statements, accesses and the key log of every enrolled key."""
        now = _now()

        async def look(pair: Pair) -> int:
            fresh = len(await kept.collect(self.wallet, pair, now))
            self.keys[pair.public] = await keys.listed(self.wallet, pair, shown=False)
            self.granted[pair.public] = await stop.granted(self.wallet, pair) if pair.subject_id else {}
            self.seen[pair.subject] = await mailbox.accesses(self.wallet, pair, now)
            return fresh

        fresh = sum(await each(self.wallet, look))
        return {"statements": fresh, "accesses": sum(map(len, self.seen.values()))}

    async def _receipt(self, request: Request) -> Response:
        """A consent receipt to keep: ISO/IEC TS 27560, or a FHIR R4 Consent with ``?form=fhir``."""
        make = receipts.fhir if request.query_params.get("form") == "fhir" else receipts.record
        try:
            document = make(self.wallet, _hex(request.path_params["name"]), request.query_params.get("lang", "zh"))
        except Error as error:
            return _refusal(error)
        name = f"{make.__name__}-{request.path_params['name'][:12]}.json"
        text = json.dumps(document, ensure_ascii=False, indent=1)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type="application/json", headers=headers)


def qr(text: str) -> dict[str, Any]:
    """A QR code as the ``d`` of an SVG path, one unit a module, with its size; the text may hold a signature."""
    drawn = segno.make(text, error="l", boost_error=False, micro=False)
    rows = list(drawn.matrix)
    path = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark)
    return {"size": len(rows), "path": path}


def _now() -> int:
    return int(time.time())


def _answer(call: Callable[[Body], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise Malformed("usage.argument", "not a JSON object")
            return JSONResponse(await call(body))
        except Error as error:
            return _refusal(error)
        except (ValueError, RecursionError):
            return _refusal(Malformed("usage.argument", "not JSON"))

    return respond


def _refusal(error: Error) -> Response:
    about = {"reason": error.reason, "detail": error.detail}
    return JSONResponse({"refused": about}, _STATUS.get(error.exit, 403))


def text_of(body: Body, name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or len(found) > 4096:
        raise Malformed("usage.argument", f"{name} is missing")
    return found


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Malformed("usage.argument", "not hex") from error


def bytes_of(body: Body, name: str) -> bytes:
    """32 bytes in hex, or a signature in base64."""
    text = text_of(body, name)
    try:
        return _hex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Malformed("usage.argument", f"{name} is not bytes") from error


def object_of(body: Body, name: str) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise Malformed("usage.argument", f"{name} is missing")
    return found


def _place(text: str) -> tuple[str, str]:
    name, _, unit = text.partition(".")
    return name, unit


def whole_of(body: Body, name: str) -> int:
    found = body.get(name)
    if type(found) is not int:
        raise Malformed("usage.argument", f"{name} is not a whole number")
    return found
