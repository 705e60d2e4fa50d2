"""Ways to the broker: gRPC over TLS, dialled out; and what its refusals mean here (DESIGN section 6).

The broker's certificate must come from the authority that the invitation named, for one fixed name: which address it is
reached at says nothing about who it is.
"""

from __future__ import annotations

from typing import Final, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from clients.config import NodeConfig, read_file
from clients.keystore import Keystore
from zhifu.errors import CATALOGUE, Refused

SERVER_NAME: Final = "broker.zhifu.internal"
DOMAIN: Final = "zhifu"
MAX_RECEIVE: Final = 8 << 20
_MAX_PEM: Final = 65_536
_MAX_DETAIL: Final = 200

_OPTIONS: Final = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MAX_RECEIVE),
    ("grpc.max_send_message_length", MAX_RECEIVE),
    # A dead peer is noticed within half a minute, also while nothing is sent.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What ends the connection: its default of a minute goes before the timeout above.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Each connection is its own: no back-off is inherited from the one before, and ours decides when to try again.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

_BY_CODE: Final = {
    grpc.StatusCode.UNAVAILABLE: "unavailable.broker",
    grpc.StatusCode.CANCELLED: "unavailable.broker",
    grpc.StatusCode.DEADLINE_EXCEEDED: "unavailable.deadline",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "unavailable.overload",
}


def node_channel(config: NodeConfig, keystore: Keystore, attempt: int = 0) -> grpc.aio.Channel:
    """To the node port, as this participant (mTLS); each ``attempt`` at the next of the brokers' addresses.

    Raises `Malformed` (usage.file).
    """
    authority, certificate = read_file(config.authority, _MAX_PEM), read_file(config.certificate, _MAX_PEM)
    addresses = config.node_address.split(",")
    return mutual(addresses[attempt % len(addresses)], authority, keystore, certificate)


def mutual(address: str, authority: bytes, keystore: Keystore, certificate: bytes) -> grpc.aio.Channel:
    """To ``address``, as the participant of ``certificate`` (mTLS); ``authority`` and ``certificate`` are PEM."""
    credentials = grpc.ssl_channel_credentials(authority, keystore.tls_key, certificate)
    return grpc.aio.secure_channel(_target(address), credentials, options=_OPTIONS)


def public_channel(address: str, authority: bytes) -> grpc.aio.Channel:
    """To the public port, as nobody yet; ``authority`` is PEM."""
    return grpc.aio.secure_channel(_target(address), grpc.ssl_channel_credentials(authority), options=_OPTIONS)


def _target(address: str) -> str:
    """Of several IPv4 addresses, gRPC finds one that answers."""
    return f"ipv4:{address}" if "," in address else address


def refusal(error: grpc.aio.AioRpcError) -> Refused:
    """What a failed call means: the broker's own reason, or ``unavailable.*`` where it did not get to give one."""
    found = _reason(error)
    if found is not None:
        return found
    reason = _BY_CODE.get(error.code(), "internal")
    detail = "" if reason == "unavailable.broker" else f"gRPC status {error.code().name}"
    return Refused(reason, detail)


def _reason(error: grpc.aio.AioRpcError) -> Refused | None:
    try:
        # The stubs know only the synchronous call; what is read of it is the same here.
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:
        return None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in CATALOGUE:
            said = info.metadata.get("detail", "")
            return Refused(info.reason, said[:_MAX_DETAIL] if said.isprintable() else "")
    return None
