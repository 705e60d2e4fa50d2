"""How a patient is reached at home: the keys of her wallet, as she showed them at this hospital's own desk.

A notice to her is sealed to her wallet's X25519 key. The hospital has it from herself, beside the key that it attests,
or from a grant that she signed; never from the broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clients import naming
from clients.hospital.openbill import AnyBill, head_of
from clients.store import Job, Store
from zhifu import cbor
from zhifu.keys import Alg, check_kem_public, participant_id

_KIND: Final = "wallet"
_MOST: Final = 16
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Reach:
    """One key of a patient, for one insurer; 32 bytes each."""

    subject_key: bytes
    wallet_key: bytes
    insurer: bytes

    @property
    def subject(self) -> bytes:
        return participant_id(self.subject_key)


def remember(store: Store, person: str, reach: Reach, now: int) -> None:
    """Keep how the person with this citizen ID is reached about one insurer; the last word counts.

    Joins the open transaction, or makes one. Raises `Malformed` (malformed.field) for a key that nothing can be sealed
    to.
    """
    check_kem_public(Alg.X25519, reach.wallet_key)
    place = naming.name(store, "person", person)
    known = _read(store, place)
    if reach in known:
        return
    rest = [one for one in known if one.subject_key != reach.subject_key and one.insurer != reach.insurer]
    kept = [*rest, reach][-_MOST:]
    payload = cbor.encode([[one.subject_key, one.wallet_key, one.insurer] for one in kept])
    with store.transaction():
        store.jobs.put(Job(_KIND, place, "known", payload, now * 1000))


def of(store: Store, bill: AnyBill) -> tuple[Reach, ...]:
    """How the patient of a bill is reached, one key for each insurer; none where she never showed a wallet."""
    person = head_of(bill).certno
    return tuple(_read(store, naming.name(store, "person", person))) if person else ()


def _read(store: Store, place: bytes) -> list[Reach]:
    job = store.jobs.get(_KIND, place)
    return [] if job is None else [Reach(*row) for row in cbor.decode(job.payload, _MAX_BYTES)]
