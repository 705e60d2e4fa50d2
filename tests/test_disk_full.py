"""A disk that is really full: what is new is refused, what was begun ends, nothing is lost, it resumes by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest

from broker.store import tables
from broker.store.file_reserve import FILE, FileReserve
from broker.store.interface import Reserve
from broker.store.table_reserve import TableReserve
from tests.broker_rig import Server, acknowledgements, serving
from tests.formats import HOSPITAL, PAYER, Sent
from tests.postgres import Server as Postgres
from tests.postgres import open_server
from tests.test_exchange_service import statute

SIZE_MB: Final = {"sqlite": 96, "postgresql": 288}
KEPT: Final = 32 << 20
"""Bytes that are kept on PostgreSQL's small disk: two segments of its log, of which recovering takes one."""


@contextmanager
def small(folder: Path, size_mb: int) -> Iterator[None]:
    """At ``folder`` is a file system of its own."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs to mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small(folder, SIZE_MB["sqlite"]):
        yield folder


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """One whose data lies on a small disk."""
    with open_server(lambda folder: small(folder, SIZE_MB["postgresql"])) as opened:
        yield opened


def fill(disk: Path) -> Path:
    """Everything that is free is taken, to the last byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for block in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                continue
    return filler


async def ends_what_was_begun(server: Server, reserve: Reserve, disk: Path, is_kept: Callable[[], bool]) -> None:
    readiness = server.served.readiness
    readiness.reserve = reserve
    await readiness.look()
    assert readiness.why_not == ()
    assert is_kept()
    hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
    begun = statute(server, 64)
    await hospital.submit(*begun)
    found = await payer.deliveries(64)
    filler = fill(disk)
    late, taken, refused = list[Sent](), list[Sent](), set[str]()
    while not refused:
        # Before anybody looked, a commit may fail: then nothing of it is there, and the sender is told to come again.
        late = statute(server, 8)
        told = await hospital.submit(*late)
        refused = {one.refusal.reason for one in told if one.HasField("refusal")}
        taken += [sent for sent, one in zip(late, told, strict=True) if not one.HasField("refusal")]
        assert len(taken) < 2000
    assert refused == {"unavailable.space"}
    await readiness.look()
    assert " ".join(readiness.why_not) == "unavailable.space"
    assert not is_kept()
    (one,) = {(one.refusal.reason, one.refusal.retryable) for one in await hospital.submit(*late)}
    assert one == ("unavailable.space", True)
    # What ends work is written: the recipient's word, the sender's notice, the log.
    found += await payer.deliveries(len(taken))
    size = server.core.log.size
    for at in range(0, len(found), 64):
        await payer.send(acknowledgements=acknowledgements(PAYER, found[at : at + 64]))
    assert {told.state for told in await hospital.notices(len(found))} == {"delivered"}
    assert server.core.log.size > size
    assert server.rows(tables.Delivery) == []
    filler.unlink()
    async with asyncio.timeout(90):  # the longest pause between two tries is a minute
        while not readiness.ready:
            await asyncio.sleep(0.1)
    assert is_kept()
    again = [one for one in late if one not in taken]
    assert not any(one.HasField("refusal") for one in await hospital.submit(*again))
    assert len(await payer.deliveries(len(again))) == len(again)
    assert {row.hash for row in server.rows(tables.Exchange)} == {one.hash for one in [*begun, *taken, *again]}


async def test_what_was_begun_ends_on_the_disk_of_a_file(disk: Path) -> None:
    async with serving(disk) as server:
        await ends_what_was_begun(server, FileReserve(disk), disk, (disk / FILE).exists)


async def test_what_was_begun_ends_on_the_disk_of_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    address = postgres.migrated()
    reserve = TableReserve(address, KEPT, pause_s=0.2)

    def is_kept() -> bool:
        return room(address) == KEPT

    try:
        async with serving(tmp_path / "broker", store=address) as server:
            await ends_what_was_begun(server, reserve, postgres.path / "data", is_kept)
    finally:
        reserve.close()


def room(address: str) -> int:
    """Bytes that are kept."""
    with psycopg.connect(address, autocommit=True) as connection:
        (found,) = connection.execute("SELECT pg_relation_size(to_regclass('reserve'))").fetchone() or (0,)
    return int(found or 0)


def test_postgresql_that_ends_on_a_full_disk_releases_it_itself(postgres: Postgres) -> None:
    address = postgres.migrated()
    ours, another = TableReserve(address, KEPT, pause_s=0.0), TableReserve(address, KEPT, pause_s=0.0)
    assert (ours.look(False), another.look(False), room(address)) == (False, False, KEPT)
    filler = fill(postgres.path / "data")
    write_log_until_it_ends(address)
    # Without what was kept it would not begin again: to recover it must write.
    assert (comes_back(address), room(address)) == (True, 0)
    assert (seen(ours), seen(another)) == (True, True)
    filler.unlink()
    # One makes it for both, whichever tries first.
    assert (another.look(False), room(address), ours.look(False)) == (False, KEPT, False)
    # Where there is room, nobody is refused because PostgreSQL began anew.
    postgres.stop("immediate")
    postgres.start()
    assert (seen(ours), seen(another), room(address)) == (False, False, KEPT)
    # What one releases the other sees.
    assert (ours.look(True), room(address), another.look(False)) == (True, 0, True)
    ours.close()
    another.close()


def test_who_may_make_no_table_goes_on_without(postgres: Postgres) -> None:
    address = postgres.migrated()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
    reserve = TableReserve(address.replace("zhifu@", "plain@"), KEPT, pause_s=0.0)
    assert (reserve.look(False), room(address)) == (False, 0)
    # What could not be written is refused until the next try, and not for ever.
    assert (reserve.look(True), reserve.look(False)) == (True, False)
    reserve.close()


def write_log_until_it_ends(address: str) -> None:
    """PostgreSQL ends itself where its own log finds no room."""
    with suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as connection:
        while True:
            connection.execute("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000))")


def comes_back(address: str) -> bool:
    """Whether it writes again, by itself, within half a minute."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'fill', 'x')")
            return True
        time.sleep(0.05)
    return False


def seen(reserve: TableReserve) -> bool:
    """The first look finds that its connection is gone."""
    return (reserve.look(False), reserve.look(False))[1]


def test_the_reserve_does_not_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made where there is room three times over, and released when less than itself is free."""
    usage = [300 << 20]
    total = 6 << 20
    monkeypatch.setattr(
        "broker.store.file_reserve.shutil.disk_usage", lambda _: type("U", (), {"free": usage[0], "total": total})
    )
    reserve = FileReserve(tmp_path)
    said = []
    for free_mib in (300, 2, 0.9, 1, 2.5, 3, 1.5):
        usage[0] = int(free_mib * (1 << 20))
        said.append((reserve.look(False), (tmp_path / FILE).exists()))
    kept, used = (False, True), (True, False)
    assert said == [kept, kept, used, used, used, kept, kept]
    # A quota, which nobody sees beforehand.
    assert (reserve.look(True), (tmp_path / FILE).exists()) == used
    reserve.close()
    assert not (tmp_path / FILE).exists()
