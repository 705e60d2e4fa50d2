"""Tickets and codes as state: a ticket is bound to the first workflow that redeems it, a code is a 60 s handle (DESIGN
section 5).

The broker keeps no code: only its HMAC under a pepper that lies outside the database, beside tickets that are sealed to
the hospital which the code names.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from broker.audit import Sequence
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import consent, envelope, ticket
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, Refused
from zhifu.presentation import Presentation
from zhifu.receipt import Detail, Entry, Meta
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

CODE_MS: Final = 60_000
MAX_WRONG: Final = 10
"""Wrong codes of one hospital within `CODE_MS`, before every code of its is refused."""
MAX_SEALED: Final = 4096
_MAX_LIVE: Final = 1024


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A ticket that is bound now, or was before, to this workflow."""

    until_ms: int
    entry: Entry


def redeem(
    signed: Envelope, workflow: bytes, hospital: bytes, state: Transaction, sequence: Sequence, now_ms: int
) -> Redeemed:
    """Bind a ticket to a workflow of ``hospital``; once more for the same workflow, while it lasts, changes nothing.

    Raises `Refused` (consent.*, ticket.*), `NotAuthentic` (consent.signature), `Malformed`.
    """
    row, grant = _granted(signed, hospital, state)
    digest = consent.hash_of(signed.payload)
    bound = state.get(tables.Ticket, digest)
    if bound is not None:
        if bound.workflow != workflow or now_ms > bound.until_ms:
            raise Refused("ticket.used")
        return Redeemed(bound.until_ms, sequence.entry(bound.entry, state))
    found = ticket.verify(signed, grant, row.hash)
    ticket.check_window(found.issued_at, now_ms // 1000)
    if state.find(tables.Ticket, nonce=found.nonce):
        raise Refused("ticket.used")
    meta = Meta("ticket.redeemed", sender=hospital, recipient=grant.recipient, purpose=grant.purpose)
    detail = Detail(grant=row.hash, subject=row.subject, documents=(signed.to_bytes(), workflow))
    entry = sequence.record(meta, detail, now_ms)
    until_ms = now_ms + 1000 * ticket.REUSE_S
    state.insert(tables.Ticket, [(digest, found.nonce, row.hash, workflow, until_ms, signed.to_bytes(), entry.index)])
    return Redeemed(until_ms, entry)


def _granted(signed: Envelope, hospital: bytes, state: Reader) -> tuple[tables.Grant, Grant]:
    """The grant that a ticket names, which this hospital holds and which is in force. It is verified after this."""
    row = state.get(tables.Grant, claimed_grant(signed))
    if row is None or row.cnf != hospital:
        raise Refused("consent.not_usable")
    if row.status != "active":
        raise Refused("consent.revoked")
    return row, consent.verify_grant(envelope.from_bytes(envelope.GRANT, row.envelope))


def claimed_grant(signed: Envelope) -> bytes:
    """The grant that a ticket says it is for, before its signature is checked: nothing else may be made of it."""
    # Version, suite, then field 3 with its length: a ticket has one encoding (proto/README.md, "Strict protobuf").
    if signed.payload[:6] != b"\x08\x01\x10\x01\x1a\x20":
        raise Malformed("malformed.encoding", "not a ticket")
    return signed.payload[6:38]


def check(grant: Grant, shown: Presentation, state: Reader, now_ms: int) -> None:
    """A direct-pay grant is used in the workflow that its redeemed ticket is bound to, while that lasts.

    Raises `Refused` (ticket.missing, ticket.grant, ticket.used).
    """
    if grant.mode != GRANT_MODE_DIRECT_PAY:
        if shown.ticket_hash:
            raise Refused("ticket.grant")
        return
    bound = state.get(tables.Ticket, shown.ticket_hash)
    if bound is None:
        raise Refused("ticket.missing")
    if bound.grant_hash != shown.basis:
        raise Refused("ticket.grant")
    if bound.workflow != shown.workflow or now_ms > bound.until_ms:
        raise Refused("ticket.used")


def _digest(pepper: bytes, code: str) -> bytes:
    return hmac.digest(pepper, b"zhifu/v1 code\0" + code.encode("ascii"), hashlib.sha256)


def offer(hospital: bytes, sealed: bytes, pepper: bytes, state: Transaction, now_ms: int) -> tuple[str, int]:
    """An 18-digit code for ``sealed``, and until when (Unix ms). Raises `Malformed`, `Refused`
    (unavailable.overload).
    """
    if len(hospital) != 32 or not 1 <= len(sealed) <= MAX_SEALED:
        raise Malformed("malformed.size", "a code stands for a hospital and at most 4,096 sealed bytes")
    # All live equally long, so the oldest end first: each offer clears away what ended before it.
    oldest = state.find(tables.OnlineCode, limit=_MAX_LIVE)
    over = [row.id for row in oldest if row.until_ms < now_ms]
    if over:
        state.delete_through(tables.OnlineCode, over[-1])
    if len(oldest) - len(over) >= _MAX_LIVE:
        raise Refused("unavailable.overload")
    body = f"{secrets.randbelow(10**17):017d}"
    code = body + ticket.luhn(body)
    state.insert(tables.OnlineCode, [(None, _digest(pepper, code), hospital, now_ms + CODE_MS, sealed)])
    return code, now_ms + CODE_MS


def fetch(code: str, hospital: bytes, pepper: bytes, state: Transaction, now_ms: int) -> bytes | None:
    """What a code of this hospital stands for; None for a wrong one, which is counted in this transaction.

    Raises `Refused` (ticket.limit), `Malformed`: nothing is counted then.
    """
    digits = ticket.check_digits(code)
    wrong = state.get(tables.WrongCodes, hospital)
    # Not of later than now either: of a clock that ran ahead it would be recent until that time comes.
    recent = wrong is not None and 0 <= now_ms - wrong.since_ms < CODE_MS
    if wrong is not None and recent and wrong.count >= MAX_WRONG:
        raise Refused("ticket.limit")
    for row in state.find(tables.OnlineCode, digest=_digest(pepper, digits)):
        if row.until_ms >= now_ms and row.hospital == hospital:
            return row.sealed
    count, since = (wrong.count + 1, wrong.since_ms) if wrong is not None and recent else (1, now_ms)
    state.delete(tables.WrongCodes, hospital=hospital)
    state.insert(tables.WrongCodes, [(hospital, since, count)])
    return None
