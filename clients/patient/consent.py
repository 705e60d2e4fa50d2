"""Reading a hospital's request from the signed bytes, narrowing it, granting or refusing it (DESIGN section 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clients import desk
from clients.patient import calls
from clients.patient import wallet as wallets
from clients.patient.wallet import Pair, Wallet
from zhifu import cbor, consent, envelope, ladder, schema, statement
from zhifu.capsule import Terms
from zhifu.cbor import Value
from zhifu.consent import ConsentRequest, Grant, Scopes
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.receipt import Entry
from zhifu.schema import ABSENT

_OVER: Final = ("consent.expired", "consent.key_status", "consent.revoked")
"""Why a broker refuses a grant for good."""


@dataclass(frozen=True, slots=True)
class Review:
    """A request as the patient sees it, made from the bytes that the hospital signed."""

    request: ConsentRequest
    signed: Envelope
    pair: Pair
    cap: int | None
    language: str
    notice: str
    preview: Mapping[str, Mapping[str, Value]]


def review(wallet: Wallet, shown: desk.Request, now: int) -> Review:
    """Verify a request: by a hospital that this wallet pinned, to a recipient it pinned, for a key it drew.

    Raises `NotAuthentic` (key.*, signature.invalid), `Refused` (consent.*), `Malformed`. ``now`` is Unix s.
    """
    now = wallet.sure_now(now)
    hospital = statement.claimed_participant(shown.key_statement)
    if hospital.hex() not in wallet.parties:
        raise NotAuthentic("key.not_pinned", "the request is from an organisation that this wallet does not know")
    keys = statement.verify_key_statement(shown.key_statement, hospital, now)
    asked = consent.verify_request(shown.request, keys.signing_key)
    if asked.sender != hospital:
        raise NotAuthentic("presentation.sender", "the request is in another organisation's name")
    if asked.aud != wallet.contact.origin:
        raise Refused("consent.wrong_audience")
    if now > asked.expiry:
        raise Refused("consent.expired")
    pair = wallet.pair(hospital, asked.recipient)
    if asked.subject_key != pair.public:
        raise Refused("consent.subject_mismatch", "the request is for another key")
    cap, language, notice = read_terms(asked.terms)
    _check_preview(shown.preview, asked.scopes)
    return Review(asked, shown.request, pair, cap, language, notice, shown.preview)


def _check_preview(preview: Mapping[str, Mapping[str, Value]], scopes: Scopes) -> None:
    """What a hospital shows beside its request is never believed, but it is drawn: its values are of the records that
    are asked for, each as its unit has it. Raises `Malformed` (malformed.field).
    """
    kinds = {kind.name: kind for kind in (schema.by_hash(digest) for digest, _ in scopes)}
    for name, values in preview.items():
        units = {unit.name: unit.levels[0].form for unit in kinds[name].units} if name in kinds else {}
        if not isinstance(values, Mapping) or not values.keys() <= units.keys():
            raise Malformed("malformed.field", "the preview is of another record than is asked for")
        if not all(ladder.conforms(units[unit], value) for unit, value in values.items()):
            raise Malformed("malformed.field", "the preview does not have values as the record has them")


def read_terms(content: bytes) -> tuple[int | None, str, str]:
    """(cap in fen, language, notice) of a request's terms. Raises `Malformed`."""
    version, cap, language, notice = cbor.array(content, 65_536, 4)
    if version != 1 or type(version) is not int or not (isinstance(language, str) and isinstance(notice, str)):
        raise Malformed("malformed.version", "terms of an unknown version")
    if cap is not None and (type(cap) is not int or cap < 0):
        raise Malformed("malformed.field", "a cap is an amount in fen")
    return cap, language, notice


@dataclass(frozen=True, slots=True)
class Choice:
    """What the patient agrees to, at most what was asked; times are Unix s, the cap is in fen, None for no cap."""

    scopes: Scopes
    expiry: int
    data_erase_at: int
    cap: int | None

    @staticmethod
    def as_asked(seen: Review) -> Choice:
        return Choice(seen.request.scopes, seen.request.expiry, seen.request.data_erase_at, seen.cap)


def narrowed(scopes: Scopes, wishes: Mapping[tuple[str, str], int]) -> Scopes:
    """``scopes`` with single units made coarser: ``{(schema, unit): level}``, `ABSENT` for not at all.

    Raises `Refused` (consent.exceeded) where a wish is finer than what was asked, (policy.invalid) for unknown names.
    """
    found = []
    names = {schema.by_hash(digest).name for digest, _ in scopes}
    if unknown := {name for name, _ in wishes} - names:
        raise Refused("policy.invalid", f"the request is not about {sorted(unknown)[0]}")
    for digest, levels in scopes:
        kind, changed = schema.by_hash(digest), bytearray(levels)
        for (name, unit), rank in wishes.items():
            if name == kind.name:
                changed[kind.unit(unit).index] = rank
        kind.check_levels(bytes(changed))
        if changed[kind.unit("encounter").index] == ABSENT:
            raise Refused("consent.exceeded", "the encounter is always shared: it ties the record to this grant")
        found.append((digest, bytes(changed)))
    return consent.narrow(scopes, tuple(found))


