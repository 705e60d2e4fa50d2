"""A payer's day: the rows that looking through its whole ledger would give, whatever became of a reservation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from clients import daybook
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.store import Store

NOW: Final = 1_790_000_000
DAY_S: Final = 86_400


def test_a_day_has_every_holding_that_changed_on_it(tmp_path: Path) -> None:
    dice, store = random.Random(7), Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    ledger = Ledger(store)
    with store.transaction(durable=False):
        for number in range(300):
            name, at = number.to_bytes(32, "big"), NOW + dice.randrange(30 * DAY_S)
            held = dice.choice((3600, 10 * DAY_S))
            ledger.reserve(
                ledger.account("year", str(number % 40)), Holding(name, "reserved", {"pay": 1}, at + held, at), at
            )
            steps = dice.choice(((), ("cancel",), ("confirm",), ("confirm", "reverse")))
            for place, step in enumerate(steps):
                ledger.step(name, step, at + dice.randrange(held) + place * 20 * DAY_S)
    end = NOW + 60 * DAY_S
    for ago in range(60):
        day = daybook.day_of(end - ago * DAY_S)
        every = {one.at(end).id for one in ledger.holdings() if daybook.day_of(one.at(end).since) == day}
        begin = daybook.begins(day)
        found = {one.at(end).id for one in ledger.changed(begin) if daybook.day_of(one.at(end).since) == day}
        assert found == every
    store.close()
