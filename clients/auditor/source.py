"""The log, as the broker's own program prints it. Client code never opens the broker's database (DESIGN section 2)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Final

from clients.auditor.entries import MAX_LINE
from zhifu.errors import NotAuthentic

_BUFFER: Final = 1 << 20
_MAX_SAID: Final = 200


def lines(broker: Path) -> Generator[bytes, None, None]:
    """The lines of ``python -m broker export``, each at most ``MAX_LINE + 1`` bytes, as they come.

    Closing the iterator ends the program. Raises `NotAuthentic` (log.corrupt) when it fails: it reads a file that
    anyone may have changed, so its failure is a finding about the log.
    """
    command = [sys.executable, "-P", "-m", "broker", "export", str(broker)]
    with tempfile.TemporaryFile() as said:
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, bufsize=_BUFFER)
        try:
            if program.stdout is not None:
                yield from iter(lambda: _line(program.stdout), b"")
            code = program.wait()
        finally:
            program.kill()
            program.wait()
            if program.stdout is not None:
                program.stdout.close()
        if code:
            raise NotAuthentic("log.corrupt", f"unreadable: the export ended with code {code}{_said(said)}")


def _line(stream: IO[bytes] | None) -> bytes:
    return stream.readline(MAX_LINE + 1) if stream is not None else b""


def _said(stream: IO[bytes]) -> str:
    """What the program said last, if it is a sentence of its own and not a traceback."""
    stream.seek(0)
    last = stream.read(1 << 20).decode(errors="replace").strip().rpartition("\n")[2]
    return f" ({last[:_MAX_SAID]})" if last.startswith("zhifu broker: ") and last.isprintable() else ""
