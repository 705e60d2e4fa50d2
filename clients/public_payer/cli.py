"""``zhifu payer``: what the public payer's office does beside its node."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from clients import command, config, daybook
from clients.command import Folder, Output, clear
from clients.keystore import FileKeystore
from clients.ledger import Ledger
from clients.public_payer import personal
from clients.store import Store
from zhifu import money
from zhifu.errors import Malformed

app = command.app("The public payer's office: personal accounts, and the signed statement of a day.")


@app.command()
@clear
def account(
    folder: Folder,
    person: Annotated[str, typer.Argument(help="The citizen ID, or what the claims name the person by.")],
    paid_in: Annotated[str | None, typer.Option(help="All that was ever paid in, yuan with two places.")] = None,
) -> None:
    """Show what a personal account has left, or say what was paid into it."""
    settings, now = config.load(folder, "public-payer"), int(time.time())
    store = Store(settings.database, FileKeystore.load(settings.keys))
    try:
        if paid_in is not None:
            fen = money.fen(paid_in)
            if fen is None or fen < 0:
                raise Malformed("usage.argument", "--paid-in is yuan with two places")
            with store.transaction():
                personal.set_credit(store, person, fen, now)
        typer.echo(money.yuan(personal.balance(Ledger(store), person, now)))
    finally:
        store.close()


@app.command()
@clear
def statement(folder: Folder, day: daybook.Day, hospital: daybook.Hospital, output: Output) -> None:
    """Sign what changed on a day for one hospital, for it to reconcile."""
    written = daybook.write(folder, "public-payer", daybook.parse_day(day), daybook.parse_id(hospital), output)
    typer.echo(f"{len(written.rows)} reservations")
