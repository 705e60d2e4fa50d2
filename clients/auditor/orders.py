"""``zhifu audit erase`` and ``hold``: officers sign what is to be erased or kept; two erase, one holds, two lift.

An order is a file that passes from officer to officer; with both signatures it is handed to the broker.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
from nacl.signing import SigningKey

from clients import channel, durable, wire
from clients.auditor import pins, source
from clients.auditor.entries import parse
from clients.command import clear, print_json
from zhifu import envelope, erasure
from zhifu.checkpoint import VerifierKey
from zhifu.envelope import Envelope, Kind
from zhifu.erasure import Hold, Order
from zhifu.errors import Malformed, Refused
from zhifu.receipt import Entry, Head, parse_detail
from zhifu.v1 import log_pb2, log_pb2_grpc

DEADLINE_S: Final = 30.0
_MAX_FILE: Final = 1 << 17

Officers = Annotated[list[Path], typer.Option("--officer", help="An officer's key file; repeat for both.")]
OrderFile = Annotated[Path, typer.Option("--order", help="The order: written, or signed once more if it is there.")]
Contact = Annotated[Path | None, typer.Option(help="The broker's contact file: hand the order in.")]
Basis = Annotated[str, typer.Option(help="A short code of the legal basis, such as pipl-47.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A folder with broker/ and auditor/ in it.")]


@clear
def erase(
    directory: Directory,
    officer: Officers,
    order: OrderFile,
    basis: Basis = "",
    subject: Annotated[str, typer.Option(help="Everything about this subject, 64 hex digits.")] = "",
    entries: Annotated[str, typer.Option(help="Or these entries: 3,17,18.")] = "",
    contact: Contact = None,
) -> None:
    """Order that details are erased: two officers, the same words. Proofs still verify. 删除明细"""
    if not order.exists():
        chosen = tuple(_subjects(directory, _hex32(subject))) if subject else _numbers(entries)
        origin = pins.load(directory / "auditor").origin
        said = Order(origin, chosen, basis, int(time.time())).to_bytes()
        erasure.parse_order(said)
    else:
        said = _read(order, envelope.ERASURE)[0].payload
    signed = _sign(order, envelope.ERASURE, said, officer)
    shown: dict[str, Any] = {"entries": list(erasure.parse_order(said).entries), "signatures": len(signed)}
    if contact is not None:
        shown |= asyncio.run(_hand_in(contact, envelope.ERASURE, signed))
    print_json(shown)


@clear
def hold(
    directory: Directory,
    officer: Officers,
    order: OrderFile,
    target: Annotated[str, typer.Option(help="A subject, grant or exchange, 64 hex digits.")] = "",
    basis: Basis = "",
    lift: Annotated[bool, typer.Option("--lift", help="End a hold: two officers.")] = False,
    contact: Contact = None,
) -> None:
    """Order that nothing about a subject, grant or exchange is erased: one officer is enough. 法律保全"""
    if not order.exists():
        origin = pins.load(directory / "auditor").origin
        said = Hold(origin, _hex32(target), lift, basis, int(time.time())).to_bytes()
        erasure.parse_hold(said)
    else:
        said = _read(order, envelope.HOLD)[0].payload
    signed = _sign(order, envelope.HOLD, said, officer)
    shown: dict[str, Any] = {"lifted": erasure.parse_hold(said).lifted, "signatures": len(signed)}
    if contact is not None:
        shown |= asyncio.run(_hand_in(contact, envelope.HOLD, signed))
    print_json(shown)


def _subjects(directory: Path, subject: bytes) -> Iterable[int]:
    """The entries whose detail names a subject, in the log of ``directory``."""
    with closing(source.lines(directory / "broker")) as lines:
        for line in lines:
            one = parse(line)
            if isinstance(one, Entry) and parse_detail(one.detail).subject == subject:
                yield one.index


def _sign(path: Path, kind: Kind, payload: bytes, officers: list[Path]) -> list[Envelope]:
    """The order with more signatures, written; an officer who signed already does not sign twice."""
    signed = _read(path, kind) if path.exists() else []
    for key in map(_key, officers):
        one = envelope.seal_one(kind, payload, key)
        if one.key_id not in {before.key_id for before in signed}:
            signed.append(one)
    rows = [base64.b64encode(one.to_bytes()).decode() for one in signed]
    durable.write(path, json.dumps({"order": rows}, indent=1).encode())
    return signed


def _read(path: Path, kind: Kind) -> list[Envelope]:
    try:
        rows = json.loads(durable.read(path, _MAX_FILE))["order"]
        found = [envelope.from_bytes(kind, base64.b64decode(row, validate=True)) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed("usage.file", f"{path.name} is not an order") from error
    if not found or len({one.payload for one in found}) != 1:
        raise Malformed("usage.file", f"{path.name} is not one order")
    return found


def _key(path: Path) -> SigningKey:
    try:
        return SigningKey(bytes.fromhex(durable.read(path, 256).decode().strip()))
    except (ValueError, TypeError):
        # The cause is left out on purpose: it could quote the key.
        raise Malformed("usage.file", f"{path.name} is not an officer's key") from None


async def _hand_in(contact: Path, kind: Kind, signed: list[Envelope]) -> dict[str, Any]:
    """Give the order to the broker; the entry that records it, proved. Raises `Refused`, `NotAuthentic`."""
    try:
        broker = json.loads(durable.read(contact, _MAX_FILE))
        address, ca, log_key = broker["public_address"], broker["ca"].encode(), VerifierKey.parse(broker["log_key"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed("usage.file", f"{contact.name} is not a broker's contact") from error
    messages = [one.to_proto() for one in signed]
    async with channel.public_channel(address, ca) as opened:
        stub: log_pb2_grpc.LogServiceAsyncStub = log_pb2_grpc.LogServiceStub(opened)
        try:
            if kind is envelope.HOLD:
                held = await stub.Hold(log_pb2.HoldRequest(orders=messages), timeout=DEADLINE_S)
                entry = wire.proven_entry(held.entry, wire.prove(held.proof, Head(), log_key))
                return {"entry": entry.index}
            done = await stub.Erase(log_pb2.EraseRequest(orders=messages), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error
        entry = wire.proven_entry(done.entry, wire.prove(done.proof, Head(), log_key))
        return {"entry": entry.index, "erased": done.erased, "complete_at": done.complete_at}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(one) for one in text.split(",")}))
    except ValueError as error:
        raise Refused("usage.argument", "entries are numbers with commas between") from error


def _hex32(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Refused("usage.argument", "64 hex digits are needed")
    return found
