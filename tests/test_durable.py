"""Files of a folder: whole or not at all, private, bounded; whole also where several write, or the disk is full."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from clients import durable, rotation
from clients.keystore import FileKeystore
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
from clients import durable, rotation
from clients.keystore import FileKeystore
path, byte = Path(sys.argv[1]), sys.argv[2].encode()
for _ in range(30):
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


@contextmanager
def room_for(disk: Path, pages: int) -> Iterator[None]:
    """Within the block that much is left, in blocks of 4 KiB."""
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 4096 * pages)
    try:
        yield
    finally:
        filler.unlink()


def test_keys_are_drawn_whole_or_not_at_all_wherever_the_disk_is_full(tmp_path: Path) -> None:
    disk, drawn = tmp_path / "disk", []
    disk.mkdir()
    with small(disk, 1):
        for pages in range(12):
            keys = disk / f"keys-{pages}"
            with room_for(disk, pages), suppress(Refused):
                FileKeystore.draw(keys)
            drawn.append(keys.exists())
            if keys.exists():
                FileKeystore.load(keys)
                shutil.rmtree(keys)
            FileKeystore.draw(keys)
            shutil.rmtree(keys)
    assert set(drawn) == {False, True}


def test_a_rotation_loses_no_key_wherever_the_disk_is_full(tmp_path: Path) -> None:
    disk, done = tmp_path / "disk", []
    disk.mkdir()
    with small(disk, 1):
        keys = disk / "keys"
        FileKeystore.draw(keys)
        for pages in range(8):
            before = FileKeystore.load(keys).stated_kems
            with room_for(disk, pages):
                try:
                    rotation.draw(keys, ("kem",))
                    done.append(True)
                except Refused:
                    done.append(False)
            after = FileKeystore.load(keys)
            assert {one.id for one in before} <= set(after.kem_keys), "what is on its way to the key before is opened"
            assert not list(keys.glob(".*.partial"))
    assert set(done) == {False, True}
