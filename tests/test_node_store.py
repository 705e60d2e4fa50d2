"""The store's duties: all or nothing, durable when a transaction ends, nothing that tells of a patient in the clear."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.keystore import FileKeystore
from clients.store import Job, Store
from zhifu import schema, sealed
from zhifu.epoch import Epoch
from zhifu.errors import NotAuthentic, Refused
from zhifu.receipt import Head

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FileKeystore:
    return FileKeystore.draw(tmp_path_factory.mktemp("node") / "keys")


@pytest.fixture
def store(tmp_path: Path, keys: FileKeystore) -> Iterator[Store]:
    opened = Store(tmp_path / "node.db", keys)
    yield opened
    opened.close()


def on_disk(folder: Path) -> bytes:
    """Every byte of the database, its write-ahead log included."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("node.db*")))


def attempt(store: Store, *jobs: Job) -> None:
    """A transaction that writes and then fails."""
    with store.transaction():
        for one in jobs:
            store.jobs.put(one)
            store.touch(one.id)
        raise ValueError("no")


def job(state: str = "open", payload: bytes = b"payload") -> Job:
    return Job("settlement", b"id", state, payload, 1)


def test_the_files_are_for_their_owner_only(tmp_path: Path, keys: FileKeystore) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "node.db", keys)
    finally:
        os.umask(before)
    with store.transaction():
        store.jobs.put(job())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("node.db*")}
    assert set(modes) == {"node.db", "node.db-wal", "node.db-shm"}
    assert set(modes.values()) == {0o600}
    store.close()


def test_every_commit_waits_for_the_disk(tmp_path: Path, store: Store) -> None:
    connection = store.jobs._database._connection
    with store.transaction():
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with store.transaction(durable=False):
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    with store.transaction():
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_failed_transaction_keeps_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="no"):
        attempt(store, job())
    assert store.jobs.get("settlement", b"id") is None


def test_a_part_can_fail_alone(store: Store) -> None:
    with store.transaction():
        store.jobs.put(job("kept"))
        with pytest.raises(ValueError, match="no"):
            attempt(store, job("lost"), job("lost too"))
    found = store.jobs.need("settlement", b"id")
    assert found.state == "kept"


def test_a_constant_that_was_undone_is_drawn_again(store: Store) -> None:
    def drawn() -> bytes:
        return store.jobs.constant("secret", b"names", lambda: os.urandom(32))

    lost = []

    def undone() -> None:
        with store.transaction():
            lost.append(drawn())
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        undone()
    kept = drawn()
    assert [kept] != lost
    assert kept == drawn() == store.jobs.need("secret", b"names").payload


def test_a_write_outside_a_transaction_is_a_mistake(store: Store) -> None:
    with pytest.raises(RuntimeError, match="outside of a transaction"):
        store.jobs.put(job())


async def test_a_transaction_is_not_held_over_an_await(store: Store) -> None:
    inside, done = asyncio.Event(), asyncio.Event()

    async def holds() -> None:
        with store.transaction():
            inside.set()
            await done.wait()

    holder = asyncio.create_task(holds())
    await inside.wait()
    with pytest.raises(RuntimeError, match="held over an await"), store.transaction():
        store.jobs.put(job())
    done.set()
    await holder


def test_listeners_hear_of_what_became_durable_and_of_nothing_else(store: Store) -> None:
    heard: list[frozenset[bytes]] = []
    store.on_commit(heard.append)
    with store.transaction():
        store.touch(b"one")
        with store.transaction():
            store.touch(b"two")
        assert heard == []
    with pytest.raises(ValueError, match="no"):
        attempt(store, job())
    with store.transaction():
        pass
    assert heard == [frozenset([b"one", b"two"]), frozenset()]


def test_another_writer_is_waited_for_and_then_refused(tmp_path: Path, store: Store) -> None:
    other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.jobs._database._connection.execute("PRAGMA busy_timeout=50")
    with pytest.raises(Refused, match=r"unavailable\.store"), store.transaction():
        store.jobs.put(job())
    other.execute("ROLLBACK")
    with store.transaction():
        store.jobs.put(job())
    other.close()


def test_a_store_of_another_version_is_refused(tmp_path: Path, keys: FileKeystore) -> None:
    Store(tmp_path / "node.db", keys).close()
    connection = sqlite3.connect(tmp_path / "node.db")
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(Refused, match="the store is of version 9"):
        Store(tmp_path / "node.db", keys)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, keys: FileKeystore) -> None:
    (tmp_path / "node.db").write_bytes(b"not a database, and long enough to be read as one" * 20)
    with pytest.raises(Refused, match=r"unavailable\.store: node\.db cannot be opened"):
        Store(tmp_path / "node.db", keys)


def test_head_and_cursor_never_go_back(tmp_path: Path, store: Store, keys: FileKeystore) -> None:
    assert store.trust.head() == Head()
    with store.transaction():
        store.trust.move_head(Head(7, b"r" * 32), b"note 7")
        store.trust.move_head(Head(5, b"s" * 32), b"note 5")
        store.trust.move_cursor("notices", 4)
        store.trust.move_cursor("notices", 3)
    store.close()
    again = Store(tmp_path / "node.db", keys)
    assert again.trust.head() == Head(7, b"r" * 32)
    assert again.trust.head_note() == b"note 7"
    assert (again.trust.cursor("notices"), again.trust.cursor("other")) == (4, 0)
    again.close()


