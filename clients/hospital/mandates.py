"""To whom the hospital presents a record, under what: statute, or a grant of the patient (DESIGN sections 4.2 and 5).

The hospital computes its ceilings from the same policy as the broker: a curious broker gains nothing more.
"""

from __future__ import annotations

import os

from clients.hospital.case import Policy
from clients.hospital.tokens import Called
from clients.store import Mandate
from policies.bundle import Bundle
from policies.decide import finest
from zhifu import pseudonym, sealed
from zhifu.errors import Refused
from zhifu.schema import Schema, coarser


class Mandates:
    """One hospital's, by the policy bundle in force."""

    def __init__(self, bundle: Bundle) -> None:
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
        called: Called,
    ) -> Mandate:
        """To the insurer that a grant names, which knows the patient as ``called``.

        Raises `Refused` (consent.exceeded): the grant does not cover records of this kind.
        """
        grant, names = policy.read_grant, called.pseudonyms
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
            pseudonym=names[max(names)] if names else None,
            tokens=(*pseudonym.tokens(names), *called.numbers),
            ticket_hash=policy.ticket,
        )
