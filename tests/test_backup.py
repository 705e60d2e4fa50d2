"""Backup and restore: everything of one moment, nothing that should not be in it, and no smaller log after it."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlmodel import SQLModel

from broker import backup, home
from broker.store import copying, opening, tables
from broker.store.interface import Reader
from clients.hospital.sample import sample_bill
from tests.broker_rig import present, rig
from tests.formats import NOW, refused
from tests.house import House, open_house, operate, run, spawn, until
from tests.postgres import Server

FIGURES: Final = ("confirmed", 1_200_000, 800_000)
ROWS: Final[dict[type[SQLModel], tuple[Any, ...]]] = {
    tables.Participant: (b"p" * 32, "hospital", "示例医院", "active", 1 << 60, b""),
    tables.Delivery: (7, b"r", b"s", -1, b"\0" * 300_000, b"m", b"", b"\xff\0", b"c", b"", b""),
    tables.Notice: (None, b"n", b"e", "delivered", b"", -1),
    tables.Head: (1, 0, b"root"),
}


def silent(_: str) -> None:
    pass


def everything(reader: Reader) -> dict[str, list[Any]]:
    kinds = [one for one in vars(tables).values() if isinstance(one, type) and issubclass(one, SQLModel)]
    return {kind.__name__: list(reader.scan(kind)) for kind in kinds if kind not in (SQLModel, tables.Restored)}


# Stores


@pytest.mark.parametrize("into", ["sqlite", "postgresql"])
@pytest.mark.parametrize("of", ["sqlite", "postgresql"])
def test_a_copy_of_any_store_becomes_any_store(server: Server, tmp_path: Path, of: str, into: str) -> None:
    source = (tmp_path / "source.db", server.database() if of == "postgresql" else "")
    target = (tmp_path / "target.db", server.database() if into == "postgresql" else "")
    store = opening.open_store(*source)
    state = store.begin()
    for table, row in ROWS.items():
        state.insert(table, [row])
    for _ in range(3):
        state.insert(tables.Notice, [(None, b"gone", b"e", "expired", b"", -1)])
    state.delete(tables.Notice, node=b"gone")
    store.commit()
    # A transaction that is open, as a broker's always is: what it wrote is not in the copy.
    store.begin().insert(tables.Participant, [(b"q" * 32, "insurer", "", "active", 0, b"")])
    before = everything(store.reader)
    copying.copy_out(*source, tmp_path / "copy", silent)
    store.rollback()
    store.close()
    copying.copy_in(tmp_path / "copy", *target, 5, silent)
    made = opening.open_store(*target)
    assert everything(made.reader) == before
    assert made.reader.find(tables.Restored) == [made.reader.get(tables.Restored, 1)]
    state = made.begin()
    state.insert(tables.Notice, [(None, b"n", b"e", "expired", b"", -1)])
    # Nodes have read ids that were given after the copy was made.
    assert max(row.id for row in state.find(tables.Notice)) > 1 << 32
    made.rollback()
    made.close()
    if into == "postgresql":
        copying.copy_out(*source, tmp_path / "again", silent)
        assert "empty" in str(refused("unavailable.store", copying.copy_in, tmp_path / "again", *target, 5, silent))


# The file


@pytest.fixture
async def made(tmp_path: Path) -> tuple[home.Home, Path]:
    """A broker's folder with a log, and a backup of it with keys."""
    async with rig(tmp_path) as server:
        await server.submit(present(server.statute()))
        (server.home.path / "pseudonym").mkdir()
        home.write_private(server.home.path / "pseudonym" / "x.key", b"01" * 32)
        backup.write(server.home, tmp_path / "kept", NOW * 1000, silent, with_keys=True)
        return server.home, tmp_path / "kept"


def restore(path: Path, folder: Path) -> backup.Manifest:
    return backup.restore(path, folder, "", NOW * 1000, silent)


