"""Checkpoints of the audit log: signed notes, tree heads, cosignatures (C2SP signed-note, tlog-checkpoint,
tlog-cosignature; DESIGN section 7).

A note is text, an empty line and signature lines ``— <key name> base64(key id || signature)``. Signatures of unknown
keys are ignored; a wrong signature by a known key refuses the whole note. Everything is parsed strictly, canonical
base64 and decimals included, so that a parsed checkpoint re-encodes to the very bytes that were signed.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.signing import SigningKey

from zhifu import keys
from zhifu.errors import Malformed, NotAuthentic
from zhifu.merkle import EMPTY, HASH_BYTES, MAX_SIZE

MAX_NOTE: Final = 1 << 18
"""Bytes of a note; 16 post-quantum signatures, which verifiers must accept, take less than half."""
MAX_SIGNATURES: Final = 100
MAX_NAME: Final = 255
"""UTF-8 bytes of a key name or an origin, the limit of every cosignature format."""
MAX_KEY_TEXT: Final = 512
MAX_TIME: Final = 2**63 - 1

_REMEMBERED: Final = 64
"""Names that were checked, and notes that a pinned key signed: a stream's few, over and over."""
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_DASH: Final = "— ".encode()
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_SPACED: Final = re.compile(r"[\s+]")
_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]{0,18}")
_COSIGNED: Final = b"cosignature/v1\ntime %d\n"


