"""A house with auditors: one settlement that happened, an auditor of the broker, and one of the hospital alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.hospital.sample import sample_bill
from tests.house import House, open_house, operate, run, until


@dataclass(frozen=True, slots=True)
class Audited:
    """``auditor`` sees all; ``inspector`` the hospital's exchanges only. ``grant`` is the one that was used, hex."""

    house: House
    auditor: Path
    inspector: Path
    bill: bytes
    grant: str
    key: str


@contextmanager
def open_audited(path: Path) -> Iterator[Audited]:
    with open_house(path) as house:
        bill = sample_bill(1)
        patient = house.enrol(bill)
        consent, grant = house.agree(patient, house.ask(patient, bill))
        settled = house.settle(bill, consent).ok().json
        assert settled["state"] == "confirmed"
        auditor = enrol(house, "auditor", "示例审计办公室")
        inspector = enrol(house, "inspector", "示例医院内审", "--of", house.cast.ids["hospital"].hex())
        until(lambda: run("audit", "search", auditor, "--event", "exchange.acknowledged").ok().out, "it is indexed")
        yield Audited(house, auditor, inspector, bill, grant, patient.key)


@contextmanager
def left_out(audited: Audited, index: int) -> Iterator[None]:
    """Within the block the broker's answers leave this entry out, and say that they are complete."""
    database = audited.house.path / "broker" / "audit-index.db"
    with closing(sqlite3.connect(database)) as opened, opened:
        kept = opened.execute("SELECT * FROM said WHERE entry = ?", (index,)).fetchall()
        opened.execute("DELETE FROM said WHERE entry = ?", (index,))
    try:
        yield
    finally:
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.executemany("INSERT INTO said VALUES (?, ?, ?)", kept)


def enrol(house: House, name: str, legal: str, *more: str) -> Path:
    """An auditor's folder that pins everybody who takes part, and whom each of them pins."""
    invitation, folder = house.file("invitation"), house.path / name
    operate("invite", house.path / "broker", "--role", "auditor", "--name", legal, *more, "-o", invitation)
    run("node", "enrol", folder, "--invitation", invitation).ok()
    run("node", "pin", folder, *house.cast.cards.values()).ok()
    return folder
