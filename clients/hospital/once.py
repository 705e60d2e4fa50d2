"""A bill is settled once: who hands the same one in again, because it got no answer, finds the settlement it opened.

Without it a hospital's own system that retries would have the public payer pay twice: a grant counts its uses, a
statute does not. A bill whose settlement failed, was cancelled or taken back is free to be settled anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from clients import naming
from clients.hospital import case as cases
from clients.hospital.case import Case
from clients.store import Job, Store
from zhifu.errors import Refused

_KIND: Final = "bill"
_STANDS: Final = (*cases.UNFINISHED, "confirmed")


def find(store: Store, asked: Case) -> Case | None:
    """The settlement of the same bill that stands, if it is the one ``asked`` for; None where there is none.

    Raises `Refused` (exchange.state): it runs with other policies, or the desk wants something else of it.
    """
    found = standing(store, asked.bill)
    if found is not None and _terms(found) != _terms(asked):
        raise Refused("exchange.state", f"settlement {found.id.hex()} of this bill is {found.state}")
    return found


def standing(store: Store, bill: bytes) -> Case | None:
    """The settlement of this very bill that goes on or was confirmed."""
    job = store.jobs.get(_KIND, _name(store, bill))
    found = cases.get(store, job.payload) if job is not None else None
    return found if found is not None and found.state in _STANDS else None


def remember(store: Store, case: Case, now_ms: int) -> None:
    """Within the transaction that opens it."""
    store.jobs.put(Job(_KIND, _name(store, case.bill), "opened", case.id, now_ms))


def _terms(case: Case) -> tuple[object, ...]:
    grants = {(one.kind, one.grant, one.narrow) for one in case.policies}
    return case.route, grants, replace(case.desk, wish="")


def _name(store: Store, bill: bytes) -> bytes:
    return naming.name(store, "bill", hashlib.sha256(bill).hexdigest())
