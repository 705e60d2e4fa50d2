"""Which version a database is of, and which this program needs. Asked at every start, so it costs one statement.

`broker.store.migrating` brings a database from one version to the next.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from broker.store.rows import Driver
from zhifu.errors import Refused

VERSIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every version there was, as the migrations name them; the last is that of `broker.store.tables`."""
NEEDED: Final = VERSIONS[-1]
EMPTY: Final = ""
UNMARKED: Final = "0"
"""Made before versions were kept by migrations."""
_TABLE: Final = "alembic_version"


def found(driver: Driver, tables: Collection[str]) -> str:
    """The version of a database that has these tables. Raises `Refused` (unavailable.store)."""
    if _TABLE not in tables:
        return UNMARKED if tables else EMPTY
    rows = driver.ask(f"SELECT version_num FROM {_TABLE}").rows
    return str(rows[0][0]) if rows else UNMARKED


def check(version: str) -> None:
    """Raises `Refused` (unavailable.store) for a database of another version than this program needs."""
    if version == NEEDED:
        return
    if version in (*VERSIONS, UNMARKED):
        what = f"the database is of version {version}, this broker of {NEEDED}"
        raise Refused("unavailable.store", f"{what}: stop every broker on it, then: zhifu broker migrate DIR")
    raise Refused("unavailable.store", "the database was made by a newer broker than this one")
