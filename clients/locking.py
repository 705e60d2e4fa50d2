"""A folder that others keep out of: a lock on a file in it, which ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhifu.errors import Refused


@contextmanager
def locked(file: Path, taken: str, *, shared: bool = False) -> Iterator[None]:
    """Hold ``file`` for the block, for its owner only; ``shared``: beside others who hold it so.

    Raises `Refused` (usage.argument) with the words ``taken`` where another process holds it, and (usage.file) where it
    cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused("usage.file", f"{file.name} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Refused("usage.argument", taken) from error
    try:
        yield
    finally:
        os.close(descriptor)
