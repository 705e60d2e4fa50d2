"""Bringing a database to the version that this program needs, a new one included: Alembic's migrations, in one
transaction.

Alembic is imported here alone, since a broker whose database is as it should be needs none of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, inspect

from broker.store.versions import EMPTY, NEEDED, VERSIONS
from zhifu.errors import Refused

FOLDER: Final = Path(__file__).parent / "migrations"
_MARK: Final = "version"
"""Table of brokers before migrations: their number."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """From which version to which, and what each step did; no steps where nothing was to be done."""

    before: str
    after: str
    steps: tuple[str, ...]


def upgrade(connection: Connection, to: str = NEEDED) -> Migrated:
    """Run what is missing, inside the caller's transaction. Raises `Refused` (unavailable.store) for a database that
    no migration knows.
    """
    config = _config(connection)
    before = _before(connection, config)
    planned = _steps(config, before, to)
    command.upgrade(config, to)
    return Migrated(before, to, planned)


def plan(connection: Connection) -> Migrated:
    """What `upgrade` would do; nothing is changed. Raises as it does."""
    before = _version(connection)
    return Migrated(before, NEEDED, _steps(_config(connection), before, NEEDED))


def _config(connection: Connection) -> Config:
    # Alembic reads % in the path as the start of a reference.
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def _before(connection: Connection, config: Config) -> str:
    version = _version(connection)
    if MigrationContext.configure(connection).get_current_revision() is None and version != EMPTY:
        command.stamp(config, version)
        if inspect(connection).has_table(_MARK):
            Table(_MARK, MetaData()).drop(connection)
    return version


def _version(connection: Connection) -> str:
    marked = MigrationContext.configure(connection).get_current_revision()
    return marked if marked is not None else _recognise(connection)


def _recognise(connection: Connection) -> str:
    """By its tables, the version of a database that was made before migrations."""
    asked = inspect(connection)
    tables = set(asked.get_table_names()) - {_MARK}
    if not tables:
        return EMPTY
    if "head" in tables and not tables & {"pseudonym_key", "witness", "ticket"} and not _has_scope(connection):
        return VERSIONS[0]
    if {"head", "pseudonym_key", "witness", "ticket", "erasure"} <= tables:
        return VERSIONS[1]
    raise Refused("unavailable.store", "not a broker's database, or one between two releases: it cannot be upgraded")


def _has_scope(connection: Connection) -> bool:
    return any(column["name"] == "scope" for column in inspect(connection).get_columns("participant"))


def _steps(config: Config, before: str, to: str) -> tuple[str, ...]:
    scripts = ScriptDirectory.from_config(config)
    if before not in (EMPTY, *VERSIONS):
        raise Refused("unavailable.store", "the database was made by a newer broker than this one")
    passed: Collection[str] = VERSIONS[: VERSIONS.index(before) + 1] if before else ()
    wanted = VERSIONS[: VERSIONS.index(to) + 1]
    return tuple(f"{one}: {scripts.get_revision(one).doc}" for one in wanted if one not in passed)
