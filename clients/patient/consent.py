"""Reading a hospital's request from the signed bytes, narrowing it, granting it, ending it (DESIGN section 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from clients import desk, plain
from clients.patient import calls
from clients.patient.wallet import Given, Pair, Wallet
from zhifu import cbor, consent, envelope, schema, statement
from zhifu.capsule import Terms
from zhifu.cbor import Value
from zhifu.consent import ConsentRequest, Grant, Revocation, Scopes
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.schema import ABSENT
from zhifu.v1.signed_pb2 import GRANT_MODE_REQUEST


@dataclass(frozen=True, slots=True)
class Review:
    """A request as the patient sees it, made from the bytes that the hospital signed."""

    request: ConsentRequest
    signed: Envelope
    pair: Pair
    cap: int | None
    notice: str
    preview: Mapping[str, Mapping[str, Value]]


def review(wallet: Wallet, shown: desk.Request, now: int) -> Review:
    """Verify a request: by a hospital that this wallet pinned, to a recipient it pinned, for a key it drew.

    Raises `NotAuthentic` (key.*, signature.invalid), `Refused` (consent.*), `Malformed`. ``now`` is Unix s.
    """
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
    version, cap, _, notice = cbor.array(asked.terms, 65_536, 4)
    if version != 1 or type(version) is not int:
        raise Refused("consent.exceeded", "terms of an unknown version")
    return Review(asked, shown.request, pair, cap, notice, shown.preview)


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


async def give(wallet: Wallet, seen: Review, scopes: Scopes, now: int) -> tuple[Envelope, int]:
    """Sign a grant, register it with the broker, keep it; the grant and its index in the audit log."""
    asked = seen.request
    grant = Grant(
        grant_id=os.urandom(16),
        subject_key=seen.pair.public,
        aud=asked.aud,
        purpose=asked.purpose,
        sender=asked.sender,
        recipient=asked.recipient,
        encounter=asked.encounter,
        scopes=consent.narrow(asked.scopes, scopes),
        max_uses=asked.max_uses,
        not_before=now,
        expiry=asked.expiry,
        issued_at=now,
        mode=GRANT_MODE_REQUEST,
        cnf=asked.sender,
        data_erase_at=asked.data_erase_at,
        terms=Terms(asked.terms_salt, asked.terms).digest,
        request_hash=consent.hash_of(seen.signed.payload),
        wallet_key=seen.pair.kem_key.public.raw,
    ).sign(seen.pair.key)
    preview = {name: dict(units) for name, units in seen.preview.items()}
    # Kept before it is registered: a grant that the broker has and the wallet forgot could never be revoked.
    seen.pair.grants.append(Given(grant.to_bytes().hex(), seen.signed.to_bytes().hex(), preview))
    wallet.save()
    entry = await calls.register(wallet, grant)
    return grant, entry.index


async def revoke(wallet: Wallet, grant_hash: bytes, now: int) -> tuple[int, int, int]:
    """End a grant for good: (its index in the log, exchanges delivered before, exchanges withheld)."""
    for pair in wallet.pairs:
        for given in pair.grants:
            if consent.hash_of(grant_of(given).payload) == grant_hash:
                signed = Revocation(wallet.contact.origin, grant_hash, now).sign(pair.key)
                entry, delivered, withheld = await calls.revoke(wallet, signed)
                given.revoked = True
                wallet.save()
                return entry.index, delivered, withheld
    raise Refused("consent.unknown", "this wallet gave no such grant")


def grant_of(given: Given) -> Envelope:
    """The signed grant that a wallet keeps."""
    return envelope.from_bytes(envelope.GRANT, bytes.fromhex(given.grant))


def rows(seen: Review, scopes: Scopes, language: str) -> dict[str, list[tuple[str, str, str]]]:
    """For each schema: (unit, level, the value as the recipient will see it), coarsened here, on the patient's side."""
    found = {}
    for digest, levels in scopes:
        kind = schema.by_hash(digest)
        found[kind.name] = plain.released(kind, levels, dict(seen.preview.get(kind.name, {})), language)
    return found
