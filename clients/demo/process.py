"""Processes of their own that do not each wait for the same imports.

Starting Python and importing what a node needs costs more than most commands do. A fork server (`multiprocessing`)
imports it once, before any key or record is read; each process is forked from it and runs the same ``main`` that its
command line would, with a pid, a memory and an exit code of its own.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

_PRELOADED: Final = (
    "broker.__main__", "broker.commands", "broker.enrolment", "broker.export", "broker.pseudonym_commands",
    "broker.serving", "clients.cli", "clients.admin", "clients.serve", "clients.auditor.cli", "clients.hospital.cli",
    "clients.hospital.scrub.text", "clients.insurer.cli", "clients.patient.cli", "clients.public_payer.cli",
    "clients.demo.prepared", "uvicorn.protocols.http.h11_impl",
)  # fmt: skip
_SERVER: Final = get_context("forkserver")
_SERVER.set_forkserver_preload(list(_PRELOADED))
# To start a process also reads the exit codes of others; one that two threads read is lost to one of them.
_ONE: Final = threading.Lock()


def warm() -> None:
    """Start the fork server, which begins to import; whoever does not call this waits for it at the first process."""
    forkserver.ensure_running()


class Process:
    """A running ``python -m module words``. Its stdout is read here; its stderr goes to ``log``, or is read as well."""

    def __init__(self, module: str, words: Sequence[str], log: Path | None = None) -> None:
        """Start it. The module, or a package's ``__main__``, has a ``main`` that takes the words."""
        out, child_out = _SERVER.Pipe(duplex=False)
        err, child_err = _SERVER.Pipe(duplex=False)
        given = (module, list(words), child_out, child_err, log, dict(os.environ))
        # As a daemon it ends with whoever started it, however that ends by itself.
        self._process = _SERVER.Process(target=_run, args=given, daemon=True)
        with _ONE:
            self._process.start()
        for end in (child_out, child_err):
            end.close()
        self.stdout, self.stderr = _text(out), _text(err)
        pid = self._process.pid
        assert pid is not None
        self.pid: int = pid

    def poll(self) -> int | None:
        """The exit code, minus the number of the signal that ended it; None while it runs."""
        with _ONE:
            return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, once it ended. Raises `TimeoutError`."""
        if self.poll() is None:
            wait([self._process.sentinel], timeout_s)
        code = self.poll()
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_s} s")
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it ended before."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _text(end: Connection) -> io.TextIOWrapper:
    """The reading end of a pipe as text; the connection's own descriptor is closed."""
    opened = os.fdopen(os.dup(end.fileno()), encoding="utf-8", errors="replace")
    end.close()
    return opened


def _run(
    module: str, words: list[str], out: Connection, err: Connection, log: Path | None, environment: dict[str, str]
) -> None:
    """In the new process: its streams and environment, then the module's ``main``; ends with its exit code."""
    # What it was forked with stays until it ends: no collection of garbage need look through it.
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out.fileno(), 1)
    os.dup2(_opened(log) if log is not None else err.fileno(), 2)
    out.close()
    err.close()
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = [module, *words]
    named = f"{module}.__main__" if hasattr(import_module(module), "__path__") else module
    sys.exit(import_module(named).main(words))


def _opened(log: Path) -> int:
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
