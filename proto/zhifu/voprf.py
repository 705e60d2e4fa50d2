"""The verifiable oblivious PRF of RFC 9497, ristretto255-SHA512: a client gets F(key, input), the server nothing.

The client blinds its inputs, the server evaluates them with its key and proves, once for the whole batch, that it
used the key whose public half the client pinned; the client checks that and takes the blind off.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from zhifu import ristretto
from zhifu.errors import Malformed, NotAuthentic
from zhifu.ristretto import IDENTITY, SCALAR_BYTES, add, hash_to_scalar, multiply, multiply_base

MAX_BATCH: Final = 256
PROOF_BYTES: Final = 2 * SCALAR_BYTES
OUTPUT_BYTES: Final = 64
_CONTEXT: Final = b"OPRFV1-\x01-ristretto255-SHA512"
_HASH_TO_GROUP: Final = b"HashToGroup-" + _CONTEXT
_HASH_TO_SCALAR: Final = b"HashToScalar-" + _CONTEXT
_DERIVE: Final = b"DeriveKeyPair" + _CONTEXT
_SEED: Final = b"Seed-" + _CONTEXT
_ONE: Final = (1).to_bytes(SCALAR_BYTES, "little")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A server's key: a scalar and ``secret * G``, 32 bytes each."""

    secret: bytes = field(repr=False)
    public: bytes

    @staticmethod
    def derive(seed: bytes, info: bytes) -> KeyPair:
        """DeriveKeyPair of a 32-byte secret ``seed`` and public ``info`` (RFC 9497, section 3.2.1)."""
        given = seed + len(info).to_bytes(2, "big") + info
        for counter in range(256):
            secret = hash_to_scalar(given + bytes([counter]), _DERIVE)
            if secret != bytes(SCALAR_BYTES):
                return KeyPair(secret, multiply_base(secret))
        raise Malformed("malformed.field", "no key comes of this seed")  # pragma: no cover  (chance 2^-64516)


@dataclass(frozen=True, slots=True)
class Blinded:
    """An input with its blind, which never leaves the client, and the element that does."""

    given: bytes = field(repr=False)
    blind: bytes = field(repr=False)
    element: bytes


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A server's answer: one element for each blinded one, and one proof for all."""

    elements: tuple[bytes, ...]
    proof: bytes


def blind(given: bytes, scalar: bytes | None = None) -> Blinded:
    """Blind an input of at most 65,535 bytes; ``scalar`` is drawn but in tests (RFC 9497, section 3.3.1).

    Raises `Malformed` (malformed.field) for an input that hashes to the identity, which nobody can find.
    """
    chosen = ristretto.random_scalar() if scalar is None else scalar
    point = ristretto.check_element(ristretto.hash_to_element(given, _HASH_TO_GROUP))
    return Blinded(given, chosen, multiply(chosen, point))


def blind_evaluate(key: KeyPair, blinded: Sequence[bytes], nonce: bytes | None = None) -> Evaluated:
    """Evaluate 1 to 256 elements from the wire, with one proof (RFC 9497, sections 3.3.2 and 2.2.1).

    ``nonce`` is the proof's scalar, drawn but in tests. Raises `Malformed` (malformed.size, malformed.field).
    """
    _check_count(blinded)
    for element in blinded:
        ristretto.check_element(element)
    elements = tuple(multiply(key.secret, element) for element in blinded)
    chosen = ristretto.random_scalar() if nonce is None else nonce
    first = _weighted(_weights(key.public, blinded, elements), blinded)
    second = multiply(key.secret, first)
    challenge = _challenge(key.public, first, second, multiply_base(chosen), multiply(chosen, first))
    return Evaluated(elements, challenge + ristretto.multiply_subtract(chosen, challenge, key.secret))


def finalize(blinded: Sequence[Blinded], answer: Evaluated, public: bytes) -> list[bytes]:
    """The 64-byte outputs, once the proof holds under the pinned ``public`` key (RFC 9497, section 3.3.2).

    Raises `NotAuthentic` (pseudonym.proof), `Malformed` (malformed.size, malformed.field).
    """
    _check_count(blinded)
    if len(answer.elements) != len(blinded):
        raise Malformed("malformed.size", "not one evaluated element for each blinded one")
    verify_proof(public, [one.element for one in blinded], answer)
    return [_output(one, element) for one, element in zip(blinded, answer.elements, strict=True)]


def verify_proof(public: bytes, blinded: Sequence[bytes], answer: Evaluated) -> None:
    """The same key made ``public`` of G and each evaluated element of its blinded one (RFC 9497, section 2.2.2).

    Raises `NotAuthentic` (pseudonym.proof), `Malformed` (malformed.size, malformed.field).
    """
    if len(answer.proof) != PROOF_BYTES:
        raise Malformed("malformed.size", "a proof is two scalars")
    for element in (public, *blinded, *answer.elements):
        ristretto.check_element(element)
    challenge, response = (ristretto.check_scalar(answer.proof[at : at + SCALAR_BYTES]) for at in (0, SCALAR_BYTES))
    weights = _weights(public, blinded, answer.elements)
    first, second = _weighted(weights, blinded), _weighted(weights, answer.elements)
    third = add(multiply_base(response), multiply(challenge, public))
    fourth = add(multiply(response, first), multiply(challenge, second))
    if not hmac.compare_digest(challenge, _challenge(public, first, second, third, fourth)):
        raise NotAuthentic("pseudonym.proof")


def evaluate(key: KeyPair, given: bytes) -> bytes:
    """F(key, input) by who has both (RFC 9497, section 3.3.1): nobody here, but service and recipient could."""
    point = ristretto.check_element(ristretto.hash_to_element(given, _HASH_TO_GROUP))
    return _output(Blinded(given, _ONE, point), multiply(key.secret, point))


def _check_count(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MAX_BATCH:
        raise Malformed("malformed.size", f"a batch has 1 to {MAX_BATCH} elements")


def _output(one: Blinded, evaluated: bytes) -> bytes:
    element = multiply(ristretto.invert(one.blind), evaluated)
    return hashlib.sha512(_framed(one.given) + _framed(element) + b"Finalize").digest()


def _weights(public: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes]) -> list[bytes]:
    """The scalars that fold a batch into one pair; nobody can choose elements to fit them."""
    seed = _framed(hashlib.sha512(_framed(public) + _framed(_SEED)).digest())
    return [
        hash_to_scalar(seed + i.to_bytes(2, "big") + _framed(before) + _framed(after) + b"Composite", _HASH_TO_SCALAR)
        for i, (before, after) in enumerate(zip(blinded, evaluated, strict=True))
    ]


def _weighted(weights: Sequence[bytes], elements: Sequence[bytes]) -> bytes:
    total = IDENTITY
    for weight, element in zip(weights, elements, strict=True):
        total = add(multiply(weight, element), total)
    return total


def _challenge(*elements: bytes) -> bytes:
    return hash_to_scalar(b"".join(map(_framed, elements)) + b"Challenge", _HASH_TO_SCALAR)


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part
