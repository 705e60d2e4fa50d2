"""Parcels in the log: left by an enrolled key for an insurer that attested it, taken by it, or taken back by her."""

from __future__ import annotations

from clients.auditor.grants import Grants, one_document
from clients.auditor.participants import check_only
from zhifu import consent, envelope, parcel
from zhifu.errors import NotAuthentic, Refused
from zhifu.receipt import Detail, Meta


class Parcels:
    """Which parcels were left, by their names, at one point of the log of ``origin``: (recipient, subject)."""

    def __init__(self, origin: str, grants: Grants) -> None:
        self._origin = origin
        self._grants = grants
        self._left: dict[bytes, tuple[bytes, bytes]] = {}
        self._withdrawn: set[bytes] = set()

    def leave(self, meta: Meta, detail: Detail) -> None:
        """Raises `NotAuthentic`, `Refused` (consent.*), `Malformed`."""
        signed = one_document(parcel.PARCEL, detail)
        key = self._grants.subject_key(detail.subject)
        if key is None:
            raise NotAuthentic("consent.key_status", "the subject was not enrolled before this entry")
        shown = parcel.verify(signed, key)
        digest = parcel.hash_of(signed.payload)
        if detail.exchange != digest or detail.grant or shown.aud != self._origin or digest in self._left:
            raise NotAuthentic("log.corrupt", "the entry is about another parcel than was signed")
        check_only(meta, Meta(meta.event, recipient=shown.recipient))
        self._grants.check_attested_by(detail.subject, shown.recipient)
        self._left[digest] = (shown.recipient, detail.subject)

    def take(self, meta: Meta, detail: Detail) -> None:
        """Raises `NotAuthentic`, `Refused` (exchange.*)."""
        recipient, subject = self._found(detail)
        check_only(meta, Meta(meta.event, sender=recipient))
        if detail != Detail(exchange=detail.exchange, subject=subject):
            raise NotAuthentic("log.corrupt", "the entry names another subject than the parcel")

    def withdraw(self, meta: Meta, detail: Detail) -> None:
        """By her own revocation; of one that never was complete there is no other entry. Raises `NotAuthentic`."""
        signed = one_document(envelope.REVOCATION, detail)
        key = self._grants.subject_key(detail.subject)
        if key is None:
            raise NotAuthentic("consent.key_status", "the subject was not enrolled before this entry")
        said = consent.verify_revocation(signed, key, self._origin)
        known = self._left.get(detail.exchange, (meta.recipient, detail.subject))
        if said.grant_hash != detail.exchange or known != (meta.recipient, detail.subject):
            raise NotAuthentic("log.corrupt", "the revocation is about another parcel")
        check_only(meta, Meta(meta.event, recipient=meta.recipient))
        self._withdrawn.add(detail.exchange)

    def is_due(self, digest: bytes) -> tuple[bytes, bytes] | None:
        """(recipient, subject) of a parcel that was withdrawn: its recipient owes a word on erasing it."""
        return self._left.get(digest) if digest in self._withdrawn else None

    def _found(self, detail: Detail) -> tuple[bytes, bytes]:
        found = self._left.get(detail.exchange)
        if found is None or detail.exchange in self._withdrawn:
            raise Refused("exchange.unknown", "no such parcel was left before this entry")
        return found
