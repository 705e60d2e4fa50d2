"""What the arithmetic of a claim goes by, kept while it waits for a person: its proposal is made anew from it.

Several claims may wait together, and others are settled meanwhile: what each of them is due depends on what of the
deductible and of the sum insured is used by the time that it is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Final

from clients.insurer import adjudicate
from clients.insurer import product as products
from clients.insurer.adjudicate import Claim
from clients.insurer.book import Policy
from clients.insurer.cover import Span
from clients.insurer.decision import left
from clients.insurer.product import Product
from zhifu import cbor
from zhifu.pricing import Split

_MAX_BYTES: Final = 65_536
_SPLIT: Final = tuple(one.name for one in fields(Split))


@dataclass(frozen=True, slots=True, repr=False)
class Facts:
    """The claim as it was shown, and the policy with its product's name and sums. No repr: it is patient data."""

    claim: Claim
    policy: Policy

    @staticmethod
    def of(claim: Claim, policy: Policy, terms: Product) -> Facts:
        """``terms`` are the policy's: of a policy that names no product, those of the node that queued it."""
        deductible = terms.parts[0].usual.deductible
        named = replace(policy, product=terms.name, deductible=deductible, sum_insured=terms.sum_insured)
        return Facts(claim, named)

    def terms(self) -> Product:
        """The policy's terms. Raises `Malformed` (usage.argument) where the product is gone."""
        return products.load(self.policy.product).with_sums(self.policy.deductible, self.policy.sum_insured)

    def propose(self, used: Mapping[str, int]) -> adjudicate.Decision:
        """What the rules give if everything that is open is settled in the patient's favour, after ``used`` (fen).

        Raises `Malformed` (usage.argument) where the product is gone.
        """
        terms, cover = self.terms(), self.policy.cover
        return adjudicate.decide(terms, self.claim, left(terms, self.claim, cover, used), cover)

    def to_bytes(self) -> bytes:
        """Strict CBOR."""
        one = self.claim
        span = [one.span.first.isoformat(), one.span.last.isoformat()] if one.span else None
        charges = None if one.charges is None else [[kind, fen] for kind, fen in one.charges.items()]
        return cbor.encode([
            [getattr(one.split, name) for name in _SPLIT], one.public_settled, one.public, one.other_in_catalog,
            one.other_out_of_catalog, list(one.diagnoses), span, one.grade, charges, self.policy.to_bytes(),
        ])  # fmt: skip

    @staticmethod
    def from_bytes(data: bytes) -> Facts:
        """Raises `Malformed` (malformed.encoding)."""
        split, settled, public, inside, outside, diagnoses, span, grade, charges, policy = cbor.decode(data, _MAX_BYTES)
        days = Span(*(date.fromisoformat(day) for day in span)) if span else None
        kinds = None if charges is None else {kind: fen for kind, fen in charges}  # noqa: C416
        found = Claim(Split(*split), settled, public, inside, outside, tuple(diagnoses), days, grade, kinds)
        return Facts(found, Policy.from_bytes(policy))
