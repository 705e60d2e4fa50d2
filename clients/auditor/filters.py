"""A search as people type it, on a command line or in the address of a page, and as a `Query`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from clients.config import Pin
from zhifu.errors import CATALOGUE, Malformed
from zhifu.presentation import PURPOSES
from zhifu.receipt import EVENTS
from zhifu.trail import OUTCOMES, Query

NAMES: Final = (
    "since", "until", "event", "party", "actor", "counterparty", "purpose", "outcome", "reason", "policy", "unit",
    "about", "entry",
)  # fmt: skip
Given = Mapping[str, Sequence[str]]


def parse(given: Given, pins: Mapping[bytes, Pin]) -> Query:
    """The query of ``{filter: values}``; empty values do not count. Raises `Malformed` (usage.argument)."""
    values = {name: [one.strip() for one in given.get(name, ()) if one.strip()] for name in NAMES}
    try:
        return Query(
            since_ms=_time(values["since"]),
            until_ms=_time(values["until"]),
            events=_words(values["event"], EVENTS, "event"),
            party=_party(values["party"], pins),
            actor=_party(values["actor"], pins),
            counterparty=_party(values["counterparty"], pins),
            purposes=_words(values["purpose"], PURPOSES, "purpose"),
            outcomes=_words(values["outcome"], OUTCOMES, "outcome"),
            reasons=_words(values["reason"], CATALOGUE, "reason"),
            policy=_hash(values["policy"]),
            unit=_one(values["unit"], "unit"),
            about=tuple(hash_of(one) for one in values["about"]),
            entries=tuple(map(_index, values["entry"])),
        )
    except Malformed as error:
        raise Malformed("usage.argument", error.detail) from error


def _words(values: Sequence[str], known: Sequence[str] | Mapping[str, object], what: str) -> tuple[str, ...]:
    for one in values:
        if one not in known:
            raise Malformed("usage.argument", f"no {what} {one[:64]!r}; there is: {', '.join(known)}")
    return tuple(dict.fromkeys(values))


def _party(values: Sequence[str], pins: Mapping[bytes, Pin]) -> bytes:
    """A participant by its id, the beginning of it, its role word, or its name, as far as one is meant."""
    word = _one(values, "participant")
    if not word:
        return b""
    if len(word) == 64:
        return hash_of(word)
    found = [id_ for id_, pin in pins.items() if word in (pin.role, pin.name) or _begins(id_, word)]
    if len(found) != 1:
        raise Malformed("usage.argument", f"{len(found)} pinned participants are called {word[:64]!r}")
    return found[0]


def _begins(id_: bytes, word: str) -> bool:
    return len(word) >= 6 and id_.hex().startswith(word)


def hash_of(word: str) -> bytes:
    """A hash of 32 bytes or a workflow of 16, in hex. Raises `Malformed` (usage.argument)."""
    try:
        found = bytes.fromhex(word)
    except ValueError:
        found = b""
    if len(found) not in (16, 32):
        raise Malformed("usage.argument", "a hash is 64 hex digits, a workflow 32")
    return found


def key_of(word: str) -> bytes:
    """A key, or a hash, of 32 bytes in hex. Raises `Malformed` (usage.argument)."""
    found = hash_of(word)
    if len(found) != 32:
        raise Malformed("usage.argument", "a key, or a policy's hash, is 64 hex digits")
    return found


def _hash(values: Sequence[str]) -> bytes:
    word = _one(values, "policy")
    return key_of(word) if word else b""


def _one(values: Sequence[str], what: str) -> str:
    if len(values) > 1:
        raise Malformed("usage.argument", f"one {what} at a time")
    return values[0] if values else ""


def _index(word: str) -> int:
    if not word.isdecimal() or len(word) > 15:
        raise Malformed("usage.argument", "an entry is a number")
    return int(word)


def _time(values: Sequence[str]) -> int:
    """Unix ms of a date or time of ISO 8601, in this computer's zone unless it names one."""
    word = _one(values, "time")
    if not word:
        return 0
    try:
        found = datetime.fromisoformat(word).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Malformed("usage.argument", f"{word[:64]!r} is no time like 2026-01-31T08:00") from error
    return int(found.timestamp() * 1000)