class SignatureType(IntEnum):
    """Signature types of C2SP signed-note that this protocol uses."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named Ed25519 public key (32 bytes) of one signature type. Raises Malformed("malformed.field")."""

    name: str
    kind: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != 32:
            raise Malformed("malformed.field", "an Ed25519 public key is 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || 0x0A || type || public key)."""
        return sha256(self.name.encode() + b"\n" + self._material()).digest()[:_KEY_ID_BYTES]

    def encode(self) -> str:
        """The verifier key text ``<name>+<hex key id>+<base64(type || public key)>``."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self._material()).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Inverse of `encode`, for a key that was pinned by hand.

        Raises Malformed: malformed.version for a signature type not used here, malformed.field for a key that is not
        a point of the prime-order group (such a key verifies anything), malformed.size or malformed.encoding.
        """
        if len(text) > MAX_KEY_TEXT:
            raise Malformed("malformed.size", "the verifier key is too long")
        name, _, rest = text.partition("+")
        _check_name(name)
        material = parse_base64(rest.partition("+")[2].encode(errors="replace"))
        if not material or material[0] not in set(SignatureType):
            raise Malformed("malformed.version", "the verifier key is of a type not used here")
        key = cls(name, SignatureType(material[0]), material[1:])
        if key.encode() != text:
            raise Malformed("malformed.encoding", "the verifier key's id is not that of its key")
        if not crypto_core_ed25519_is_valid_point(key.public_key):
            raise Malformed("malformed.field", "the verifier key is not a valid signing key")
        return key

    def _material(self) -> bytes:
        return bytes((self.kind,)) + self.public_key


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: key name, 4-byte key id, and the signature as its type defines it."""

    name: str
    key_id: bytes
    value: bytes

    def encode(self) -> bytes:
        """The line, newline included."""
        return _DASH + self.name.encode() + b" " + b64encode(self.key_id + self.value) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Signature:
        """Inverse of `encode`. Raises Malformed."""
        if not line.startswith(_DASH) or not line.endswith(b"\n") or len(line) > MAX_NOTE:
            raise Malformed("malformed.encoding", "not a signature line")
        name, _, encoded = _utf8(line[len(_DASH) : -1]).partition(" ")
        _check_name(name)
        raw = parse_base64(encoded.encode())
        if len(raw) <= _KEY_ID_BYTES:
            raise Malformed("malformed.encoding", "the signature is too short")
        return cls(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note: its text (final newline included) and its signatures, none verified yet."""

    text: bytes
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return self.text + b"\n" + b"".join(signature.encode() for signature in self.signatures)

    @classmethod
    def parse(cls, note: bytes) -> Note:
        """Split a note at its last empty line. Raises Malformed, also when one key signed twice."""
        if len(note) > MAX_NOTE:
            raise Malformed("malformed.size", "the note is too long")
        _utf8(note)
        split = note.rfind(b"\n\n")
        lines = note[split + 2 :].splitlines(keepends=True)
        if split < 0 or not lines:
            raise Malformed("malformed.encoding", "the note has no signatures")
        if len(lines) > MAX_SIGNATURES:
            raise Malformed("malformed.size", "the note has too many signatures")
        signatures = tuple(map(Signature.parse, lines))
        if len({(signature.name, signature.key_id) for signature in signatures}) != len(signatures):
            raise Malformed("malformed.encoding", "the note has two signatures by one key")
        return cls(note[: split + 1], signatures)

    def signature_of(self, key: VerifierKey) -> Signature | None:
        """The signature that claims to be by this key."""
        wanted = (key.name, key.key_id)
        return next((found for found in self.signatures if (found.name, found.key_id) == wanted), None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: origin of the log, tree size, root (32 bytes), extension lines. Raises Malformed("malformed.field").

    Extension lines are signed and cosigned but mean nothing here; this broker writes none (tlog-checkpoint).
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if not all(lines) or any("\n" in line for line in lines) or len(_bytes(self.origin)) > MAX_NAME:
            raise Malformed("malformed.field", "the origin or an extension line is not one short line")
        _utf8(_bytes("\n".join(lines)))
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise Malformed("malformed.field", "the tree size or the root is out of bounds")
        if self.size == 0 and self.root != EMPTY:
            raise Malformed("malformed.field", "the root is not that of an empty tree")

    def body(self) -> bytes:
        """The note text: origin, size, base64 of the root and the extension lines, each ended by a newline."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, body: bytes) -> Checkpoint:
        """Inverse of `body`. Raises Malformed."""
        if len(body) > MAX_NOTE:
            raise Malformed("malformed.size", "the checkpoint is too long")
        lines = body.split(b"\n")
        if len(lines) < 4 or lines.pop():
            raise Malformed("malformed.encoding", "a checkpoint has three lines or more")
        origin, size, root, *extensions = lines
        texts = tuple(_utf8(line) for line in (origin, *extensions))
        return cls(texts[0], parse_decimal(size), parse_base64(root), texts[1:])


def sign_note(text: bytes, name: str, key: SigningKey) -> bytes:
    """The note with one Ed25519 signature (type 0x01) over ``text``, which ends in a newline. Raises Malformed."""
    if not text.endswith(b"\n"):
        raise Malformed("malformed.encoding", "a note's text ends in a newline")
    _utf8(text)
    signer = VerifierKey(name, SignatureType.ED25519, bytes(key.verify_key))
    return Note(text, (Signature(name, signer.key_id, keys.sign(key, text)),)).encode()


def open_note(note: bytes, key: VerifierKey) -> bytes:
    """The text of a note that this key (type 0x01) signed; other keys' signatures are ignored.

    Raises Malformed for bytes that are no note, NotAuthentic("log.signature") without a good signature by the key.
    """
    parsed = Note.parse(note)
    signature = parsed.signature_of(key)
    if signature is None or key.kind is not SignatureType.ED25519:
        raise NotAuthentic("log.signature")
    try:
        keys.verify_signature(key.public_key, parsed.text, signature.value)
    except NotAuthentic as error:
        raise NotAuthentic("log.signature") from error
    return parsed.text


def sign(checkpoint: Checkpoint, name: str, key: SigningKey) -> bytes:
    """The log's signed note; ``name`` is the log key's name, by convention the origin (tlog-checkpoint)."""
    return sign_note(checkpoint.body(), name, key)


@lru_cache(_REMEMBERED)
def verify(note: bytes, key: VerifierKey, origin: str | None = None) -> Checkpoint:
    """The checkpoint that the pinned log key signed, for the log ``origin`` (by default the key's name).

    The last ones that held are remembered: a node sees the same note with a result, a notice and a delivery.
    Raises Malformed; NotAuthentic("log.signature") when the signature or the origin is another.
    """
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != (key.name if origin is None else origin):
        raise NotAuthentic("log.signature", "the checkpoint is of another log")
    return checkpoint


def cosign(checkpoint: Checkpoint, name: str, key: SigningKey, time: int) -> bytes:
    """A witness's signature line (cosignature/v1, type 0x04) at ``time`` (Unix seconds).

    It states that this is the largest consistent head that the witness has seen: check consistency and persist the
    head first (DESIGN section 7). Raises Malformed("malformed.field") for a time out of bounds.
    """
    if not 0 <= time <= MAX_TIME:
        raise Malformed("malformed.field", "the time of a cosignature is out of bounds")
    signer = VerifierKey(name, SignatureType.COSIGNATURE_V1, bytes(key.verify_key))
    signed = keys.sign(key, _COSIGNED % time + checkpoint.body())
    return Signature(name, signer.key_id, time.to_bytes(_TIME_BYTES, "big") + signed).encode()


def verify_cosignature(checkpoint: Checkpoint, line: bytes, key: VerifierKey) -> int:
    """Time (Unix seconds) of the cosignature in one signature line, once it verifies.

    Raises Malformed; NotAuthentic("signature.invalid") when it is another key's or does not verify.
    """
    return _cosigned_at(checkpoint.body(), Signature.parse(line), key)


def verify_cosignatures(note: bytes, witnesses: Iterable[VerifierKey]) -> dict[VerifierKey, int]:
    """The witnesses that cosigned a note, each with its time (Unix seconds); unknown keys' lines are ignored.

    How many are enough is the caller's policy, and so is the log's own signature (`verify`). Raises Malformed;
    NotAuthentic("signature.invalid") when the line of a known witness does not verify.
    """
    parsed = Note.parse(note)
    found = ((key, parsed.signature_of(key)) for key in witnesses)
    return {key: _cosigned_at(parsed.text, signature, key) for key, signature in found if signature is not None}


def with_cosignatures(note: bytes, lines: Iterable[bytes]) -> bytes:
    """The note with more signature lines; a newer line of the same key replaces the older. Raises Malformed."""
    parsed = Note.parse(note)
    merged = {(signature.name, signature.key_id): signature for signature in parsed.signatures}
    merged |= {(line.name, line.key_id): line for line in map(Signature.parse, lines)}
    return Note(parsed.text, tuple(merged.values())).encode()


def parse_base64(encoded: bytes) -> bytes:
    """Canonical standard base64 with padding (RFC 4648 sections 3.5 and 4). Raises Malformed("malformed.encoding")."""
    try:
        raw = b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Malformed("malformed.encoding", "not base64") from error
    if b64encode(raw) != encoded:
        raise Malformed("malformed.encoding", "not canonical base64")
    return raw


def parse_decimal(digits: bytes) -> int:
    """ASCII decimal of 0 to `MAX_SIZE` without leading zeros. Raises Malformed("malformed.encoding")."""
    if not _DECIMAL.fullmatch(digits) or int(digits) > MAX_SIZE:
        raise Malformed("malformed.encoding", "not a decimal number of the tree")
    return int(digits)


def _cosigned_at(text: bytes, signature: Signature, key: VerifierKey) -> int:
    is_by_key = (signature.name, signature.key_id) == (key.name, key.key_id)
    if not is_by_key or key.kind is not SignatureType.COSIGNATURE_V1:
        raise NotAuthentic("signature.invalid", "the cosignature is by another key")
    time = int.from_bytes(signature.value[:_TIME_BYTES], "big")
    if time > MAX_TIME:
        raise NotAuthentic("signature.invalid", "the time of the cosignature is out of bounds")
    keys.verify_signature(key.public_key, _COSIGNED % time + text, signature.value[_TIME_BYTES:])
    return time


@lru_cache(_REMEMBERED)
def _check_name(name: str) -> None:
    if not name or _SPACED.search(name) or len(_bytes(name)) > MAX_NAME or _CONTROL.search(name.encode()):
        raise Malformed("malformed.field", "a key name is 1 to 255 bytes without spaces or plus")


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Malformed("malformed.encoding", "not Unicode text") from error


def _utf8(text: bytes) -> str:
    """UTF-8 text without control characters other than newline (signed-note, Format)."""
    if _CONTROL.search(text):
        raise Malformed("malformed.encoding", "a control character in a note")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Malformed("malformed.encoding", "not UTF-8") from error
