"""``zhifu wallet key`` and ``recover``: further devices, guardians, and the way back after a loss."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clients import command, desk, durable
from clients.command import Folder, Json, Output, clear, print_json
from clients.patient import keys, stop, wallet
from clients.patient.claim_cli import tell_passed
from clients.patient.each import each
from clients.patient.wallet import Pair, Wallet
from zhifu.errors import Malformed, Refused
from zhifu.keys import participant_id

app = command.app("Further keys of a subject: another device or a guardian may see and stop, never grant.")

Card = Annotated[Path, typer.Option(help="The organisation's card (zhifu node card).")]
Contact = Annotated[Path | None, typer.Option(help="The broker's contact file; needed the first time.")]
Code = Annotated[Path | None, typer.Option("--recovery", help="The recovery code's file; asked for if absent.")]
MAX_CODE = 256
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, 64 hex digits.")]


def read_code(path: Path | None) -> str:
    """A recovery code from its file, or from the terminal without an echo. Raises `Refused` (usage.file)."""
    if path is None:
        return str(typer.prompt("recovery code", hide_input=True, err=True)) if sys.stdin.isatty() else sys.stdin.read()
    return code_of(durable.read_private(path, MAX_CODE))


def code_of(content: bytes) -> str:
    """A recovery code as a file has it. Raises `Refused` (usage.file)."""
    try:
        return content.decode("ascii")
    except ValueError:
        # The cause is left out on purpose: it could quote the code.
        raise Refused("usage.file", "what is in the file is no recovery code") from None


def first_or_later(folder: Path, contact: Path | None) -> Wallet:
    """The wallet until the command ends, made now if there is none. Raises as `wallet.held`."""
    if contact is None and not (folder / wallet.FILE).exists():
        raise Refused("usage.argument", "the first time, --contact FILE says where the broker is")
    return command.to_the_end(wallet.held(folder, contact))


def _key(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Malformed("usage.argument", "a key has 64 hex digits")
    return found


def _pair(opened: Wallet, hospital: Path, recipient: Path) -> Pair:
    names = wallet.party(hospital).id, wallet.party(recipient).id
    found = [pair for pair in opened.pairs if pair.enrolled and (pair.hospital, pair.recipient) == names]
    if not found:
        raise Refused("consent.key_status", "this wallet has no key for them")
    return min(found, key=lambda pair: bool(pair.subject_id))


@app.command()
@clear
def offer(
    folder: Folder,
    subject_key: Key,
    hospital: Card,
    recipient: Card,
    output: Output,
    role: Annotated[str, typer.Option(help="device or guardian.")] = "device",
    contact: Contact = None,
) -> None:
    """On the other device: draw a key for a patient's subject key, and write the line that she is to sign too."""
    opened = first_or_later(folder, contact)
    subject = participant_id(_key(subject_key))
    parties = wallet.party(hospital), wallet.party(recipient)
    durable.check_writable(output)
    pair, offered = asyncio.run(keys.offer(opened, *parties, subject, role, int(time.time())))
    desk.write_offer(output, offered.accepted)
    typer.echo(pair.public.hex())


@app.command()
@clear
def add(
    folder: Folder,
    hospital: Card,
    recipient: Card,
    offered: Annotated[
        Path, typer.Argument(metavar="OFFER", help="What zhifu wallet key offer wrote on the other device.")
    ],
) -> None:
    """On the patient's device: let another device or a guardian see and stop."""
    opened = command.to_the_end(wallet.held(folder))
    line = keys.Offer(desk.read_offer(offered))
    entry, _ = asyncio.run(keys.add(opened, _pair(opened, hospital, recipient), line))
    typer.echo(f"added (entry {entry.index})")


@app.command()
@clear
def strike(folder: Folder, hospital: Card, recipient: Card, key: Key) -> None:
    """Revoke a key at once: a lost device's, a pending recovery's. Revoking the subject key ends its grants."""
    opened = command.to_the_end(wallet.held(folder))
    pair = _pair(opened, hospital, recipient)
    entry = asyncio.run(keys.strike(opened, pair, _key(key), int(time.time())))
    typer.echo(f"revoked (entry {entry.index})")


@app.command(name="list")
@clear
def show(folder: Folder, as_json: Json = False) -> None:
    """List every further key, and what is new since this device looked last."""
    opened = command.to_the_end(wallet.held(folder))

    async def of(pair: Pair) -> tuple[Pair, list[keys.Further]]:
        return pair, await keys.listed(opened, pair)

    found = asyncio.run(each(opened, of, lambda pair: tell_passed(opened, pair)))
    rows: list[dict[str, Any]] = [
        {
            "hospital": opened.name(bytes.fromhex(pair.hospital)),
            "recipient": opened.name(bytes.fromhex(pair.recipient)),
            "key": one.key.hex(),
            "role": one.role,
            "status": one.status,
            "active_ms": one.active_ms,
            "news": one.news,
        }
        for pair, further in found
        for one in further
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("hospital", "recipient", "key", "role", "status", "")
    for row in rows:
        new = "new" if row["news"] else ""
        command.row(table, row["hospital"], row["recipient"], str(row["key"])[:16], row["role"], row["status"], new)
    Console().print(table)


@clear
def recover(
    folder: Folder,
    hospital: Card,
    recipient: Card,
    subject_key: Annotated[
        str, typer.Argument(metavar="SUBJECT_KEY", help="The lost key, where it is known: 64 hex digits.")
    ] = "",
    contact: Contact = None,
    recovery: Code = None,
    stop_all: Annotated[
        bool, typer.Option("--stop", help="End every grant of this key now, and nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """After a loss, with the recovery code: stop every grant at once, or get a new device in after a day.

    Other devices are told and can strike it until then. To grant again, have a new key attested by two channels.
    """
    opened, now = first_or_later(folder, contact), int(time.time())
    parties, code = (wallet.party(hospital), wallet.party(recipient)), read_code(recovery)
    if subject_key:
        subject = participant_id(_key(subject_key))
    else:
        subject = asyncio.run(keys.subject_of(opened, keys.recovery_pair(*parties, b"", code)))
    vouching = keys.recovery_pair(*parties, subject, code)
    if stop_all:
        done = asyncio.run(stop.stop(opened, vouching, now))
        found = {"grants": [one.hex() for one in done.grants], "entry": done.entry, "withheld": done.withheld}
    else:
        pair, active_ms = asyncio.run(keys.recover(opened, *parties, vouching, now))
        found = {"key": pair.public.hex(), "active_ms": active_ms}
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in found.items()))
