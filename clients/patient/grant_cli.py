"""``zhifu wallet grants`` and ``revoke``: what stands, and how it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clients import command, desk, durable, plain
from clients.command import Folder, Json, clear, print_json
from clients.patient import consent, keys, stop, wallet
from clients.patient.wallet import Pair, Wallet
from zhifu import consent as consents
from zhifu.errors import Error, Malformed
from zhifu.v1.signed_pb2 import GRANT_MODE_DIRECT_PAY


@clear
def grants(folder: Folder, as_json: Json = False) -> None:
    """List the grants this wallet gave, and say what other devices did about them."""
    opened = command.to_the_end(wallet.held(folder))
    rows = [_grant_row(opened, pair, given) for pair in opened.pairs for given in pair.grants]
    if as_json:
        print_json(rows)
    else:
        table = Table("grant", "hospital", "recipient", "purpose", "mode", "until", "state")
        for row in rows:
            parties = row["hospital"], row["recipient"], row["purpose"], row["mode"]
            command.row(table, row["grant"][:16], *parties, plain.moment(row["expiry"]), row["state"])
        Console().print(table)
    _tell_news(opened)


def _tell_news(opened: Wallet) -> None:
    """A key that another device or the recovery code added is told at once: it may be a stranger's."""
    for pair in opened.pairs:
        if not pair.enrolled:
            continue
        try:
            for one in asyncio.run(keys.listed(opened, pair)):
                if one.news:
                    command.chatter.print(f"[bold]new key[/] ({one.role}, {one.status}): {one.key.hex()}")
        except Error as error:
            # Offline, the list above is what this device knows.
            command.chatter.print(f"key log not read: {error.reason}")


def _grant_row(opened: Wallet, pair: Pair, given: wallet.Given) -> dict[str, Any]:
    signed = consent.grant_of(given)
    found = consents.verify_grant(signed, pair.public)
    over = time.time() > found.expiry
    return {
        "grant": consents.hash_of(signed.payload).hex(),
        "hospital": opened.name(found.sender),
        "recipient": opened.name(found.recipient),
        "purpose": found.purpose,
        "mode": "direct_pay" if found.mode == GRANT_MODE_DIRECT_PAY else "request",
        "expiry": found.expiry,
        "state": "revoked" if given.revoked else "expired" if over else "active",
    }


@clear
def revoke(
    folder: Folder,
    grant_hash: Annotated[
        str | None, typer.Argument(metavar="GRANT", help="The grant's hash, 64 hex digits.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="End every grant.")] = False,
    hospital: Annotated[Path | None, typer.Option(help="End every grant of this hospital: its card.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the revocation, to show it to the hospital directly.")
    ] = None,
    as_json: Json = False,
) -> None:
    """End a grant for good, or all. What was delivered before cannot be taken back, and is counted here."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    if (grant_hash is not None) + all_ + (hospital is not None) != 1:
        raise Malformed("usage.argument", "one of: a GRANT, --all, or --hospital CARD")
    if output is not None:
        durable.check_writable(output)
    if grant_hash is not None:
        done = [asyncio.run(stop.one(opened, hash_of(grant_hash), now))]
    else:
        whose = bytes.fromhex(wallet.party(hospital).id) if hospital is not None else None
        done = asyncio.run(stop.every(opened, now, whose))
    if output is not None and done:
        desk.write_revocation(output, done[0].signed)
    rows = [_stopped(one) for one in done]
    if as_json:
        print_json(rows[0] if grant_hash is not None else rows)
        return
    for row in rows:
        typer.echo(f"revoked (entry {row['entry']}); delivered before: {row['delivered_before']}; "
                   f"withheld: {row['withheld']}")  # fmt: skip
    if not rows:
        command.chatter.print("there was nothing to end")


def _stopped(one: stop.Stopped) -> dict[str, Any]:
    return {
        "entry": one.entry,
        "grants": [digest.hex() for digest in one.grants],
        "delivered_before": one.delivered,
        "withheld": one.withheld,
    }


def hash_of(text: str) -> bytes:
    """A hash as it is typed. Raises `Malformed` (usage.argument)."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Malformed("usage.argument", "a grant is named by 64 hex digits")
    return found
