"""``zhifu broker suspend`` and ``resume``: who takes part, by an operator's signed and logged word."""

from __future__ import annotations

import argparse
import json

from broker import calling, home, operators
from broker.clock import clock_ms
from zhifu.standing import Standing
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc


def suspend(arguments: argparse.Namespace) -> None:
    """``suspend``: it is cut off at once, wherever it is attached; what waits for it stays."""
    _say(arguments, suspended=True)


def resume(arguments: argparse.Namespace) -> None:
    """``resume``: it may attach again, and gets what waits."""
    _say(arguments, suspended=False)


def _say(arguments: argparse.Namespace, *, suspended: bool) -> None:
    opened = home.open_home(arguments.dir)
    said = Standing(opened.origin, arguments.id, suspended, arguments.reason, clock_ms())
    signed = said.sign(operators.key_of(arguments.operator))
    request = enrolment_pb2.SetStandingRequest(order=signed.to_proto())

    def ask(channel: calling.Channel) -> enrolment_pb2.SetStandingResponse:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        return stub.SetStanding(request, timeout=calling.TIMEOUT_S)

    found = calling.call(opened, ask)
    print(json.dumps({"participant": arguments.id.hex(), "event": said.event, "entry": found.entry.index}))
