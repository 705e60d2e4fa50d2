"""Claims after payment: what a hospital offers, the one tap that files it, and where it stands (快赔).

An offer is a request like any other, so it is reviewed, narrowed, granted and revoked in the same way; beside it the
wallet keeps what was paid, and every word of the insurer's about the claim.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clients import desk, durable, plain
from clients.patient import consent, requests
from clients.patient.consent import Choice, Given
from clients.patient.mailbox import Fetched
from clients.patient.wallet import Wallet, read_json
from clients.reasons import reason
from zhifu import cbor, envelope
from zhifu import consent as consents
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.explain import Explanation
from zhifu.receive import Opened

OFFER: Final = "claim-offer"
PROGRESS: Final = "claim-progress"
_MAX_PREVIEW: Final = 262_144
_ZONE_S: Final = 8 * 3600
_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "offered": ("您可以申请理赔", "you may claim now"),
    "filed": ("已提交，等待医院送出", "filed: the hospital sends it"),
    "received": ("保险公司已收到", "the insurer has it"),
    "review": ("人工审核中", "a person is looking at it"),
    "waiting": ("等待您补充材料，时限暂停", "waiting for your documents; the clock stands still"),
    "decided": ("已核定，等待付款确认", "decided, to be confirmed"),
    "paid": ("已赔付", "paid"),
    "refused": ("未获赔付", "nothing is paid"),
    "reversed": ("已冲正", "taken back"),
    "reported": ("已报案", "reported"),
    "unsent": ("尚未送出：zhifu wallet send", "not sent yet: zhifu wallet send"),
    "to-accept": ("已核定，请您同意或提出异议", "decided: accept or dispute it"),
    "accepted": ("您已同意，等待赔付", "you accepted; to be paid"),
    "disputed": ("您已提出异议，等待复核", "you disputed it; to be looked at again"),
    "supplied": ("您已补充材料，等待保险公司收取", "you sent your documents; the insurer is to take them"),
    "withdrawn": ("您已撤回", "you took it back"),
    "declined": ("您未申请", "you declined"),
    "expired": ("已过申请时限", "the time to claim is over"),
}


_STEP_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "filed": ("已提交", "Filed"),
    "review": ("审核", "Looked at"),
    "decided": ("已核定", "Decided"),
    "paid": ("已赔付", "Paid"),
}
_SAYS: Final[Mapping[str, tuple[str, str]]] = {
    "offered": ("您支付了 {y} 元，可向{name}申请理赔。", "You paid {y} yuan, and may claim from {name}."),
    "offered-open": ("您可向{name}申请理赔。", "You may claim from {name}."),
    "due": ("承诺在 {when} 前答复。", "Promised by {when} (UTC+8)."),
    "waiting": ("请补充：{what}。", "Please send: {what}."),
    "decided": ("{name}核定赔付 {y} 元。", "{name} pays {y} yuan."),
    "accepted": ("{name}核定赔付 {y} 元。", "{name} pays {y} yuan."),
    "paid": ("{name}已赔付 {y} 元。", "{name} has paid {y} yuan."),
    "refused": ("{name}核定不予赔付。", "{name} pays nothing."),
    "reversed": ("{name}冲正了 {y} 元。", "{name} took {y} yuan back."),
    "late": ("因延误另付 {y} 元。", "It pays {y} yuan more for being late."),
    "next-own": (
        "您同意后即赔付；如有异议，可请人工复核一次。",
        "It is paid once you accept it; if you dispute it, a person looks again, once.",
    ),
    "next": ("如有异议，请向保险公司申请复核。", "If you disagree, ask the insurer to look again."),
}
_ENDS: Final = ("decided", "accepted", "paid", "refused", "reversed")


@dataclass(frozen=True, slots=True)
class Claim:
    """One offer and what became of it. Amounts are fen, times Unix s; ``news`` as the insurer sent it, oldest first.

    ``reported``: she reported it herself, so that it is paid when she accepts.
    """

    request: bytes
    hospital: str
    insurer: str
    stay: tuple[str, ...]
    total: int
    paid: Mapping[str, int]
    until: int
    state: str
    news: tuple[Mapping[str, Any], ...]
    reported: bool = False

    @property
    def latest(self) -> Mapping[str, Any]:
        return self.news[-1] if self.news else {}

    def amount(self, token: str) -> int | None:
        """What was said last of an amount; None where nothing was."""
        for one in reversed(self.news):
            if token in one["amounts"]:
                return int(one["amounts"][token])
        return None


def _folder(wallet: Wallet) -> Path:
    return wallet.path / "claims"


def keep_offer(wallet: Wallet, one: Fetched, now: int) -> None:
    """Keep an offer and the request in it, once it verifies like one from a desk.

    Raises `NotAuthentic` (presentation.sender, key.*), `Refused` (consent.*), `Malformed`.
    """
    values = one.opened.values
    asked, preview = values.get("request"), values.get("preview")
    if not isinstance(asked, bytes) or not isinstance(preview, bytes):
        raise Malformed("malformed.field", "an offer without what is asked, or what it is about")
    shown = desk.Request(envelope.from_bytes(envelope.REQUEST, asked), one.key_statement, _preview(preview))
    seen = consent.review(wallet, shown, now)
    if seen.request.sender != one.opened.presentation.sender:
        raise NotAuthentic("presentation.sender", "the offer is another hospital's")
    digest = requests.take(wallet, shown, now)
    document = {
        "hospital": seen.request.sender.hex(),
        "insurer": seen.request.recipient.hex(),
        "stay": [day for day in values.get("stay") or () if day],
        "totals": dict(values.get("totals") or ()),
        "paid": dict(values.get("paid") or ()),
        "until": seen.request.expiry,
        "at": one.opened.presentation.issued_at,
        "news": [],
    }
    _write(wallet, digest, document)


def _preview(content: bytes) -> dict[str, dict[str, Any]]:
    """What the hospital says would be shared, by schema and unit: shown, never believed. Raises `Malformed`."""
    name, rows = cbor.array(content, _MAX_PREVIEW, 2)
    if not isinstance(name, str):
        raise Malformed("malformed.field", "a preview without its schema")
    try:
        # As a desk's file has it: lists instead of tuples.
        return {name: json.loads(json.dumps(dict(rows)))}
    except (TypeError, ValueError) as error:
        raise Malformed("malformed.field", "a preview is values by unit") from error


def refresh(wallet: Wallet, statements: Mapping[bytes, Envelope], now: int) -> None:
    """A hospital's key statement is renewed each week, and an offer stands for longer: keep the latest beside it."""
    for digest, document in _documents(wallet):
        latest = statements.get(bytes.fromhex(document["hospital"]))
        shown = requests.find(wallet, digest.hex())
        if latest is not None and latest != shown.key_statement and _state(wallet, digest, document, now) == "offered":
            requests.take(wallet, desk.Request(shown.request, latest, shown.preview), now)


