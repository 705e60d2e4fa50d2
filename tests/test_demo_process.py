"""Processes that are forked and not started anew: what tells them from ``python -m`` is the time they take, only."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clients.demo.process import Process
from clients.demo.stage import call
from tests.house import python
from zhifu.errors import Refused


def test_it_says_and_ends_with_what_the_command_line_does() -> None:
    for words in (["--version"], ["audit", "verify", "/nowhere"], ["nonsense"]):
        process, typed = Process("clients", words), subprocess.run(python(*words), capture_output=True, text=True)
        with process.stdout, process.stderr:
            assert (process.stdout.read(), process.stderr.read()) == (typed.stdout, typed.stderr)
        assert process.wait() == typed.returncode


def test_it_is_a_process_of_its_own_with_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIFU_STORE", "nonsense://")
    process = Process("broker", ["serve", "/nowhere"])
    assert process.pid != os.getpid()
    with process.stdout, process.stderr:
        assert "usage.file" in process.stderr.read()
    assert process.wait() == process.poll() == 2


def test_a_signal_ends_it_and_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    call("broker", "init", str(folder), "--origin", "log.example/zhifu")
    log = tmp_path / "log.jsonl"
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = Process("broker", ["serve", str(folder)], log)
        with process.stderr, process.stdout:
            assert "node_port" in process.stdout.readline()
        assert process.poll() is None
        with pytest.raises(TimeoutError):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(40) == code
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_error_of_a_command_is_raised_here() -> None:
    with pytest.raises(Refused, match="no folder"):
        call("broker", "export", "/nowhere")


def test_exit_codes_are_not_lost_when_many_end_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: call("clients", "--version"), range(64)))
