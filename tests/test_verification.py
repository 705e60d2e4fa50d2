"""``zhifu broker verify``: whatever is changed in a stored log is found, and the first bad entry named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from broker import verification
from broker.audit import Log, stored_entry
from broker.store import tables
from broker.store.sqlite import SqliteStore
from tests.house import operate, spawn
from zhifu import envelope, receipt
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.receipt import Detail, Meta

LEVEL = 3
SIZE = 77
PLAIN, ERASED = 20, 30
Logged = Callable[[int], Path]


def write(path: Path, size: int) -> Path:
    """A log of so many entries; one of them is plain, one is erased."""
    store = SqliteStore(path)
    log = Log("log.example/zhifu", SigningKey.generate(), store.reader)
    while log.size < size:
        state = store.begin()
        sequence = log.begin(state)
        for index in range(log.size, min(log.size + 5, size)):
            if index == PLAIN:
                sequence.publish(Envelope(envelope.KEY_STATEMENT, b"k" * 32, b"statement", b"s" * 64), 1)
            else:
                sequence.record(Meta("exchange.accepted"), Detail(documents=(b"%d" % index,)), 1)
        sequence.seal(state, 1)
        store.commit()
        log.committed(sequence)
    if size > ERASED:
        state = store.begin()
        kept = receipt.erased(stored_entry(ERASED, state)).detail_commitment
        state.insert(tables.Erasure, [(ERASED, kept, ERASED)])
        state.update(tables.Entry, {"detail_key": b"", "detail": b""}, index=ERASED)
        store.commit()
    store.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log") / "broker.db", SIZE)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 23, 24, 63, 64])
def test_a_whole_log_is_found_whole(tmp_path: Path, size: int) -> None:
    assert verification.verify(write(tmp_path / "broker.db", size), "", 1, level=LEVEL) == size


def test_several_processes_find_the_same(whole: Path) -> None:
    told: list[tuple[int, int]] = []
    assert verification.verify(whole, "", 2, lambda *counts: told.append(counts), level=LEVEL) == SIZE
    assert told[-1] == (SIZE, SIZE)
    assert len(told) == 10


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE entry SET detail = x'00' WHERE \"index\" = 41", "entry 41"),
        ("UPDATE entry SET meta = x'00' WHERE \"index\" = 76", "entry 76"),
        ("UPDATE entry SET meta_key = zeroblob(32) WHERE \"index\" = 0", "entry 0"),
        ("UPDATE entry SET time_ms = 2 WHERE \"index\" = 9", "entry 9"),
        (f"UPDATE entry SET detail = x'00' WHERE \"index\" = {PLAIN}", f"entry {PLAIN}"),
        (f"UPDATE erasure SET commitment = zeroblob(32) WHERE entry = {ERASED}", f"entry {ERASED}"),
        (f"DELETE FROM erasure WHERE entry = {ERASED}", "a detail is missing"),
        ("DELETE FROM entry WHERE \"index\" = 33", "entry 33 is missing"),
        ("DELETE FROM entry WHERE \"index\" = 76", "entry 76 is missing"),
        ("INSERT INTO entry SELECT 77, kind, time_ms, meta_key, meta, detail_key, detail FROM entry LIMIT 1", "77: it"),
        ("UPDATE tree_node SET hash = zeroblob(32) WHERE level = 0 AND \"index\" = 12", "entry 12"),
        ("UPDATE tree_node SET hash = zeroblob(32) WHERE level = 2 AND \"index\" = 3", "node 2/3"),
        ("UPDATE tree_node SET hash = zeroblob(32) WHERE level = 5 AND \"index\" = 1", "node 5/1"),
        ("UPDATE tree_node SET hash = zeroblob(32) WHERE level = 6", "node 6/0"),
        ("DELETE FROM tree_node WHERE level = 0 AND \"index\" = 18", "nodes of level 0"),
        ("INSERT INTO tree_node VALUES (0, 77, zeroblob(32))", "entry 77"),
        ("UPDATE head SET root = zeroblob(32)", "the head"),
        ("UPDATE head SET size = 76", "the head"),
        ("UPDATE head SET size = 78", "entry 77 is missing"),
    ],
)  # fmt: skip
def test_what_was_changed_is_named(whole: Path, tmp_path: Path, change: str, found: str) -> None:
    path = shutil.copy(whole, tmp_path / "broker.db")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(change).rowcount == 1
        connection.commit()
    with pytest.raises(NotAuthentic, match=f"log.corrupt: .*{found}"):
        verification.verify(Path(path), "", 1, level=LEVEL)


def test_the_command(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    operate("init", folder, "--origin", "log.example/zhifu")
    path = shutil.copy(whole, folder / "broker.db")
    assert json.loads(spawn("broker", "verify", folder).ok().out)["entries"] == SIZE
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE entry SET detail = x'00' WHERE \"index\" = 41")
        connection.commit()
    ended = spawn("broker", "verify", folder, "--jobs", "2")
    assert ended.code == 5
    assert "entry 41" in ended.err
