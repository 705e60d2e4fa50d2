"""Grants as wallets hand them in, on the port that is open to everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from nacl.signing import SigningKey

from tests.broker_rig import Server, serving
from tests.formats import DAY, NOW, Exchange, claim
from zhifu import envelope
from zhifu.consent import Grant, hash_of
from zhifu.envelope import Envelope
from zhifu.errors import CATALOGUE
from zhifu.v1 import wallet_pb2, wallet_pb2_grpc


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as found:
        yield found


REFUSED_GRANTS: dict[str, tuple[str, Callable[[Exchange], Envelope]]] = {
    "forged": ("consent.signature", lambda one: replace(signed_grant(one), signature=bytes(64))),
    "edited": (
        "consent.signature",
        lambda one: replace(signed_grant(one), payload=granted(one, max_uses=9).sign(own_key(one)).payload),
    ),
    "unknown field": (
        "malformed.encoding",
        lambda one: envelope.seal_one(envelope.GRANT, signed_grant(one).payload + b"\xf8\x7f\x01", own_key(one)),
    ),
    "small order": (
        "consent.signature",
        lambda one: granted(one, subject_key=bytes([1, *bytes(31)])).sign(own_key(one)),
    ),
    "another log": ("consent.wrong_audience", lambda one: granted(one, aud="other.example/log").sign(own_key(one))),
    "expired": (
        "consent.expired",
        lambda one: granted(one, not_before=NOW - DAY, issued_at=NOW - DAY, expiry=NOW - 1).sign(own_key(one)),
    ),
}  # fmt: skip


def own_key(one: Exchange) -> SigningKey:
    assert one.subject is not None
    return one.subject


def granted(one: Exchange, **changed: Any) -> Grant:
    assert one.grant is not None
    return replace(one.grant, **changed)


def signed_grant(one: Exchange) -> Envelope:
    assert one.grant_envelope is not None
    return one.grant_envelope


@pytest.mark.parametrize("name", REFUSED_GRANTS)
async def test_a_grant_that_is_none_is_refused_and_recorded(server: Server, name: str) -> None:
    expected, make = REFUSED_GRANTS[name]
    exchange = claim()
    await server.grant(exchange)
    sent = make(exchange)
    async with server.channel(None, public=True) as channel:
        stub = wallet_pb2_grpc.WalletServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.RegisterGrant(wallet_pb2.RegisterGrantRequest(grant=sent.to_proto()))
        assert (error.value.details() or "").startswith(CATALOGUE[expected].meaning)
        # Of a key that nobody enrolled nothing is written: anybody could fill the log.
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.RegisterGrant(wallet_pb2.RegisterGrantRequest(grant=replace(sent, key_id=bytes(32)).to_proto()))
    refused = [(meta, detail) for _, meta, detail in server.entries() if meta.event == "grant.refused"]
    assert [(meta.reason, detail.grant) for meta, detail in refused] == [(expected, hash_of(sent.payload))]
