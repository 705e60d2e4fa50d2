"""What a patient hands in at the desk, checked before anything of her goes out under it."""

from __future__ import annotations

from dataclasses import dataclass

from clients.hospital import encounter, request, stopped, wallets
from clients.hospital.case import Policy
from clients.hospital.openbill import AnyBill, head_of
from clients.hospital.wallets import Reach
from clients.store import Store
from zhifu import consent
from zhifu.capsule import Terms
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY


@dataclass(frozen=True, slots=True)
class Consented:
    """One policy that the patient hands in at the desk: its kind, her grant, and who attested her key.

    ``terms`` are hers where she narrowed them; the rest as in `Policy`.
    """

    kind: str
    grant: Envelope
    attestations: tuple[Envelope, ...]
    terms: Terms | None = None
    ticket: bytes = b""
    workflow: bytes = b""
    narrow: tuple[tuple[bytes, bytes], ...] = ()


def policy(store: Store, one: Consented, bill: AnyBill, now: int, file: bytes = b"") -> Policy:
    """A consent that is the patient's of this very bill, answers our request and stands. ``now`` is Unix s.

    ``file`` as in `encounter.secret`. Raises `Refused` (consent.*, ticket.*), `NotAuthentic`.
    """
    grant = consent.verify_grant(one.grant)
    encounter.check_subject(store, grant.subject, bill)
    stopped.check(store, consent.hash_of(one.grant.payload))
    found = request.terms(store, grant, one.terms)
    # The grant is about this very stay: nothing leaves under one for another.
    if not encounter.is_for(grant, encounter.secret(store, bill, now, file)):
        raise Refused("consent.wrong_encounter")
    if (grant.mode == GRANT_MODE_DIRECT_PAY) != bool(one.ticket):
        raise Refused("ticket.grant" if one.ticket else "ticket.missing")
    reach = Reach(grant.subject_key, grant.wallet_key, grant.recipient)
    wallets.remember(store, head_of(bill).certno or "", reach, now)
    attested = tuple(signed.to_bytes() for signed in one.attestations)
    terms = (found.salt, found.content)
    return Policy(one.kind, one.grant.to_bytes(), attested, terms, one.ticket, one.workflow, one.narrow)
