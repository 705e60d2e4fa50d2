"""``zhifu reconcile``: the hospital's day against its payers' signed statements."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients import command, config, daybook, plain
from clients.command import Folder, Json, clear, print_json
from clients.directory import Directory
from clients.hospital import reconcile as reconciling
from clients.keystore import FileKeystore, participant_of
from clients.store import Store
from zhifu import daybook as formats
from zhifu.daybook import DayStatement
from zhifu.errors import Malformed, NotAuthentic
from zhifu.receive import signers_of

app = command.app("Compare a day of the hospital's with its payers' signed statements.")


@app.command()
@clear
def reconcile(
    folder: Folder,
    day: Annotated[str, typer.Argument(help="The day, YYYY-MM-DD.")],
    statements: Annotated[list[Path], typer.Argument(help="The payers' statements: zhifu payer|insurer statement.")],
    as_json: Json = False,
) -> None:
    """List every difference, and end with 5 where there is one; a payer whose statement is not given is named."""
    settings, now = config.load(folder, "hospital"), int(time.time())
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    try:
        directory = Directory(settings.pins, keystore, store)
        read = [_verified(path, directory, participant_of(keystore), day, now) for path in statements]
        if len({one.payer for one in read}) < len(read):
            raise Malformed("usage.argument", "two statements of the same payer: one for each")
        on = daybook.parse_day(day)
        here = reconciling.known(store, read, on)
        found, silent = reconciling.differences(here, read, on), reconciling.uncompared(here, read, on)
    finally:
        store.close()
    names = {who: pin.name for who, pin in settings.pins.items()}
    rows = [
        {"what": one.what, "payer": names.get(one.payer, ""), "reservation": one.reservation.hex(),
         "settlement": one.settlement.hex(), "here_fen": one.here_fen, "there_fen": one.there_fen, "here": one.here,
         "there": one.there}
        for one in found
    ]  # fmt: skip
    compared = sum(len(one.rows) for one in read)
    if as_json:
        missing = {names.get(who, who.hex()): count for who, count in silent.items()}
        shown = {"day": day, "statements": len(read), "rows": compared, "differences": rows}
        print_json({**shown, "without_statement": missing})
    else:
        _print(rows, compared)
        for who, count in silent.items():
            typer.echo(f"{count} not compared: no statement of {plain.line(names.get(who, who.hex()))}")
    if rows:
        raise NotAuthentic("ledger.mismatch", f"{len(rows)} differences on {day}")


def _verified(path: Path, directory: Directory, me: bytes, day: str, now: int) -> DayStatement:
    """A statement by one of the pinned payers, to this hospital, of this day. Raises `NotAuthentic`, `Malformed`."""
    signed = daybook.read(path)
    signers = signers_of(signed, directory.statements(now).values())
    found = formats.verify(signed, signers[0].signing_key)
    if (
        found.payer not in [one.participant for one in signers]
        or found.hospital != me
        or found.day != daybook.parse_day(day)
    ):
        raise NotAuthentic("ledger.mismatch", f"{path.name} is of another day, payer or hospital")
    return found


def _print(rows: Sequence[Mapping[str, object]], compared: int) -> None:
    table = Table("what", "payer", "here", "there", "settlement")
    for row in rows:
        sides = [
            f"{row[f'{side}']} {plain.yuan(fen) if isinstance(fen := row[f'{side}_fen'], int) else '-'}"
            for side in ("here", "there")
        ]
        command.row(table, str(row["what"]), str(row["payer"]), *sides, str(row["settlement"])[:16])
    if rows:
        Console().print(table)
    typer.echo(f"{compared} reservations compared, {len(rows)} differences")
