"""Seeded changes of valid bytes: the same seed gives the same inputs, so that a fault can be had again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

MAX_CHANGES: Final = 4
_EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF)


def mutated(random: Random, sample: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to `MAX_CHANGES` changes of ``sample``; parts of ``others`` may be put in."""
    data = sample
    for _ in range(random.randint(1, MAX_CHANGES)):
        data = random.choice(_CHANGES)(random, data, others)
    return data


def junk(random: Random, most: int = 200) -> bytes:
    """Any bytes."""
    return random.randbytes(random.randint(0, most))


def _flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _edge(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A byte that lengths, tags and signs turn on."""
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([random.choice(_EDGES)]) + data[at + 1 :]


def _insert(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.randint(1, 8)) + data[at:]


def _remove(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + data[at + random.randint(1, 40) :]


def _repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    end = at + random.randint(1, 40)
    return data[:end] + data[at:end] + data[end:]


def _cut(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not others:
        return data
    other = random.choice(others)
    at, start = random.randint(0, len(data)), random.randint(0, len(other))
    return data[:at] + other[start : start + random.randint(1, 64)] + data[at:]


_CHANGES: Final[Sequence[Callable[[Random, bytes, Sequence[bytes]], bytes]]] = (
    _flip, _flip, _edge, _insert, _remove, _repeat, _cut, _splice,
)  # fmt: skip
