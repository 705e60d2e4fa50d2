"""What the hospital calls a patient towards an insurer: evaluated once for each subject key and epoch, then kept.

The service sees a blinded element and learns neither who the patient is nor what the insurer will call her (DESIGN
4.5). While two epochs are announced the capsule carries both pseudonyms, so that the insurer can link either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from clients.hospital import tokens
from clients.hospital.openbill import AnyBill, head_of
from clients.hospital.tokens import Called
from clients.store import Store
from zhifu import pseudonym


class Service(Protocol):
    """What is needed of the pseudonym service (`clients.pseudonym_service`)."""

    async def keys(self, recipient: bytes) -> dict[int, bytes]:
        """The announced public keys by epoch. Raises `Refused` (pseudonym.epoch, unavailable.*), `NotAuthentic`."""
        ...

    async def evaluate(self, recipient: bytes, epoch: int, identifiers: Sequence[bytes]) -> list[bytes]:
        """Pseudonyms, 32 bytes each. Raises `Refused`, `NotAuthentic` (pseudonym.proof), `Malformed`."""
        ...


class Pseudonyms:
    """One hospital's patients as its insurers call them."""

    def __init__(self, store: Store, service: Service) -> None:
        self._store = store
        self._service = service

    async def called(self, recipient: bytes, subject: bytes, bill: AnyBill) -> Called:
        """What ``recipient`` may know the bill's patient and her numbers by. Raises as `of`."""
        return Called(await self.of(recipient, subject, bill), tokens.of(self._store, recipient, bill))

    async def of(self, recipient: bytes, subject: bytes, bill: AnyBill) -> dict[int, bytes]:
        """The pseudonyms of the bill's patient for ``recipient`` by epoch, one for each that is announced.

        None where the bill does not say who she is.

        ``subject`` is the id of the patient's key for this recipient, which the desk bound to the bill's person
        (`clients.hospital.encounter.check_subject`). Durable on return. Raises `Malformed` (pseudonym.identifier),
        `Refused` (pseudonym.*, policy.denied, unavailable.*), `NotAuthentic` (pseudonym.*).
        """
        head = head_of(bill)
        if head.psn_cert_type is None or head.certno is None:
            return {}
        person = pseudonym.identifier(head.psn_cert_type, head.certno)
        listed = await self._service.keys(recipient)
        known = self._store.pseudonyms.given(recipient, subject)
        for epoch in listed.keys() - known.keys():
            (known[epoch],) = await self._service.evaluate(recipient, epoch, [person])
            with self._store.transaction():
                self._store.pseudonyms.give(recipient, subject, {epoch: known[epoch]})
        return {epoch: known[epoch] for epoch in sorted(listed)}
