"""A mandate: to whom a sealed record is presented, for what, and on what basis. What a presentation is made from.

It is kept, wrapped, beside the presentation, so that one which outlived its time can be made anew from the same record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from zhifu import cbor, consent, envelope
from zhifu.capsule import Terms
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Malformed
from zhifu.keys import participant_id
from zhifu.presentation import Presentation
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT, BASIS_KIND_STATUTE

DAY_S: Final = 86_400
_MAX_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """Everything about a presentation that its record does not say.

    ``ceilings`` is one byte a unit, 0xff absent. ``lifetime_s`` is how long one presentation lives, at most a day;
    ``until`` (Unix s) is how long the node makes a new one where the last outlived its time without reaching the
    recipient: 0 for as long as the grant stands, or 30 days where there is none. ``recipient_key`` and ``wallet_key``
    are a patient's, who has no key statement: the subject key that signs and the X25519 key of her grant.
    """

    recipient: bytes
    purpose: str
    basis_kind: signed_pb2.BasisKind
    basis: bytes
    encounter: bytes
    ceilings: bytes
    workflow: bytes
    correlation: bytes
    in_reply_to: bytes = b""
    ticket_hash: bytes = b""
    grant: Envelope | None = field(default=None, repr=False)
    pseudonym: bytes | None = field(default=None, repr=False)
    tokens: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    terms: Terms | None = field(default=None, repr=False)
    attestations: tuple[bytes, ...] = field(default=(), repr=False)
    recipient_key: bytes = b""
    wallet_key: bytes = b""
    lifetime_s: int = DAY_S
    until: int = 0

    def __post_init__(self) -> None:
        if self.recipient_key and participant_id(self.recipient_key) != self.recipient:
            raise Malformed("malformed.field", "recipient_key is not the recipient's")

    @staticmethod
    def under_grant(
        grant: Envelope,
        ceilings: bytes,
        *,
        workflow: bytes,
        terms: Terms,
        attestations: Sequence[bytes],
        pseudonym: bytes | None = None,
        tokens: Sequence[tuple[str, bytes]] = (),
        correlation: bytes = b"",
        ticket_hash: bytes = b"",
        lifetime_s: int = DAY_S,
        until: int = 0,
    ) -> Mandate:
        """To the recipient that ``grant`` names. Raises what `zhifu.consent.verify_grant` raises."""
        read = consent.verify_grant(grant)
        return Mandate(
            recipient=read.recipient,
            purpose=read.purpose,
            basis_kind=BASIS_KIND_GRANT,
            basis=consent.hash_of(grant.payload),
            encounter=read.encounter,
            ceilings=ceilings,
            workflow=workflow,
            correlation=correlation or os.urandom(16),
            ticket_hash=ticket_hash,
            grant=grant,
            pseudonym=pseudonym,
            tokens=tuple(tokens),
            terms=terms,
            attestations=tuple(attestations),
            lifetime_s=lifetime_s,
            until=until or read.expiry,
        )

    @staticmethod
    def by_statute(
        policy_hash: bytes,
        recipient: bytes,
        ceilings: bytes,
        *,
        purpose: str,
        encounter: bytes,
        workflow: bytes,
        correlation: bytes = b"",
        pseudonym: bytes | None = None,
        lifetime_s: int = DAY_S,
        until: int = 0,
    ) -> Mandate:
        """To ``recipient`` because a policy says so; ``encounter`` is the 16-byte handle made for it."""
        return Mandate(
            recipient=recipient,
            purpose=purpose,
            basis_kind=BASIS_KIND_STATUTE,
            basis=policy_hash,
            encounter=encounter,
            ceilings=ceilings,
            workflow=workflow,
            correlation=correlation or os.urandom(16),
            pseudonym=pseudonym,
            lifetime_s=lifetime_s,
            until=until,
        )

    @staticmethod
    def answering(asked: Presentation, asked_hash: bytes, ceilings: bytes, *, lifetime_s: int = DAY_S) -> Mandate:
        """Back to who presented ``asked`` to us; its hash is the basis (DESIGN 4.3)."""
        return _reply(asked, asked_hash, ceilings, asked.sender, asked.purpose, lifetime_s)

    @staticmethod
    def to_patient(asked: Presentation, asked_hash: bytes, ceilings: bytes, grant: Grant) -> Mandate:
        """A statement to the patient, on the strength of ``asked``, an exchange under her ``grant``."""
        reply = _reply(asked, asked_hash, ceilings, grant.subject, "statement", DAY_S)
        keys = {"recipient_key": grant.subject_key, "wallet_key": grant.wallet_key}
        return Mandate(**{one.name: getattr(reply, one.name) for one in fields(reply)} | keys)

    @staticmethod
    def own_record(
        policy_hash: bytes, keys: tuple[bytes, bytes], ceilings: bytes, *, encounter: bytes, until: int
    ) -> Mandate:
        """To a patient, of her own care, by statute; ``keys`` are her subject key and her wallet's X25519 key."""
        subject_key, wallet_key = keys
        shown = Mandate.by_statute(
            policy_hash,
            participant_id(subject_key),
            ceilings,
            purpose="statement",
            encounter=encounter,
            workflow=os.urandom(16),
            until=until,
        )
        return replace(shown, recipient_key=subject_key, wallet_key=wallet_key)

    @property
    def subject(self) -> bytes:
        """The id of the patient's key in the grant, empty where there is none."""
        return consent.verify_grant(self.grant).subject if self.grant else b""

    def to_bytes(self) -> bytes:
        """Strict CBOR of every field, in order."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain["basis_kind"] = int(self.basis_kind)
        plain["grant"] = self.grant.to_bytes() if self.grant else None
        plain["terms"] = [self.terms.salt, self.terms.content] if self.terms else None
        return cbor.encode([1, *plain.values()])

    @staticmethod
    def from_bytes(data: bytes) -> Mandate:
        """Inverse of `to_bytes`. Raises `Malformed`."""
        names = [one.name for one in fields(Mandate)]
        _, *values = cbor.array(data, _MAX_BYTES, 1 + len(names))
        plain = dict(zip(names, values, strict=True))
        plain["basis_kind"] = signed_pb2.BasisKind.ValueType(plain["basis_kind"])
        if plain["grant"] is not None:
            plain["grant"] = envelope.from_bytes(envelope.GRANT, plain["grant"])
        if plain["terms"] is not None:
            plain["terms"] = Terms(*plain["terms"])
        return Mandate(**plain)


def _reply(
    asked: Presentation, asked_hash: bytes, ceilings: bytes, recipient: bytes, purpose: str, lifetime_s: int
) -> Mandate:
    return Mandate(
        recipient=recipient,
        purpose=purpose,
        basis_kind=BASIS_KIND_ANSWER,
        basis=asked_hash,
        encounter=asked.encounter,
        ceilings=ceilings,
        workflow=asked.workflow,
        correlation=asked.correlation,
        in_reply_to=asked_hash,
        lifetime_s=lifetime_s,
    )
