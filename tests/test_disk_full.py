"""A disk that is really full: what is new is refused, what was begun ends, nothing is lost, it resumes by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.reserve import FILE, Reserve
from broker.store import tables
from tests.broker_rig import acknowledgements, serving
from tests.formats import HOSPITAL, PAYER
from tests.test_exchange_service import statute

SIZE_MB = 96


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 96 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


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


async def test_acknowledgements_and_the_log_end_what_was_begun(disk: Path) -> None:
    async with serving(disk) as server:
        readiness = server.served.readiness
        readiness.reserve = Reserve(server.home.path)
        await readiness.look()
        assert readiness.why_not == ()
        assert (server.home.path / FILE).stat().st_size == readiness.reserve.size
        hospital, payer = await server.attach(HOSPITAL), await server.attach(PAYER)
        begun = statute(server, 64)
        await hospital.submit(*begun)
        found = await payer.deliveries(64)
        filler = fill(disk)
        # Before anybody looked, a commit may fail: then nothing of it is there, and the sender is told to come again.
        late = statute(server, 8)
        refused = {one.refusal.reason for one in await hospital.submit(*late)}
        assert refused <= {"unavailable.store", "unavailable.space"}
        await readiness.look()
        assert " ".join(readiness.why_not) == "unavailable.space"
        (one,) = {(one.refusal.reason, one.refusal.retryable) for one in await hospital.submit(*late)}
        assert one == ("unavailable.space", True)
        # What ends work is written: the recipient's word, the sender's notice, the log.
        size = server.core.log.size
        await payer.send(acknowledgements=acknowledgements(PAYER, found))
        assert {told.state for told in await hospital.notices(64)} == {"delivered"}
        assert server.core.log.size > size
        assert server.rows(tables.Delivery) == []
        filler.unlink()
        async with asyncio.timeout(20):
            while not readiness.ready:
                await asyncio.sleep(0.1)
        assert (server.home.path / FILE).exists()
        assert not any(one.HasField("refusal") for one in await hospital.submit(*late))
        assert len(await payer.deliveries(8)) == 8
        assert {row.hash for row in server.rows(tables.Exchange)} == {one.hash for one in [*begun, *late]}


def test_the_reserve_does_not_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made where there is room three times over, and released when less than itself is free."""
    usage = [300 << 20]
    total = 6 << 20
    monkeypatch.setattr("broker.reserve.shutil.disk_usage", lambda _: type("U", (), {"free": usage[0], "total": total}))
    reserve = Reserve(tmp_path)
    said = []
    for free_mib in (300, 2, 0.9, 1, 2.5, 3, 1.5):
        usage[0] = int(free_mib * (1 << 20))
        said.append((reserve.look(), (tmp_path / FILE).exists()))
    kept, used = (False, True), (True, False)
    assert said == [kept, kept, used, used, used, kept, kept]
    reserve.release()
    assert not (tmp_path / FILE).exists()
