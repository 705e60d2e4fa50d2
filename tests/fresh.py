"""A new broker's database, made once and copied: the migrations that make one take longer than most tests of what is
in it. That they make what the tables say is `tests.test_migrations`' matter.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.store.sqlite import SqliteStore


@cache
def _content() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "broker.db"
        SqliteStore(path).close()
        return path.read_bytes()


def fresh_database(path: Path) -> Path:
    """``path``, where a broker's first start has left its database; for its owner only."""
    made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as file:
        file.write(_content())
    return path
