"""The direct-pay code: signed on the phone, even offline; online an 18-digit handle to the same (DESIGN section 5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from clients.patient import calls, consent
from clients.patient.wallet import Pair, Wallet
from zhifu import consent as consents
from zhifu import envelope, statement, ticket
from zhifu.consent import Grant
from zhifu.errors import Refused
from zhifu.ticket import Code
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

_WRONG_S: Final = 30


@dataclass(frozen=True, slots=True)
class Usable:
    """A direct-pay grant that a code may use."""

    pair: Pair
    grant: Grant
    grant_hash: bytes
    cap: int | None


def usable(wallet: Wallet, hospital: bytes, now: int) -> list[Usable]:
    """The direct-pay grants for a hospital that are in force as far as this wallet knows, newest first.

    Of several to one recipient for one stay the last that was given, whatever their seconds say: those before it may be
    used. ``now`` is Unix s.
    """
    found: dict[tuple[bytes, bytes], Usable] = {}
    for pair in wallet.pairs:
        for given in pair.grants:
            signed = consent.grant_of(given)
            grant = consents.verify_grant(signed, pair.public)
            fits = grant.mode == GRANT_MODE_DIRECT_PAY and grant.cnf == hospital
            # Its own grants begin when they are given: a clock set back since must not hide one (the desk checks).
            if fits and not given.revoked and now <= grant.expiry:
                cap = consent.read_terms(bytes.fromhex(given.terms[1]))[0] if given.terms else None
                one = Usable(pair, grant, consents.hash_of(signed.payload), cap)
                found[pair.subject, grant.encounter] = one
    return sorted(found.values(), key=lambda one: one.grant.issued_at, reverse=True)


async def draw(wallet: Wallet, hospital: bytes, now: int) -> Code:
    """A fresh code: one ticket for each direct-pay grant at this hospital. Needs no connection.

    Where the broker said that this device's clock is wrong, it is asked once more if it can be: the clock may have been
    set since. ``now`` is this device's clock (Unix s). Raises `Refused` (consent.missing).
    """
    if abs(wallet.clock_ahead_s) >= _WRONG_S:
        await calls.look_at_clock(wallet)
    seed, at, signed = os.urandom(16), wallet.now(now), []
    chosen = usable(wallet, hospital, at)[: ticket.MAX_TICKETS]
    if not chosen:
        raise Refused("consent.missing", "nothing was agreed for direct payment at this hospital")
    for one in chosen:
        made = ticket.make(one.grant_hash, hospital, seed, at)
        found = await wallet.sign(one.pair, envelope.TICKET, made.to_bytes())
        signed.append((made, found.signature))
    return ticket.assemble(signed, seed)


@dataclass(frozen=True, slots=True)
class Online:
    """An 18-digit code and until when it is good (Unix ms, the broker's clock)."""

    digits: str
    until_ms: int

    @property
    def spaced(self) -> str:
        """In six groups of three, to be read aloud."""
        return " ".join(self.digits[at : at + 3] for at in range(0, 18, 3))


async def online(wallet: Wallet, code: Code, now: int) -> Online:
    """Leave a code with the broker, sealed to its hospital, for an 18-digit handle. Raises `Refused`."""
    pair = next(one for one in wallet.pairs if one.grants_here and bytes.fromhex(one.hospital) == code.hospital)
    box = await calls.mailbox(wallet, pair)
    for entry in box.directory:
        if entry.participant == code.hospital:
            signed = envelope.from_proto(envelope.KEY_STATEMENT, entry.key_statement)
            keys = statement.verify_key_statement(signed, code.hospital, wallet.sure_now(now))
            found = await calls.offer_code(wallet, pair, code.hospital, ticket.seal_online(code, keys.kem))
            return Online(found.code, found.until_ms)
    raise Refused("participant.unknown", "the broker does not list this hospital")
