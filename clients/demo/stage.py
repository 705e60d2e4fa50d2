"""Processes of the demo: started, awaited by what they say, and stopped by their id."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clients.demo.process import Process
from zhifu.errors import Error, Refused

READY_S: Final = 150.0
STOP_S: Final = 15.0
LOG: Final = "log.jsonl"


@dataclass(slots=True)
class Actor:
    """A long-running process with its role word; its log is ``DIR/<role>/log.jsonl``."""

    role: str
    process: Process | subprocess.Popen[str]
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Stage:
    """Everything under one folder: ``DIR/<role>/`` for each process."""

    path: Path
    actors: list[Actor] = field(default_factory=list)

    def start(self, role: str, *command: str) -> Actor:
        """Start ``python -m command``; `ready` waits for its first line."""
        module, *words = command
        return self._enter(role, Process(module, words, self._log(role)))

    def launch(self, role: str, command: list[str]) -> Actor:
        """Start any program as ``role``."""
        with self._log(role).open("a") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        return self._enter(role, process)

    def _log(self, role: str) -> Path:
        """The log of a role's process, for its owner only; a later process writes on."""
        folder = self.path / role
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / LOG).touch(0o600)
        return folder / LOG

    def _enter(self, role: str, process: Process | subprocess.Popen[str]) -> Actor:
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
            except (TimeoutError, subprocess.TimeoutExpired):
                actor.process.kill()
                actor.process.wait()
            for stream in (actor.process.stdout, actor.process.stderr):
                if stream is not None:
                    stream.close()


class _Watchdog:
    """Ends a process that says nothing in time, so that reading its first line ends too."""

    def __init__(self, process: Process | subprocess.Popen[str]) -> None:
        self._timer = threading.Timer(READY_S, process.kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def call(*command: str) -> tuple[int, str]:
    """Run ``python -m command`` to its end: (pid, stdout). Raises the error that it names on stderr."""
    module, *words = command
    process = Process(module, words)
    with process.stdout, process.stderr, ThreadPoolExecutor(1) as pool:
        said = pool.submit(process.stderr.read)
        out, err = process.stdout.read(), said.result()
    code = process.wait()
    if code:
        raise _named(err, code)
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
