"""Grants in force, as each delivery asks once more before its shares are derived (DESIGN 4.3).

Remembered until the log may say otherwise (`Log.generation`), and only where nobody else has written to it since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from broker.audit import Log
from broker.consent import Consent
from broker.store import tables
from broker.store.interface import Reader
from zhifu.errors import Refused
from zhifu.v1 import signed_pb2

Grants = Callable[[bytes], signed_pb2.Envelope]
"""A grant by its hash, if it still bears a delivery. Raises `Refused` (consent.*)."""
_CACHED: Final = 16_384


class _Found(NamedTuple):
    signed: signed_pb2.Envelope
    expiry: int


class InForce:
    """Asks committed state; one for each broker process."""

    def __init__(self, log: Log, reader: Reader) -> None:
        self._log = log
        self._reader = reader
        self._found: dict[bytes, _Found] = {}
        self._generation = -1

    def now(self, now: int) -> Grants:
        """What stands at ``now`` (Unix s), to be asked before anything else is awaited."""
        remembered = self._log.is_newest()
        if self._log.generation != self._generation or len(self._found) >= _CACHED:
            self._found.clear()
            self._generation = self._log.generation

        def grant(digest: bytes) -> signed_pb2.Envelope:
            found = self._found.get(digest) if remembered else None
            if found is None or now > found.expiry:
                found = self._ask(digest, now)
                if remembered:
                    self._found[digest] = found
            return found.signed

        return grant

    def _ask(self, digest: bytes, now: int) -> _Found:
        """From the store. Raises `Refused` (consent.*): refusals are never remembered."""
        row = self._reader.get(tables.Grant, digest)
        if row is None:
            raise Refused("consent.unknown")
        Consent.check_status(row, self._reader, now)
        return _Found(signed_pb2.Envelope.FromString(row.envelope), row.expiry)
