"""Reviews of alerts: each is signed with the auditor's key and names the one before it, so that none is changed, moved
or taken out of the middle unseen. Lines of one file, only ever added.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from clients import durable
from zhifu import keys, strict_json
from zhifu.errors import Error, Malformed, NotAuthentic

FILE: Final = "reviews.ndjson"
MAX_NAME: Final = 80
MAX_NOTE: Final = 500
_LABEL: Final = b"zhifu/v1 review\0"
_MAX: Final = 16 << 20
_FIRST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Review:
    """An officer's word on an alert, at ``at`` (Unix s); ``closed``: it was signed off."""

    alert: str
    by: str
    note: str
    at: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Reviews:
    """The file in the auditor's folder, under the auditor's key."""

    folder: Path
    key: SigningKey = field(repr=False)

    def add(self, alert: str, by: str, note: str, *, closed: bool) -> None:
        """Raises `Malformed` (usage.argument) for what is no review, `NotAuthentic` (signature.invalid) as `read`."""
        if not 1 <= len(by) <= MAX_NAME or not 1 <= len(note) <= MAX_NOTE or not by.isprintable():
            raise Malformed("usage.argument", "a review has a name and a note")
        lines = self._lines()
        self._checked(lines)
        said = {
            **asdict(Review(alert, by, note, int(time.time()), closed)),
            "after": (_digest(lines[-1]) if lines else _FIRST).hex(),
        }
        signature = keys.sign(self.key, _LABEL + _canonical(said))
        durable.write(self.folder / FILE, b"\n".join([*lines, _canonical({**said, "signature": signature.hex()}), b""]))

    def read(self) -> dict[str, list[Review]]:
        """By alert, oldest first. Raises `NotAuthentic` (signature.invalid) naming the first line that is not as it was
        written, `Malformed` (usage.file).
        """
        found: dict[str, list[Review]] = {}
        for one in self._checked(self._lines()):
            found.setdefault(one.alert, []).append(one)
        return found

    def _lines(self) -> list[bytes]:
        path = self.folder / FILE
        return durable.read(path, _MAX).splitlines() if path.exists() else []

    def _checked(self, lines: list[bytes]) -> list[Review]:
        before = [_FIRST, *map(_digest, lines)]
        return [self._one(number, line, before[number]) for number, line in enumerate(lines)]

    def _one(self, number: int, line: bytes, before: bytes) -> Review:
        try:
            said: Any = strict_json.loads(line, _MAX, "usage.file")
            signature, after = bytes.fromhex(said.pop("signature")), bytes.fromhex(said["after"])
            keys.verify_signature(bytes(self.key.verify_key), _LABEL + _canonical(said), signature)
            said.pop("after")
            review = Review(**said)
        except (Error, AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotAuthentic(
                "signature.invalid", f"{FILE}: line {number + 1} is no review of this auditor"
            ) from error
        if after != before:
            raise NotAuthentic("signature.invalid", f"{FILE}: a review is missing before line {number + 1}")
        return review


def _digest(line: bytes) -> bytes:
    return sha256(line).digest()


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
