"""Claims that the patient reports herself (安心赔): report, documents, one supplement, and her word on the decision."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from clients import durable
from clients.patient import claims, parcels
from clients.patient.claims import Claim
from clients.patient.mailbox import Fetched
from clients.patient.parcels import Outgoing, Progress
from clients.patient.wallet import Pair, Wallet, read_json
from zhifu.cbor import Value
from zhifu.errors import Error, Refused
from zhifu.parcel import Document, Message

_SETTLED: Final = ("paid", "refused", "reversed")
"""What was paid stays paid when the report is taken back: the insurer keeps it with its payment."""


def _folder(wallet: Wallet) -> Path:
    return wallet.path / "reports"


async def report(wallet: Wallet, pair: Pair, stated: Mapping[str, Value], now: int, progress: Progress) -> bytes:
    """Report a claim: its name. Kept before it is sent. ``stated`` as `clients.insurer.self_claim` reads it.

    Raises as `parcels.make` and `parcels.send`; what was kept is sent with the next command.
    """
    secret = os.urandom(32)
    fields = {**stated, "encounter": secret, "wallet_key": pair.kem_key.public.raw}
    made = await parcels.make(wallet, pair, "report", b"", Message(fields), now)
    document = {
        "insurer": pair.recipient,
        "hospital": pair.hospital,
        "encounter": secret.hex(),
        "at": now,
        "day": stated["day"],
        "at_hospital": stated.get("hospital") or "",
        "total": stated["total"],
        "paid": {name: stated[name] for name in ("public", "other") if stated.get(name)},
        "parcels": [{"hash": made.hash.hex(), "kind": "report", "files": []}],
        "news": [],
    }
    _write(wallet, made.hash, document)
    await parcels.send(wallet, made, progress)
    return made.hash


async def attach(
    wallet: Wallet, claim: bytes, files: list[Document], now: int, progress: Progress, note: str = "",
    kept: Callable[[], None] = lambda: None,
) -> str:  # fmt: skip
    """Send documents; the kind they went as: a supplement where the insurer asked for one.

    ``kept`` is called once they lie sealed on the disk: from then on they are sent without whoever gave them.

    Raises `Refused` (consent.unknown), and as `parcels`.
    """
    found = one_of(wallet, claim)
    kind = "supplement" if found["news"] and found["news"][-1]["state"] == "waiting" else "documents"
    await _follow(wallet, claim, kind, Message({"note": note} if note else {}, tuple(files)), now, progress, kept)
    return kind


async def answer(wallet: Wallet, claim: bytes, kind: str, note: str, now: int) -> None:
    """Accept or dispute a decision. Raises `Refused` (exchange.state): there is none, or it was answered."""
    found = one_of(wallet, claim)
    if not found["news"] or found["news"][-1]["state"] != "decided":
        raise Refused("exchange.state", "there is no decision to answer")
    if any(one["kind"] in ("accept", kind) for one in found["parcels"]):
        raise Refused("exchange.state", "the decision was answered")
    await _follow(wallet, claim, kind, Message({"note": note} if note else {}), now, parcels.silent)


async def _follow(
    wallet: Wallet, claim: bytes, kind: str, message: Message, now: int, progress: Progress,
    kept: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    found = one_of(wallet, claim)
    made = await parcels.make(wallet, _pair(wallet, found), kind, claim, message, now)
    files = [one.name for one in message.documents]
    row = {"hash": made.hash.hex(), "kind": kind, "files": files, "after": len(found["news"])}
    sent = [*found["parcels"], row]
    _write(wallet, claim, {**found, "parcels": sent})
    kept()
    await parcels.send(wallet, made, progress)


async def resume(wallet: Wallet, progress: Progress) -> list[Outgoing]:
    """Send what an earlier command left unsent, each parcel from where it stopped; what was sent. A parcel that no
    report names was never made: its command ended before it said so, and nobody could find what it is answered with.

    One that cannot be sent keeps none of the others; then its error is raised, the first of several, as `parcels.send`.
    """
    parcels.drop_others(wallet, {row["hash"] for _, document in _documents(wallet) for row in document["parcels"]})
    sent: list[Outgoing] = []
    failed: list[Error] = []
    for one in parcels.waiting(wallet):
        try:
            await parcels.send(wallet, one, progress)
            sent.append(one)
        except Error as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return sent


async def withdraw(wallet: Wallet, claim: bytes, now: int) -> int:
    """Take a report and everything about it back; of how many parcels the insurer is told to erase what it took."""
    found, taken = one_of(wallet, claim), 0
    for row in reversed(found["parcels"]):
        if not row.get("withdrawn"):
            taken += await parcels.withdraw(wallet, _pair(wallet, found), bytes.fromhex(row["hash"]), now)
            row["withdrawn"] = True
            _write(wallet, claim, found)
    return taken


def keep_news(wallet: Wallet, one: Fetched) -> None:
    """Where a reported claim stands, found by the secret that went with its report. Raises `Refused`."""
    secret = one.opened.values.get("encounter")
    for claim, document in _documents(wallet):
        mine = isinstance(secret, bytes) and document["encounter"] == secret.hex()
        if mine and document["insurer"] == one.opened.presentation.sender.hex():
            _write(wallet, claim, {**document, "news": claims.with_news(document["news"], claim, one.opened)})
            return
    raise Refused("consent.unknown", "the news is about a claim that this wallet did not report")


def listed(wallet: Wallet) -> list[Claim]:
    """Every reported claim, the newest first."""
    found = sorted(_documents(wallet), key=lambda pair: -int(pair[1]["at"]))
    return [_claim(wallet, claim, document) for claim, document in found]


def find(wallet: Wallet, name: str) -> Claim:
    """A reported claim by enough of its first digits. Raises `Refused` (consent.unknown)."""
    found = [one for one in listed(wallet) if name and one.request.hex().startswith(name.lower())]
    if len(found) != 1:
        raise Refused("consent.unknown", "no reported claim of this wallet, or several, start with these digits")
    return found[0]


def one_of(wallet: Wallet, claim: bytes) -> dict[str, Any]:
    """What is kept of a reported claim. Raises `Refused` (consent.unknown)."""
    path = _folder(wallet) / f"{claim.hex()}.json"
    if not path.exists():
        raise Refused("consent.unknown", "this wallet reported no such claim")
    return dict(read_json(path))


def _claim(wallet: Wallet, claim: bytes, document: Mapping[str, Any]) -> Claim:
    unsent = {one.hash.hex() for one in parcels.waiting(wallet)}
    state = claims.told(document["news"]) if document["news"] else "reported"
    answers = {row["kind"] for row in document["parcels"] if row.get("after") == len(document["news"])}
    if all(row.get("withdrawn") for row in document["parcels"]) and state not in _SETTLED:
        state = "withdrawn"
    elif document["parcels"][0]["hash"] in unsent:
        state = "unsent"
    elif state == "decided" and any(row["kind"] == "accept" for row in document["parcels"]):
        state = "accepted"
    elif (state, "dispute" in answers) == ("decided", True):
        state = "disputed"
    elif (state, "supplement" in answers) == ("waiting", True):
        state = "supplied"
    insurer = wallet.name(bytes.fromhex(document["insurer"]))
    paid = document["paid"] | {"patient": document["total"] - sum(document["paid"].values())}
    return Claim(
        claim, document["at_hospital"], insurer, (document["day"],), document["total"], paid, 0, state,
        tuple(document["news"]), reported=True,
    )  # fmt: skip


def _pair(wallet: Wallet, document: Mapping[str, Any]) -> Pair:
    return wallet.pair(bytes.fromhex(document["hospital"]), bytes.fromhex(document["insurer"]))


def _documents(wallet: Wallet) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for path in sorted(_folder(wallet).glob("*.json")):
        yield bytes.fromhex(path.stem), one_of(wallet, bytes.fromhex(path.stem))


def _write(wallet: Wallet, claim: bytes, document: Mapping[str, Any]) -> None:
    durable.folder(_folder(wallet))
    durable.write(_folder(wallet) / f"{claim.hex()}.json", json.dumps(document, ensure_ascii=False).encode())
