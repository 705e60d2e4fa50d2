"""A disk under a process that may lose power: only what the process synced is sure to be there afterwards.

`disk.c`, loaded before everything else, keeps what was synced apart from what was written. After a cut, of what was
not synced nothing is there, or any pages of it: a disk writes them in the order it likes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.soak.preload import build

PAGE: Final = 4096
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The databases in ``folder``, what of them is durable in ``durable``, the library that knows."""

    folder: Path
    durable: Path
    library: Path

    @staticmethod
    def under(folder: Path, beside: Path) -> Disk:
        """A disk for the files that are in ``folder`` now, all of them durable; ``beside`` is for the disk's own."""
        made = Disk(folder.resolve(), beside / "durable", build("disk", beside))
        made.durable.mkdir()
        for path in made._files(made.folder):
            shutil.copyfile(path, made.durable / path.name)
        return made

    def command(self, cut_at: int = 0) -> tuple[str, ...]:
        """Goes before the command of the process whose disk this is; it is killed at its sync number ``cut_at``."""
        folders = {"ZHIFU_DISK": self.folder, "ZHIFU_DURABLE": self.durable}
        settings = {"LD_PRELOAD": self.library, "ZHIFU_CUT_AT": cut_at, **folders}
        return ("env", *(f"{name}={value}" for name, value in settings.items()))

    def cut(self, random: Random) -> int:
        """What is on the disk after the power was cut, once the process is dead: half of the times what was synced,
        else also some pages of what was not. How many pages are lost.
        """
        keeps = random.choice((0.0, random.random()))
        for path in self.folder.glob("*-shm"):
            path.unlink()
        lost = 0
        for name in {one.name for folder in (self.folder, self.durable) for one in self._files(folder)}:
            lost += self._cut_one(self.folder / name, self.durable / name, keeps, random)
        return lost

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if ".db" in path.name and not path.name.endswith("-shm")]

    @staticmethod
    def _cut_one(written: Path, durable: Path, keeps: float, random: Random) -> int:
        now = written.read_bytes() if written.exists() else b""
        safe = durable.read_bytes() if durable.exists() else b""
        size = len(now) if random.random() < keeps else len(safe)
        pages, lost = list[bytes](), 0
        for at in range(0, size, PAGE):
            one, other = now[at : at + PAGE], safe[at : at + PAGE]
            is_lost = one != other and random.random() >= keeps
            lost += is_lost
            pages.append((other if is_lost or not one else one).ljust(min(PAGE, size - at), b"\0")[: size - at])
        for path in (written, durable):
            if pages:
                path.write_bytes(b"".join(pages))
            else:
                path.unlink(missing_ok=True)
        return lost
