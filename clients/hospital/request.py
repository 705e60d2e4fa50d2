"""A consent request: what the hospital asks the patient for, signed, with the terms that only she and the payer
will read.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from clients import plain
from clients.decision import COORDINATION, ELIGIBILITY
from clients.hospital import encounter, record
from clients.hospital.openbill import OpenBill
from clients.store import Job, Store
from policies.bundle import Bundle
from policies.decide import finest
from zhifu import cbor, consent, schema, sealed
from zhifu.bill import Bill
from zhifu.capsule import Terms
from zhifu.cbor import Value
from zhifu.consent import ConsentRequest, Grant, Scopes
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.schema import Schema
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY, GRANT_MODE_UNSPECIFIED

PURPOSE: Final = "commercial-settlement"
GRANT_S: Final = 24 * 3600
ERASE_S: Final = 180 * 86_400
_KIND: Final = "request"
_NOTICE: Final = {
    "zh": (
        "为直接结算本次医疗费用，向您的保险公司提供下列信息。不同意不影响诊疗：您可以先付费，之后自行理赔。"
        "您可随时撤回；撤回不影响已经提供的信息。"
    ),
    "en": (
        "To settle this bill directly, the following goes to your insurer. Refusing does not affect your care: "
        "you can pay first and claim later. You may withdraw at any time; what was shared before cannot be taken back."
    ),
}


_QUESTION: Final = {
    "zh": (
        "为查询您的保单是否承保本次就医，向您的保险公司提供下列信息；不提供任何费用，也不会因此理赔。"
        "不同意不影响诊疗。您可随时撤回；撤回不影响已经提供的信息。"
    ),
    "en": (
        "To ask your insurer whether your policy covers this visit, the following goes to it; no amounts, and nothing "
        "is claimed by it. Refusing does not affect your care. You may withdraw at any time; what was shared before "
        "cannot be taken back."
    ),
}
_CLAIM: Final = {
    "zh": (
        "您已支付本次费用，可以申请理赔：同意后，下列信息提供给您的保险公司，赔款付给您本人。"
        "不同意不影响诊疗，您也可以以后自行理赔。您可随时撤回；撤回不影响已经提供的信息。"
    ),
    "en": (
        "You paid this bill and may claim for it: if you agree, the following goes to your insurer, which pays you. "
        "Refusing does not affect your care, and you can claim yourself later. You may withdraw at any time; what was "
        "shared before cannot be taken back."
    ),
}
_CONFIRM: Final = {
    "zh": "请确认：由保险公司为您在{}的本次住院费用直接支付，最高 {} 元。您可以拒绝并先行付费，"
    "之后自行理赔；诊疗不受影响。",
    "en": "Please confirm: your insurer pays {} directly for this stay, up to {} yuan. You can refuse, pay first and "
    "claim later; your care is not affected.",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it goes to the wallet, and the values it is about."""

    signed: Envelope
    preview: Mapping[str, Mapping[str, Value]]


def scopes(bundle: Bundle, role: str, claim: Schema) -> Scopes:
    """What policy allows this role at most of a ``claim`` and of what others pay: more is never asked for.

    A question of cover is asked before anybody pays.
    """
    kinds = (claim,) if claim.name == ELIGIBILITY else (claim, schema.load(COORDINATION))
    return tuple(sorted((kind.hash, finest(bundle, PURPOSE, role, kind)) for kind in kinds))


def ask(
    store: Store, bundle: Bundle, key: SigningKey, *, origin: str, sender: bytes, recipient: bytes, subject_key: bytes,
    bill: Bill | OpenBill, cap: int | None, language: str, now: int, direct_pay: bool = False, confirm: str = "",
    stands_s: int = 0, file: bytes = b"", eligibility: bool = False,
) -> Asked:  # fmt: skip
    """Ask the patient of ``bill`` to let ``recipient`` (an insurer) settle it, up to ``cap`` fen.

    With ``stands_s`` she has paid it: she may claim so long (s), and the insurer pays her.

    An open bill is an admission: what is not known yet, the wallet shows as to come. With ``direct_pay`` the grant is
    used with a code only. ``confirm`` is this hospital's name, where an amount above the cap is to be confirmed: the
    notice then names both. ``eligibility``: only whether she is covered. Raises `Refused` (usage.argument) for a
    language that there is no notice in, and without a cap where a code pays or there is no bill yet.
    """
    if language not in _NOTICE:
        raise Refused("usage.argument", "the notice is in zh or en")
    if cap is None and not eligibility and (direct_pay or confirm or (isinstance(bill, OpenBill) and not stands_s)):
        raise Refused("usage.argument", "what a code pays, or what no bill says yet, has a cap")
    usual = _QUESTION if eligibility else _CLAIM if stands_s else _NOTICE
    notice = _CONFIRM[language].format(confirm, plain.yuan(cap)) if confirm and cap is not None else usual[language]
    secret = encounter.secret(store, bill, now, file)
    kind = schema.load(ELIGIBILITY) if eligibility else record.schema_of(bill)
    request = ConsentRequest(
        request_id=os.urandom(16),
        aud=origin,
        purpose=PURPOSE,
        sender=sender,
        recipient=recipient,
        encounter=sealed.encounter_handle(secret, recipient),
        scopes=scopes(bundle, "insurer", kind),
        max_uses=1,
        issued_at=now,
        expiry=now + (stands_s or GRANT_S),
        data_erase_at=now + ERASE_S,
        terms_salt=os.urandom(32),
        terms=cbor.encode([1, cap, language, notice]),
        subject_key=subject_key,
        mode=GRANT_MODE_DIRECT_PAY if direct_pay else GRANT_MODE_UNSPECIFIED,
    )
    signed = request.sign(key)
    with store.transaction():
        payload = cbor.encode([request.terms_salt, request.terms])
        store.jobs.put(Job(_KIND, consent.hash_of(signed.payload), "asked", payload, now * 1000))
    values = record.eligibility(bill, secret) if eligibility else record.claim(bill, secret)
    whole = bool(stands_s) or eligibility or isinstance(bill, Bill)
    return Asked(signed, {kind.name: _preview(values, whole=whole)})


def _preview(values: Mapping[str, Value], *, whole: bool) -> dict[str, Value]:
    """The values as they stand; of an admission those that are known, since the bill will have more."""
    known = values if whole else {name: value for name, value in values.items() if value is not None}
    return {name: value for name, value in known.items() if name != "encounter"}


def terms(store: Store, grant: Grant, shown: Terms | None) -> Terms:
    """The terms of a grant: those of our request, or what the patient made narrower and shows.

    Raises `Refused` (consent.unknown, consent.exceeded), `NotAuthentic` (capsule.terms).
    """
    job = store.jobs.get(_KIND, grant.request_hash)
    if job is None:
        raise Refused("consent.unknown", "the grant answers a request that was not made here")
    salt, content = cbor.array(job.payload, 65_536, 2)
    found = shown or Terms(salt, content)
    if not hmac.compare_digest(found.digest, grant.terms):
        raise NotAuthentic("capsule.terms", "the patient agreed to other terms: her phone has to show them")
    asked, agreed = cbor.array(content, 65_536, 4), cbor.array(found.content, 65_536, 4)
    if (asked[0], *asked[2:]) != (agreed[0], *agreed[2:]) or (
        asked[1] is not None and not _within(agreed[1], asked[1])
    ):
        raise Refused("consent.exceeded", "the terms are wider than what was asked")
    return found


def _within(cap: object, most: int) -> bool:
    return isinstance(cap, int) and 0 <= cap <= most
