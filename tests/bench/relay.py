"""The bare relay that the broker is measured against: a unary gRPC echo over mTLS on uvloop, bytes in, bytes out.

It parses nothing, checks nothing and stores nothing: whatever a broker does costs more than this.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from broker.services.ports import MAX_MESSAGE

ASKED_BYTES: Final = 10_800
ANSWERED_BYTES: Final = 2_000
METHOD: Final = "/bench.Relay/Exchange"
_ANSWER: Final = os.urandom(ANSWERED_BYTES)


class _Relay(grpc.GenericRpcHandler):
    """One method, without (de)serialisers."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(_exchange)


async def _exchange(asked: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return _ANSWER


async def serve(folder: Path) -> None:
    """Serve with the keys of the broker in ``folder`` until the process is ended."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Relay(),))
    pair = ((folder / "tls.key").read_bytes(), (folder / "tls.crt").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (folder / "ca.crt").read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(json.dumps({"node_port": port, "pid": os.getpid()}), flush=True)
    await asyncio.Event().wait()


def main(words: Sequence[str]) -> None:
    """``python -m tests.bench.relay FOLDER``."""
    uvloop.run(serve(Path(words[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
