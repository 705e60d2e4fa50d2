"""An insurer's queue: who waits is known without reading what each of them is about."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from clients.insurer import review
from clients.insurer.review import Item
from clients.keystore import FileKeystore
from clients.store import Store


def item(place: int, state: str, deadline: int = 0) -> Item:
    return Item(place.to_bytes(32, "big"), state, "", b"", 100, 0, {}, 0, (), 0, deadline)


def test_who_waits_is_known_without_reading(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    with store.transaction():
        for place, state in enumerate((review.OPEN, review.DECIDED, review.ASKED, review.ANSWERED, review.OPEN)):
            review.put(store, item(place, state), 1000 - place)
    with sqlite3.connect(tmp_path / "node.db") as own:
        own.execute("UPDATE job SET payload = x'00' WHERE kind = ?", (review.KIND,))
    own.close()
    found = [(int.from_bytes(claim, "big"), state) for claim, state in review.waiting(store)]
    assert found == [(4, review.OPEN), (2, review.ASKED), (0, review.OPEN)]
    store.close()
