"""``zhifu broker stop``: an operator ends a grant for a patient who calls, and says why; it is logged."""

from __future__ import annotations

import argparse
import json

from broker import calling, home, operators
from broker.clock import clock_ms
from zhifu.consent import Revocation
from zhifu.errors import Refused
from zhifu.v1 import wallet_pb2, wallet_pb2_grpc
from zhifu.v1.signed_pb2 import REVOKER_HOTLINE


def stop(arguments: argparse.Namespace) -> None:
    """The operator's word goes the way that a wallet's goes, so that a running broker takes it at once."""
    opened = home.open_home(arguments.dir)
    grant, subject = _named(arguments.grant), _named(arguments.subject)
    said = Revocation(opened.origin, grant, clock_ms() // 1000, subject, REVOKER_HOTLINE, arguments.reason)
    signed = said.sign(operators.key_of(arguments.operator))
    request = wallet_pb2.RevokeGrantRequest(revocation=signed.to_proto())

    def ask(channel: calling.Channel) -> wallet_pb2.RevokeGrantResponse:
        return wallet_pb2_grpc.WalletServiceStub(channel).RevokeGrant(request, timeout=calling.TIMEOUT_S)

    found = calling.call(opened, ask)
    ended = {"grants": [one.hex() for one in found.grants], "entry": found.entry.index}
    print(json.dumps(ended | {"delivered_before": found.delivered, "withheld": found.withheld}))


def _named(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError as error:
        raise Refused("usage.argument", "a grant or a subject is named by 64 hex digits") from error
