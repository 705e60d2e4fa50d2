"""Rotation of the storage key: killed in the middle it is taken up again, nothing is lost, the old key opens nothing.

The store holds a row of every kind that lies wrapped; the process that is killed is a real one.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from clients import config, rotation
from clients.config import NodeConfig
from clients.keystore import FileKeystore, StorageKey
from clients.store import Insured, Job, Mandate, Store, rewrapping
from clients.store.database import Row
from clients.store.vault import row
from tests import formats
from tests.formats import INSURER, NOW, claim, recipient
from tests.house import run
from zhifu import schema, sealed
from zhifu.epoch import Epoch
from zhifu.errors import NotAuthentic, Refused
from zhifu.receive import receive

JOBS = 3 * rewrapping.BATCH
ROWS = JOBS + 8
KILLED = """
import sys, time
from pathlib import Path
from clients import config, rotation
settings = config.load(Path(sys.argv[1]))
def progress(done, whole):
    if done >= int(sys.argv[2]):
        print(done, flush=True)
        time.sleep(600)
rotation.rotate_storage(settings.keys, settings.database, progress)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's folder with something in every table."""
    keys = FileKeystore.draw(tmp_path / "keys")
    settings = NodeConfig(
        tmp_path, "insurer", "示例", "127.0.0.1:1", "127.0.0.1:1", formats.ORIGIN, formats.Log().verifier, {}
    )
    config.write(settings)
    store = Store(settings.database, keys)
    fill(store)
    store.close()
    return tmp_path


def fill(store: Store) -> None:
    opened = receive(claim().send().deliver(), recipient(INSURER), NOW)
    record = sealed.seal(schema.load("coordination"), {"encounter": bytes(32)}, bytes(32), NOW)
    with store.transaction():
        for number in range(JOBS):
            store.jobs.put(Job("ledger", number.to_bytes(4, "big"), "open", b"payload %d" % number, number))
        store.trust.put_epoch(Epoch.draw(NOW, NOW + 10))
        store.insured.put(Insured(bytes(32), b"policy"))
        store.insured.link(1, b"n" * 32, bytes(32))
        store.pseudonyms.give(b"peer", b"subject", {1: b"p" * 32, 2: b"q" * 32})
        store.records.put(record, NOW, NOW + 10)
        store.incoming.put_opened(opened, b"", b"said", NOW * 1000, NOW + 10, [30] * len(opened.released))
        mandate = Mandate.answering(opened.presentation, opened.hash, b"")
        store.outgoing.put(claim().send().shown, b"capsule", mandate, NOW + 10)


def readable(store: Store) -> None:
    """Every row, as whoever needs it reads it."""
    jobs = store.jobs.find("ledger", limit=2 * JOBS)
    assert {one.id: one.payload for one in jobs} == {
        number.to_bytes(4, "big"): b"payload %d" % number for number in range(JOBS)
    }
    assert len(store.trust.epochs(NOW)) == 1
    found = store.insured.find(1, b"n" * 32)
    assert found is not None
    assert found.policy == b"policy"
    assert store.pseudonyms.given(b"peer", b"subject") == {1: b"p" * 32, 2: b"q" * 32}
    for (sent,) in rows(store, "SELECT exchange FROM outgoing"):
        assert store.outgoing.mandate(sent).purpose == "commercial-settlement"
    for (came,) in rows(store, "SELECT exchange FROM incoming"):
        stored = store.incoming.get(came)
        assert stored is not None
        assert stored.opened is not None
    for (digest,) in rows(store, "SELECT hash FROM record"):
        assert store.records.get(digest) is not None


def rows(store: Store, query: str) -> list[Row]:
    found = store.jobs._database.rows(query)
    assert found
    return found


def opens(folder: Path, key: bytes) -> int:
    """How many jobs a key opens by itself."""
    own = sqlite3.connect(folder / "node.db")
    found = own.execute("SELECT id, payload FROM job WHERE kind = 'ledger'").fetchall()
    own.close()
    vault, count = StorageKey(key), 0
    for id_, wrapped in found:
        try:
            vault.unwrap(row("job", b"ledger", id_), wrapped)
            count += 1
        except NotAuthentic:
            pass
    return count


@pytest.mark.parametrize(("done", "left"), [(0, ROWS - 1), (1, ROWS - 2), (JOBS // 2, rewrapping.BATCH), (ROWS, 0)])
def test_killed_in_the_middle_it_is_taken_up_again(folder: Path, done: int, left: int) -> None:
    old = FileKeystore.load(folder / "keys").storage
    if done:
        command = [sys.executable, "-c", KILLED, str(folder), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            with pytest.raises(Refused, match="being rotated"):
                Store(folder / "node.db", FileKeystore.load(folder / "keys"))
            os.kill(process.pid, signal.SIGKILL)
    else:
        rotation.draw_storage(folder / "keys")
    between = FileKeystore.load(folder / "keys")
    assert between.storage_before == old
    assert between.storage != old
    store = Store(folder / "node.db", between)
    readable(store)
    with pytest.raises(Refused, match="another process uses the store"):
        rotation.rotate_storage(folder / "keys", folder / "node.db", lambda done, whole: None)
    store.close()
    said = run("node", "rotate", folder, "storage").ok().json
    assert said["rewrapped"] == left
    after = FileKeystore.load(folder / "keys")
    assert (after.storage_before, after.storage) == (b"", between.storage)
    assert {path.name for path in (folder / "keys").glob("storage*")} == {"storage.key"}
    assert (opens(folder, after.storage), opens(folder, old)) == (JOBS, 0)
    store = Store(folder / "node.db", after)
    readable(store)
    store.close()


def test_who_read_the_key_before_does_not_write_with_it(folder: Path) -> None:
    before = FileKeystore.load(folder / "keys")
    assert run("node", "rotate", folder, "storage").ok().json["rewrapped"] == ROWS - 1
    with pytest.raises(Refused, match="it was rotated since"):
        Store(folder / "node.db", before)
    run("node", "rotate", folder, "storage").ok()
    store = Store(folder / "node.db", FileKeystore.load(folder / "keys"))
    readable(store)
    store.close()


def test_a_row_that_no_key_opens_keeps_the_old_key(folder: Path) -> None:
    own = sqlite3.connect(folder / "node.db")
    own.execute("UPDATE job SET payload = ? WHERE kind = 'ledger' AND id = ?", (bytes(60), (5).to_bytes(4, "big")))
    own.commit()
    own.close()
    failed = run("node", "rotate", folder, "storage")
    assert failed.code == 5
    assert (folder / "keys" / "storage.before.key").exists()
    assert FileKeystore.load(folder / "keys").storage_before
