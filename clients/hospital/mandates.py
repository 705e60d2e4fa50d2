"""To whom the hospital presents a record, under what: statute, or a grant of the patient (DESIGN sections 4.2 and 5).

The hospital computes its ceilings from the same policy as the broker: a curious broker gains nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from clients.hospital import tokens
from clients.hospital.case import Policy
from clients.hospital.openbill import AnyBill
from clients.store import Mandate, Store
from policies.bundle import Bundle
from policies.decide import finest
from zhifu import pseudonym, sealed
from zhifu.errors import Refused
from zhifu.schema import Schema, coarser


class Mandates:
    """One hospital's, by the policy bundle in force."""

    def __init__(self, store: Store, bundle: Bundle) -> None:
        self._store = store
        self._bundle = bundle

    def statute(self, payer: bytes, encounter: bytes, kind: Schema) -> Mandate:
        """To the public payer; ``encounter`` is the secret of the stay."""
        return Mandate.by_statute(
            self._bundle.hash,
            payer,
            finest(self._bundle, "public-settlement", "public-payer", kind),
            purpose="public-settlement",
            encounter=sealed.encounter_handle(encounter, payer),
            workflow=os.urandom(16),
        )

    def granted(
        self,
        policy: Policy,
        kind: Schema,
        workflow: bytes,
        correlation: bytes,
        about: tuple[Mapping[int, bytes], AnyBill],
    ) -> Mandate:
        """To the insurer that a grant names; ``about`` is what it calls the patient by epoch, and her bill.

        Raises `Refused` (consent.exceeded): the grant does not cover records of this kind.
        """
        grant, (called, bill) = policy.read_grant, about
        granted = grant.levels(kind.hash)
        if granted is None:
            raise Refused("consent.exceeded", f"the grant does not cover {kind.name}")
        narrow = dict(policy.narrow).get(kind.hash, kind.finest)
        allowed = finest(self._bundle, grant.purpose, "insurer", kind)
        return Mandate.under_grant(
            policy.signed_grant,
            coarser(coarser(granted, allowed), narrow),
            workflow=workflow,
            correlation=correlation,
            terms=policy.sealed_terms,
            attestations=policy.attestations,
            pseudonym=called[max(called)] if called else None,
            tokens=(*pseudonym.tokens(called), *tokens.of(self._store, grant.recipient, bill)),
            ticket_hash=policy.ticket,
        )
