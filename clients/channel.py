"""Ways to the broker: gRPC over TLS, dialled out; and what its refusals mean here (DESIGN section 6).

The broker's certificate must come from the authority that the invitation named, for one fixed name: which address it is
reached at says nothing about who it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from clients import durable
from clients.config import NodeConfig
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

_REACH_S: Final = 3.0
_NEXT_S: Final = 0.3
"""Of several brokers one that is silent for so long is waited for beside the next; for the last `_REACH_S`."""
_DECIDED: Final = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)

_BY_CODE: Final = {
    grpc.StatusCode.UNAVAILABLE: "unavailable.broker",
    grpc.StatusCode.CANCELLED: "unavailable.broker",
    grpc.StatusCode.DEADLINE_EXCEEDED: "unavailable.deadline",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "unavailable.overload",
}


@asynccontextmanager
async def node_channel(config: NodeConfig, keystore: Keystore, attempt: int = 0) -> AsyncIterator[grpc.aio.Channel]:
    """To the node port, as this participant; each ``attempt`` begins with the next of the brokers' addresses.

    Raises `Malformed` (usage.file).
    """
    addresses = config.node_address.split(",")
    begin = attempt % len(addresses)
    async with await dial(addresses[begin:] + addresses[:begin], node_credentials(config, keystore)) as opened:
        yield opened


@asynccontextmanager
async def public_channel(address: str, authority: bytes) -> AsyncIterator[grpc.aio.Channel]:
    """To the public port, as nobody yet; ``address`` may be several, ``authority`` is PEM."""
    async with await dial(address.split(","), grpc.ssl_channel_credentials(authority)) as opened:
        yield opened


def node_credentials(config: NodeConfig, keystore: Keystore) -> grpc.ChannelCredentials:
    """Those of this participant (mTLS). Raises `Malformed` (usage.file)."""
    return mutual(durable.read(config.authority, _MAX_PEM), keystore, durable.read(config.certificate, _MAX_PEM))


def mutual(authority: bytes, keystore: Keystore, certificate: bytes) -> grpc.ChannelCredentials:
    """Those of the participant of ``certificate`` (mTLS); ``authority`` and ``certificate`` are PEM."""
    return grpc.ssl_channel_credentials(authority, keystore.tls_key, certificate)


def secure(address: str, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    """To one address; it is dialled with the first call."""
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


async def dial(addresses: Sequence[str], credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    """To that of ``addresses`` which answers, the earlier the rather; if none does, to the first: its calls say why.

    Each is asked when the ones before it failed, or are silent for a while (RFC 8305, section 5): gRPC takes several
    addresses for one broker only where they are numbers.
    """
    if len(addresses) == 1:
        return secure(addresses[0], credentials)
    asked: dict[asyncio.Task[bool], grpc.aio.Channel] = {}
    found = None
    for number, address in enumerate(addresses, 1):
        opened = secure(address, credentials)
        asked[asyncio.create_task(_answers(opened))] = opened
        found = await _first(asked, _NEXT_S if number < len(addresses) else _REACH_S)
        if found is not None:
            break
    for task, opened in asked.items():
        task.cancel()
        if opened is not found:
            await opened.close()
    return found if found is not None else secure(addresses[0], credentials)


def is_open(opened: grpc.aio.Channel) -> bool:
    """Whether there is a connection at this moment."""
    return opened.get_state() is grpc.ChannelConnectivity.READY


async def _first(asked: Mapping[asyncio.Task[bool], grpc.aio.Channel], seconds: float) -> grpc.aio.Channel | None:
    """Who answers within ``seconds``, if anybody."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while waiting := [task for task in asked if not task.done()]:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(task.result() for task in asked if task.done()):
                    break
    return next((opened for task, opened in asked.items() if task.done() and task.result()), None)


async def _answers(opened: grpc.aio.Channel) -> bool:
    state = opened.get_state(try_to_connect=True)
    while state not in _DECIDED:
        await opened.wait_for_state_change(state)
        state = opened.get_state(try_to_connect=True)
    return is_open(opened)


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
