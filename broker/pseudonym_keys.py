"""The pseudonym service's keys: a seed for each recipient and epoch, in files outside the database (DESIGN 4.5).

``pseudonym/<recipient id>.<epoch>.key``, 0600, 32 bytes in hex. Seeds are drawn independently: losing one says nothing
about another. A rotation draws the next epoch beside the last; the last is deleted when both sides have linked again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.home import write_private
from zhifu.errors import Malformed, Refused
from zhifu.pseudonym import MAX_EPOCHS
from zhifu.statement import PseudonymKey
from zhifu.voprf import KeyPair

FOLDER: Final = "pseudonym"
_NAME: Final = re.compile(r"([0-9a-f]{64})\.([1-9][0-9]{0,8})\.key")
_INFO: Final = b"zhifu/v1 pseudonym\0"
_SEED_BYTES: Final = 32


class PseudonymKeys:
    """The keys in a folder. A change by another process is seen at the next question."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._names: frozenset[str] = frozenset()
        self._keys: dict[tuple[bytes, int], KeyPair] = {}

    @property
    def public(self) -> tuple[PseudonymKey, ...]:
        """The public keys, ascending. Raises as `key`."""
        return tuple(sorted(PseudonymKey(*place, key.public) for place, key in self._load().items()))

    def key(self, recipient: bytes, epoch: int) -> KeyPair:
        """Raises `Refused` (pseudonym.epoch), `Refused` and `Malformed` (usage.file) where a file is not usable."""
        found = self._load().get((recipient, epoch))
        if found is None:
            raise Refused("pseudonym.epoch")
        return found

    def epochs(self, recipient: bytes) -> list[int]:
        """The epochs that there are keys for, ascending."""
        return sorted(epoch for owner, epoch in self._load() if owner == recipient)

    def ensure(self, recipients: Iterable[bytes]) -> None:
        """Draw the first key of those of ``recipients`` that have none; they never had one, or it would be another."""
        known = {owner for owner, _ in self._load()}
        for recipient in recipients:
            if recipient not in known:
                self._draw(recipient, 1)

    def rotate(self, recipient: bytes, after: int = 0) -> int:
        """Draw the key of the next epoch, later than ``after`` too; the epoch. Raises `Refused` (usage.argument)."""
        epochs = self.epochs(recipient)
        if len(epochs) >= MAX_EPOCHS:
            raise Refused("usage.argument", f"epoch {epochs[0]} is still there: retire it first")
        epoch = max([after, *epochs]) + 1
        self._draw(recipient, epoch)
        return epoch

    def retire(self, recipient: bytes, epoch: int) -> None:
        """Delete the key of an epoch, but never the newest. Raises `Refused` (usage.argument)."""
        epochs = self.epochs(recipient)
        if epoch not in epochs[:-1]:
            raise Refused("usage.argument", "not an epoch before the newest")
        self._path(recipient, epoch).unlink()

    def _draw(self, recipient: bytes, epoch: int) -> None:
        drawn = self._folder / f".{os.urandom(8).hex()}.new"
        write_private(drawn, os.urandom(_SEED_BYTES).hex().encode())
        # Another broker on the same folder may draw it at the same moment: whichever is there first is the key.
        with suppress(FileExistsError):
            self._path(recipient, epoch).hardlink_to(drawn)
        drawn.unlink()

    def _path(self, recipient: bytes, epoch: int) -> Path:
        return self._folder / f"{recipient.hex()}.{epoch}.key"

    def _load(self) -> dict[tuple[bytes, int], KeyPair]:
        names = frozenset(path.name for path in self._folder.iterdir())
        if names != self._names:
            found = (_NAME.fullmatch(name) for name in names)
            places = [(bytes.fromhex(one[1]), int(one[2])) for one in found if one is not None]
            self._keys = {place: self._keys.get(place) or self._read(*place) for place in places}
            self._names = names
        return self._keys

    def _read(self, recipient: bytes, epoch: int) -> KeyPair:
        path = self._path(recipient, epoch)
        try:
            if path.stat().st_mode & 0o077:
                raise Refused("usage.file", f"{path.name} can be read by others: chmod 600")
            seed = bytes.fromhex(path.read_text("ascii"))
        except OSError as error:
            raise Refused("usage.file", f"{path.name}: {error.strerror}") from error
        except ValueError:
            # The cause is left out on purpose: it could quote the key.
            raise Malformed("usage.file", f"{path.name} is not a key in hex") from None
        if len(seed) != _SEED_BYTES:
            raise Malformed("usage.file", f"{path.name} is not a key of {_SEED_BYTES} bytes")
        return KeyPair.derive(seed, _INFO + recipient + epoch.to_bytes(4, "big"))
