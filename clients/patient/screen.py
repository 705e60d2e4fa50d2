"""The consent screen as data: everything that a patient must see before she answers, for any medium (DESIGN section 5).

It is made from the bytes that the hospital signed and from what this wallet pinned; a value is shown as its recipient
would see it, coarsened here, on her side. Nothing is chosen for her: what she narrows is a `Choice`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from clients import plain
from clients.decision import ELIGIBILITY
from clients.patient.consent import Choice, Review
from clients.patient.wallet import Wallet
from policies import load
from policies.decide import days, finest
from zhifu import consent as consents
from zhifu import ladder, schema
from zhifu.cbor import Value
from zhifu.schema import ABSENT, Schema, Unit
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY

T = TypeVar("T")

PURPOSES: Final = {
    "commercial-settlement": ("由商业保险直接结算本次住院费用", "your insurer settles this stay directly"),
    "public-settlement": ("基本医疗保险结算", "settlement by the public payer"),
    "statement": ("向您本人出具结算单", "a statement for yourself"),
}
_QUESTION: Final = (
    "查询您的保单是否承保本次就医，不结算任何费用",
    "whether your policy covers this visit; nothing is claimed",
)
_REFUSING: Final = (
    "不同意不影响诊疗：您可以先付费，之后自行理赔。",
    "Refusing does not affect your care: you pay first and claim later yourself.",
)
_WITHDRAWING: Final = (
    "您可以随时在本钱包、服务热线、医院窗口，或用恢复码撤回；撤回立即生效，尚未送达的信息会被扣下。",
    "You can withdraw at any time: in this wallet, by the hotline, at the hospital, or with your recovery code. It "
    "takes effect at once, and what was not delivered yet is withheld.",
)
_LASTING: Final = (
    "已经送达的信息无法收回：接收方会被要求删除，并签名答复；已付款的理赔须依法保存。",
    "What was delivered cannot be taken back: the recipient is told to erase it and answers with a signature; a claim "
    "that was paid is kept as long as the law asks.",
)
_STATUTE: Final = (
    "依法进行，无需您同意，仅供知悉。",
    "Done by law, for your information: you are not asked about it.",
)
_ALWAYS: Final = "encounter"
_DAY_S: Final = 86_400


def document(wallet: Wallet, seen: Review, choice: Choice, language: str) -> dict[str, Any]:
    """The screen in one language (zh or en), with what ``choice`` leaves of the request; JSON values only."""
    asked = seen.request
    shared, hidden = _units(seen, choice, language)
    sooner = _sooner(wallet, seen, choice)
    return {
        "request": consents.hash_of(seen.signed.payload).hex(),
        "short_code": consents.short_code(seen.signed.payload),
        "hospital": _party(wallet, asked.sender),
        "recipient": _party(wallet, asked.recipient),
        "purpose": asked.purpose,
        "purpose_words": pick(_QUESTION if _is_question(seen) else PURPOSES[asked.purpose], language),
        "mode": "direct_pay" if asked.grant_mode == GRANT_MODE_DIRECT_PAY else "request",
        "units": [{**one, "days": sooner.get(one["unit"])} for one in shared],
        "not_shared": hidden,
        "uses": asked.max_uses,
        "until": choice.expiry,
        "until_asked": asked.expiry,
        "erase_at": choice.data_erase_at,
        "erase_at_asked": asked.data_erase_at,
        "cap_fen": choice.cap,
        "cap_asked_fen": seen.cap,
        "notice": seen.notice,
        "notice_language": seen.language,
        "refusing": pick(_REFUSING, language),
        "withdrawing": pick(_WITHDRAWING, language),
        "lasting": pick(_LASTING, language),
        "statutory": list(_statutory(wallet, seen, language)),
    }


def _party(wallet: Wallet, participant: bytes) -> dict[str, str]:
    """The legal name from a card that the patient got from the organisation itself; never the broker's word."""
    found = wallet.parties.get(participant.hex())
    return {"id": participant.hex(), "name": wallet.name(participant), "role": found.role if found else ""}


