"""The transport CA: TLS certificates for participants.

It vouches for connections only, never for keys of records (DESIGN 4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zhifu.errors import Malformed

SERVER_NAME: Final = "broker.zhifu.internal"
_CA_DAYS: Final = 3650
_LEAF_DAYS: Final = 90
_MAX_CSR: Final = 8192
Write = Callable[[Path, bytes], None]


def create(path: Path, write: Write) -> None:
    """A CA and the broker's own server certificate, written into the broker's folder."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Zhifu transport CA")
    ca = (
        _builder(name, name, ca_key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write(path / "ca.key", _pem(ca_key))
    write(path / "ca.crt", ca.public_bytes(Encoding.PEM))
    renew(path, write)


def renew(path: Path, write: Write) -> None:
    """A new key and server certificate of the broker, by the folder's CA. Raises `Malformed` (usage.file)."""
    ca_key, key = _authority_key((path / "ca.key").read_bytes()), ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate((path / "ca.crt").read_bytes())
    server = (
        _leaf(_name(SERVER_NAME), ca, key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    # Between the two a running broker keeps the pair that it has; one that starts then finds that they do not fit.
    write(path / "tls.key", _pem(key))
    write(path / "tls.crt", server.public_bytes(Encoding.PEM))


def fits(key: bytes, certificate: bytes) -> bool:
    """Whether a certificate (PEM) is for this private key (PEM)."""
    try:
        found = load_pem_private_key(key, None).public_key()
        return found == x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError:
        return False


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _authority_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Malformed("usage.file", "ca.key is not an EC key")
    return key


def read_request(csr: bytes) -> x509.CertificateSigningRequest:
    """A PKCS #10 request (DER) that proves its EC P-256 key. Raises `Malformed` (enrolment.csr)."""
    if len(csr) > _MAX_CSR:
        raise Malformed("enrolment.csr", "too large")
    try:
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        if request.is_signature_valid and isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
            return request
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Malformed("enrolment.csr") from error
    raise Malformed("enrolment.csr", "not a proven EC P-256 key")


def issue(request: x509.CertificateSigningRequest, participant: bytes, ca: bytes, ca_key: bytes) -> bytes:
    """A client certificate (DER) for a participant; names in the request are ignored, ours is its id."""
    key = _authority_key(ca_key)
    authority = x509.load_pem_x509_certificate(ca)
    builder = _leaf(_name(participant.hex()), authority, request.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Clocks of participants may differ by minutes.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _leaf(
    subject: x509.Name, ca: x509.Certificate, key: CertificatePublicKeyTypes, usage: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca.public_key())
    return (
        _builder(subject, ca.subject, key, _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
