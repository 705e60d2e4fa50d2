"""Processes of the demo: started, awaited by what they say, and stopped by their id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zhifu.errors import Error, Refused

READY_S: Final = 150.0
STOP_S: Final = 15.0
LOG: Final = "log.jsonl"


@dataclass(slots=True)
class Actor:
    """A long-running process with its role word; its log is ``DIR/<role>/log.jsonl``."""

    role: str
    process: subprocess.Popen[str]
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Stage:
    """Everything under one folder: ``DIR/<role>/`` for each process."""

    path: Path
    actors: list[Actor] = field(default_factory=list)

    def start(self, role: str, *command: str) -> Actor:
        """Start ``python -m command``; `ready` waits for its first line."""
        return self.launch(role, [sys.executable, "-m", *command])

    def launch(self, role: str, command: list[str]) -> Actor:
        """Start any program as ``role``."""
        folder = self.path / role
        folder.mkdir(mode=0o700, exist_ok=True)
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        finally:
            os.close(log)
        actor = Actor(role, process)
        self.actors.append(actor)
        return actor

    def ready(self, actor: Actor) -> Mapping[str, Any]:
        """What the process says when it is ready. Raises `Refused` (unavailable.*) if it ends or says nothing."""
        assert actor.process.stdout is not None
        watchdog = _Watchdog(actor.process)
        with watchdog:
            line = actor.process.stdout.readline()
        if not line:
            raise Refused("unavailable.broker", f"the {actor.role}'s process did not start: {self._last(actor.role)}")
        actor.said = json.loads(line)
        return actor.said

    def _last(self, role: str) -> str:
        """The last line of a process's log: what it died of."""
        lines = (self.path / role / LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def stop(self) -> None:
        """SIGTERM to every process, payers and hospital before the broker; SIGKILL to what does not end."""
        for actor in reversed(self.actors):
            if actor.process.poll() is None:
                actor.process.send_signal(signal.SIGTERM)
        for actor in reversed(self.actors):
            try:
                actor.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                actor.process.kill()
                actor.process.wait()
            if actor.process.stdout is not None:
                actor.process.stdout.close()


class _Watchdog:
    """Ends a process that says nothing in time, so that reading its first line ends too."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._timer = threading.Timer(READY_S, process.kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def call(*command: str) -> tuple[int, str]:
    """Run ``python -m command`` to its end: (pid, stdout). Raises the error that it names on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    if process.returncode:
        raise _named(err, process.returncode)
    return process.pid, out


def _named(err: str, code: int) -> Error:
    """The error in a command's last line: ``zhifu…: reason: detail``."""
    line = err.strip().splitlines()[-1] if err.strip() else ""
    _, _, rest = line.partition(": ")
    reason, _, detail = rest.partition(": ")
    try:
        return Refused(reason, detail)
    except KeyError:
        return Refused("internal", f"a command ended with {code}: {line[:200]}")