def keep_news(wallet: Wallet, one: Fetched) -> None:
    """Where a claim stands now. Raises `Refused` (consent.unknown): it rests on no grant of this wallet."""
    pair, given = wallet.find_grant(one.basis)
    grant = consents.verify_grant(consent.grant_of(given), pair.public)
    if one.opened.presentation.sender != grant.recipient:
        raise NotAuthentic("presentation.sender", "the news is not the insurer's")
    document = _read(wallet, grant.request_hash)
    claim = one.opened.presentation.in_reply_to
    _write(wallet, grant.request_hash, {**document, "news": with_news(document["news"], claim, one.opened)})


def with_news(before: Sequence[Mapping[str, Any]], claim: bytes, opened: Opened) -> list[Mapping[str, Any]]:
    """The news of a claim with one more, in the order of the log; the same again changes nothing."""
    values = opened.values
    said = {
        "claim": claim.hex(),
        "state": values.get("state") or "received",
        "at": values.get("at") or 0,
        "due": values.get("due") or 0,
        "amounts": dict(values.get("amounts") or ()),
        "clauses": [list(row) for row in values.get("clauses") or ()],
        "documents": [name for name in values.get("documents") or () if name],
        "entry": opened.entry.index,
    }
    return sorted([*(one for one in before if one["entry"] != said["entry"]), said], key=lambda row: int(row["entry"]))


def listed(wallet: Wallet, now: int) -> list[Claim]:
    """Every claim, the newest offer first."""
    found = sorted(_documents(wallet), key=lambda pair: -int(pair[1]["at"]))
    return [_claim(wallet, digest, document, now) for digest, document in found]


def find(wallet: Wallet, name: str, now: int) -> Claim:
    """A claim by enough of its request's first digits. Raises `Refused` (consent.unknown)."""
    found = [one for one in listed(wallet, now) if name and one.request.hex().startswith(name.lower())]
    if len(found) != 1:
        raise Refused("consent.unknown", "no claim of this wallet, or several, start with these digits")
    return found[0]


async def file(wallet: Wallet, claim: Claim, now: int) -> Given:
    """Agree to all that was asked: the grant is signed and registered, and the hospital files the claim.

    Raises `Refused` (exchange.state: it was answered, or is over), and as `consent.give`.
    """
    if claim.state != "offered":
        raise Refused("exchange.state", f"the claim is {claim.state}")
    seen = consent.review(wallet, requests.find(wallet, claim.request.hex()), now)
    return await consent.give(wallet, seen, Choice.as_asked(seen), now)


