"""A call of the broker's operator to the running broker, on its public port as everyone else's: the word that is signed
is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker.authority import SERVER_NAME
from broker.home import Home
from zhifu.errors import CATALOGUE, Refused

T = TypeVar("T")
Channel = grpc.Channel
TIMEOUT_S: Final = 10.0


def call(opened: Home, ask: Callable[[grpc.Channel], T]) -> T:
    """What ``ask`` gets over a channel to the broker of this folder. Raises `Refused` with the broker's reason."""
    credentials = grpc.ssl_channel_credentials(opened.read("ca.crt"))
    target = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with grpc.secure_channel(f"127.0.0.1:{opened.ports()[1]}", credentials, options=target) as channel:
        try:
            return ask(channel)
        except grpc.RpcError as error:
            raise _told(error) from error


def _told(error: grpc.RpcError) -> Refused:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(cast(grpc.Call, error))
    for detail in status.details if status is not None else ():
        if detail.Unpack(info) and info.reason in CATALOGUE:
            return Refused(info.reason, info.metadata.get("detail", ""))
    return Refused("unavailable.broker")
