"""``zhifu doctor`` for a broker's folder: files, keys, certificates, database, witnesses, queue, and whether it serves.

It reads only, beside a running broker or a stopped one.
"""

from __future__ import annotations

import argparse
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker import feeding, home, witnesses
from broker.audit import Log
from broker.authority import SERVER_NAME
from broker.clock import clock_ms
from broker.directory import Directory
from broker.home import Home
from broker.store import opening, tables
from broker.store.rows import Rows
from policies import load
from zhifu import findings, witness
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.findings import Finding, caught, fail, ok, warn

_ASK_S: Final = 5.0
_OLD_S: Final = 86_400
_PRIVATE: Final = ("*.key", "*.pepper", "gate/*.key", "pseudonym/*.key", "*.db", "*.db-wal", "*.invitation")
_CERTIFICATES: Final = "zhifu broker rotate DIR tls; see the runbook: the broker's certificates"


def run(arguments: argparse.Namespace) -> int:
    """Say what was found; the exit code."""
    found = examine(home.named(arguments))
    if arguments.json:
        print(json.dumps(findings.document(found), ensure_ascii=False, indent=1))
    else:
        print("\n".join(findings.lines(found)))
    return int(findings.exit_of(found))


def examine(opened: Home) -> list[Finding]:
    """Every check of a broker's folder, whose keys were read already."""
    found = [*_modes(opened.path), ok("keys", f"the log's, and {len(opened.gate_keys)} of the gate")]
    found += caught("certificate", _CERTIFICATES, lambda: _certificates(opened))
    found += caught("policy", "zhifu policy check says what is wrong", _policy)
    found.append(findings.disk(disk_usage(opened.path).free))
    if not opened.store and not opened.database.exists():
        return [*found, warn("store", "there is no database yet", "zhifu broker serve makes it")]
    found += caught("store", "zhifu broker migrate, or see the runbook: the store", lambda: _store(opened))
    return [*found, *caught("serving", "zhifu broker serve; its log says what it ended with", lambda: _serving(opened))]


def _modes(path: Path) -> Iterator[Finding]:
    private = sorted({file for pattern in _PRIVATE for file in path.glob(pattern)})
    open_ = [file for file in private if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    for file in open_:
        yield fail("modes", "usage.file", f"{file.name} can be read by others", f"chmod 600 {file}")
    if not open_:
        yield ok("modes", f"{len(private)} files are their owner's only")


def _certificates(opened: Home) -> Iterator[Finding]:
    try:
        own, authority = (x509.load_pem_x509_certificate(opened.read(name)) for name in ("tls.crt", "ca.crt"))
        keys = [load_pem_private_key(opened.read(name), None).public_key() for name in ("tls.key", "ca.key")]
        own.verify_directly_issued_by(authority)
    except (ValueError, TypeError) as error:
        raise Malformed("usage.file", "a certificate or its key cannot be read") from error
    except InvalidSignature as error:
        raise NotAuthentic("signature.invalid", "tls.crt is not by the authority in ca.crt") from error
    if keys != [own.public_key(), authority.public_key()]:
        raise NotAuthentic("key.unknown", "a certificate is for another key than the one beside it")
    for name, one in (("tls.crt", own), ("ca.crt", authority)):
        yield findings.expiry("certificate", name, one.not_valid_after_utc.timestamp() - time.time(), _CERTIFICATES)


def _policy() -> Iterator[Finding]:
    yield ok("policy", f"the packaged bundle {load.load(None).hash.hex()[:16]} is valid")


def _store(opened: Home) -> Iterator[Finding]:
    missing = opening.migrate(opened.database, opened.store, check=True)
    if missing.steps:
        raise Refused("unavailable.store", f"of version {missing.before}, this program needs {missing.after}")
    rows = opened.open_read_only()
    try:
        log = Log(opened.origin, opened.log_key, rows)
        yield ok("store", f"of version {missing.after}; its head of {log.size} entries is the one that was signed")
        yield from _witnessed(rows, log, Directory(rows), opened.path)
        yield from _queue(rows)
    finally:
        rows.close()


def _witnessed(rows: Rows, log: Log, directory: Directory, folder: Path) -> Iterator[Finding]:
    members = directory.witnesses
    expired = sum(one.statement.not_after < time.time() for one in members)
    if expired:
        yield warn("participants", f"the keys of {expired} have expired", "their nodes have not run for a week")
    seen = {row.witness: witnesses.Seen(row.size, row.time_ms) for row in rows.scan(tables.Witness)}
    sizes = [seen.get(witness.name_of(one.id), witnesses.Seen()).size for one in members]
    policy = feeding.policy_of(folder)
    far = min(policy.reached({name: one.size for name, one in seen.items()}), witnesses.witnessed_by_majority(sizes))
    waiting = rows.find(tables.Checkpoint, after=far, limit=1) if members else []
    age = (clock_ms() - waiting[0].time_ms) / 1000 if waiting else 0.0
    said = f"a majority of {len(members)} has cosigned {far} of {log.size} entries"
    if age > witnesses.ALARM_S:
        remedy = "see the runbook: an unwitnessed log"
        yield fail("witnesses", "unavailable.witnesses", f"{said}; the next waits for {age / 60:.0f} minutes", remedy)
    else:
        yield ok("witnesses", said)


def _queue(rows: Rows) -> Iterator[Finding]:
    queue = rows.waiting()
    count = sum(number for _, number, _ in queue)
    oldest = rows.get(tables.Entry, min(entry for _, _, entry in queue)) if queue else None
    age = (clock_ms() - oldest.time_ms) / 1000 if oldest is not None else 0.0
    said = f"{count} deliveries wait for {len(queue)} recipients"
    if age > _OLD_S:
        yield warn("queue", f"{said}, the oldest for {age / 3600:.0f} hours", "see the runbook: a node that is away")
    else:
        yield ok("queue", said)


def _serving(opened: Home) -> Iterator[Finding]:
    port = opened.ports()[1]
    credentials = grpc.ssl_channel_credentials(opened.read("ca.crt"))
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_ASK_S)
        except grpc.RpcError as error:
            raise Refused("unavailable.broker", "the broker does not answer at its public port") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Refused("unavailable.broker", "it runs and takes no exchanges: /readyz says why")
    yield ok("serving", f"it answers at its public port {port}, as {SERVER_NAME}, and takes exchanges")
