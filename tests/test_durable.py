"""Files of a folder: whole or not at all, private, bounded; whole also where several write, or the disk is full."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import durable
from tests.test_disk_full import fill, small
from zhifu.errors import Error, Refused


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_pipe, _endless, Path.mkdir])
def test_what_is_no_regular_file_is_neither_read_nor_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    make(path)
    for use in (lambda: durable.read(path, 9), lambda: durable.read_private(path, 9), lambda: durable.write(path, b"")):
        with pytest.raises(Error, match=r"usage\.file: file is not a regular file|file cannot be read: Is a directory"):
            use()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_not_written_through_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"another's")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    with pytest.raises(Refused, match="file is not a regular file"):
        durable.write(tmp_path / "file", b"ours")
    assert ((tmp_path / "other").read_bytes(), (tmp_path / "file").is_symlink()) == (b"another's", True)


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    assert durable.read(tmp_path / "file", 4) == b"four"
    with pytest.raises(Error, match=r"usage\.file: file is larger than 3 bytes"):
        durable.read(tmp_path / "file", 3)


def test_what_is_written_is_its_owners(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        durable.write(tmp_path / "a", b"")
        durable.create(tmp_path / "b", b"")
        durable.folder(tmp_path / "x" / "y")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o600, "b": 0o600, "x": 0o700, "y": 0o700}


def test_of_several_who_draw_a_secret_all_have_the_first(tmp_path: Path) -> None:
    drawn = [durable.once(tmp_path / "key", iter([one]).__next__, 9) for one in (b"first", b"second")]
    assert (drawn, durable.create(tmp_path / "key", b"third")) == ([b"first"] * 2, False)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


WRITER = """
import sys
from pathlib import Path
from clients import durable
path, byte = Path(sys.argv[1]), sys.argv[2].encode()
for _ in range(100):
    durable.write(path, byte * 100_000)
"""


def test_beside_another_writer_a_file_is_whole(tmp_path: Path) -> None:
    """One name for what is not whole yet let the one put the other's half in place."""
    path = tmp_path / "file"
    durable.write(path, b"a" * 100_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, byte]) for byte in "bc"]
    seen = set()
    while any(one.poll() is None for one in writers):
        content = durable.read(path, 100_000)
        seen.add((len(content), len(set(content))))
    assert [one.wait() for one in writers] == [0, 0]
    assert seen == {(100_000, 1)}
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_full_disk_a_file_is_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with small(disk, 1):
        durable.write(disk / "file", b"old")
        filler = fill(disk)
        with pytest.raises(Refused, match=r"usage\.file: file cannot be written: No space left on device"):
            durable.write(disk / "file", b"n" * 8192)
        with pytest.raises(Refused, match="another cannot be written"):
            durable.create(disk / "another", b"n" * 8192)
        assert durable.read(disk / "file", 9) == b"old"
        assert sorted(disk.iterdir()) == [disk / "file", filler]
