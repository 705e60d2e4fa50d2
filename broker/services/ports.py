"""A port of the broker: its server with every limit, its health, its certificate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as checks

from broker import authority
from broker.home import Home
from broker.services.decoding import Decoding
from broker.services.http import LOOPBACK
from zhifu.errors import Refused

MAX_MESSAGE: Final = 8 * 1024 * 1024
KEEPALIVE_MS: Final = 20_000
"""A peer that does not answer is gone within one and a half times of this."""
MAX_CALLS: Final = 4096
"""On the nodes' port at once, streams included: what was begun and never sent costs memory too."""
MAX_SHORT_CALLS: Final = 512
"""On the public port, where nobody is known."""
MAX_CONNECTIONS: Final = 4096
"""To a port at once, from the first byte on: some 90 KiB each. Whoever comes beyond them is closed at once; a node
tries again.
"""
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.keepalive_permit_without_calls", 1),
    # A stream that is idle is pinged for as long as it lasts, not twice.
    ("grpc.http2.max_pings_without_data", 0),
    # The option that exists; the widely copied min_recv_ping_interval_without_data_ms is not read by anything.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_metadata_size", 8192),
    ("grpc.so_reuseport", 0),
    # Who connects and says nothing, or nothing any more.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),
]
# Calls of wallets and newcomers are short. One that is begun and never sent has no other end than its connection's.
_SHORT_LIVED: Final = [("grpc.max_connection_age_ms", 60_000), ("grpc.max_connection_age_grace_ms", 15_000)]


class _Shown:
    """The certificate that is shown, read again for each connection once it was renewed."""

    def __init__(self, opened: Home, callers: str | None) -> None:
        self._opened = opened
        self._callers = callers
        self._pair = self._read()
        if not authority.fits(*self._pair):
            raise Refused("usage.file", "tls.crt is not for tls.key: zhifu broker rotate DIR tls")
        self.configuration = self._configure()

    def _read(self) -> tuple[bytes, bytes]:
        return self._opened.read("tls.key"), self._opened.read("tls.crt")

    def _configure(self) -> Any:
        roots = self._opened.read(self._callers) if self._callers else None
        return grpc.ssl_server_certificate_configuration([self._pair], root_certificates=roots)

    def renewed(self) -> Any:
        """What gRPC asks before each handshake, in a thread of its own; None: go on with what there is."""
        try:
            found = self._read()
            if found == self._pair or not authority.fits(*found):
                return None
            self._pair = found
            return self._configure()
        except Refused:
            return None


def health(server: grpc.aio.Server) -> checks.HealthServicer:
    found = checks.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(found, server)
    return found


async def say(every: Iterable[checks.HealthServicer], *, serving: bool) -> None:
    states = health_pb2.HealthCheckResponse
    for check in every:
        await check.set("", states.SERVING if serving else states.NOT_SERVING)


def server(*, short_lived: bool = False, keepalive_ms: int = KEEPALIVE_MS) -> grpc.aio.Server:
    """``short_lived``: for unary calls, so that a connection ends after a minute; callers connect again unasked."""
    # The second timeout is what ends a connection: its default of a minute goes before the first, which says less.
    timeouts = [(f"grpc.{name}_timeout_ms", keepalive_ms // 2) for name in ("keepalive", "http2.ping")]
    options = [*_OPTIONS, ("grpc.keepalive_time_ms", keepalive_ms), *timeouts]
    options.append(("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS))
    options += _SHORT_LIVED if short_lived else []
    calls = MAX_SHORT_CALLS if short_lived else MAX_CALLS
    return grpc.aio.server(options=options, interceptors=[Decoding()], maximum_concurrent_rpcs=calls)


def bind(server: grpc.aio.Server, opened: Home, port: int, callers: str | None, address: str = LOOPBACK) -> int:
    """Bind to ``address``'s ``port``, 0 for a free one; ``callers`` names their CA's file, who then need
    certificates.

    Raises `Refused` (unavailable.port).
    """
    shown = _Shown(opened, callers)
    credentials = grpc.dynamic_ssl_server_credentials(
        shown.configuration, shown.renewed, require_client_authentication=callers is not None
    )
    try:
        return server.add_secure_port(f"{address}:{port}", credentials)
    except RuntimeError as error:
        raise Refused(
            "unavailable.port", f"{address} port {port}: in use, or not an address of this computer"
        ) from error
