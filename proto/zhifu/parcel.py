"""Parcels: what a patient sends an insurer of her own, in sealed chunks that can be sent again one by one.

Her subject key signs the recipient, the claim, an end, and the digest of every chunk: that is her consent to just these
bytes, and by it anybody can tell whether a chunk belongs. The content key is sealed to the insurer; who carries the
chunks learns their number. Every chunk but the last is full, and the last is padded to a step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from zhifu import cbor, envelope
from zhifu.cbor import Value
from zhifu.envelope import Envelope, Kind
from zhifu.errors import Malformed, NotAuthentic
from zhifu.keys import SUITE, KemPrivate, KemPublic, participant_id
from zhifu.leaf import expand

PARCEL: Final = Kind(b"zhifu/v1 parcel\0", "application/vnd.zhifu.parcel.v1+cbor", 16_384)
KINDS: Final = ("report", "documents", "supplement", "accept", "dispute")
CHUNK: Final = 256 * 1024
STEP: Final = 16 * 1024
MAX_CHUNKS: Final = 256
MAX_CONTENT: Final = CHUNK * MAX_CHUNKS - 5
_INFO: Final = b"zhifu/v1 parcel key\0"
_CHUNK: Final = b"zhifu/v1 parcel chunk\0"
_TAG: Final = 16
_VERSION: Final = 1
_MAX_LIFE_S: Final = 400 * 86_400


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the subject signs. Ids and digests are 32 bytes, times Unix s.

    ``claim`` is the exchange or the first parcel that this is about, empty for a new report; ``sealed_key`` the content
    key for the recipient's key ``key_id``; ``digests`` one for each sealed chunk.
    """

    aud: str
    recipient: bytes
    claim: bytes
    kind: str
    key_id: bytes
    sealed_key: bytes = field(repr=False)
    digests: tuple[bytes, ...]
    erase_at: int
    issued_at: int

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed."""
        return cbor.encode(
            [
                _VERSION, self.aud, self.recipient, self.claim, self.kind, self.key_id, self.sealed_key,
                b"".join(self.digests), self.erase_at, self.issued_at,
            ]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packed:
    """A sealed parcel before it is signed: its payload's fields, and the chunks in their order."""

    parcel: Parcel
    chunks: tuple[bytes, ...] = field(repr=False)


def hash_of(payload: bytes) -> bytes:
    """SHA-256 of the payload: the parcel's name."""
    return hashlib.sha256(payload).digest()


def pack(
    content: bytes, *, aud: str, recipient: bytes, key: KemPublic, subject: bytes, claim: bytes, kind: str,
    erase_at: int, now: int,
) -> Packed:  # fmt: skip
    """Seal ``content`` for a recipient. Raises `Malformed` (malformed.size) for more than `MAX_CONTENT` bytes."""
    if len(content) > MAX_CONTENT:
        raise Malformed("malformed.size", f"a parcel has at most {MAX_CONTENT >> 20} MiB")
    secret = os.urandom(32)
    plain = _padded(len(content).to_bytes(5, "big") + content)
    parts = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)]
    sealed = [_cipher(secret, place, len(parts)).encrypt(bytes(12), part, None) for place, part in enumerate(parts)]
    shown = Parcel(
        aud, recipient, claim, kind, key.id, key.seal(secret, _info(recipient, subject)),
        tuple(hashlib.sha256(one).digest() for one in sealed), erase_at, now,
    )  # fmt: skip
    return Packed(shown, tuple(sealed))


def _padded(plain: bytes) -> bytes:
    return plain + bytes(-len(plain) % STEP)


def _info(recipient: bytes, subject: bytes) -> bytes:
    return _INFO + bytes([SUITE]) + recipient + subject


def _cipher(secret: bytes, place: int, count: int) -> AESGCM:
    """A key of its own for each place: a chunk in another's, or of a shorter parcel, does not open."""
    return AESGCM(expand(secret, _CHUNK + bytes([SUITE]) + place.to_bytes(4, "big") + count.to_bytes(4, "big"), 32))


def parse(payload: bytes) -> Parcel:
    """A verified payload, strictly. Raises `Malformed`."""
    version, *rest = cbor.array(payload, PARCEL.cap, 10)
    if type(version) is not int or version != _VERSION:
        raise Malformed("malformed.version")
    aud, recipient, claim, kind, key_id, sealed_key, digests, erase_at, issued_at = rest
    _check(isinstance(aud, str) and 1 <= len(aud) <= 256, "aud")
    _check(isinstance(recipient, bytes) and len(recipient) == 32, "recipient")
    _check(isinstance(claim, bytes) and len(claim) in (0, 32) and (kind == "report") == (not claim), "claim")
    _check(kind in KINDS, "kind")
    _check(isinstance(key_id, bytes) and len(key_id) == 32, "key_id")
    _check(isinstance(sealed_key, bytes) and 48 <= len(sealed_key) <= 2048, "sealed_key")
    count = len(digests) // 32 if isinstance(digests, bytes) and len(digests) % 32 == 0 else 0
    _check(1 <= count <= MAX_CHUNKS, "digests")
    _check(type(issued_at) is int and issued_at > 0, "issued_at")
    _check(type(erase_at) is int and issued_at < erase_at <= issued_at + _MAX_LIFE_S, "erase_at")
    split = tuple(digests[at : at + 32] for at in range(0, len(digests), 32))
    return Parcel(aud, recipient, claim, kind, key_id, sealed_key, split, erase_at, issued_at)


