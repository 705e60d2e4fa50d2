"""``zhifu wallet claims`` and ``claim``: claim after you paid, and see where it stands."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from clients import command, plain
from clients.command import Folder, Json, Language, clear, print_json
from clients.patient import claims as kept_claims
from clients.patient import kept, screen, wallet
from clients.patient.claims import Claim
from clients.patient.each import each
from clients.patient.wallet import Pair, Wallet

_HEADS = (
    ("编号", "医院", "保险公司", "您支付（元）", "赔付（元）", "状态"),
    ("claim", "hospital", "insurer", "you paid (yuan)", "pays (yuan)", "state"),
)
Name = Annotated[str, typer.Argument(metavar="CLAIM", help="The claim, hex; enough of its first digits.")]


@clear
def claims(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """List what you may claim and what you claimed: by when it is promised, what was decided and why."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    collect(opened, now)
    show([row(one, lang) for one in kept_claims.listed(opened, now)], lang, as_json)


def show(rows: list[dict[str, Any]], lang: str, as_json: bool) -> None:
    """Claims as a table, with what is said of each; or as JSON."""
    if as_json:
        print_json(rows)
        return
    table = Table(*screen.pick(_HEADS, lang))
    for one in rows:
        pays = "" if one["pay_fen"] is None else plain.yuan(one["pay_fen"] + (one["late_fen"] or 0))
        paid = plain.yuan(one["paid"].get("patient", 0))
        command.row(table, one["claim"][:8], one["hospital"], one["insurer"], paid, pays, one["state_words"])
    command.show(table, screen.pick(("没有理赔。", "no claims"), lang))
    for one in rows:
        for sentence in one["words"]:
            # What an insurer asks for is its own words.
            command.chatter.print(f"{one['claim'][:8]}: {plain.line(sentence)}", markup=False, highlight=False)


@clear
def claim(folder: Folder, name: Name, lang: Language = "zh", as_json: Json = False) -> None:
    """Claim now: agree to what is asked (zhifu wallet review shows it), and the hospital files it."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    found = kept_claims.find(opened, name, now)
    given = asyncio.run(kept_claims.file(opened, found, now))
    shown = row(kept_claims.find(opened, found.request.hex(), now), lang)
    if as_json:
        print_json({**shown, "grant": given.grant_hash.hex(), "entry": given.entry})
    else:
        typer.echo(given.grant_hash.hex())
        command.chatter.print(shown["state_words"])


def collect(opened: Wallet, now: int) -> None:
    """Fetch what waits for every key in force, and say which are not."""
    asyncio.run(each(opened, lambda pair: kept.collect(opened, pair, now), lambda pair: tell_passed(opened, pair)))


def tell_passed(opened: Wallet, pair: Pair) -> None:
    """A key that is not in force, on stderr."""
    names = " → ".join(plain.line(opened.name(bytes.fromhex(one))) for one in (pair.hospital, pair.recipient))
    command.chatter.print(f"a key is not in force, and was passed over: {names}", markup=False, highlight=False)


def row(one: Claim, language: str) -> dict[str, Any]:
    """A claim as JSON; amounts in fen, times Unix s."""
    return {
        "claim": one.request.hex(),
        "hospital": one.hospital,
        "insurer": one.insurer,
        "stay": list(one.stay),
        "total_fen": one.total,
        "paid": dict(one.paid),
        "until": one.until,
        "state": one.state,
        "state_words": kept_claims.where(one, language),
        "due": one.latest.get("due") or None,
        "pay_fen": one.amount("pay"),
        "late_fen": one.amount("late"),
        "documents": one.latest.get("documents", []),
        "words": kept_claims.words(one, language),
        "news": [dict(said) for said in one.news],
    }
