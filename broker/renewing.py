"""Certificates and gate keys of a broker, renewed before they end, while it serves (DESIGN 4.3, 4.4).

``zhifu broker rotate DIR tls|gate`` draws a new key in the folder; a running broker finds it there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from broker import authority, home
from broker.clock import clock_ms
from broker.home import Home
from zhifu.errors import Error
from zhifu.findings import CERTIFICATE_DAYS

RENEW_S: Final = 30 * 86_400
"""The broker's own certificate gets a successor when it has this long left."""
_EVERY_S: Final = 3600.0
_DAY_S: Final = 86_400
_CERTIFICATES: Final = ("tls.crt", "ca.crt")
_log = logging.getLogger("broker.renewing")


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something of the folder that ends: its file, and when (Unix s)."""

    name: str
    not_after: int


def expiries(opened: Home) -> tuple[Expiry, ...]:
    """The certificates of a broker's folder. Raises `Refused` (usage.file)."""
    read = [(name, x509.load_pem_x509_certificate(opened.read(name))) for name in _CERTIFICATES]
    return tuple(Expiry(name, int(one.not_valid_after_utc.timestamp())) for name, one in read)


class Renewal:
    """Renews what can be renewed, and raises an alarm for what cannot: once at 30 days, at 7 and at 1."""

    def __init__(self, opened: Home, clock: Callable[[], int] = clock_ms) -> None:
        self._opened = opened
        self._clock_ms = clock
        self._told: set[tuple[Expiry, int]] = set()

    async def run(self) -> None:
        """Look once an hour, until cancelled."""
        while True:
            try:
                self.look()
            except (Error, OSError, ValueError) as error:
                reason = error.reason if isinstance(error, Error) else "usage.file"
                _log.error("certificates not looked at", extra={"reason": reason})
            await asyncio.sleep(_EVERY_S)

    def look(self) -> None:
        """Raises `Refused` (usage.file), `Malformed` (usage.file)."""
        now = self._clock_ms() // 1000
        for one in expiries(self._opened):
            if one.name == "tls.crt" and one.not_after - now < RENEW_S:
                authority.renew(self._opened.path, home.write_private)
                _log.info("certificate renewed")
            else:
                self._warn(one, now)

    def _warn(self, one: Expiry, now: int) -> None:
        passed = [days for days in CERTIFICATE_DAYS if one.not_after - now <= days * _DAY_S]
        if passed and (one, min(passed)) not in self._told:
            self._told.add((one, min(passed)))
            _log.critical("alarm", extra={"reason": "key.expired", "count": max(0, one.not_after - now) // _DAY_S})


def rotate(arguments: argparse.Namespace) -> None:
    """``rotate``: what was drawn, as JSON."""
    opened, now = home.open_home(arguments.dir), clock_ms() // 1000
    if arguments.what == "tls":
        authority.renew(opened.path, home.write_private)
        (found,) = (one for one in expiries(opened) if one.name == "tls.crt")
        print(json.dumps({"rotated": "tls", "not_after": found.not_after}))
    else:
        drawn = home.draw_gate_key(opened.path, now + arguments.after)
        destroyed = home.destroy_gate_keys(opened.path, now)
        said = {"rotated": "gate", "key_id": drawn.public.id.hex(), "from": now + arguments.after}
        print(json.dumps(said | {"destroyed": destroyed}))