def _units(seen: Review, choice: Choice, language: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is shared and what is not; for each unit the levels that she may choose between."""
    asked = dict(seen.request.scopes)
    shared: list[dict[str, Any]] = []
    hidden: list[dict[str, Any]] = []
    for digest, levels in choice.scopes:
        kind = schema.by_hash(digest)
        values = seen.preview.get(kind.name, {})
        for unit in kind.units:
            rank = levels[unit.index]
            choices = list(_offered(unit, asked[digest][unit.index], values, language))
            row = {"schema": kind.name, "unit": unit.name, "title": unit.title(language), "choices": choices}
            if rank == ABSENT:
                hidden.append(row)
            else:
                shared.append({**row, **_at(unit, rank, values, language), "required": unit.name == _ALWAYS})
    return shared, hidden


def _sooner(wallet: Wallet, seen: Review, choice: Choice) -> dict[str, int]:
    """Units that the policy has erased before the time she agrees to: their days after arrival, by name."""
    asked, found = seen.request, wallet.parties.get(seen.request.recipient.hex())
    bundle, role = load.load(None), found.role if found else ""
    names = {unit.name for digest, _ in choice.scopes for unit in schema.by_hash(digest).units}
    kept = {name: days(bundle, asked.purpose, role, name) for name in names}
    return {
        name: each
        for name, each in kept.items()
        if each is not None and asked.issued_at + each * _DAY_S < choice.data_erase_at
    }


def _offered(unit: Unit, ceiling: int, values: Mapping[str, Value], language: str) -> Iterator[dict[str, str]]:
    """The level that was asked for and every coarser one; none where the unit was not asked for."""
    for rank in range(ceiling, len(unit.levels)):
        yield _at(unit, rank, values, language)


def _at(unit: Unit, rank: int, values: Mapping[str, Value], language: str) -> dict[str, str]:
    return {
        "level": unit.levels[rank].name,
        "level_title": plain.level_name(unit, rank, language),
        "value": value_at(unit, rank, values, language),
    }


def value_at(unit: Unit, rank: int, values: Mapping[str, Value], language: str) -> str:
    """The value at one level as its recipient would see it; empty where the desk showed none."""
    if unit.name not in values:
        return ""
    form, value = unit.levels[rank].form, values[unit.name]
    return plain.shown(form, value if rank == 0 else ladder.coarsen(unit.levels[0].form, form, value), language)


def rows(kind: Schema, levels: bytes, values: Mapping[str, Value], language: str) -> list[dict[str, str]]:
    """Released units of one record in plain words, made on the patient's side from what she was shown."""
    return [
        {"unit": unit.name, "title": unit.title(language), **_at(unit, rank, values, language)}
        for unit, rank in zip(kind.units, levels, strict=True)
        if rank != ABSENT
    ]


def _statutory(wallet: Wallet, seen: Review, language: str) -> Iterator[dict[str, Any]]:
    """What happens by law about the same stay; information, never a choice."""
    kind = schema.load(ELIGIBILITY if _is_question(seen) else "inpatient-claim")
    levels = finest(load.load(None), "public-settlement", "public-payer", kind)
    names = [one.name for one in wallet.parties.values() if one.role == "public-payer"]
    yield {
        "recipient": names[0] if names else pick(("基本医疗保险经办机构", "the public payer"), language),
        "purpose": "public-settlement",
        "purpose_words": pick(PURPOSES["public-settlement"], language),
        "words": pick(_STATUTE, language),
        "units": rows(kind, levels, seen.preview.get(kind.name, {}), language),
    }


def _is_question(seen: Review) -> bool:
    """Whether it is only about being covered."""
    return all(schema.by_hash(digest).name == ELIGIBILITY for digest, _ in seen.request.scopes)


def pick(pair: tuple[T, T], language: str) -> T:
    """The Chinese or the English of two texts, or of two rows of them."""
    return pair[0] if language == "zh" else pair[1]
