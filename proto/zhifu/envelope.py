"""Signed payloads: a DSSE-style envelope, and several payloads signed as one frame (DESIGN 4.2, section 5).

What is signed travels as bytes. The signed bytes of a payload are
``label || suite || PAE(type, payload)``, with PAE as in the DSSE protocol. Payloads of one frame are the leaves of an
RFC 9162 tree whose root is signed once, so each stays provable by itself; a tree of one is the plain case.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from zhifu import merkle
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE, Alg, key_id, sign, verify_signature
from zhifu.v1 import signed_pb2

MAX_FRAME: Final = 64
_FRAME_LABEL: Final = b"zhifu/v1 frame\0"


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of signed payload: its label in signed bytes, its media type, and its size cap in bytes."""

    label: bytes
    media_type: str
    cap: int

    def signed_bytes(self, payload: bytes) -> bytes:
        name = self.media_type.encode()
        pae = b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
        return self.label + bytes([SUITE]) + pae


def _kind(name: str, cap: int) -> Kind:
    return Kind(f"zhifu/v1 {name}\0".encode(), f"application/vnd.zhifu.{name.replace(' ', '-')}.v1+protobuf", cap)


PRESENTATION: Final = _kind("presentation", 1024)
GRANT: Final = _kind("grant", 4096)
REQUEST: Final = _kind("consent request", 65536)
TICKET: Final = _kind("ticket", 512)
REVOCATION: Final = _kind("revocation", 1024)
SUBJECT_KEY: Final = _kind("subject key", 512)
DELETION: Final = _kind("deletion", 512)
KEY_STATEMENT: Final = _kind("key statement", 65536)
EPOCH_OFFER: Final = _kind("epoch offer", 4096)
ATTESTATION: Final = _kind("attestation", 512)
ACKNOWLEDGEMENT: Final = _kind("acknowledgement", 1024)
POLICY: Final = _kind("policy statement", 512)
WALLET: Final = _kind("wallet", 512)
QUOTA: Final = _kind("pseudonym quota", 512)
ERASURE: Final = _kind("erasure order", 16384)
HOLD: Final = _kind("legal hold", 512)
STANDING: Final = _kind("standing", 512)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its signature. ``path`` proves its place ``index`` among ``size`` payloads signed as one."""

    kind: Kind
    payload: bytes
    key_id: bytes
    signature: bytes
    index: int = 0
    size: int = 1
    path: tuple[bytes, ...] = ()

    def to_proto(self) -> signed_pb2.Envelope:
        return signed_pb2.Envelope(
            payload_type=self.kind.media_type,
            payload=self.payload,
            key_id=self.key_id,
            signature=self.signature,
            index=self.index,
            size=self.size,
            path=b"".join(self.path),
        )

    def to_bytes(self) -> bytes:
        return self.to_proto().SerializeToString(deterministic=True)


def from_proto(kind: Kind, message: signed_pb2.Envelope) -> Envelope:
    """Check an envelope's outer shape: size cap and type first (DESIGN section 5). Raises `Malformed`."""
    if len(message.payload) > kind.cap or len(message.path) > 32 * 7:
        raise Malformed("malformed.size", f"{kind.media_type} is larger than {kind.cap} bytes")
    if message.payload_type != kind.media_type:
        raise Malformed("malformed.field", f"expected {kind.media_type}")
    if len(message.key_id) != 32 or len(message.signature) != 64 or len(message.path) % 32:
        raise Malformed("malformed.field", "key id, signature or path has a wrong length")
    if not 0 <= message.index < message.size <= MAX_FRAME:
        raise Malformed("malformed.field", "not a place in a frame")
    path = tuple(message.path[i : i + 32] for i in range(0, len(message.path), 32))
    return Envelope(kind, message.payload, message.key_id, message.signature, message.index, message.size, path)


def from_bytes(kind: Kind, data: bytes) -> Envelope:
    """Parse a stored or transmitted envelope. Raises `Malformed`."""
    if len(data) > kind.cap + 1024:
        raise Malformed("malformed.size", f"{kind.media_type} is larger than {kind.cap} bytes")
    message = signed_pb2.Envelope()
    try:
        message.ParseFromString(data)
    except Exception as error:  # upb raises DecodeError; nothing else may reach a caller either
        raise Malformed("malformed.encoding", "not an envelope") from error
    found = from_proto(kind, message)
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise Malformed("malformed.encoding", "not the canonical envelope")
    return found


