"""Grants that a patient stopped at the desk itself: the hospital obeys at once, whatever the broker says (DESIGN 5)."""

from __future__ import annotations

from typing import Final

from clients.store import Job, Store
from zhifu import consent
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.v1.signed_pb2 import REVOKER_UNSPECIFIED

_KIND: Final = "stopped"


def stop(store: Store, signed: Envelope, grant: Grant, grant_hash: bytes, aud: str, now: int) -> None:
    """Take the patient's own revocation from her wallet directly. Raises `NotAuthentic`, `Refused` (consent.*)."""
    said = consent.verify_revocation(signed, grant.subject_key, aud)
    if said.by != REVOKER_UNSPECIFIED or (said.grant_hash or grant_hash) != grant_hash:
        raise Refused("consent.unknown", "the revocation is about another grant")
    if said.subject not in (b"", grant.subject):
        raise Refused("consent.unknown", "the revocation is about another subject")
    with store.transaction():
        store.jobs.put(Job(_KIND, grant_hash, "stopped", signed.to_bytes(), now * 1000))


def check(store: Store, grant_hash: bytes) -> None:
    """Raises `Refused` (consent.revoked)."""
    if store.jobs.get(_KIND, grant_hash) is not None:
        raise Refused("consent.revoked", "the patient stopped it here")
