"""The TLS certificate of a node, renewed before it ends and whenever a new key was drawn; alarms for what ends.

Whoever asks for a certificate proves its key, and the key statement in force lists it: so a node whose certificate is
over can ask too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from clients import channel, durable, rotation
from clients.config import NodeConfig
from clients.keystore import NEXT_TLS, Keystore, ec_private, participant_of
from zhifu.errors import Error, Malformed, NotAuthentic
from zhifu.findings import CERTIFICATE_DAYS
from zhifu.v1 import enrolment_pb2, enrolment_pb2_grpc

RENEW_S: Final = 30 * 86_400
"""A certificate gets a successor when it has this long left."""
LOOK_S: Final = 1.0
RETRY_S: Final = 60.0
DEADLINE_S: Final = 20.0
_DAY_S: Final = 86_400
_MAX_PEM: Final = 65_536
_log = logging.getLogger("zhifu.renewal")


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something of the folder that ends: its file, and when (Unix s)."""

    name: str
    not_after: int


def expiries(settings: NodeConfig) -> tuple[Expiry, ...]:
    """The certificates of a node's folder. Raises `Malformed` (usage.file)."""
    return tuple(
        _expiry(path.name, durable.read(path, _MAX_PEM)) for path in (settings.certificate, settings.authority)
    )


def _expiry(name: str, pem: bytes) -> Expiry:
    try:
        found = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Malformed("usage.file", f"{name} is not a certificate") from error
    return Expiry(name, int(found.not_valid_after_utc.timestamp()))


class Renewal:
    """Looks after one node's certificate. ``clock`` gives Unix ms."""

    def __init__(self, settings: NodeConfig, keystore: Keystore, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._keystore = keystore
        self._clock_ms = clock
        self._told: set[tuple[Expiry, int]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause = LOOK_S
            try:
                await self.look()
            except Error as error:
                pause = RETRY_S if error.reason not in ("key.unknown", "participant.unknown") else LOOK_S
                _log.warning("renewal.postponed", extra={"about": {"reason": error.reason}})
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Renew what is due. Raises as `certify`, and `Refused` (usage.file)."""
        settings, now = self._settings, self._clock_ms() // 1000
        rotation.settle(settings.keys, settings.certificate)
        after = settings.keys / NEXT_TLS
        if after.exists():
            issued = await certify(settings, self._keystore, ec_private(durable.read_private(after, _MAX_PEM)))
            rotation.take_up_tls(settings.keys, settings.certificate, issued)
            self._keystore.refresh()
            _log.info("certificate.renewed", extra={"about": {"reason": "rotated"}})
        for one in expiries(settings):
            if one.name == settings.certificate.name and one.not_after - now < RENEW_S:
                issued = await certify(settings, self._keystore, ec_private(self._keystore.tls_key))
                durable.write(settings.certificate, issued)
                _log.info("certificate.renewed", extra={"about": {"reason": "due"}})
            else:
                self._warn(one, now)

    def _warn(self, one: Expiry, now: int) -> None:
        passed = [days for days in CERTIFICATE_DAYS if one.not_after - now <= days * _DAY_S]
        if passed and (one, min(passed)) not in self._told:
            self._told.add((one, min(passed)))
            left = max(0, one.not_after - now) // _DAY_S
            _log.critical("alarm", extra={"about": {"reason": "key.expired", "file": one.name, "days": left}})


async def certify(settings: NodeConfig, keystore: Keystore, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate (PEM) for a TLS key that our key statement lists.

    Raises `Refused` (participant.*, unavailable.*), `NotAuthentic` (key.unknown, signature.invalid), `Malformed`.
    """
    request = enrolment_pb2.RenewRequest(csr=request_for(key, participant_of(keystore)))
    authority = durable.read(settings.authority, _MAX_PEM)
    async with channel.public_channel(settings.public_address, authority) as public:
        try:
            answer = await enrolment_pb2_grpc.EnrolmentServiceStub(public).Renew(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise channel.refusal(error) from error
    return check(answer.certificate, authority, key).public_bytes(Encoding.PEM)


def request_for(key: ec.EllipticCurvePrivateKey, participant: bytes) -> bytes:
    """A PKCS #10 request (DER) for a TLS key; its name is the participant's id."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, participant.hex())])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def check(issued: bytes, authority: bytes, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """It (DER) is for our key, by the authority that we know (PEM). Raises `NotAuthentic`, `Malformed`."""
    try:
        certificate = x509.load_der_x509_certificate(issued)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError) as error:
        raise Malformed("malformed.encoding", "the broker's answer is not a certificate of its authority") from error
    except InvalidSignature as error:
        raise NotAuthentic("signature.invalid", "the certificate is not by the invitation's authority") from error
    if certificate.public_key() != key.public_key():
        raise NotAuthentic("key.unknown", "the certificate is for another key")
    return certificate
