"""Pages of keys: further devices and guardians, what is new of them, the way back with the recovery code."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clients import desk
from clients.patient import keys, screen, stop
from clients.patient.keys import Further
from clients.patient.wallet import Pair, Wallet
from clients.patient.web import shown
from clients.patient.web.api import Api, Body, bytes_of, object_of, text_of
from zhifu.errors import Refused
from zhifu.keys import participant_id

Show = Callable[..., Response]


class KeyPages:
    """The keys of one wallet; ``show`` renders a template in the site's frame."""

    def __init__(self, wallet: Wallet, api: Api, show: Show) -> None:
        self._wallet = wallet
        self._api = api
        self._show = show

    def pages(self) -> Mapping[str, Callable[[Request, str], Coroutine[Any, Any, Response]]]:
        return {"/keys": self._keys, "/recover": self._recover}

    def routes(self) -> list[Route]:
        plain = {"/api/keys/read": self._read, "/api/keys/seen": self._seen}
        works = {
            "/api/keys/add": self._add, "/api/keys/strike": self._strike, "/api/keys/offer": self._offer,
            "/api/keys/whose": self._whose, "/api/keys/recover": self._get_in, "/api/keys/stop": self._stop,
        }  # fmt: skip
        return [
            *(self._api.plain_route(path, call) for path, call in plain.items()),
            *(self._api.errand_route(path, work) for path, work in works.items()),
        ]

    # Pages

    async def _keys(self, request: Request, language: str) -> Response:
        pairs = [one for one in self._wallet.pairs if one.enrolled]
        own = [self._row(one, language) for one in pairs if not one.subject_id]
        watched = [self._watched(one, language) for one in pairs if one.subject_id]
        parties = list(self._wallet.parties.values())
        return self._show(request, "keys.html", own=own, watched=watched, parties=parties, known=bool(self._api.keys))

    async def _recover(self, request: Request, language: str) -> Response:
        return self._show(request, "recover.html", parties=list(self._wallet.parties.values()))

    def news(self, language: str) -> list[dict[str, Any]]:
        """Keys that this wallet's holder was not shown yet: they may be a stranger's."""
        own = (self._row(pair, language) for pair in self._wallet.pairs if pair.enrolled)
        return [{**one, "pair": row} for row in own for one in row["keys"] if one["news"]]

    def _row(self, pair: Pair, language: str) -> dict[str, Any]:
        return {
            "key": pair.public.hex(),
            "hospital": self._wallet.name(bytes.fromhex(pair.hospital)),
            "recipient": self._wallet.name(bytes.fromhex(pair.recipient)),
            "keys": [_further(one) for one in self._api.keys.get(pair.public, ())],
        }

    def _watched(self, pair: Pair, language: str) -> dict[str, Any]:
        """Somebody whom this key watches over, with what she granted."""
        found = self._api.granted.get(pair.public, {})
        grants = [
            {
                "hash": digest.hex(),
                "recipient": self._wallet.name(one.grant.recipient),
                "purpose": screen.pick(screen.PURPOSES[one.grant.purpose], language),
                "until": shown.moment(one.grant.expiry),
                "state": one.status if one.status != "active" or time.time() <= one.grant.expiry else "expired",
            }
            for digest, one in found.items()
        ]
        mine = next((one for one in self._api.keys.get(pair.public, ()) if one.key == pair.public), None)
        role = next(name for name, number in keys.ROLES.items() if number == pair.role)
        standing = _further(mine) if mine else None
        return {**self._row(pair, language), "grants": grants, "role": role, "standing": standing}

    # Calls

    async def _read(self, body: Body) -> dict[str, Any]:
        """The line that another device offers, for the browser to read and show before anything is signed."""
        signed = desk.parse_offer(object_of(body, "offer"), "the offer")
        return {"payload": shown.base64_of(signed.payload)}

    async def _seen(self, _: Body) -> dict[str, Any]:
        for pair in self._wallet.pairs:
            if pair.public in self._api.keys:
                keys.note(self._wallet, pair, self._api.keys[pair.public])
                self._api.keys[pair.public] = [one.told() for one in self._api.keys[pair.public]]
        return {}

    async def _add(self, body: Body) -> dict[str, Any]:
        pair, signed = self._api.pair(body), desk.parse_offer(object_of(body, "offer"), "the offer")
        entry, _ = await keys.add(self._wallet, pair, keys.Offer(signed))
        await self._look(pair)
        return {"entry": entry.index}

    async def _strike(self, body: Body) -> dict[str, Any]:
        pair = self._api.pair(body)
        entry = await keys.strike(self._wallet, pair, bytes_of(body, "struck"), int(time.time()))
        await self._look(pair)
        return {"entry": entry.index}

    async def _look(self, pair: Pair) -> None:
        self._api.keys[pair.public] = await keys.listed(self._wallet, pair, shown=False)

    async def _offer(self, body: Body) -> dict[str, Any]:
        """This browser becomes somebody's further device, or her guardian's, once she added the key."""
        hospital, recipient = self._api.party(body, "hospital"), self._api.party(body, "recipient")
        subject, role = participant_id(bytes_of(body, "subject_key")), text_of(body, "role")
        public, now = bytes_of(body, "key"), int(time.time())
        _, offered = await keys.offer(self._wallet, hospital, recipient, subject, role, now, public)
        return {"offer": desk.offer_document(offered.accepted)}

    async def _whose(self, body: Body) -> dict[str, Any]:
        """Whose the recovery code is: a lie would be refused by the broker, since the code is nobody else's."""
        vouching, _ = self._vouching(body)
        return {"subject": (await keys.subject_of(self._wallet, vouching)).hex()}

    def _vouching(self, body: Body) -> tuple[Pair, tuple[Any, Any]]:
        """The recovery code's key, as the browser made it."""
        parties = self._api.party(body, "hospital"), self._api.party(body, "recipient")
        subject = bytes_of(body, "subject") if body.get("subject") else b""
        return keys.recovery_pair(*parties, subject, bytes_of(body, "recovery")), parties

    async def _get_in(self, body: Body) -> dict[str, Any]:
        vouching, parties = self._vouching(body)
        public, now = bytes_of(body, "key"), int(time.time())
        if any(pair.public == public for pair in self._wallet.pairs):
            raise Refused("enrolment.exists", "this device is a further device already")
        _, active_ms = await keys.recover(self._wallet, *parties, vouching, now, public)
        return {"active": shown.moment(active_ms // 1000)}

    async def _stop(self, body: Body) -> dict[str, Any]:
        vouching, _ = self._vouching(body)
        done = await stop.stop(self._wallet, vouching, int(time.time()))
        return {"grants": [one.hex() for one in done.grants], "delivered": done.delivered, "withheld": done.withheld}


def _further(one: Further) -> dict[str, Any]:
    return {
        "key": one.key.hex(),
        "role": one.role,
        "status": one.status,
        "active": shown.moment(one.active_ms // 1000),
        "news": one.news,
    }
