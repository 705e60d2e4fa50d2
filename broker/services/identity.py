"""Who is calling: the mTLS peer certificate's key, as a participant. Taken once a stream (DESIGN section 6)."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.directory import Directory, Member
from zhifu.errors import Refused


def spki_hash(certificate: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo, 32 bytes."""
    key = certificate.public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def caller(context: grpc.aio.ServicerContext[Any, Any], directory: Directory, now: int) -> Member:
    """The participant at the other end; ``now`` is Unix s. Raises `Refused` (participant.*), `NotAuthentic`
    (key.unknown).
    """
    found = certificate(context)
    if now > expiry(found):
        # The handshake looks at the certificate once; a connection may live on for days.
        raise Refused("participant.certificate")
    return directory.peer(spki_hash(found))


def certificate(context: grpc.aio.ServicerContext[Any, Any]) -> x509.Certificate:
    """The certificate of the other end. Raises `Refused` (participant.unknown)."""
    pem = next(iter(context.auth_context().get("x509_pem_cert") or ()), b"")
    if not pem:
        raise Refused("participant.unknown", "no client certificate")
    return x509.load_pem_x509_certificate(pem)


def expiry(one: x509.Certificate) -> int:
    """When it ends, Unix s."""
    return int(one.not_valid_after_utc.timestamp())
