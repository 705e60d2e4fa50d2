"""Ids on a node's disk that name nobody: keyed hashes of numbers that a thief could otherwise enumerate."""

from __future__ import annotations

import hmac
import os
from typing import Final

from clients.store import Store

_KIND: Final = "secret"
_ID: Final = b"names"


def name(store: Store, *parts: str) -> bytes:
    """A 32-byte id for ``parts`` (a visit number, a person and a year), the same each time on this node only."""
    return hmac.digest(_secret(store), "\0".join(parts).encode(), "sha256")


def _secret(store: Store) -> bytes:
    return store.jobs.constant(_KIND, _ID, lambda: os.urandom(32))
