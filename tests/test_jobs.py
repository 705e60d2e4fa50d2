"""Jobs of a node by when they changed: as many as there are, a page at a time, none twice and none left out."""

from __future__ import annotations

from pathlib import Path

from clients.keystore import FileKeystore
from clients.store import Job, Store

STATES = ("open", "confirmed")


def test_what_changed_since_is_what_looking_through_all_finds(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", FileKeystore.draw(tmp_path / "keys"))
    # Six hundred, of which forty changed in the same millisecond each.
    made = [Job("settlement", n.to_bytes(32, "big"), STATES[n % 3 == 0], b"", n // 40) for n in range(600)]
    with store.transaction(durable=False):
        for one in (*made, Job("other", bytes(32), "open", b"", 99)):
            store.jobs.put(one)
    for state in STATES:
        for since in (0, 7, 14, 15):
            found = list(store.jobs.since("settlement", state, since))
            assert found == [one for one in made if one.state == state and one.updated >= since]
    store.close()
