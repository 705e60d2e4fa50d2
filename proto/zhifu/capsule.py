"""The capsule: one recipient's shares and what else is for its eyes alone (DESIGN 4.2).

Strict CBOR ``[1, ceilings, shares, pseudonym, tokens, terms, attestations]``, sealed by HPKE to the recipient's
key. ``shares``
holds ``a[u,l] = s[u,l] XOR g[u,l]`` for the ceiling's level of each unit and every coarser one, in schema order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zhifu import cbor, leaf
from zhifu.errors import Malformed
from zhifu.keys import SUITE, KemPrivate, KemPublic
from zhifu.manifest import Manifest
from zhifu.schema import ABSENT, Schema
from zhifu.sealed import SHARE_BYTES, SealedRecord, gate_shares, leaf_labels, xor

_INFO: Final = b"zhifu/v1 capsule\0"
_TERMS: Final = b"zhifu/v1 terms\0"
MAX_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Terms:
    """What the patient agreed to that the broker never sees: strict CBOR bytes under a 32-byte salt."""

    salt: bytes
    content: bytes

    @property
    def digest(self) -> bytes:
        """``SHA-256("zhifu/v1 terms\\0" || salt || bytes)``: what the grant commits to."""
        return hashlib.sha256(_TERMS + self.salt + self.content).digest()


@dataclass(frozen=True, slots=True)
class Capsule:
    """A capsule's contents. ``shares`` maps (unit, level) to ``a[u,l]``; ``attestations`` are envelopes as bytes."""

    ceilings: bytes
    shares: dict[tuple[int, int], bytes]
    pseudonym: bytes | None
    tokens: tuple[tuple[str, bytes], ...]
    terms: Terms | None
    attestations: tuple[bytes, ...]


def places(schema: Schema, ceilings: bytes) -> list[int]:
    """Positions in schema order of the levels at or above each unit's ceiling in coarseness."""
    return [i for i, (u, rank) in enumerate(schema.leaves) if ceilings[u] != ABSENT and rank >= ceilings[u]]


def own_shares(record: SealedRecord, ceilings: bytes, root: bytes) -> dict[tuple[int, int], bytes]:
    """``a[u,l]`` for every level that ``ceilings`` allow; ``root`` is the presentation's G."""
    schema, rid = record.manifest.schema, record.manifest.rid
    g, wanted = gate_shares(root, schema), places(schema, ceilings)
    labels = leaf_labels(schema.leaves)
    secrets = leaf.secrets(record.key, rid, [labels[i] for i in wanted])
    return {schema.leaves[i]: xor(s, g[i]) for i, s in zip(wanted, secrets, strict=True)}


def info(rid: bytes, manifest_hash: bytes, sender: bytes, recipient_key_id: bytes) -> bytes:
    """HPKE info: binds the capsule to its record, sender and key (`cryptography` has no aad argument)."""
    return _INFO + bytes([SUITE]) + rid + manifest_hash + sender + recipient_key_id


def seal(capsule: Capsule, key: KemPublic, rid: bytes, manifest_hash: bytes, sender: bytes) -> bytes:
    """The sealed capsule for the holder of ``key``."""
    content = cbor.encode(
        [
            1,
            capsule.ceilings,
            b"".join(capsule.shares.values()),
            capsule.pseudonym,
            [list(token) for token in capsule.tokens],
            [capsule.terms.salt, capsule.terms.content] if capsule.terms else None,
            list(capsule.attestations),
        ]
    )
    return key.seal(content, info(rid, manifest_hash, sender, key.id))


def open_capsule(sealed: bytes, key: KemPrivate, manifest: Manifest, manifest_hash: bytes, sender: bytes) -> Capsule:
    """Open and parse. Raises `NotAuthentic` (capsule.open), `Malformed` (malformed.*, capsule.units)."""
    if len(sealed) > MAX_BYTES:
        raise Malformed("malformed.size", "the capsule is too large")
    content = key.open(sealed, info(manifest.rid, manifest_hash, sender, key.public.id))
    version, ceilings, shares, pseudonym, tokens, terms, attestations = cbor.array(content, MAX_BYTES, 7)
    if type(version) is not int or version != 1:  # True equals 1
        raise Malformed("malformed.version", "unknown capsule version")
    if not isinstance(ceilings, bytes) or not isinstance(shares, bytes):
        raise Malformed("malformed.field", "ceilings and shares are byte strings")
    manifest.schema.check_levels(ceilings)
    return Capsule(
        ceilings,
        _cut(manifest.schema, ceilings, shares),
        None if pseudonym is None else _bytes(pseudonym, 32),
        _tokens(tokens),
        None if terms is None else _terms(terms),
        tuple(_bytes(one) for one in _array(attestations)),
    )


def _cut(schema: Schema, ceilings: bytes, shares: bytes) -> dict[tuple[int, int], bytes]:
    wanted = places(schema, ceilings)
    if len(shares) != SHARE_BYTES * len(wanted):
        raise Malformed("capsule.units")
    return {schema.leaves[at]: shares[SHARE_BYTES * i : SHARE_BYTES * (i + 1)] for i, at in enumerate(wanted)}


def _array(value: cbor.Value) -> Sequence[cbor.Value]:
    if not isinstance(value, tuple) or len(value) > 64:
        raise Malformed("malformed.field", "not an array, or too long")
    return value


def _bytes(value: cbor.Value, length: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise Malformed("malformed.field", "not a byte string of the right length")
    return value


def _tokens(value: cbor.Value) -> tuple[tuple[str, bytes], ...]:
    tokens = tuple(_token(token) for token in _array(value))
    if len(dict(tokens)) != len(tokens):
        raise Malformed("malformed.field", "two tokens of one name")
    return tokens


def _token(value: cbor.Value) -> tuple[str, bytes]:
    name, token = _array(value) if len(_array(value)) == 2 else (None, None)
    if not isinstance(name, str):
        raise Malformed("malformed.field", "not a token")
    return name, _bytes(token, 32)


def _terms(value: cbor.Value) -> Terms:
    pair = _array(value)
    if len(pair) != 2:
        raise Malformed("malformed.field", "terms are a salt and their bytes")
    return Terms(_bytes(pair[0], 32), _bytes(pair[1]))