def altered(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The backup with other members, under the names and sizes that its archive then has."""
    with tarfile.open(path) as archive:
        found = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    change(found)
    other = path.with_name("altered")
    with tarfile.open(other, "w") as archive:
        for name, content in found.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return other


async def test_a_backup_has_what_it_says_and_no_gate_key(made: tuple[home.Home, Path], tmp_path: Path) -> None:
    opened, kept = made
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with tarfile.open(kept) as archive:
        names = set(archive.getnames())
    keys = {"log.key", "ca.key", "tls.key", "code.pepper", "pseudonym/x.key"}
    settings = {"manifest.json", "manifest.sig", "broker.db", "broker.toml", "ca.crt", "tls.crt"}
    assert names == settings | keys
    backup.write(opened, tmp_path / "apart", NOW * 1000, silent)
    with tarfile.open(tmp_path / "apart") as archive:
        assert set(archive.getnames()) == settings
    secrets = [path.read_bytes() for path in opened.path.rglob("*.key")]
    assert not any(secret in (tmp_path / "apart").read_bytes() for secret in secrets)
    gate = next((opened.path / "gate").glob("*.key")).read_bytes()
    assert gate not in kept.read_bytes()


async def test_a_restored_folder_is_the_brokers_with_a_gate_key_of_its_own(
    made: tuple[home.Home, Path], tmp_path: Path
) -> None:
    opened, kept = made
    said = restore(kept, tmp_path / "new")
    again = home.open_home(tmp_path / "new")
    assert (again.origin, again.vkey, again.pepper) == (opened.origin, opened.vkey, opened.pepper)
    assert not again.gate_keys.keys() & opened.gate_keys.keys()
    assert said.size > 0
    for reader in (again.open_read_only(), opened.open_read_only()):
        head = reader.get(tables.Head, 1)
        assert head is not None
        assert (head.size, head.root.hex()) == (said.size, said.root)
        reader.close()
    assert {stat.S_IMODE(path.stat().st_mode) for path in again.path.rglob("*") if path.is_file()} == {0o600}
    refused("usage.file", restore, kept, again.path)


async def test_keys_that_were_kept_apart_take_their_own_database_only(
    made: tuple[home.Home, Path], tmp_path: Path
) -> None:
    opened, _ = made
    backup.write(opened, tmp_path / "apart", NOW * 1000, silent)
    refused("usage.file", restore, tmp_path / "apart", tmp_path / "nothing here")
    refused("usage.file", restore, tmp_path / "apart", opened.path)
    other = home.create(tmp_path / "other", opened.origin, NOW)
    refused("signature.invalid", restore, tmp_path / "apart", other.path)
    assert not other.database.exists()
    opened.database.rename(tmp_path / "lost")
    # What the lost database had not written yet would be written into the restored one.
    beside = opened.path / "broker.db-wal"
    beside.write_bytes(b"frames")
    refused("usage.file", restore, tmp_path / "apart", opened.path)
    assert not opened.database.exists()
    beside.unlink()
    restore(tmp_path / "apart", opened.path)
    assert {path.name for path in opened.path.iterdir() if path.name.startswith(".")} == set()
    opened.open_read_only().close()


def flipped(name: str) -> Callable[[dict[str, bytes]], object]:
    def change(found: dict[str, bytes]) -> None:
        content = bytearray(found[name])
        content[len(content) // 2] ^= 1
        found[name] = bytes(content)

    return change


def renamed(found: dict[str, bytes]) -> None:
    said = json.loads(found["manifest.json"])
    said["files"]["../../out.key"] = said["files"].pop("log.key")
    found["../../out.key"] = found.pop("log.key")
    found["manifest.json"] = json.dumps(said).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flipped("broker.db"), "log.corrupt"),
        (flipped("ca.key"), "log.corrupt"),
        (flipped("manifest.sig"), "signature.invalid"),
        (lambda found: found.update({"manifest.json": found["manifest.json"] + b" "}), "signature.invalid"),
        (lambda found: found.pop("manifest.sig"), "usage.file"),
        (lambda found: found.pop("broker.db"), "usage.file"),
        (renamed, "usage.file"),
    ],
)
async def test_a_backup_that_was_changed_leaves_nothing(
    made: tuple[home.Home, Path], tmp_path: Path, change: Callable[[dict[str, bytes]], object], reason: str
) -> None:
    _, kept = made
    other = altered(kept, change)
    before = set(tmp_path.iterdir())
    refused(reason, restore, other, tmp_path / "new")
    assert set(tmp_path.iterdir()) == before


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no archive" * 1000)
    refused("usage.file", restore, tmp_path / "none", tmp_path / "new")
    refused("usage.file", restore, tmp_path / "missing", tmp_path / "new")


# A house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("backup")) as opened:
        yield opened


def prepared(house: House, number: int) -> tuple[bytes, Path]:
    bill = sample_bill(number)
    return bill, house.consent(house.enrol(bill, f"patient-{number}"), bill)


def settled(house: House, settlement: str) -> tuple[str, int, int]:
    found = house.finish(settlement)
    return found["state"], found["public_fen"], found["commercial_fen"]


def replaced(house: House, kept: Path) -> Path:
    """The broker's folder lost, and made anew from a backup; where the lost one is."""
    lost = house.path / f"lost-{kept.name}"
    (house.path / "broker").rename(lost)
    operate("restore", kept, house.path / "broker")
    return lost


def test_a_restored_broker_goes_on_where_nothing_was_lost_and_refuses_where_something_was(house: House) -> None:
    prepared_ = [prepared(house, number) for number in (1, 2, 3)]
    assert settled(house, house.begin(*prepared_[0])) == FIGURES
    early, late = house.path / "early", house.path / "late"
    said = spawn("broker", "backup", house.path / "broker", "-o", early, "--with-keys").ok().json
    assert said["size"] > 0
    # While it serves, with a claim under way that the insurer has perhaps read, and perhaps not.
    with house.frozen("insurer"):
        settlement = house.begin(*prepared_[1])
        waiting = house.cast.ids["insurer"]
        until(lambda: house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", waiting), "the claim waits")
        house.kill("broker")
        operate("backup", house.path / "broker", "-o", late, "--with-keys")
        replaced(house, late)
        house.restart("broker")
        until(lambda: not house.broker_rows("SELECT 1 FROM restored"), "a majority was heard")
    assert settled(house, settlement) == FIGURES
    house.kill("broker")
    lost = replaced(house, early)
    house.restart("broker")
    until(lambda: "unavailable.log" in house.log("broker"), "a witness is ahead")
    size = house.broker_rows("SELECT size FROM head")
    settlement = house.begin(*prepared_[2])
    house.kill("broker")
    assert size == house.broker_rows("SELECT size FROM head") == [(said["size"],)]
    assert house.broker_rows("SELECT 1 FROM restored")
    # What was lost is found again: then it goes on.
    (house.path / "broker").rename(house.path / "refused")
    lost.rename(house.path / "broker")
    house.restart("broker")
    assert settled(house, settlement) == FIGURES
    assert run("audit", "verify", house.path, "--json").ok().json["verified"] is True
