"""What the console keeps in the auditor's folder: saved searches, the last full check, what searches left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clients import durable
from zhifu import strict_json
from zhifu.errors import Malformed

FILE: Final = "console.json"
_MAX: Final = 4 << 20
_MOST: Final = 200
_READINGS: Final = 20
MAX_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Memory:
    """One file, whole or not at all."""

    folder: Path

    def filters(self) -> list[dict[str, str]]:
        """``{name, query}``, as saved."""
        return list(self._read()["filters"])

    def save_filter(self, name: str, query: str) -> None:
        """Keep a search under a name; the same name replaces. Raises `Malformed` (usage.argument)."""
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or len(query) > 2000:
            raise Malformed("usage.argument", "a saved search has a name of 1 to 80 characters")
        document = self._read()
        kept = [one for one in document["filters"] if one["name"] != name]
        document["filters"] = [*kept, {"name": name, "query": query}][-_MOST:]
        self._write(document)

    def forget_filter(self, name: str) -> None:
        document = self._read()
        document["filters"] = [one for one in document["filters"] if one["name"] != name]
        self._write(document)

    def check(self) -> dict[str, Any] | None:
        """The last full check: the report, and ``at`` (Unix s)."""
        found = self._read()["check"]
        return found if isinstance(found, dict) else None

    def keep_check(self, report: dict[str, Any]) -> None:
        self._write({**self._read(), "check": report})

    def readings(self) -> list[dict[str, Any]]:
        """What the last readings of the whole log found, each for a ``view`` of its own."""
        return list(self._read()["readings"])

    def keep_reading(self, report: dict[str, Any]) -> None:
        """A later one of the same view replaces."""
        document = self._read()
        kept = [one for one in document["readings"] if one["view"] != report["view"]]
        self._write({**document, "readings": [*kept, report][-_READINGS:]})

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"filters": [], "check": None, "readings": []}
        if not (self.folder / FILE).exists():
            return empty
        document = strict_json.loads(durable.read(self.folder / FILE, _MAX), _MAX, "usage.file")
        if not isinstance(document, dict) or not set(document) <= set(empty):
            raise Malformed("usage.file", f"{FILE} is not the console's")
        return {**empty, **document}

    def _write(self, document: dict[str, Any]) -> None:
        durable.write(self.folder / FILE, json.dumps(document, ensure_ascii=False, indent=1).encode())
