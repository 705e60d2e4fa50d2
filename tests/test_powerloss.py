"""A disk that forgets what was not synced (`tests.soak.disk`), and what a store on it keeps.

``make soak`` cuts the power of a whole broker under load.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from broker.store.interface import Store
from broker.store.sqlite import SqliteStore
from broker.store.tables import Hold
from tests.conftest import absent
from tests.soak.disk import Disk

_FORGETS = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(file, b"a" * 4096, 0)
os.fsync(file)
os.pwrite(file, b"b" * 4096, 4096)
os.pwrite(file, b"c" * 4096, 0)
print("written", flush=True)
os.kill(os.getpid(), 9)
"""
_COMMITS = """
import sys
from pathlib import Path
from broker.store.sqlite import SqliteStore
from broker.store.tables import Hold
{before}
store = SqliteStore(Path(sys.argv[1]))
first = len(store.reader.find(Hold))
for number in range(first, first + 500):
    state = store.begin()
    state.insert(Hold, [(number.to_bytes(2048, "big"), number)])
    store.commit()
    print(number, flush=True)
"""
_WITHOUT_SYNC = "from broker.store import sqlite; sqlite._PRAGMAS = (*sqlite._PRAGMAS, 'synchronous=OFF')"


class Always(Random):
    """Keeps no page that was not synced."""

    def choice(self, seq: object) -> float:  # type: ignore[override]  # the one question that is asked
        return 0.0


def spawn(disk: Disk, code: str, path: Path, cut_at: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*disk.command(cut_at), sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    if shutil.which("cc") is None:
        absent("a C compiler")
    (tmp_path / "folder").mkdir()
    return Disk.under(tmp_path / "folder", tmp_path)


def test_what_was_not_synced_is_gone(disk: Disk) -> None:
    path = disk.folder / "x.db"
    with spawn(disk, _FORGETS, path) as process:
        process.wait(60)
    assert path.read_bytes() == b"c" * 4096 + b"b" * 4096
    assert disk.cut(Always()) == 1
    assert path.read_bytes() == b"a" * 4096


def committed(disk: Disk, random: Random, cut_at: int, before: str = "") -> tuple[int, int]:
    """Cut while it commits: how many commits it told of, and how many are there afterwards."""
    path = disk.folder / "broker.db"
    with spawn(disk, _COMMITS.format(before=before), path, cut_at) as process:
        assert process.stdout is not None
        told = max([0, *(int(line) + 1 for line in process.stdout)])
        assert process.wait(60) == (-signal.SIGKILL if cut_at else 0)
    disk.cut(random)
    # Looked at elsewhere: what this process changes there is on no disk of ours.
    looked = disk.folder.with_name(f"{told}")
    shutil.copytree(disk.folder, looked, dirs_exist_ok=True)
    store: Store = SqliteStore(looked / path.name)
    kept = len(store.reader.find(Hold))
    store.close()
    return told, kept


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_store_committed_is_there_after_the_power_was_cut(disk: Disk, seed: int) -> None:
    random = Random(seed)
    for _ in range(2):
        told, kept = committed(disk, random, random.randint(60, 200))
        assert told <= kept <= told + 1


def test_without_syncing_it_would_be_lost(disk: Disk) -> None:
    told, kept = committed(disk, Always(3), 0, _WITHOUT_SYNC)
    assert kept < told
