"""The benchmark of a broker with a long past, in its short form: what it fills is a log that goes on."""

from __future__ import annotations

from pathlib import Path

from broker.store import tables
from broker.store.sqlite import SqliteStore
from tests.bench import size


def test_a_filled_store_takes_exchanges(tmp_path: Path) -> None:
    found = size.measure(tmp_path, entries=3000, queued=700, rounds=1, patients=4)
    assert found.ratio > 0
    store = SqliteStore(tmp_path / "large" / "broker.db")
    try:
        rows = list(store.reader.scan(tables.Delivery))
        # Nothing of what was queued for others was touched; what was measured is acknowledged and gone.
        assert len(rows) == 700
        head = store.reader.get(tables.Head, 1)
        assert head is not None
        assert head.size > 3000
    finally:
        store.close()
