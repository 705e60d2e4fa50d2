"""Scope-keyed tokens: what one recipient may know a number by that it is not shown (DESIGN 4.1, 4.7).

The same invoice handed in twice gives the same token to the same recipient, and another one to everybody else. They
travel in the recipient's capsule, which the broker cannot open, never in a leaf that is sealed once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clients import naming
from clients.hospital.openbill import AnyBill, head_of
from clients.store import Store
from zhifu.identifiers.spelling import compact

UNITS: Final = {
    "insured-number": "psn_no",
    "medical-record-number": "medcasno",
    "visit-number": "mdtrt_id",
    "invoice-number": "invono",
    "policy-number": "policy_no",
}
"""The units whose numbers have a token, and the field of a bill that each is made from."""


@dataclass(frozen=True, slots=True, repr=False)
class Called:
    """What one recipient may know a patient and her numbers by: pseudonyms by epoch, tokens by unit. No repr."""

    pseudonyms: Mapping[int, bytes]
    numbers: tuple[tuple[str, bytes], ...] = ()


def of(store: Store, recipient: bytes, bill: AnyBill) -> tuple[tuple[str, bytes], ...]:
    """(unit, 32 bytes) for each number that the bill has, however it is spelled."""
    head = head_of(bill)
    numbers = {unit: getattr(head, field) for unit, field in UNITS.items()}
    return tuple(
        (unit, naming.name(store, "token", recipient.hex(), unit, compact(number)))
        for unit, number in numbers.items()
        if number is not None
    )
