"""A cashier's scan: from a code to the grant, ticket and workflow that a settlement runs with (DESIGN 5).

The order matters: whose stay it is comes first, so that a code that was photographed is refused before anything of it
is used up, and the patient can still show hers. The workflow that a ticket is bound to is made from ticket and bill: a
desk that died after the redemption scans the same code for the same bill, and goes on where it was.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Final

from clients import naming
from clients.code_service import CodeService, Fetched
from clients.desk import Consent
from clients.hospital import coordination, encounter, request, stopped
from clients.hospital.consented import Consented
from clients.store import Job, Store
from zhifu import cbor, consent, envelope, ticket
from zhifu.bill import Bill
from zhifu.capsule import Terms
from zhifu.errors import Refused
from zhifu.ticket import Code

_KEPT: Final = "consent"
_ONLINE: Final = "online-code"


class Codes:
    """One hospital's. ``clock_ms`` goes by the broker's."""

    def __init__(self, store: Store, service: CodeService, hospital: bytes, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._service = service
        self._hospital = hospital
        self._clock_ms = clock_ms

    async def redeem(self, text: str, bill: Bill) -> list[Consented]:
        """What the code shown by the patient of ``bill`` pays with: those of its grants that are for this stay.

        Raises `Refused` (ticket.*, consent.*), `NotAuthentic`, `Malformed` (malformed.*).
        """
        code = await self._read(text)
        if not hmac.compare_digest(code.hospital, self._hospital):
            raise Refused("ticket.hospital")
        found = [await self._grant(digest) for digest, _ in code.signed]
        for one in found:
            encounter.check_subject(self._store, one.grant.grant.subject, bill)
        secret = encounter.secret(self._store, bill, self._clock_ms() // 1000)
        bound = [one for one in found if encounter.is_for(one.grant.grant, secret)]
        if not bound:
            raise Refused("consent.confirm", "the code is not for this stay: the patient is asked")
        # One insurer is asked once: of several grants to it the last that was agreed to.
        latest = {one.grant.grant.recipient: one for one in sorted(bound, key=lambda one: one.grant.grant.issued_at)}
        for one in latest.values():
            stopped.check(self._store, consent.hash_of(one.grant.signed.payload))
            request.terms(self._store, one.grant.grant, one.terms)
        about = hashlib.sha256(repr(astuple(bill)).encode()).hexdigest()
        return [await self._bind(code, one, about) for one in latest.values()]

    async def _bind(self, code: Code, one: _Held, about: str) -> Consented:
        """Redeem one ticket for a workflow of its own: two insurers have nothing in common.

        The broker says whether the code is in time: one that is bound to this workflow goes on for longer than that.
        """
        signed = code.envelope(consent.hash_of(one.grant.signed.payload), one.grant.grant)
        ticket_hash = consent.hash_of(signed.payload)
        workflow = naming.name(self._store, "workflow", ticket_hash.hex(), about)[:16]
        await self._service.redeem(signed, workflow)
        return Consented(coordination.USUAL, one.grant.signed, one.grant.attestations, one.terms, ticket_hash, workflow)

    async def _read(self, text: str) -> Code:
        text = "".join(text.split())
        return ticket.parse_text(text) if text.startswith(ticket.PREFIX) else await self._online(text)

    async def _online(self, digits: str) -> Code:
        """The broker forgets an online code sooner than its tickets end: what it stood for is kept here as long."""
        place, now_ms = naming.name(self._store, _ONLINE, ticket.check_digits(digits)), self._clock_ms()
        kept = self._store.jobs.get(_ONLINE, place)
        if kept is not None and now_ms - kept.updated <= 1000 * ticket.REUSE_S:
            return ticket.parse(kept.payload)
        code = await self._service.fetch(digits)
        with self._store.transaction():
            for job in self._store.jobs.find(_ONLINE):
                if now_ms - job.updated > 1000 * ticket.REUSE_S:
                    self._store.jobs.erase(_ONLINE, job.id)
            self._store.jobs.put(Job(_ONLINE, place, "fetched", code.to_bytes(), now_ms))
        return code

    async def _grant(self, grant_hash: bytes) -> _Held:
        """As the patient left it at the desk, or else as the broker holds it for this hospital."""
        job = self._store.jobs.get(_KEPT, grant_hash)
        if job is None:
            return _Held(await self._service.grant(grant_hash), None)
        return _held(job.payload)


@dataclass(frozen=True, slots=True)
class _Held:
    grant: Fetched
    terms: Terms | None


def keep(store: Store, shown: Consent, now_ms: int) -> bytes:
    """Keep a consent that the patient leaves at the desk for her stay: the grant's hash. Raises `NotAuthentic`."""
    consent.verify_grant(shown.grant)
    terms = [shown.terms.salt, shown.terms.content] if shown.terms else None
    payload = cbor.encode([shown.grant.to_bytes(), [one.to_bytes() for one in shown.attestations], terms])
    digest = consent.hash_of(shown.grant.payload)
    with store.transaction():
        store.jobs.put(Job(_KEPT, digest, "kept", payload, now_ms))
    return digest


def _held(payload: bytes) -> _Held:
    grant, attested, terms = cbor.array(payload, 1 << 20, 3)
    signed = envelope.from_bytes(envelope.GRANT, grant)
    attestations = tuple(envelope.from_bytes(envelope.ATTESTATION, one) for one in attested)
    return _Held(Fetched(signed, consent.verify_grant(signed), attestations), Terms(*terms) if terms else None)
