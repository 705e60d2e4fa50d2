"""Room that is kept on the disk of an SQLite file (`broker.store.interface.Reserve`).

A file of zeros lies beside the database. When the disk has less free than that, or a commit found no room although it
seemed to have more, the file is deleted; when there is room for both again, it is made anew.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = "reserve"
_MOST: Final = 32 << 20
"""Twice what SQLite's write-ahead log takes before it is written back."""
_SHARE: Final = 6
"""Of a small disk a sixth at most."""
_log = logging.getLogger("broker.reserve")


@dataclass(slots=True)
class FileReserve:
    """The reserve of a broker's folder, for a database that is there; ``low``: it is being used."""

    folder: Path
    low: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return min(_MOST, shutil.disk_usage(self.folder).total // _SHARE)

    def look(self, lacking: bool) -> bool:
        free, size, file = shutil.disk_usage(self.folder).free, self.size, self.folder / FILE
        if file.exists() and (lacking or free < size):
            self._say(True, free)
            self.close()
        elif not file.exists() and free >= 3 * size:
            # Room for the file, and as much as before it was released; the rest so that it does not come and go.
            self._say(not self._make(file, size), free)
        elif not file.exists():
            self._say(True, free)
        return self.low

    def close(self) -> None:
        """A broker that does not run needs none."""
        (self.folder / FILE).unlink(missing_ok=True)

    def _say(self, low: bool, free: int) -> None:
        if low != self.low:
            self.low = low
            level = logging.CRITICAL if low else logging.INFO
            _log.log(level, "alarm" if low else "reserve", extra={"reason": "unavailable.space", "count": free})

    @staticmethod
    def _make(file: Path, size: int) -> bool:
        partial = file.with_name(f".{FILE}.new")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            partial.replace(file)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return False
        return True
