"""Claims after payment belong to a bill: nobody is paid for what was refunded, or for what is settled anew.

A settlement that is taken back takes the claims after it with it. A bill of which a claim goes on, or was paid, is not
settled at the desk: its insurer decided without what others would pay now.
"""

from __future__ import annotations

import hashlib
from typing import Final

from clients import naming
from clients.hospital import case as cases
from clients.hospital.case import Case
from clients.store import Job, Store
from zhifu import cbor
from zhifu.errors import Refused

_KIND: Final = "claims-after"
_MAX_BYTES: Final = 1 << 16


def remember(store: Store, case: Case, now_ms: int) -> None:
    """Note a claim by its bill, in the transaction that offers it."""
    place = _place(store, case.bill)
    ids = [*_ids(store, place), case.id]
    store.jobs.put(Job(_KIND, place, "noted", cbor.encode(ids), now_ms))


def give_way(store: Store, bill: bytes, now_ms: int) -> None:
    """The bill is settled at the desk: what was offered of it lapses. In the transaction that opens the settlement.

    Raises `Refused` (exchange.state) where a claim of it goes on, or was paid.
    """
    for one in _of(store, bill):
        if one.state in (*cases.UNFINISHED, "confirmed"):
            raise Refused("exchange.state", f"claim {one.id.hex()} after payment of this bill is {one.state}")
        _lapse(store, one, now_ms)


def take_back(store: Store, settlement: Case, now_ms: int) -> dict[bytes, str]:
    """The settlement is taken back, and the claims after it: what the desk says of each that goes on or was paid.

    In the transaction that says it of the settlement. Raises `Refused` (exchange.state): one is being confirmed.
    """
    said = {}
    for one in _of(store, settlement.bill):
        if one.quick is None or one.quick.settlement != settlement.id:
            continue
        _lapse(store, one, now_ms)
        word = {"confirmed": "reverse", "reversing": "reverse", "open": "cancel", "reserved": "cancel"}.get(one.state)
        if word is not None:
            said[one.id] = cases.wish(store, one.id, word, now_ms).desk.wish
    return said


def _lapse(store: Store, one: Case, now_ms: int) -> None:
    if one.state == "offered":
        cases.put(store, cases.lapsed(one, now_ms), now_ms)


def _of(store: Store, bill: bytes) -> list[Case]:
    return [cases.get(store, one) for one in _ids(store, _place(store, bill))]


def _ids(store: Store, place: bytes) -> list[bytes]:
    job = store.jobs.get(_KIND, place)
    return [] if job is None else cbor.decode(job.payload, _MAX_BYTES)


def _place(store: Store, bill: bytes) -> bytes:
    return naming.name(store, _KIND, hashlib.sha256(bill).hexdigest())
