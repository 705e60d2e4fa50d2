"""Where a claim stands, told to the patient whose grant it rests on: sealed to her wallet, as an answer to the claim.

What another process of this node decides (``zhifu insurer``) is written down, and told by the node itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from clients.decision import money
from clients.insurer.promise import Promise
from clients.role import Draft, Transaction
from clients.store import Job, Mandate, Store
from zhifu import cbor, schema, sealed
from zhifu.cbor import Value
from zhifu.explain import Explanation
from zhifu.keys import participant_id

PROGRESS: Final = "claim-progress"
RECEIVED: Final = "received"
REVIEW: Final = "review"
WAITING: Final = "waiting"
DECIDED: Final = "decided"
PAID: Final = "paid"
REVERSED: Final = "reversed"
REPORTED: Final = "self-claim"
TOLD_S: Final = 30 * 86_400
_POLICY: Final = "policy"
_KIND: Final = "to-tell"
_UNSENT: Final = "unsent"
_MAX_BYTES: Final = 65_536
_NOBODY: Final[Mapping[str, int]] = {}


def tell(
    tx: Transaction, claim: bytes, state: str, promise: Promise, amounts: Mapping[str, int] = _NOBODY,
    clauses: Sequence[Explanation] = (), documents: Sequence[str] = (),
) -> None:  # fmt: skip
    """Queue the news within the open transaction; nothing where the claim is not kept any more."""
    addressed = _addressed(tx.store, claim, tx.now)
    if addressed is None:
        return
    encounter, mandate = addressed
    values = {
        "encounter": encounter,
        "state": state,
        "at": tx.now,
        "due": promise.due(tx.now),
        "amounts": money(amounts) or None,
        "clauses": [[one.field, one.amount, one.clause, one.reason] for one in clauses] or None,
        "documents": list(documents) or None,
    }
    tx.queue(Draft(PROGRESS, values, mandate))


def _addressed(store: Store, claim: bytes, now: int) -> tuple[Value, Mandate] | None:
    """The encounter's secret and how its patient is reached: under her grant, or by what she left with her report."""
    finest = schema.load(PROGRESS).finest
    stored = store.incoming.get(claim)
    opened = stored.opened if stored is not None else None
    if opened is not None and opened.grant is not None:
        return opened.values["encounter"], Mandate.to_patient(opened.presentation, opened.hash, finest, opened.grant)
    job, policy = store.jobs.get(REPORTED, claim), store.jobs.get(_POLICY, bytes(32))
    if job is None or policy is None:
        return None
    subject_key, wallet_key, encounter = cbor.array(job.payload, 4096, 3)
    handle = sealed.encounter_handle(encounter, participant_id(subject_key))
    keys, until = (subject_key, wallet_key), now + TOLD_S
    return encounter, Mandate.own_record(policy.payload, keys, finest, encounter=handle, until=until)


def is_reported(store: Store, claim: bytes) -> bool:
    """Whether its patient reported it herself."""
    return store.jobs.get(REPORTED, claim) is not None


def keep_policy(store: Store, policy_hash: bytes, now: int) -> None:
    """Which policy is in force at this node: what a notice to a patient rests on."""
    with store.transaction():
        store.jobs.put(Job(_POLICY, bytes(32), "in-force", policy_hash, now * 1000))


def write_down(store: Store, claim: bytes, state: str, documents: Sequence[str], now: int) -> None:
    """For the node to tell; in the open transaction."""
    payload = cbor.encode([claim, state, list(documents)])
    store.jobs.put(Job(_KIND, os.urandom(16), _UNSENT, payload, now * 1000))


def written(store: Store) -> list[tuple[Job, bytes, str, tuple[str, ...]]]:
    """What was written down and not told: (job, claim, state, documents)."""
    found = []
    for job in store.jobs.find(_KIND, _UNSENT):
        claim, state, documents = cbor.array(job.payload, _MAX_BYTES, 3)
        found.append((job, claim, state, tuple(documents)))
    return found


def told(store: Store, job: Job) -> None:
    """In the transaction that told it."""
    store.jobs.erase(job.kind, job.id)
