"""What stands outside the broker: nodes, wallet, console. All log JSON lines to stderr, without personal data.

A line names an event and what it is *about* (hashes, counts, reasons), given as ``extra={"about": {...}}``. Of an
exception, caught or not, only its type and the places it passed are written, and of what a library says only its name
and the place: their messages may quote a value.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Final

from zhifu.errors import Error

_MAX_FRAMES: Final = 12
_OURS: Final = "zhifu"
_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False, default=lambda value: type(value).__name__)

# gRPC's own lines on stderr are not JSON. It reads this when it is first imported, which is after this package.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class JsonLines(logging.Formatter):
    """One JSON object a line: ``at`` (UTC), ``level``, ``from``, ``event``, and the fields of ``about``."""

    def format(self, record: logging.LogRecord) -> str:
        about: dict[str, object] = getattr(record, "about", {})
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "from": record.name,
            "event": record.getMessage() if (ours := record.name.partition(".")[0] == _OURS) else "library",
            **{name: value.hex() if isinstance(value, bytes) else value for name, value in about.items()},
        }
        if record.exc_info and record.exc_info[1]:
            line |= _failure(record.exc_info[1])
        elif not ours:
            line["places"] = [f"{record.filename}:{record.lineno}:{record.funcName}"]
        return _TO_JSON.encode(line)


def _failure(error: BaseException) -> dict[str, object]:
    """Type and places; the reason where it is one of ours, whose messages carry no data."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}:{frame.name}" for frame in frames]
    found: dict[str, object] = {"error": type(error).__name__, "places": places}
    return found | {"reason": error.reason} if isinstance(error, Error) else found


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send everything that is logged in this process to stderr as JSON lines, and what else Python writes there."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[stream], force=True)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, _: _uncaught(kind, error)
    sys.unraisablehook = lambda one: _uncaught(one.exc_type, one.exc_value)
    threading.excepthook = lambda one: _uncaught(one.exc_type, one.exc_value)


def _uncaught(kind: type[BaseException], error: BaseException | None) -> None:
    logging.getLogger("zhifu").critical("not_caught", exc_info=error if error is not None else kind.__new__(kind))