def _check_narrower(seen: Review, choice: Choice, now: int) -> None:
    """Raises `Refused` (consent.exceeded): a patient is never made to widen."""
    asked = seen.request
    consent.narrow(asked.scopes, choice.scopes)
    wider = choice.expiry > asked.expiry or choice.data_erase_at > asked.data_erase_at
    if wider or (seen.cap is not None and (choice.cap is None or choice.cap > seen.cap)):
        raise Refused("consent.exceeded", "a grant may only narrow what was asked")
    if choice.expiry <= now:
        raise Refused("consent.expired", "the grant would be over before it began")


def draft(seen: Review, choice: Choice, now: int) -> tuple[Grant, Terms]:
    """The grant of a choice, unsigned, and its terms. Raises `Refused` (consent.exceeded, consent.expired)."""
    _check_narrower(seen, choice, now)
    asked = seen.request
    terms = Terms(asked.terms_salt, cbor.encode([1, choice.cap, seen.language, seen.notice]))
    grant = Grant(
        grant_id=os.urandom(16),
        subject_key=seen.pair.public,
        aud=asked.aud,
        purpose=asked.purpose,
        sender=asked.sender,
        recipient=asked.recipient,
        encounter=asked.encounter,
        scopes=choice.scopes,
        max_uses=asked.max_uses,
        not_before=now,
        expiry=choice.expiry,
        issued_at=now,
        mode=asked.grant_mode,
        cnf=asked.sender,
        data_erase_at=choice.data_erase_at,
        terms=terms.digest,
        request_hash=consent.hash_of(seen.signed.payload),
        wallet_key=seen.pair.kem_key.public.raw,
    )
    return grant, terms


@dataclass(frozen=True, slots=True)
class Given:
    """A grant that the broker registered: for the desk, and its index in the audit log."""

    consent: desk.Consent
    grant_hash: bytes
    entry: int


async def give(wallet: Wallet, seen: Review, choice: Choice, now: int) -> Given:
    """Sign a grant, keep it, register it with the broker. ``now`` is Unix s by this device.

    Raises `Refused` (consent.*, unavailable.*), `NotAuthentic`.
    """
    # By the broker's clock, as far as this wallet learned it: a phone that runs ahead grants from now on all the same.
    grant, terms = draft(seen, choice, min(now, wallet.now(now)))
    signed = await wallet.sign(seen.pair, envelope.GRANT, grant.to_bytes())
    preview = {name: dict(units) for name, units in seen.preview.items()}
    kept = wallets.Given(
        signed.to_bytes().hex(), seen.signed.to_bytes().hex(), preview, terms=[terms.salt.hex(), terms.content.hex()]
    )
    # Kept before it is registered: a grant that the broker has and the wallet forgot could never be revoked.
    seen.pair.grants.append(kept)
    wallet.save()
    entry = await _register(wallet, kept)
    attested = (envelope.from_bytes(envelope.ATTESTATION, bytes.fromhex(one)) for one in seen.pair.attestations)
    return Given(desk.Consent(signed, tuple(attested), terms), consent.hash_of(signed.payload), entry.index)


async def _register(wallet: Wallet, kept: wallets.Given) -> Entry:
    entry, receipt = await calls.register(wallet, grant_of(kept))
    kept.receipt = receipt.hex()
    wallet.save()
    return entry


async def hand_in(wallet: Wallet, pair: Pair, now: int) -> None:
    """Register what the patient gave and the broker never answered for: the line was cut, or this device died.

    The same grant twice changes nothing. ``now`` is Unix s. Raises `Refused` (unavailable.*).
    """
    for kept in pair.grants:
        if kept.receipt or kept.revoked or consent.verify_grant(grant_of(kept), pair.public).expiry < now:
            continue
        try:
            await _register(wallet, kept)
        except (NotAuthentic, Refused) as error:
            if error.retryable:
                raise
            if error.reason in _OVER:
                kept.revoked = True
                wallet.save()


def refuse(wallet: Wallet, seen: Review, now: int) -> dict[str, Any]:
    """Decline a request, and keep that as a record; nothing is sent to the broker, and care does not depend on it."""
    said = {"request": consent.hash_of(seen.signed.payload).hex(), "signed": seen.signed.to_bytes().hex(), "at": now}
    if all(one["request"] != said["request"] for one in wallet.refused):
        wallet.refused.append(said)
        wallet.save()
    return said


def grant_of(given: wallets.Given) -> Envelope:
    """The signed grant that a wallet keeps."""
    return envelope.from_bytes(envelope.GRANT, bytes.fromhex(given.grant))