def test_nothing_of_a_patient_or_a_key_is_on_the_disk_in_the_clear(
    tmp_path: Path, store: Store, keys: FileKeystore
) -> None:
    values = {"encounter": b"\x11" * 32, "name": "测试患者甲", "phone": "13800000000"}
    record = sealed.seal(schema.load("inpatient-claim"), values, bytes(32), NOW * 1000)
    epoch = Epoch.draw(NOW, NOW + 86_400)
    with store.transaction():
        digest = store.records.put(record, NOW, NOW + 1)
        store.trust.put_epoch(epoch)
        store.pseudonyms.give(b"r" * 32, b"s" * 32, {1: b"given pseudonym of 32 bytes, one"})
        store.pseudonyms.see(b"r" * 32, b"s" * 32, {1: b"seen pseudonym of 32 bytes, one."})
        store.jobs.put(job(payload="测试患者甲 12000".encode()))
    disk = on_disk(tmp_path)
    assert digest in disk
    for secret in (
        record.key,
        epoch.secret,
        b"given pseudonym",
        b"seen pseudonym",
        "测试患者甲".encode(),
        b"13800000000",
    ):
        assert secret not in disk
    assert store.records.get(digest) == record
    assert store.trust.epochs(NOW) == [epoch]
    assert store.jobs.need("settlement", b"id").payload.decode() == "测试患者甲 12000"
    with store.transaction():
        store.pseudonyms.see(b"r" * 32, b"s" * 32, {1: b"another", 2: b"after a rotation"})
    assert store.pseudonyms.given(b"r" * 32, b"s" * 32) == {1: b"given pseudonym of 32 bytes, one"}
    assert store.pseudonyms.seen(b"r" * 32, b"s" * 32) == {
        1: b"seen pseudonym of 32 bytes, one.", 2: b"after a rotation",
    }  # fmt: skip


def test_a_row_moved_to_another_place_does_not_open(tmp_path: Path, store: Store) -> None:
    with store.transaction():
        store.jobs.put(job())
        store.jobs.put(Job("settlement", b"other", "open", b"another payload", 1))
    store.jobs._database._connection.execute(
        "UPDATE job SET payload = (SELECT payload FROM job WHERE id = ?) WHERE id = ?", (b"other", b"id")
    )
    with pytest.raises(NotAuthentic, match=r"leaf\.open"):
        store.jobs.get("settlement", b"id")


def test_jobs_are_found_by_state_and_replaced_whole(store: Store) -> None:
    with store.transaction():
        for number in range(5):
            store.jobs.put(Job("reservation", bytes([number]), "open" if number % 2 else "held", b"", 10 - number))
        store.jobs.put(Job("reservation", b"\1", "held", b"new", 20))
        store.jobs.erase("reservation", b"\0")
    assert [one.id for one in store.jobs.find("reservation", "held")] == [b"\4", b"\2", b"\1"]
    assert [one.id for one in store.jobs.find("reservation")] == [b"\4", b"\3", b"\2", b"\1"]
    assert store.jobs.find("settlement") == []
    with pytest.raises(Refused, match=r"exchange\.unknown: no reservation of this id"):
        store.jobs.need("reservation", b"\0")


def test_what_is_overdue_is_erased_and_the_rest_stays(tmp_path: Path, store: Store) -> None:
    record = sealed.seal(schema.load("coordination"), {"encounter": bytes(32)}, bytes(32), NOW)
    with store.transaction():
        digest = store.records.put(record, NOW, NOW + 10)
        store.trust.put_epoch(Epoch.draw(NOW, NOW + 10))
    assert store.erase_overdue(NOW + 10) == 0
    assert store.erase_overdue(NOW + 11) == 2
    assert store.records.get(digest) is None
    assert store.records.sealed(digest) is None
    assert store.records.manifest(digest) == record.manifest
    store.close()
    assert record.leaves not in on_disk(tmp_path)


def test_evidence_is_kept_once_and_within_bounds(store: Store) -> None:
    with store.transaction():
        for number in range(1200):
            store.receipts.keep_evidence(number, "log.fork", Head(1, b"r" * 32), str(number // 2).encode())
    kept = store.receipts.evidence()
    assert len(kept) == 600
    assert (kept[3].content, kept[3].at, kept[3].head) == (b"3", 6, Head(1, b"r" * 32))


CRASHES = """
import os, signal, sys
from pathlib import Path
from clients.keystore import FileKeystore
from clients.store import Job, Store

folder = Path(sys.argv[1])
store = Store(folder / "node.db", FileKeystore.load(folder / "keys"))
for number in range(50):
    with store.transaction():
        store.jobs.put(Job("kept", bytes([number]), "open", b"payload", number))
with store.transaction():
    store.jobs.put(Job("lost", b"", "open", b"payload", 0))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_keeps_what_it_committed_and_nothing_else(tmp_path: Path) -> None:
    keys = FileKeystore.draw(tmp_path / "keys")
    done = subprocess.run([sys.executable, "-c", CRASHES, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    store = Store(tmp_path / "node.db", keys)
    assert len(store.jobs.find("kept")) == 50
    assert store.jobs.find("lost") == []
    store.close()
