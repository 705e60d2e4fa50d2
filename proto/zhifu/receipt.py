"""Audit entries and receipts: what the log commits to, and how a party checks it (DESIGN section 7).

A leaf holds two commitments, each under a key of its own, so a mirror of the log learns nothing and erasing a key
erases a
person, not the proof. A party gets the openings; with the frame's range and checkpoint they are its receipt.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final

from zhifu import cbor, checkpoint, merkle, ranges
from zhifu.checkpoint import Checkpoint, VerifierKey
from zhifu.errors import Malformed, NotAuthentic
from zhifu.ranges import Range

_ENTRY: Final = b"zhifu/v1 entry\0"
_STATEMENT: Final = b"zhifu/v1 statement\0"
_LEAF: Final = b"\0" + _ENTRY
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER_PAD: Final = b"\x36" * 32
_OUTER_PAD: Final = b"\x5c" * 32
_PLACE: Final = Struct(">QQ").pack
_META: Final = b"zhifu/v1 audit meta\0"
_DETAIL: Final = b"zhifu/v1 audit detail\0"
_INNER_META: Final = _INNER_PAD + _META
_INNER_DETAIL: Final = _INNER_PAD + _DETAIL
MAX_META: Final = 4096
_REMEMBERED: Final = 1024
MAX_DETAIL: Final = 262_144

EVENTS: Final = (
    "exchange.accepted",
    "exchange.denied",
    "exchange.acknowledged",
    "exchange.expired",
    "exchange.withdrawn",
    "grant.registered",
    "grant.revoked",
    "subject.enrolled",
    "subject.key_added",
    "subject.key_revoked",
    "ticket.redeemed",
    "exchange.deleted",
    "participant.enrolled",
    "participant.suspended",
    "participant.resumed",
    "epoch.offered",
    "key.stated",
    "pseudonym.evaluated",
    "pseudonym.denied",
    "pseudonym.quota",
    "entry.erased",
    "hold.placed",
    "hold.lifted",
    "parcel.left",
    "parcel.taken",
    "parcel.withdrawn",
    "audit.searched",
    "audit.exported",
    "grant.refused",
    "clock.set",
)


@dataclass(frozen=True, slots=True)
class Meta:
    """What an officer sees of an entry: who, with whom, what for, which units at which levels, under which policy."""

    event: str
    sender: bytes = b""
    recipient: bytes = b""
    purpose: str = ""
    schema_hash: bytes = b""
    ceilings: bytes = b""
    released: bytes = b""
    policy_hash: bytes = b""
    reason: str = ""

    def to_bytes(self) -> bytes:
        return _encoded(self)


@lru_cache(_REMEMBERED)
def _encoded(meta: Meta) -> bytes:
    # Entries of a kind between the same two parties have the same.
    return cbor.encode([1, *(getattr(meta, name) for name in meta.__slots__)])


@dataclass(frozen=True, slots=True)
class Detail:
    """What proves an entry: the exchange, its grant and subject, and signed envelopes as bytes. Never a value."""

    exchange: bytes = b""
    grant: bytes = b""
    subject: bytes = b""
    documents: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        return cbor.encode([1, self.exchange, self.grant, self.subject, list(self.documents)])


@lru_cache(_REMEMBERED)
def parse_meta(content: bytes) -> Meta:
    """The last ones are remembered, as when they are written. Raises `Malformed`."""
    version, *fields = cbor.array(content, MAX_META, 1 + len(Meta.__slots__))
    kinds = (str, bytes, bytes, str, bytes, bytes, bytes, bytes, str)
    if not _is_one(version) or any(type(value) is not kind for value, kind in zip(fields, kinds, strict=True)):
        raise Malformed("malformed.field", "not an audit entry's meta")
    found = Meta(*fields)
    if found.event not in EVENTS:
        raise Malformed("malformed.field", "unknown event")
    return found


def parse_detail(content: bytes) -> Detail:
    """Raises `Malformed`."""
    version, exchange, grant, subject, documents = cbor.array(content, MAX_DETAIL, 5)
    if not isinstance(documents, tuple):
        raise Malformed("malformed.field", "not an audit entry's detail")
    if not _is_one(version) or any(type(value) is not bytes for value in (exchange, grant, subject, *documents)):
        raise Malformed("malformed.field", "not an audit entry's detail")
    return Detail(exchange, grant, subject, tuple(documents))


def _is_one(version: cbor.Value) -> bool:
    return type(version) is int and version == 1  # True equals 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An audit entry with its openings; ``time_ms`` is Unix ms. Plain entries have no keys and commit to nothing."""

    index: int
    time_ms: int
    meta_key: bytes
    meta: bytes
    detail_key: bytes
    detail: bytes

    @property
    def leaf(self) -> bytes:
        """``magic || index || time || C_meta || C_detail``, 95 bytes: what the tree hashes."""
        return leaf(self.index, self.time_ms, meta_commitment(self), detail_commitment(self))

    @property
    def leaf_hash(self) -> bytes:
        return merkle.leaf_hash(self.leaf)


def leaf(index: int, time_ms: int, c_meta: bytes, c_detail: bytes) -> bytes:
    """The leaf of an entry whose contents are not at hand, from their commitments."""
    return _ENTRY + index.to_bytes(8, "big") + time_ms.to_bytes(8, "big") + c_meta + c_detail


