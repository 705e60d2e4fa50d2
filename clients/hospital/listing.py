"""Which settlements there are: the last ones, and those of a visit or an invoice, without reading all of them.

Each is listed once, when it is opened, under the time of that and under keyed hashes of the bill's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clients import naming
from clients.hospital import case as cases
from clients.hospital import intake
from clients.hospital.case import Case
from clients.hospital.openbill import Head, head_of
from clients.store import Job, Store
from zhifu import cbor

SETTLEMENT: Final = "settlement"
CLAIM: Final = "claim"
"""A claim after payment."""
_LISTED: Final = "listed"
_NUMBERED: Final = "numbered"
_COMPLETE: Final = bytes(32)
_MAX_BYTES: Final = 1 << 20


def put(store: Store, case: Case, head: Head) -> None:
    """List a case, in the transaction that opens it. ``head`` is its bill's."""
    kind = CLAIM if case.quick is not None else SETTLEMENT
    store.jobs.put(Job(_LISTED, case.id, kind, b"", case.started))
    if kind == SETTLEMENT:
        for place in _places(store, head.mdtrt_id, head.invono):
            store.jobs.put(Job(_NUMBERED, place, kind, cbor.encode([*_ids(store, place), case.id]), case.started))


def last(store: Store, kind: str, most: int) -> list[Case]:
    """The newest cases of a kind, the newest first."""
    return [cases.get(store, one) for one in store.jobs.newest(_LISTED, kind, most)]


def numbered(store: Store, visit: str | None, invoice: str | None, most: int) -> list[Case]:
    """The newest settlements of a visit, of an invoice, or of both, the newest first."""
    each = [_ids(store, place) for place in _places(store, visit, invoice)]
    found = [cases.get(store, one) for one in each[0] if all(one in ids for ids in each)] if each else []
    return sorted(found, key=lambda case: case.started, reverse=True)[:most]


def complete(store: Store) -> None:
    """List what an earlier version opened without: once, when a node starts."""
    if store.jobs.get(_NUMBERED, _COMPLETE) is not None:
        return
    with store.transaction():
        for case in cases.every(store):
            if store.jobs.get(_LISTED, case.id) is None:
                put(store, case, head_of(intake.open_bill(case.bill)))
        store.jobs.put(Job(_NUMBERED, _COMPLETE, "complete", b"", 0))


def _places(store: Store, visit: str | None, invoice: str | None) -> Iterator[bytes]:
    for word, number in (("visit", visit), ("invoice", invoice)):
        if number:
            yield naming.name(store, word, number)


def _ids(store: Store, place: bytes) -> list[bytes]:
    job = store.jobs.get(_NUMBERED, place)
    return [] if job is None else list(cbor.decode(job.payload, _MAX_BYTES))
