"""``zhifu doctor`` for a node's folder: what is on the disk, whom it believes, and what the broker says to it.

It reads; only the directory that a running node would keep is not stored. The broker is asked on a stream of its own,
which takes no part in witnessing.
"""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from clients import channel, config, durable
from clients.clock import Clock
from clients.config import NodeConfig
from clients.keystore import FileKeystore, participant_of, tls_private
from clients.node import policy_in_force, policy_statement
from clients.outcome import CURSOR
from clients.store import Store
from clients.store.outgoing import MAX_WAITING
from zhifu import envelope, findings, witness
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.findings import Finding, caught, fail, ok, warn
from zhifu.keys import VERSION, participant_id
from zhifu.statement import verify_key_statement
from zhifu.v1 import exchange_pb2, exchange_pb2_grpc

ASK_S: Final = 10.0
_BUSY: Final = MAX_WAITING // 10
_MAX_PEM: Final = 65_536
_DAY_S: Final = 86_400
_RENEW: Final = "a running node renews it by itself: zhifu node serve; its log says why it could not"
_ENROL: Final = "ask the broker's operator for an invitation and enrol this node anew"


def examine(directory: Path) -> list[Finding]:
    """Every check of a node's folder. Raises `Malformed` (usage.file) where it is none."""
    settings = config.load(directory)
    found = [*_modes(settings), *caught("keys", "restore the folder keys/ from its backup", lambda: _keys(settings))]
    if any(one.level == "fail" and one.check == "keys" for one in found):
        return found
    keystore = FileKeystore.load(settings.keys)
    found += caught("certificate", _ENROL, lambda: _certificates(settings, keystore))
    found += [findings.disk(disk_usage(directory).free), *_pins(settings), *_policy(settings)]
    if not settings.database.exists():
        return [*found, fail("store", "unavailable.store", f"{settings.database.name} is not there", _ENROL)]
    found += caught("store", "see the runbook: a node's store", lambda: _store(settings, keystore))
    for address in settings.node_address.split(","):
        found += asyncio.run(_broker(settings, keystore, address))
    return found