def seal_frame(kind: Kind, payloads: Sequence[bytes], key: SigningKey) -> tuple[bytes, list[Envelope]]:
    """Sign 1 to 64 payloads with one signature: (signature, an envelope for each with its own path)."""
    if not 1 <= len(payloads) <= MAX_FRAME:
        raise Malformed("malformed.size", f"a frame holds 1 to {MAX_FRAME} payloads")
    tree = merkle.levels([merkle.leaf_hash(kind.signed_bytes(payload)) for payload in payloads])
    signature = sign(key, _frame_bytes(len(payloads), tree[-1][0]))
    return signature, _members(kind, payloads, tree, signature, key_id(Alg.ED25519, bytes(key.verify_key)))


def seal_one(kind: Kind, payload: bytes, key: SigningKey) -> Envelope:
    """Sign one payload by itself."""
    return seal_frame(kind, [payload], key)[1][0]


def signed_by(made: Envelope, key: SigningKey) -> Envelope:
    """The same payload by itself, signed by ``key``; ``made`` where it signed that one."""
    same = made.key_id == key_id(Alg.ED25519, bytes(key.verify_key))
    return made if same else seal_one(made.kind, made.payload, key)


def to_sign(kind: Kind, payload: bytes) -> bytes:
    """The very bytes that Ed25519 signs for one payload by itself: for a key that another program holds."""
    return _frame_bytes(1, merkle.leaf_hash(kind.signed_bytes(payload)))


def signed_elsewhere(kind: Kind, payload: bytes, public_key: bytes, signature: bytes) -> Envelope:
    """The envelope of a payload whose `to_sign` bytes the holder of ``public_key`` signed.

    Raises `NotAuthentic` (signature.invalid), `Malformed` (malformed.size).
    """
    return verify_frame(kind, [payload], signature, public_key)[0]


def verify_frame(kind: Kind, payloads: Sequence[bytes], signature: bytes, public_key: bytes) -> list[Envelope]:
    """Verify a frame's one signature; the envelopes of its payloads. Raises `Malformed`, `NotAuthentic`.

    One bad signature refuses the frame, since nobody can say which payload is at fault.
    """
    if not 1 <= len(payloads) <= MAX_FRAME or len(signature) != 64:
        raise Malformed("malformed.size", f"a frame holds 1 to {MAX_FRAME} payloads")
    if any(len(payload) > kind.cap for payload in payloads):
        raise Malformed("malformed.size", f"{kind.media_type} is larger than {kind.cap} bytes")
    tree = merkle.levels([merkle.leaf_hash(kind.signed_bytes(payload)) for payload in payloads])
    verify_signature(public_key, _frame_bytes(len(payloads), tree[-1][0]), signature)
    return _members(kind, payloads, tree, signature, key_id(Alg.ED25519, public_key))


def _members(
    kind: Kind, payloads: Sequence[bytes], tree: Sequence[Sequence[bytes]], signature: bytes, signer: bytes
) -> list[Envelope]:
    return [
        Envelope(kind, payload, signer, signature, i, len(payloads), merkle.path(tree, i))
        for i, payload in enumerate(payloads)
    ]


def verify(envelope: Envelope, public_key: bytes) -> bytes:
    """The payload, if ``public_key`` signed it. Raises `NotAuthentic` (key.unknown, signature.invalid)."""
    if not hmac.compare_digest(envelope.key_id, key_id(Alg.ED25519, public_key)):
        raise NotAuthentic("key.unknown", "the envelope names another key")
    leaf = merkle.leaf_hash(envelope.kind.signed_bytes(envelope.payload))
    try:
        root = merkle.root_from_inclusion(leaf, envelope.index, envelope.size, envelope.path)
    except NotAuthentic as error:
        raise NotAuthentic("signature.invalid", "the path does not fit the frame") from error
    verify_signature(public_key, _frame_bytes(envelope.size, root), envelope.signature)
    return envelope.payload


def _frame_bytes(size: int, root: bytes) -> bytes:
    return _FRAME_LABEL + bytes([SUITE]) + size.to_bytes(4, "big") + root
