"""A payer's day towards one hospital, from its ledger (`zhifu.daybook`). A day is that of China Standard Time."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final

import typer

from clients import config, durable
from clients.keystore import FileKeystore, participant_of
from clients.ledger import LATE, Holding, Ledger
from clients.store import Store
from zhifu import envelope
from zhifu.daybook import LEDGER, DayStatement, Row
from zhifu.envelope import Envelope
from zhifu.errors import Malformed

Day = Annotated[str, typer.Argument(help="The day, YYYY-MM-DD, China Standard Time.")]
Hospital = Annotated[str, typer.Option("--hospital", help="The hospital's participant id, hex.")]
ZONE: Final = timezone(timedelta(hours=8))


def day_of(seconds: int) -> date:
    """The day of a time (Unix s)."""
    return datetime.fromtimestamp(seconds, ZONE).date()


def begins(day: date) -> int:
    """When a day begins, Unix s."""
    return int(datetime.combine(day, datetime.min.time(), ZONE).timestamp())


def parse_day(text: str) -> date:
    """Raises `Malformed` (usage.argument)."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Malformed("usage.argument", "a day is YYYY-MM-DD") from None


def parse_id(text: str) -> bytes:
    """A participant's id in hex. Raises `Malformed` (usage.argument)."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Malformed("usage.argument", "a participant id has 64 hex digits")
    return found


def state(store: Store, me: bytes, hospital: bytes, day: date, now: int) -> DayStatement:
    """What changed on ``day`` in this ledger for one hospital's claims; what expired counts on the day it did."""
    found = [one.at(now) for one in Ledger(store).changed(begins(day))]
    rows = sorted(_rows(store, found, hospital, day), key=lambda row: row.reservation)
    return DayStatement(me, hospital, day, tuple(rows))


def _rows(store: Store, holdings: list[Holding], hospital: bytes, day: date) -> list[Row]:
    return [
        Row(one.id, one.state, one.amounts["pay"] + one.amounts.get(LATE, 0), one.since)
        for one in holdings
        if day_of(one.since) == day and _asked_by(store, one.id) == hospital
    ]


def _asked_by(store: Store, reservation: bytes) -> bytes:
    """Who presented the claim that a reservation is named after, also once it is erased; empty for what names none."""
    found = store.outgoing.asked(reservation)
    return found.presentation.sender if found is not None else b""


def write(folder: Path, role: str, day: date, hospital: bytes, path: Path) -> DayStatement:
    """Sign the statement of the node in ``folder``, which has ``role``, and write it to a file.

    Raises `Malformed` (usage.argument): another role's folder, or a day that has not begun.
    """
    settings = config.load(folder, role)
    keystore, now = FileKeystore.load(settings.keys), int(time.time())
    if day > day_of(now):
        raise Malformed("usage.argument", f"{day} has not begun")
    store = Store(settings.database, keystore)
    try:
        found = state(store, participant_of(keystore), hospital, day, now)
    finally:
        store.close()
    durable.write(path, found.sign(keystore.signing).to_bytes())
    return found


def read(path: Path) -> Envelope:
    """Raises `Malformed` (usage.file)."""
    try:
        return envelope.from_bytes(LEDGER, durable.read(path, LEDGER.cap + 1024))
    except Malformed as error:
        if error.reason == "usage.file":
            raise
        raise Malformed("usage.file", f"{path.name} is no statement of a payer's day") from error