def _modes(settings: NodeConfig) -> Iterator[Finding]:
    private = [settings.keys, *settings.keys.glob("*.key"), settings.database, settings.directory / "api.token"]
    open_ = [path for path in private if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    for path in open_:
        mode = "700" if path.is_dir() else "600"
        yield fail("modes", "usage.file", f"{path.name} can be read by others", f"chmod {mode} {path}")
    if not open_:
        yield ok("modes", "keys, store and token are their owner's only")


def _keys(settings: NodeConfig) -> Iterator[Finding]:
    participant = participant_of(FileKeystore.load(settings.keys))
    yield ok("keys", f"all there, of participant {participant.hex()[:16]}")


def _certificates(settings: NodeConfig, keystore: FileKeystore) -> Iterator[Finding]:
    try:
        own, authority = (
            x509.load_pem_x509_certificate(durable.read(path, _MAX_PEM))
            for path in (settings.certificate, settings.authority)
        )
        own.verify_directly_issued_by(authority)
    except (ValueError, TypeError) as error:
        raise Malformed("usage.file", "tls.crt or ca.crt is not a certificate that fits the other") from error
    except InvalidSignature as error:
        raise NotAuthentic("signature.invalid", "tls.crt is not by the authority in ca.crt") from error
    if own.public_key() != tls_private(keystore).public_key():
        raise NotAuthentic("key.unknown", "tls.crt is for another key than keys/tls.key")
    for name, one in (("tls.crt", own), ("ca.crt", authority)):
        yield findings.expiry("certificate", name, one.not_valid_after_utc.timestamp() - time.time(), _RENEW)


def _pins(settings: NodeConfig) -> Iterator[Finding]:
    if settings.role == "auditor":
        return
    if settings.pins:
        yield ok("pins", f"{len(settings.pins)} participants are believed")
    else:
        yield warn("pins", "nobody is pinned: nothing can be sent or taken", "zhifu node pin DIR CARD …")


def _policy(settings: NodeConfig) -> Iterator[Finding]:
    if settings.role in ("auditor", "registrar"):
        return
    remedy = "get the registrar's statement for this bundle: zhifu node pin DIR --policy FILE"

    def look() -> Iterator[Finding]:
        now = int(time.time())
        stated = policy_statement(settings, now)
        yield ok("policy", f"{policy_in_force(settings, now).hex()[:16]} is in force, by the pinned registrar")
        yield findings.expiry("policy", "its statement", stated.not_after - now, remedy)

    yield from caught("policy", remedy, look)


def _store(settings: NodeConfig, keystore: FileKeystore) -> Iterator[Finding]:
    store = Store(settings.database, keystore)
    try:
        yield ok("store", "opens, and is of this version")
        yield from _backlog(store)
        yield from _witness(store, participant_of(keystore))
    finally:
        store.close()


def _backlog(store: Store) -> Iterator[Finding]:
    waiting = store.backlog().unanswered
    said, remedy = f"{waiting} presentations wait for a result", "see the stream's findings: nothing is answered"
    if store.outgoing.is_full():
        yield fail("queue", "unavailable.overload", said, remedy)
    else:
        yield warn("queue", said, remedy) if waiting > _BUSY else ok("queue", said)


def _witness(store: Store, participant: bytes) -> Iterator[Finding]:
    found, head = store.backlog(), store.trust.head()
    if found.evidence:
        said = f"{found.evidence} pieces of evidence that the broker showed something false"
        yield fail("witness", "log.inconsistent", said, "keep this folder as it is, and call the auditor")
    cosigned = store.trust.cosigned(witness.name_of(participant))
    said = f"cosigned {cosigned} of {head.size} entries, {found.pending_receipts} receipts are not final yet"
    yield ok("witness", said)


async def _broker(settings: NodeConfig, keystore: FileKeystore, address: str) -> list[Finding]:
    """What the broker at ``address`` says on a stream."""
    store = Store(settings.database, keystore)
    try:
        async with asyncio.timeout(ASK_S):
            return await _ask(settings, keystore, store, address)
    except TimeoutError:
        error: Error = Refused("unavailable.deadline", f"{address} does not answer within {ASK_S:.0f} s")
    except Error as caught_:
        error = caught_
    finally:
        store.close()
    return [fail("broker", error.reason, f"{address}: {error.detail or error.entry.meaning}", _remedy(error))]


def _remedy(error: Error) -> str:
    if error.reason == "unavailable.clock":
        return "set this computer's clock (NTP)"
    if error.reason == "participant.suspended":
        return "the broker's operator said so: telephone; it is resumed there, and this node's keys stay as they are"
    if error.reason.startswith("participant."):
        return _ENROL
    if error.exit.value == 5:
        return "do not serve: compare the broker's log key with what its operator reads out to you"
    return "is the broker up, is the address right, does a firewall let this computer dial out?"


async def _ask(settings: NodeConfig, keystore: FileKeystore, store: Store, address: str) -> list[Finding]:
    async with channel.secure(address, channel.node_credentials(settings, keystore)) as opened:
        call = exchange_pb2_grpc.ExchangeServiceStub(opened).Connect()
        try:
            head = store.trust.head()
            hello = exchange_pb2.Hello(
                version=VERSION,
                head_size=head.size,
                head_root=head.root if head.size else b"",
                clock_ms=time.time_ns() // 1_000_000,
                notices_through=store.trust.cursor(CURSOR),
            )
            await call.write(exchange_pb2.ConnectRequest(hello=hello))
            answer, shown = await call.read(), await call.read()
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error
        finally:
            call.cancel()
    if not isinstance(answer, exchange_pb2.ConnectResponse) or answer.WhichOneof("frame") != "welcome":
        raise Refused("unavailable.draining")
    found = _welcome(settings, keystore, answer.welcome, address)
    if isinstance(shown, exchange_pb2.ConnectResponse) and shown.WhichOneof("frame") == "directory":
        found += _directory(settings, participant_of(keystore), shown.directory)
    return found


def _welcome(
    settings: NodeConfig, keystore: FileKeystore, welcome: exchange_pb2.Welcome, address: str
) -> list[Finding]:
    """Raises `Refused` (participant.unknown, unavailable.clock), `NotAuthentic`, `Malformed`."""
    if welcome.origin != settings.origin:
        raise NotAuthentic("log.signature", f"serves the log {welcome.origin[:100]!r}")
    if welcome.node != participant_of(keystore):
        raise Refused("participant.unknown", "knows our certificate as another participant")
    clock = Clock(lambda: time.time_ns() // 1_000_000)
    clock.learn(welcome.clock_ms)
    signed = envelope.from_proto(envelope.KEY_STATEMENT, welcome.gate_key_statement)
    verify_key_statement(signed, participant_id(settings.log_key.public_key), clock() // 1000)
    said = "this clock is the broker's"
    if clock.offset_ms:
        said = f"this clock is {clock.offset_ms / 1000:+.0f} s off the broker's"
        return [_reached(address), warn("clock", said, "set this computer's clock (NTP)")]
    return [_reached(address), ok("clock", said)]


def _reached(address: str) -> Finding:
    return ok("broker", f"{address}: enrolled there; TLS name and pinned log key are right")


def _directory(
    settings: NodeConfig, participant: bytes, shown: exchange_pb2.Directory
) -> list[Finding]:  # fmt: skip
    roles, now, found = {entry.participant: entry for entry in shown.entries}, time.time(), []
    for pinned, pin in settings.pins.items():
        entry = roles.get(pinned)
        if entry is None:
            found.append(warn("pins", f"{pin.name} is pinned and not enrolled", "compare cards by telephone"))
        elif entry.role != pin.role:
            remedy = "compare cards by telephone: one of both is wrong"
            found.append(fail("pins", "key.not_pinned", f"{pin.name} is enrolled as {entry.role}", remedy))
        else:
            found += _statement(pin.name, pinned, entry, now)
    if participant not in roles:
        found.append(fail("broker", "participant.unknown", "the directory does not show this node", _ENROL))
    return found


def _statement(name: str, pinned: bytes, entry: exchange_pb2.DirectoryEntry, now: float) -> list[Finding]:
    remedy = "its node has not run for a week: nothing can be sent to it"
    try:
        verify_key_statement(envelope.from_proto(envelope.KEY_STATEMENT, entry.key_statement), pinned, int(now))
    except Error as error:
        if error.reason == "key.expired":
            return [warn("pins", f"{name}: its keys have expired", remedy)]
        return [fail("pins", error.reason, f"{name}: {error.entry.meaning}", "do not serve, and call it by telephone")]
    return []
