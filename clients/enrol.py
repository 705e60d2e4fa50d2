"""Enrolment: an invitation in, a node's folder out (DESIGN 4.4).

The keys are drawn here and never leave; the broker certifies the TLS key for its transport and lists the key statement,
which it cannot make.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from clients import channel, config, durable, renewal
from clients.config import NodeConfig, Pin
from clients.keystore import FileKeystore, Keystore, participant_of, state_keys, tls_private
from clients.locking import alone
from clients.store import Store
from zhifu import strict_json
from zhifu.checkpoint import VerifierKey
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.fields import Fields, Grammar, text
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc

DEADLINE_S: Final = 20.0
_MAX_FILE: Final = 65_536
_PEM: Final = Grammar("a certificate in PEM", lambda value: value if value.startswith("-----BEGIN CERT") else None)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A one-time code, and what the broker's operator says about the broker. The file is for one participant only."""

    code: str
    role: str
    name: str
    node_address: str
    public_address: str
    origin: str
    log_key: str
    authority: bytes


def read_invitation(path: Path) -> Invitation:
    """Read an invitation file. Raises `Malformed` (usage.file)."""
    document = strict_json.loads(durable.read(path, _MAX_FILE), _MAX_FILE, "usage.file")
    if not isinstance(document, dict):
        raise Malformed("usage.file", f"{path.name} is not an invitation")
    fields = Fields(document, "", "usage.file")
    return Invitation(
        code=fields.need(text(64), "code"),
        role=fields.need(text(32), "role"),
        name=fields.need(text(128), "name"),
        node_address=fields.need(text(255), "node_address"),
        public_address=fields.need(text(255), "public_address"),
        origin=fields.need(text(255), "origin"),
        log_key=fields.need(text(512), "log_key"),
        authority=fields.need(_PEM, "ca").encode(),
    )


async def enrol(
    invitation: Invitation,
    directory: Path,
    *,
    pins: Mapping[bytes, Pin] | None = None,
    registrar: bytes | None = None,
    policies: Path | None = None,
) -> NodeConfig:
    """Join: draw keys into ``directory``, have them certified, write ``node.toml``; its settings.

    ``pins`` and ``registrar`` may be added to ``node.toml`` later. A folder whose enrolment was interrupted is taken up
    again with the same keys. Raises `Refused` (enrolment.*, usage.file, unavailable.*), `Malformed`, `NotAuthentic`.
    """
    settings = _settings(invitation, directory, pins or {}, registrar, policies)
    durable.folder(directory)
    with alone(directory):
        return await _join(invitation, settings)


async def _join(invitation: Invitation, settings: NodeConfig) -> NodeConfig:
    if (settings.directory / config.FILE).exists():
        raise Refused("enrolment.exists", f"{settings.directory.name} is a node's folder already")
    keystore = FileKeystore.load(settings.keys) if settings.keys.exists() else FileKeystore.draw(settings.keys)
    durable.write(settings.authority, invitation.authority)
    durable.write(settings.certificate, await _certified(invitation, settings, keystore))
    config.write(settings)
    return config.load(settings.directory)


async def _certified(invitation: Invitation, settings: NodeConfig, keystore: Keystore) -> bytes:
    """The certificate (PEM). Where the invitation is used up it may be this folder that used it, and the answer was
    lost: whom the broker knows by a statement of these keys gets it as any node does. Raises as `enrol`.
    """
    request = _first_statement(settings, keystore)
    try:
        return (await _certify(invitation, keystore, request)).public_bytes(Encoding.PEM)
    except Refused as error:
        if error.reason not in ("enrolment.invite", "enrolment.exists"):
            raise
        with suppress(Refused, NotAuthentic):
            return await renewal.certify(settings, keystore, tls_private(keystore))
        raise


def _settings(
    invitation: Invitation, directory: Path, pins: Mapping[bytes, Pin], registrar: bytes | None, policies: Path | None
) -> NodeConfig:
    return NodeConfig(
        directory=directory,
        role=invitation.role,
        name=invitation.name,
        node_address=invitation.node_address,
        public_address=invitation.public_address,
        origin=invitation.origin,
        log_key=VerifierKey.parse(invitation.log_key),
        pins=pins,
        registrar=registrar,
        policies=policies,
    )


def _first_statement(settings: NodeConfig, keystore: Keystore) -> enrolment_pb2.EnrolRequest:
    """A request with a statement whose serial no other statement has, also where an earlier try was interrupted."""
    store = Store(settings.database, keystore)
    participant = participant_of(keystore)
    try:
        with store.transaction():
            serial = max((serial for serial, _ in store.trust.statements(participant)), default=0) + 1
            signed = state_keys(keystore, serial, int(time.time()))
            store.trust.put_statement(participant, serial, signed.to_bytes())
    finally:
        store.close()
    request = renewal.request_for(tls_private(keystore), participant)
    return enrolment_pb2.EnrolRequest(csr=request, key_statement=signed.to_proto())


async def _certify(invitation: Invitation, keystore: Keystore, request: enrolment_pb2.EnrolRequest) -> x509.Certificate:
    request.invite = invitation.code
    async with channel.public_channel(invitation.public_address, invitation.authority) as public:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(public)
        try:
            answer = await stub.Enrol(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error
    return _check(answer, invitation, keystore)


def _check(answer: enrolment_pb2.EnrolResponse, invitation: Invitation, keystore: Keystore) -> x509.Certificate:
    """It is for our key, by the authority that the invitation names. Raises `NotAuthentic`, `Malformed`."""
    certificate = renewal.check(answer.certificate, invitation.authority, tls_private(keystore))
    if answer.participant != participant_of(keystore):
        raise NotAuthentic("key.unknown", "the broker enrolled another participant")
    return certificate
