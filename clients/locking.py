"""A folder that others keep out of: a lock on a file in it, which ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from zhifu.errors import Refused

_LOOK_S: Final = 0.05
_NODE: Final = "node.lock"
_ASKED_S: Final = 1.0
"""More than it takes to ask whether a node runs, which is held for so long."""


@contextmanager
def locked(file: Path, taken: str, *, shared: bool = False, patience_s: float = 0.0) -> Iterator[None]:
    """Hold ``file`` for the block, for its owner only; ``shared``: beside others who hold it so.

    Raises `Refused` (usage.argument) with the words ``taken`` where another process holds it for longer than
    ``patience_s``, and (usage.file) where it cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused("usage.file", f"{file.name} cannot be written: {error.strerror}") from error
    try:
        _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, taken, time.monotonic() + patience_s)
        yield
    finally:
        os.close(descriptor)


def alone(directory: Path) -> AbstractContextManager[None]:
    """Two processes of one node would both answer. Raises `Refused` (usage.argument, usage.file)."""
    return locked(directory / _NODE, f"another process runs the node in {directory.name}", patience_s=_ASKED_S)


def runs(directory: Path) -> bool:
    """Whether a process runs the node in a folder: else its port may be a stranger's by now."""
    try:
        with (directory / _NODE).open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _take(descriptor: int, kind: int, taken: str, until: float) -> None:
    """The system waits without a limit or not at all, so that it is asked again."""
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise Refused("usage.argument", taken) from error
            time.sleep(_LOOK_S)