def leaf_hash(index: int, time_ms: int, meta_key: bytes, meta: bytes, detail_key: bytes, detail: bytes) -> bytes:
    """`Entry.leaf_hash` by an entry's parts, for whoever computes very many: half of what an `Entry` costs."""
    if len(meta_key) != 32 or len(detail_key) != 32:
        return Entry(index, time_ms, meta_key, meta, detail_key, detail).leaf_hash
    c_meta = sha256(meta_key.translate(_INNER) + _INNER_META + meta).digest()
    c_meta = sha256(meta_key.translate(_OUTER) + _OUTER_PAD + c_meta).digest()
    c_detail = sha256(detail_key.translate(_INNER) + _INNER_DETAIL + detail).digest()
    c_detail = sha256(detail_key.translate(_OUTER) + _OUTER_PAD + c_detail).digest()
    return sha256(_LEAF + _PLACE(index, time_ms) + c_meta + c_detail).digest()


def meta_commitment(one: Entry) -> bytes:
    return commit(one.meta_key, _META, one.meta)


def detail_commitment(one: Entry) -> bytes:
    return commit(one.detail_key, _DETAIL, one.detail)


@dataclass(frozen=True, slots=True)
class Erased:
    """An entry whose detail and its key were destroyed: the commitment stays, so that every proof still holds."""

    index: int
    time_ms: int
    meta_key: bytes
    meta: bytes
    detail_commitment: bytes

    @property
    def leaf(self) -> bytes:
        """As `Entry.leaf`."""
        head = _ENTRY + self.index.to_bytes(8, "big") + self.time_ms.to_bytes(8, "big")
        return head + commit(self.meta_key, _META, self.meta) + self.detail_commitment

    @property
    def leaf_hash(self) -> bytes:
        return merkle.leaf_hash(self.leaf)


def erased(one: Entry) -> Erased:
    """What stays of an entry."""
    return Erased(one.index, one.time_ms, one.meta_key, one.meta, commit(one.detail_key, _DETAIL, one.detail))


def entry(index: int, time_ms: int, meta: bytes, detail: bytes) -> Entry:
    """A new entry under fresh keys."""
    keys = os.urandom(64)
    return Entry(index, time_ms, keys[:32], meta, keys[32:], detail)


def commit(key: bytes, label: bytes, content: bytes) -> bytes:
    """``HMAC-SHA256(key, label || content)``: hiding while the key is secret, binding always."""
    if len(key) != 32:
        return hmac.digest(key, label + content, "sha256")
    # RFC 2104 by hand: OpenSSL 3 looks HMAC up for each call, which costs more than the two hashes of a short content.
    inner = sha256(key.translate(_INNER) + _INNER_PAD + label + content).digest()
    return sha256(key.translate(_OUTER) + _OUTER_PAD + inner).digest()


def statement_leaf(index: int, time_ms: int, document: bytes) -> bytes:
    """A plain leaf: key statements stand in the log for all to read (DESIGN 4.4)."""
    return _STATEMENT + index.to_bytes(8, "big") + time_ms.to_bytes(8, "big") + document


@dataclass(frozen=True, slots=True)
class Head:
    """A tree head that this party verified: never goes back."""

    size: int = 0
    root: bytes = merkle.EMPTY


@dataclass(frozen=True, slots=True)
class LogProof:
    """One frame's proof: a signed checkpoint, the leaves it is about, and consistency with the receiver's head."""

    note: bytes
    leaves: Range
    known_size: int
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """Leaves that the log's key signed, in a tree that extends (or is extended by) the head we had."""

    checkpoint: Checkpoint
    leaves: Range

    def head_after(self, head: Head) -> Head:
        """The larger of both; their consistency was proven."""
        return head if head.size >= self.checkpoint.size else Head(self.checkpoint.size, self.checkpoint.root)

    def check_entry(self, one: Entry) -> None:
        """``one`` is the leaf at its index. Raises `NotAuthentic` (receipt.invalid)."""
        place = one.index - self.leaves.begin
        if not 0 <= place < len(self.leaves.leaves):
            raise NotAuthentic("receipt.invalid", "the entry is outside the proven range")
        if not hmac.compare_digest(self.leaves.leaves[place], one.leaf_hash):
            raise NotAuthentic("receipt.invalid", "the entry is not the leaf at its index")


def verify_proof(proof: LogProof, head: Head, log_key: VerifierKey) -> Proven:
    """Check a frame's proof against the pinned log key (its note verifier key) and our own last head.

    1. The checkpoint's signature. 2. The range recomputes its root. 3. The older of the two trees is a prefix of
    the newer. Raises `Malformed`, `NotAuthentic` (log.signature, receipt.invalid, log.inconsistent).
    """
    signed = checkpoint.verify(proof.note, log_key)
    ranges.verify_range(proof.leaves, signed.size, signed.root)
    check_consistency(head, Head(signed.size, signed.root), proof.known_size, proof.consistency)
    return Proven(signed, proof.leaves)


def check_consistency(head: Head, signed: Head, known_size: int, consistency: tuple[bytes, ...]) -> None:
    """Raises `NotAuthentic` (log.inconsistent) unless one of the trees is a prefix of the other."""
    if head.size == 0:
        return
    if known_size != head.size:
        raise NotAuthentic("log.inconsistent", "the proof does not start at our head")
    old, new = sorted((head, signed), key=lambda h: h.size)
    merkle.verify_consistency(old.size, new.size, old.root, new.root, consistency)
