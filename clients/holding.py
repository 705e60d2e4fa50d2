"""A legal hold on what a node keeps: while it stands, neither a time that is over nor a revocation erases.

It is the organisation's own duty (a court, a supervisor), placed and released by whoever runs the node, and written
down with its basis. A patient who revokes is told that the record is kept, and why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from clients.store import Job, Store
from clients.store.jobs import ALL, HOLD, PLACED
from zhifu import cbor
from zhifu.errors import Malformed, Refused

RELEASED: Final = "released"
REASON: Final = "legal.hold"
"""What a patient reads of a record that is kept for this."""
_MAX_BASIS: Final = 64
_MAX_BYTES: Final = 1024
_log = logging.getLogger("zhifu.holding")


@dataclass(frozen=True, slots=True)
class Hold:
    """``target`` is the hash of an exchange, or of a parcel; ``since_ms`` Unix ms of when it got its state."""

    target: bytes
    state: str
    basis: str
    since_ms: int


def place(store: Store, target: bytes, basis: str, now_ms: int) -> Hold:
    """Durable at once. ``basis`` is a short code, never a name.

    Raises `Malformed` (usage.argument), `Refused` (exchange.unknown): nothing of that hash is here, or is left.
    """
    if not 1 <= len(basis) <= _MAX_BASIS or not (basis.isascii() and basis.isprintable()):
        raise Malformed("usage.argument", f"a basis is a code of at most {_MAX_BASIS} characters")
    if not _is_here(store, target):
        raise Refused("exchange.unknown", "nothing of this hash is kept here")
    return _put(store, Hold(target, PLACED, basis, now_ms))


def release(store: Store, target: bytes, basis: str, now_ms: int) -> Hold:
    """What its time is over for, or was revoked meanwhile (`clients.deletion.resume`), goes at the next housekeeping.

    Raises `Refused` (exchange.state) where no hold stands.
    """
    if not is_held(store, target):
        raise Refused("exchange.state", "no hold stands on it")
    return _put(store, Hold(target, RELEASED, basis, now_ms))


def is_held(store: Store, target: bytes) -> bool:
    found = store.jobs.get(HOLD, target)
    return found is not None and found.state == PLACED


def released(store: Store) -> list[bytes]:
    """What a hold stood on."""
    return [target for target, _ in store.jobs.states(HOLD, RELEASED)]


def every(store: Store) -> list[Hold]:
    """Those that stand and those that were released, the longest unchanged first."""
    return [_read(job) for job in store.jobs.find(HOLD, limit=ALL)]


def _is_here(store: Store, target: bytes) -> bool:
    stored, parcel = store.incoming.get(target), store.jobs.get("parcel", target)
    came = stored is not None and stored.opened is not None
    return came or (parcel is not None and parcel.state == "taken") or store.outgoing.get(target) is not None


def _put(store: Store, one: Hold) -> Hold:
    with store.transaction():
        store.jobs.put(Job(HOLD, one.target, one.state, cbor.encode([one.basis]), one.since_ms))
    _log.info("hold", extra={"about": {"exchange": one.target, "state": one.state, "basis": one.basis}})
    return one


def _read(job: Job) -> Hold:
    (basis,) = cbor.array(job.payload, _MAX_BYTES, 1)
    return Hold(job.id, job.state, basis, job.updated)
