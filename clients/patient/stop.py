"""Ending grants: one, all of one hospital, or all; by the patient, a guardian or the recovery code (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clients.patient import calls, consent
from clients.patient.wallet import Pair, Wallet
from zhifu import envelope
from zhifu.consent import Grant, Revocation, verify_grant
from zhifu.consent import hash_of as grant_hash_of
from zhifu.envelope import Envelope
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.v1.signed_pb2 import (
    KEY_ROLE_GUARDIAN,
    KEY_ROLE_RECOVERY,
    REVOKER_GUARDIAN,
    REVOKER_RECOVERY,
    REVOKER_UNSPECIFIED,
    Revoker,
)

_BY: Final[Mapping[int, Revoker]] = {KEY_ROLE_GUARDIAN: REVOKER_GUARDIAN, KEY_ROLE_RECOVERY: REVOKER_RECOVERY}


@dataclass(frozen=True, slots=True)
class Stopped:
    """Grants that ended, with the receipt's entry; what was delivered before cannot be taken back.

    ``signed`` may be shown to the hospital directly, so that it stops even where the broker does not tell it.
    """

    grants: tuple[bytes, ...]
    entry: int
    delivered: int
    withheld: int
    signed: Envelope


async def one(wallet: Wallet, grant_hash: bytes, now: int) -> Stopped:
    """End one grant: by its own key, or by a further key of its subject. Raises `Refused` (consent.unknown)."""
    return await stop(wallet, await _pair_of(wallet, grant_hash), now, grant_hash=grant_hash)


async def _pair_of(wallet: Wallet, grant_hash: bytes) -> Pair:
    try:
        return wallet.find_grant(grant_hash)[0]
    except Refused:
        for pair in wallet.pairs:
            if pair.subject_id and pair.enrolled and grant_hash in await granted(wallet, pair):
                return pair
        raise


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant of somebody whom a further key watches over: verified as far as the broker shows it, and its state."""

    grant: Grant
    status: str

    def ended(self) -> Granted:
        """The same, once it was revoked."""
        return replace(self, status="revoked")


async def granted(wallet: Wallet, pair: Pair) -> dict[bytes, Granted]:
    """Every grant of the pair's subject by its hash; its state (active, revoked) is the broker's word.

    Raises `NotAuthentic` (consent.signature) where it made one up.
    """
    found = (await calls.keys(wallet, pair)).grants
    return dict(_granted(pair, envelope.from_proto(envelope.GRANT, one.grant), one.status) for one in found)


def _granted(pair: Pair, signed: Envelope, status: str) -> tuple[bytes, Granted]:
    grant = verify_grant(signed)
    if grant.subject != pair.subject:
        raise NotAuthentic("consent.signature", "the broker showed another patient's grant")
    return grant_hash_of(signed.payload), Granted(grant, status)


async def every(wallet: Wallet, now: int, hospital: bytes | None = None) -> list[Stopped]:
    """End all grants, or all of one hospital, pair by pair: each pair's key speaks for itself.

    One that fails keeps none of the others from being ended; then its error is raised, the first of several.
    """
    done: list[Stopped] = []
    failed: list[Error] = []
    for pair in wallet.pairs:
        if pair.enrolled and hospital in (None, bytes.fromhex(pair.hospital)):
            try:
                done += [await stop(wallet, pair, now)] if await _has_grants(wallet, pair) else []
            except Error as error:
                failed += [] if _has_ended(pair, error) else [error]
    if failed:
        raise failed[0]
    return done


def _has_ended(pair: Pair, error: Error) -> bool:
    """Whether there is nothing to end: the broker has no grant of this key, or the key was revoked with its grants."""
    return error.reason == "consent.unknown" or (error.reason == "consent.key_status" and not pair.subject_id)


async def _has_grants(wallet: Wallet, pair: Pair) -> bool:
    return bool(pair.grants) or (bool(pair.subject_id) and bool(await granted(wallet, pair)))


async def stop(wallet: Wallet, pair: Pair, now: int, *, grant_hash: bytes = b"") -> Stopped:
    """End one grant of a pair's subject, or with no ``grant_hash`` all of them. Raises `Refused`, `NotAuthentic`."""
    by = _BY.get(pair.role, REVOKER_UNSPECIFIED)
    said = Revocation(wallet.contact.origin, grant_hash, now, b"" if grant_hash else pair.subject, by)
    signed = await wallet.sign(pair, envelope.REVOCATION, said.to_bytes())
    try:
        entry, answer = await calls.revoke(wallet, signed)
    except Refused as error:
        if error.reason == "consent.unknown":
            _never_hand_in(wallet, pair, grant_hash)
        raise
    ended = tuple(answer.grants)
    _note(pair, ended, answer.SerializeToString(deterministic=True).hex())
    wallet.save()
    return Stopped(ended, entry.index, answer.delivered, answer.withheld, signed)


def _never_hand_in(wallet: Wallet, pair: Pair, grant_hash: bytes) -> None:
    """The broker never heard of it, and is not to hear of it after she stopped it (`consent.hand_in`)."""
    for given in pair.grants:
        if not given.receipt and grant_hash in (b"", grant_hash_of(consent.grant_of(given).payload)):
            given.revoked = True
    wallet.save()


def _note(pair: Pair, ended: Sequence[bytes], receipt: str) -> None:
    for given in pair.grants:
        if grant_hash_of(consent.grant_of(given).payload) in ended and not given.revoked:
            given.revoked, given.stop = True, receipt
