"""Versions of the broker's database, over every store there is: what migrations make is what the tables say."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

from broker.store import migrating, opening, postgres, sqlite, tables, versions
from broker.store.interface import Store
from tests.formats import INSURER, refused
from tests.postgres import Server
from zhifu.statement import PseudonymKey

FIRST, NEXT = (PseudonymKey(b"r" * 32, epoch, bytes([epoch]) * 32) for epoch in (1, 2))
_PARTICIPANT = "INSERT INTO participant VALUES (:id, 'hospital', '示例医院', 'active', 5)"
_ENTRY = "INSERT INTO entry VALUES (:index, 1, 7, :none, :none, :none, :detail)"


class Database:
    """An empty database of either kind."""

    def __init__(self, path: Path, address: str) -> None:
        self.path = path / "broker.db"
        self.address = address

    def alone(self) -> AbstractContextManager[Connection]:
        return postgres.alone(self.address) if self.address else sqlite.alone(self.path)

    def open(self) -> Store:
        return opening.open_store(self.path, self.address)

    def migrate(self, *, check: bool = False) -> migrating.Migrated:
        return opening.migrate(self.path, self.address, check=check)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> Database:
    return Database(tmp_path, "" if request.param == "sqlite" else server.database())


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))


def test_the_versions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.FOLDER))
    walked = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(reversed([one.revision for one in walked])) == versions.VERSIONS


def test_what_migrations_make_is_what_the_tables_say(database: Database) -> None:
    database.open().close()
    with database.alone() as connection:
        assert differences(connection) == []
        if not database.address:
            # The ids of notices must never come again, and entries be the file's own order.
            made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name IN ('notice', 'entry')")).scalars()
            assert sorted("AUTOINCREMENT" in one for one in made) == [False, True]
        else:
            kinds = inspect(connection).get_columns("exchange")
            assert {str(one["type"]) for one in kinds if one["name"] == "entry"} == {"BIGINT"}
        connection.execute(text('ALTER TABLE "hold" ADD COLUMN more BIGINT'))
        assert differences(connection) != []


def announced(index: int, *keys: PseudonymKey) -> dict[str, Any]:
    """A plain entry with a service's key statement."""
    signed = replace(INSURER.statement(index + 1), pseudonym_keys=keys).sign(INSURER.signing)
    return {"index": index, "none": b"", "detail": signed.to_bytes()}


def test_a_release_0_1_0_database_is_refused_then_upgraded_with_its_rows(database: Database) -> None:
    with database.alone() as connection:
        migrating.upgrade(connection, "0001")
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text(_PARTICIPANT), {"id": b"h"})
        connection.execute(text(_ENTRY), [announced(0, FIRST), announced(1, FIRST, NEXT), announced(2, NEXT)])
    error = refused("unavailable.store", database.open)
    assert "zhifu broker migrate" in str(error)
    planned = database.migrate(check=True)
    assert (planned.before, planned.after, len(planned.steps)) == ("0001", versions.NEEDED, len(versions.VERSIONS) - 1)
    refused("unavailable.store", database.open)
    assert database.migrate() == planned
    assert database.migrate().steps == ()
    store = database.open()
    (kept,) = store.reader.find(tables.Participant)
    assert (kept.id, kept.name, kept.enrolled_ms, kept.scope) == (b"h", "示例医院", 5, b"")
    # Also the one that was retired since.
    assert [one.public_key for one in store.reader.find(tables.PseudonymKey)] == [FIRST.public_key, NEXT.public_key]
    # All were signed with one key: the last of them says how long it was in force.
    (signer,) = store.reader.find(tables.Signer)
    last, key = announced(2, NEXT)["detail"], INSURER.statement().signing_key_id
    assert (signer.key_id, signer.participant, signer.envelope) == (key, INSURER.id, last)
    store.close()
    with database.alone() as connection:
        assert differences(connection) == []


def test_a_failed_migration_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.alone() as connection:
        migrating.upgrade(connection, "0001")
        # What the second version makes is there already: it fails after its first steps.
        connection.execute(text("CREATE TABLE ticket (hash INTEGER)"))
    refused("unavailable.store", database.migrate)
    with database.alone() as connection:
        assert migrating.plan(connection).before == "0001"
        assert "scope" not in {one["name"] for one in inspect(connection).get_columns("participant")}


def test_nothing_is_migrated_under_a_broker(database: Database) -> None:
    store = database.open()
    assert "stop" in str(refused("unavailable.store", database.migrate))
    assert database.migrate(check=True).steps == ()
    store.close()
    assert database.migrate().steps == ()


def test_a_newer_database_and_what_is_no_brokers_are_refused(database: Database) -> None:
    database.open().close()
    with database.alone() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for ask in (database.open, database.migrate):
        assert "newer" in str(refused("unavailable.store", ask))
    with database.alone() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("DROP TABLE ticket"))
    for ask in (database.open, database.migrate):
        refused("unavailable.store", ask)
