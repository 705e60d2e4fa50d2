"""Serving pages on this computer: loopback unless somebody says otherwise, and then only with TLS."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from clients.web import bounded
from clients.web.entrance import Entrance
from clients.web.guard import LOOPBACK
from zhifu.errors import Refused

_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Place:
    """Where pages are served. ``port`` 0 takes a free one; ``certificate`` and ``key`` are PEM files, both or none."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a browser may use for it."""
        return LOOPBACK | {self.host}


def serve(app: ASGIApp, place: Place, entrance: Entrance) -> None:
    """Serve until SIGTERM or SIGINT. Once it listens it says where, with the key, as one JSON line on stdout:
    ``{"url": …}``; and again whenever somebody signed out, since the key is another then.

    Raises `Refused` (usage.argument) for another address than loopback without TLS: a browser makes and uses keys on
    a page that nobody can have changed on the way only. Raises `Refused` (unavailable.port).
    """
    if place.host not in LOOPBACK and (place.certificate is None or place.key is None):
        raise Refused("usage.argument", "another address than loopback needs --certificate and --key")
    scheme = "https" if place.certificate else "http"
    config = bounded.settings(app, ssl_certfile=place.certificate, ssl_keyfile=place.key)
    with _listen(place) as listening:
        host, port = f"[{place.host}]" if ":" in place.host else place.host, listening.getsockname()[1]

        def tell(key: str) -> None:
            print(json.dumps({"url": f"{scheme}://{host}:{port}/?key={key}"}), flush=True)

        tell(entrance.key)
        entrance.tell = tell
        uvicorn.Server(config).run(sockets=[listening])


def _listen(place: Place) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        return socket.create_server((place.host, place.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Refused("unavailable.port", f"{place.host}:{place.port}: {error.strerror}") from error
