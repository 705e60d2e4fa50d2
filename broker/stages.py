"""The stages of an exchange, as types: each is made only by the step before it (DESIGN section 2).

Submission -> Consented -> Permit | Deny -> Gated -> Recorded -> Delivery
"""

from __future__ import annotations

from dataclasses import dataclass

from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error
from zhifu.manifest import Manifest
from zhifu.presentation import Presentation
from zhifu.receipt import Entry
from zhifu.schema import Schema


@dataclass(frozen=True, slots=True)
class Submission:
    """Authentic and well-formed.

    Signed by the peer, in time, for this log, with the manifest and capsule that were signed.
    """

    hash: bytes
    envelope: Envelope
    presentation: Presentation
    manifest: Manifest
    encoded_manifest: bytes
    schema: Schema
    leaves: bytes
    capsule: bytes
    document: bytes
    """``envelope`` as it is stored, in the log and for its recipient."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not a submission: what could be read of it, and why. It is recorded as well."""

    hash: bytes
    error: Error
    presentation: Presentation | None = None
    schema: Schema | None = None
    document: bytes = b""


@dataclass(frozen=True, slots=True)
class Asked:
    """The stored exchange that an answer refers to; ``decided`` if the answer is its recipient's."""

    entry: int
    purpose: str
    schema: Schema
    decided: bool


@dataclass(frozen=True, slots=True)
class Consented:
    """A submission with the basis it may rest on; ``grant`` is None for statute and answers."""

    submission: Submission
    grant: Grant | None
    grant_hash: bytes
    subject: bytes
    asked: Asked | None


@dataclass(frozen=True, slots=True)
class Gated:
    """A permitted submission cut down to what is released: every other leaf is gone."""

    consented: Consented
    released: bytes
    leaves: bytes
    policy_hash: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A gated exchange whose audit entry has its place in the log.

    Made by `broker.audit` alone; only this is delivered.
    """

    gated: Gated
    entry: Entry


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as its sender is told; ``entry`` is the audit entry of it, if one was made."""

    hash: bytes
    error: Error
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """A retry of what was accepted before: the stored result stands."""

    hash: bytes
    entry: Entry
    released: bytes


Outcome = Recorded | Refusal | Repeated
