"""What reached the wallet, kept for its owner only: the broker deletes it once it is acknowledged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clients import durable
from clients.patient import claims, consent, mailbox, reports
from clients.patient.mailbox import Fetched
from clients.patient.wallet import Pair, Wallet, read_json
from zhifu.receive import Opened

_STATEMENTS: Final = "statements"


async def collect(wallet: Wallet, pair: Pair, now: int) -> tuple[Opened, ...]:
    """Fetch what waits for this pair, and keep each thing before it is acknowledged. Raises as `mailbox.fetch`.

    What was given and not registered is handed in first. For a further key there is nothing: it sees and stops, and
    what is sealed to the patient is not for it.
    """
    if pair.subject_id:
        return ()
    await consent.hand_in(wallet, pair, wallet.now(now))
    box = await mailbox.fetch(wallet, pair, now, lambda one: _keep(wallet, one, now))
    claims.refresh(wallet, box.statements, now)
    return box.opened


def _keep(wallet: Wallet, one: Fetched, now: int) -> None:
    """By what it is. Raises `Error` where it is refused after all: an offer whose request does not verify."""
    name = one.opened.manifest.schema.name
    if name == claims.OFFER:
        claims.keep_offer(wallet, one, now)
    elif name == claims.PROGRESS:
        (claims if one.basis else reports).keep_news(wallet, one)
    else:
        _keep_statement(wallet, one.opened)


def _keep_statement(wallet: Wallet, one: Opened) -> None:
    folder = wallet.path / _STATEMENTS
    durable.folder(folder)
    values = {name: value for name, value in one.values.items() if not isinstance(value, bytes)}
    document = {"hospital": wallet.name(one.presentation.sender), "entry": one.entry.index, "values": values}
    document["at"] = one.presentation.issued_at
    durable.write(folder / f"{one.hash.hex()}.json", json.dumps(document, ensure_ascii=False).encode())


def statement_files(wallet: Wallet) -> list[Path]:
    """Every kept statement."""
    return sorted((wallet.path / _STATEMENTS).glob("*.json"))


def untold(wallet: Wallet) -> list[tuple[str, Mapping[str, Any]]]:
    """Statements that were kept and not shown on the command line yet: (exchange in hex, document); now they were."""
    found = []
    for path in statement_files(wallet):
        document = read_json(path)
        if not document.get("told"):
            found.append((path.stem, document))
            durable.write(path, json.dumps({**document, "told": True}, ensure_ascii=False).encode())
    return found
