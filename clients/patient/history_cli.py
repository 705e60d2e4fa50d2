"""``zhifu wallet history`` and ``statement``: what was shared with whom, and what the stay cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients import command, plain
from clients.command import Folder, Json, Language, clear, print_json
from clients.patient import kept, mailbox, screen, wallet
from clients.patient.claim_cli import collect, tell_passed
from clients.patient.each import each
from clients.patient.wallet import Wallet
from clients.web import words
from zhifu import presentation, schema
from zhifu.schema import ABSENT

_HEADS = (
    ("时间", "提供方", "接收方", "用途", "状态", "提供的信息"),
    ("time", "from", "to", "purpose", "state", "shared"),
)
_STATES = words.load("clients.patient.web")
"""As the pages say them."""


@clear
def history(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """List every access under this wallet's keys: who was given what, when, at which precision."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    found = asyncio.run(
        each(opened, lambda pair: mailbox.accesses(opened, pair, now), lambda pair: tell_passed(opened, pair))
    )
    rows = [_access_row(opened, one, lang) for of_pair in found for one in of_pair]
    if as_json:
        print_json(rows)
        return
    table = Table(*screen.pick(_HEADS, lang))
    for row in rows:
        shared = "; ".join(f"{unit['title']}: {unit['level_title']}" for unit in row["shown"])
        purpose: str = screen.pick(screen.PURPOSES.get(row["purpose"], (row["purpose"], row["purpose"])), lang)
        state = _STATES.say(lang, f"access-{row['state']}")
        command.row(table, row["time"], row["sender"], row["recipient"], purpose, state, shared)
    command.show(table, screen.pick(("还没有人查看过。", "Nobody was given anything yet."), lang))


def _access_row(opened: Wallet, one: mailbox.Access, lang: str) -> dict[str, Any]:
    kind = schema.by_hash(one.schema_hash)
    ours = any(pair.subject == one.presentation.recipient for pair in opened.pairs)
    shared = {
        unit.name: plain.level_name(unit, rank, lang)
        for unit, rank in zip(kind.units, one.released, strict=True)
        if rank != ABSENT
    }
    return {
        "exchange": one.hash.hex(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.time_ms / 1000)),
        "sender": opened.name(one.presentation.sender),
        "recipient": ("本人" if lang == "zh" else "you") if ours else opened.name(one.presentation.recipient),
        "purpose": one.presentation.purpose,
        "basis": presentation.BASIS_NAMES[one.presentation.basis_kind],
        "schema": kind.name,
        "state": one.state,
        "shared": shared,
        "shown": screen.rows(kind, one.released, one.preview, lang),
        "deletion": one.deletion,
    }


@clear
def statement(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """Fetch the statements that wait for the patient, check and open them."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    collect(opened, now)
    found = [_statement_row(exchange, document, lang) for exchange, document in kept.untold(opened)]
    if as_json:
        print_json(found)
        return
    for row in found:
        table = Table(title=Text(plain.line(row["hospital"])), show_header=False)
        for title, text in row["shown"]:
            command.row(table, title, text)
        Console().print(table)
    command.chatter.print(f"{len(found)} new")


def _statement_row(exchange: str, document: Mapping[str, Any], lang: str) -> dict[str, Any]:
    kind, values = schema.load("statement"), document["values"]
    shown = [
        (unit.title(lang), plain.shown(unit.levels[0].form, values.get(unit.name), lang))
        for unit in kind.units
        if unit.name != "encounter"
    ]
    return {
        "exchange": exchange,
        "hospital": document["hospital"],
        "payments": [list(row) for row in values.get("payments") or ()],
        "clauses": [list(row) for row in values.get("clauses") or ()],
        "patient_fen": values.get("remainder"),
        "entry": document["entry"],
        "shown": [list(row) for row in shown],
    }
