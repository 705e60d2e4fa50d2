"""Grants that patients register: the hospital that may present one is told of it, and believes the log alone."""

from __future__ import annotations

from clients import wire
from clients.role import Parts
from zhifu import consent, envelope
from zhifu.errors import NotAuthentic
from zhifu.receipt import Proven, parse_detail, parse_meta
from zhifu.v1 import exchange_pb2

GRANTED = "granted"


def noticed(parts: Parts, notice: exchange_pb2.Notice, proven: Proven | None) -> None:
    """A grant in our name, with the entry that registered it; in the open transaction.

    Raises `NotAuthentic` (receipt.*, consent.signature), `Malformed`.
    """
    entry = wire.proven_entry(notice.entry, proven) if notice.HasField("entry") else None
    if entry is None:
        raise NotAuthentic("receipt.missing", "a grant without the entry that registered it")
    detail = parse_detail(entry.detail)
    if parse_meta(entry.meta).event != "grant.registered" or len(detail.documents) != 1:
        raise NotAuthentic("receipt.invalid", "the entry registers no grant")
    signed = envelope.from_bytes(envelope.GRANT, detail.documents[0])
    grant = consent.verify_grant(signed)
    if consent.hash_of(signed.payload) != notice.presentation_hash or grant.cnf != parts.directory.participant:
        raise NotAuthentic("receipt.invalid", "the entry is about another grant")
    parts.role.on_granted(signed, grant, parts.transaction())