def _check(holds: bool, name: str) -> None:
    if not holds:
        raise Malformed("malformed.field", name)


def verify(signed: Envelope, subject_key: bytes) -> Parcel:
    """The parcel that a subject key signed. Raises `NotAuthentic` (key.unknown, signature.invalid), `Malformed`."""
    return parse(envelope.verify(signed, subject_key))


def check_chunk(shown: Parcel, place: int, chunk: bytes) -> None:
    """A sealed chunk is the one that was signed for this place. Raises `Malformed`, `NotAuthentic` (leaf.digest)."""
    if not 0 <= place < len(shown.digests) or len(chunk) > CHUNK + _TAG:
        raise Malformed("malformed.size", "no such chunk, or larger than one is")
    if hashlib.sha256(chunk).digest() != shown.digests[place]:
        raise NotAuthentic("leaf.digest", "the chunk is not the one that was signed")


def secret_of(shown: Parcel, key: KemPrivate, subject: bytes) -> bytes:
    """The content key. Raises `NotAuthentic` (capsule.open)."""
    return key.open(shown.sealed_key, _info(shown.recipient, subject))


def unpack(shown: Parcel, secret: bytes, chunks: Sequence[bytes]) -> bytes:
    """The content of all chunks, in their order. Raises `NotAuthentic` (leaf.*), `Malformed`."""
    if len(chunks) != len(shown.digests):
        raise NotAuthentic("leaf.set")
    plain = b"".join(_opened(shown, secret, chunks))
    size = int.from_bytes(plain[:5], "big")
    if _padded(plain[: 5 + size]) != plain:
        raise NotAuthentic("leaf.padding")
    return plain[5 : 5 + size]


def _opened(shown: Parcel, secret: bytes, chunks: Sequence[bytes]) -> Iterator[bytes]:
    for place, chunk in enumerate(chunks):
        check_chunk(shown, place, chunk)
        try:
            yield _cipher(secret, place, len(chunks)).decrypt(bytes(12), chunk, None)
        except InvalidTag:
            raise NotAuthentic("leaf.open") from None


# Content


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its name and media type as the patient's device says, and its bytes."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """What is in a parcel: fields by name (text, numbers or octets, each by its kind), and documents."""

    fields: dict[str, Value] = field(repr=False)
    documents: tuple[Document, ...] = ()


_MAX_HEAD: Final = 65_536
_MAX_DOCUMENTS: Final = 64


def encode(message: Message) -> bytes:
    """The content of a parcel: u32 length of the head, the head in strict CBOR, the documents one after the other."""
    files = [[one.name, one.media_type, len(one.content)] for one in message.documents]
    head = cbor.encode([_VERSION, [[name, value] for name, value in message.fields.items()], files])
    return len(head).to_bytes(4, "big") + head + b"".join(one.content for one in message.documents)


def decode(content: bytes) -> Message:
    """Inverse of `encode`. Raises `Malformed`."""
    size = int.from_bytes(content[:4], "big")
    if len(content) < 4 or size > _MAX_HEAD:
        raise Malformed("malformed.size", "a parcel's head")
    version, rows, files = cbor.array(content[4 : 4 + size], _MAX_HEAD, 3)
    if type(version) is not int or version != _VERSION:
        raise Malformed("malformed.version")
    try:
        fields = {str(name): value for name, value in rows}
        listed = [(str(name), str(kind), int(length)) for name, kind, length in files]
    except (TypeError, ValueError) as error:
        raise Malformed("malformed.field", "a parcel's head") from error
    if len(listed) > _MAX_DOCUMENTS or any(length < 0 for _, _, length in listed):
        raise Malformed("malformed.size", f"a parcel has at most {_MAX_DOCUMENTS} documents")
    return Message(fields, tuple(_documents(content[4 + size :], listed)))


def _documents(rest: bytes, listed: Sequence[tuple[str, str, int]]) -> Iterator[Document]:
    at = 0
    for name, kind, length in listed:
        yield Document(name, kind, rest[at : at + length])
        at += length
    if at != len(rest):
        raise Malformed("malformed.size", "the documents are not as long as they say")


def subject_of(subject_key: bytes) -> bytes:
    """The id of the patient's key: who a parcel is from."""
    return participant_id(subject_key)
