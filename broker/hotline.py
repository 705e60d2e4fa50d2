"""``zhifu broker stop``: an operator ends a grant for a patient who calls, and says why; it is logged."""

from __future__ import annotations

import argparse
import json

import grpc

from broker import home, operators
from broker.authority import SERVER_NAME
from broker.clock import clock_ms
from zhifu.consent import Revocation
from zhifu.errors import CATALOGUE, Refused
from zhifu.v1 import wallet_pb2, wallet_pb2_grpc
from zhifu.v1.signed_pb2 import REVOKER_HOTLINE


def stop(arguments: argparse.Namespace) -> None:
    """The operator's word goes the way that a wallet's goes, so that a running broker takes it at once."""
    opened = home.open_home(arguments.dir)
    grant, subject = _named(arguments.grant), _named(arguments.subject)
    said = Revocation(opened.origin, grant, clock_ms() // 1000, subject, REVOKER_HOTLINE, arguments.reason)
    signed = said.sign(operators.key_of(arguments.operator))
    credentials = grpc.ssl_channel_credentials(opened.read("ca.crt"))
    target = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with grpc.secure_channel(f"127.0.0.1:{opened.ports()[1]}", credentials, options=target) as channel:
        stub = wallet_pb2_grpc.WalletServiceStub(channel)
        try:
            found = stub.RevokeGrant(wallet_pb2.RevokeGrantRequest(revocation=signed.to_proto()), timeout=10)
        except grpc.RpcError as error:
            raise _told(error) from error
    ended = {"grants": [one.hex() for one in found.grants], "entry": found.entry.index}
    print(json.dumps(ended | {"delivered_before": found.delivered, "withheld": found.withheld}))


def _told(error: grpc.RpcError) -> Refused:
    reason, _, detail = str(error.details()).partition(": ")
    return Refused(reason if reason in CATALOGUE else "unavailable.broker", detail)


def _named(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError as error:
        raise Refused("usage.argument", "a grant or a subject is named by 64 hex digits") from error
