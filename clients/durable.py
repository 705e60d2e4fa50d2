"""Files in a participant's folder: read whole and no further than a limit, written whole or not at all, and lasting.

A file that a crash left half written has a name of its own (``.NAME.….partial``): nobody reads it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from zhifu.errors import Malformed, Refused

_REASON: Final = "usage.file"
_PARTIAL: Final = ".partial"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path, most: int) -> bytes:
    """A regular file's content, at most ``most`` bytes. Raises `Malformed` (usage.file) with its name, never what is
    in it: missing, larger, a folder, a pipe or a device, which would be read without an end.
    """
    return _read(path, most)[0]


def read_private(path: Path, most: int) -> bytes:
    """The same of a secret. Raises `Refused` (usage.file), also where others than its owner can read it."""
    try:
        content, mode = _read(path, most)
    except Malformed as error:
        raise Refused(_REASON, error.detail) from error
    if mode & _OTHERS:
        raise Refused(_REASON, f"{path.name} can be read by others: chmod 600 {path.name}")
    return content


def _read(path: Path, most: int) -> tuple[bytes, int]:
    try:
        # Without waiting for whoever may write into a pipe; of a file it means nothing.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise Malformed(_REASON, f"{path.name} is not a regular file")
            content = file.read(most + 1)
    except OSError as error:
        raise Malformed(_REASON, f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise Malformed(_REASON, f"{path.name} is larger than {most} bytes")
    return content, mode


def write(path: Path, content: bytes) -> None:
    """Replace a file, 0600: after a crash, or beside another who writes it, it is the one or the other, whole.

    On the disk, name and all, when this returns. Raises `Refused` (usage.file), also for what is there and is no
    regular file: a link, a pipe, a device.
    """
    with _complete(path, content) as partial:
        _check(path)
        partial.replace(path)


def check_writable(path: Path) -> None:
    """Before something that cannot be taken back, whose outcome is to be written there. Raises as `write` would."""
    with _complete(path, b"") as partial:
        _check(path)
        partial.unlink()


def once(path: Path, draw: Callable[[], bytes], most: int) -> bytes:
    """The file's content; drawn if there is none, and then the first one's, whoever else draws it too. It is its
    owner's only. Raises `Malformed`, `Refused` (usage.file).
    """
    if not path.exists():
        create(path, draw())
    return read(path, most)


def create(path: Path, content: bytes) -> bool:
    """As `write`, where there is no such file: whether there was none. Raises `Refused` (usage.file)."""
    with _complete(path, content) as partial:
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
    return True


@contextmanager
def _complete(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside ``path`` with all of it; what the block does with it lasts."""
    try:
        descriptor, name = tempfile.mkstemp(_PARTIAL, f".{path.name}.", path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise
    except OSError as error:
        raise Refused(_REASON, f"{path.name} cannot be written: {error.strerror}") from error


def _check(path: Path) -> None:
    """It is a regular file or not there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Refused(_REASON, f"{path.name} is not a regular file")


def move(source: Path, target: Path) -> None:
    """Put a file in another's place, lastingly. Raises `Refused` (usage.file)."""
    try:
        source.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise Refused(_REASON, f"{target.name} cannot be written: {error.strerror}") from error


def folder(path: Path) -> None:
    """Make a folder for its owner only, and those above it, where there is none. Raises `Refused` (usage.file)."""
    try:
        if not path.is_dir():
            folder(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise Refused(_REASON, f"{path.name} cannot be made: {error.strerror}") from error


def sweep(path: Path) -> None:
    """Remove what crashes left of files in a folder that nobody else writes now: it may hold what a key was."""
    for left in path.glob(f".*{_PARTIAL}"):
        left.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """What was made, renamed or removed in a folder is on the disk when this returns. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