def step_words(step: str, language: str) -> str:
    """One step of a claim's way in a word: filed, review, decided or paid."""
    pair = _STEP_WORDS[step]
    return pair[0] if language == "zh" else pair[1]


def state_words(state: str, language: str) -> str:
    """A state in plain words."""
    pair = _STATES.get(state, (state, state))
    return pair[0] if language == "zh" else pair[1]


def where(claim: Claim, language: str) -> str:
    """Where a claim stands, in plain words."""
    return state_words("to-accept" if claim.reported and claim.state == "decided" else claim.state, language)


def told(news: Sequence[Mapping[str, Any]]) -> str:
    """The state that the last of some news tells; a claim of which nothing is paid was refused."""
    state = str(news[-1]["state"])
    known = [one["amounts"] for one in news if "pay" in one["amounts"]]
    nothing = bool(known) and not known[-1]["pay"] and not known[-1].get("late")
    return "refused" if state == "paid" and nothing else state


def words(claim: Claim, language: str) -> list[str]:
    """What the insurer decided and why, in sentences made from its rows; what is due, and what to do next."""
    said = [_SAYS[key][0 if language == "zh" else 1].format(**places) for key, places in _said(claim, language)]
    why = _why(claim, language)
    if why:
        mark, start, end = ("；", "依据：", "。") if language == "zh" else ("; ", "Because: ", ".")
        said.append(start + mark.join(why) + end)
    following = "next-own" if claim.reported and claim.state == "decided" else "next"
    return [*said, *([_SAYS[following][0 if language == "zh" else 1]] if claim.state in _ENDS else [])]


def _said(claim: Claim, language: str) -> Iterator[tuple[str, dict[str, str]]]:
    latest, pay, late = claim.latest, claim.amount("pay"), claim.amount("late")
    if claim.state == "offered":
        known = claim.paid.get("patient")
        yield "offered" if known else "offered-open", {"y": plain.yuan(known or 0), "name": claim.insurer}
    if claim.state in ("received", "review") and latest.get("due"):
        yield "due", {"when": _moment(latest["due"])}
    if claim.state == "waiting":
        yield "waiting", {"what": ("、" if language == "zh" else ", ").join(latest["documents"])}
    if claim.state in _ENDS and pay is not None:
        yield claim.state if pay or late else "refused", {"name": claim.insurer, "y": plain.yuan(pay)}
        if late:
            yield "late", {"y": plain.yuan(late)}


def _why(claim: Claim, language: str) -> list[str]:
    """The rows of the last decision in words, each once; what rules would pay is no promise where a person looks."""
    rows: list[Any] = next((one["clauses"] for one in reversed(claim.news) if one["clauses"]), [])
    shown = [Explanation(*row) for row in rows]
    looked = next((at for at, row in enumerate(shown) if row.reason.startswith("review.")), 0)
    shown = [row for at, row in enumerate(shown) if at >= looked or not row.field.startswith("pay")]
    return list(dict.fromkeys(reason(row, language) for row in shown if row.amount or row.field == "pay"))


def _moment(at: int) -> str:
    """China Standard Time, in which promises are shown."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at + _ZONE_S))


def _claim(wallet: Wallet, digest: bytes, document: Mapping[str, Any], now: int) -> Claim:
    name = [wallet.name(bytes.fromhex(document[party])) for party in ("hospital", "insurer")]
    return Claim(
        digest,
        name[0],
        name[1],
        tuple(document["stay"]),
        document["totals"].get("total", 0),
        document["paid"],
        document["until"],
        _state(wallet, digest, document, now),
        tuple(document["news"]),
    )


def _state(wallet: Wallet, digest: bytes, document: Mapping[str, Any], now: int) -> str:
    if document["news"]:
        return told(document["news"])
    answered = requests.answered(wallet, digest)
    if answered:
        return "filed" if answered == "granted" else "declined"
    return "offered" if now < document["until"] else "expired"


def _documents(wallet: Wallet) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for path in sorted(_folder(wallet).glob("*.json")):
        yield bytes.fromhex(path.stem), _read(wallet, bytes.fromhex(path.stem))


def _read(wallet: Wallet, digest: bytes) -> dict[str, Any]:
    path = _folder(wallet) / f"{digest.hex()}.json"
    if not path.exists():
        raise Refused("consent.unknown", "the news is about a claim that was not offered to this wallet")
    return dict(read_json(path))


def _write(wallet: Wallet, digest: bytes, document: Mapping[str, Any]) -> None:
    folder = _folder(wallet)
    durable.folder(folder)
    durable.write(folder / f"{digest.hex()}.json", json.dumps(document, ensure_ascii=False).encode())
