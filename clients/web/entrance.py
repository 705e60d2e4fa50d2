"""Who may see a folder's pages: who comes with its key, in the address that a command prints, gets a session of its
own; a cookie holds that, never the key.

Signing out ends the session, and the key with it: the browser's history has the address.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from clients import durable
from zhifu import strict_json
from zhifu.errors import Malformed

LIFE_S: Final = 30 * 86_400
MOST: Final = 32
_MAX_FILE: Final = 65_536


def _silent(_key: str) -> None:
    """Whoever wants the new key reads it where it is kept."""


class Entrance:
    """That of one folder, whose process is alone with it: ``file`` is the key's, beside it are the sessions, by their
    hashes. ``clock`` gives Unix s.
    """

    def __init__(self, folder: Path, file: str = "web.key", clock: Callable[[], float] = time.time) -> None:
        self._path = folder / file
        self._clock = clock
        self._sessions = self._read()
        self.tell: Callable[[str], None] = _silent
        """Is told of a key that was drawn when somebody signed out."""

    @property
    def key(self) -> str:
        """Drawn the first time; the file is its owner's only."""
        return read_key(self._path)

    def cookie(self, name: str) -> str:
        """Of one host's pages each has a name of its own: a browser sends a cookie to every port."""
        return f"{name}-{hashlib.sha256(bytes(self._path.resolve())).hexdigest()[:16]}"

    def enter(self, key: str) -> str | None:
        """A new session for who has the key; the oldest of too many goes."""
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            return None
        token = secrets.token_urlsafe(32)
        latest = sorted(self._valid().items(), key=lambda one: one[1])[1 - MOST :]
        self._write({**dict(latest), _digest(token): int(self._clock()) + LIFE_S})
        return token

    def knows(self, token: str) -> bool:
        """Whether it is a session's that has not ended."""
        return self._sessions.get(_digest(token), 0) > self._clock()

    def leave(self, token: str) -> None:
        """Sign out."""
        durable.write(self._path, _drawn())
        self._write({digest: until for digest, until in self._valid().items() if digest != _digest(token)})
        self.tell(self.key)

    def _valid(self) -> dict[str, int]:
        return {digest: until for digest, until in self._sessions.items() if until > self._clock()}

    @property
    def _file(self) -> Path:
        return self._path.with_suffix(".sessions")

    def _read(self) -> dict[str, int]:
        """Nobody's where the file is none of ours."""
        try:
            found = strict_json.loads(durable.read(self._file, _MAX_FILE), _MAX_FILE, "usage.file")
        except Malformed:
            return {}
        rows = found.items() if isinstance(found, dict) else ()
        return {digest: until for digest, until in rows if isinstance(until, int)}

    def _write(self, sessions: dict[str, int]) -> None:
        durable.write(self._file, json.dumps(sessions).encode())
        self._sessions = sessions


def read_key(path: Path) -> str:
    """The key that is kept there, drawn if there is none. Raises `Malformed`, `Refused` (usage.file)."""
    return durable.once(path, _drawn, 256).decode("ascii", "replace")


def _drawn() -> bytes:
    return secrets.token_urlsafe(32).encode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
