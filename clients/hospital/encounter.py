"""Encounters and patients at the desk: who is who, and the secret that ties an encounter's records to its grants.

The hospital refuses a grant whose subject is not the patient of the encounter, so a photographed code is worth
nothing (DESIGN section 5): the desk's own check of the person stands behind the binding.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

from nacl.signing import SigningKey

from clients import naming
from clients.hospital.openbill import AnyBill, head_of
from clients.store import Job, Store
from zhifu import sealed
from zhifu.bill import Bill
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, Refused
from zhifu.keys import check_signing_key, participant_id
from zhifu.statement import Attestation

ATTESTED_S: Final = 365 * 86_400
_SUBJECT: Final = "subject"
_ENCOUNTER: Final = "encounter"


def attest(
    store: Store, me: bytes, role: str, key: SigningKey, subject_key: bytes, person: str | None, now: int
) -> Envelope:
    """Attest that ``subject_key`` belongs to the person with this citizen ID, whom the desk has seen.

    With ``person`` the binding is kept, for `check_subject`. Raises `NotAuthentic` (consent.weak_key).
    """
    check_signing_key(subject_key)
    if person is not None:
        with store.transaction():
            payload = naming.name(store, "person", person)
            store.jobs.put(Job(_SUBJECT, participant_id(subject_key), "attested", payload, now * 1000))
    return Attestation(subject_key, me, role, now + ATTESTED_S).sign(key)


def check_subject(store: Store, subject: bytes, bill: AnyBill) -> None:
    """The grant's subject is the patient of this bill. Raises `Refused` (consent.subject_mismatch)."""
    bound = store.jobs.get(_SUBJECT, subject)
    expected = naming.name(store, "person", head_of(bill).certno or "")
    if bound is None or not hmac.compare_digest(bound.payload, expected):
        raise Refused("consent.subject_mismatch")


def secret(store: Store, bill: AnyBill, now: int, file: bytes = b"") -> bytes:
    """The 32-byte secret of the bill's encounter, drawn when first asked for; of an admission's, before its bill.

    ``file`` is what an open bill without a visit number is told apart by: its bytes. Raises `Malformed` (bill.syntax)
    for one without either.
    """
    head = bill.setlinfo if isinstance(bill, Bill) else bill.head
    if head.mdtrt_id:
        visit: tuple[str, ...] = (head.mdtrt_id,)
    elif isinstance(bill, Bill):
        # A file without a visit number is told apart by person, day of admission and total.
        visit = (bill.setlinfo.certno, str(head.begndate), str(bill.split.total))
    elif file:
        visit = ("file", hashlib.sha256(file).hexdigest())
    else:
        raise Malformed("bill.syntax", "setlinfo.mdtrt_id: is missing")
    return _drawn(store, _ENCOUNTER, naming.name(store, "visit", *visit), now)


def is_for(grant: Grant, secret_: bytes) -> bool:
    """Whether a grant is about the stay with this secret."""
    return hmac.compare_digest(sealed.encounter_handle(secret_, grant.recipient), grant.encounter)


def _drawn(store: Store, kind: str, place: bytes, now: int) -> bytes:
    found = store.jobs.get(kind, place)
    if found is None:
        found = Job(kind, place, "drawn", os.urandom(32), now * 1000)
        with store.transaction():
            store.jobs.put(found)
    return found.payload
