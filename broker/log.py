"""Log lines as JSON on stderr. They say what happened and why; never a value, a name or a key.

Of what a library says only its name and the place are written, and of an exception that nobody caught its type and
the places it passed: their texts quote what they choked on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Final

_FIELDS: Final = ("reason", "node", "count")
_OURS: Final = ("broker", "zhifu")
_log = logging.getLogger("broker.log")


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage() if record.name.partition(".")[0] in _OURS else "library",
        }
        line.update({name: getattr(record, name) for name in _FIELDS if hasattr(record, name)})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _where(record)
        elif line["event"] == "library":
            line["at"] = f"{record.filename}:{record.lineno}"
        return json.dumps(line)


def _where(record: logging.LogRecord) -> str:
    """Files and lines of an unexpected error; its text stays out, since it may quote what it choked on."""
    places = traceback.extract_tb(record.exc_info[2])[-4:] if record.exc_info else []
    return " < ".join(f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}" for place in reversed(places))


def to_stderr() -> None:
    """Send every logger's lines to stderr, and what else Python would write there by itself."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    # It names each of its plugins when it is imported; what is migrated, commands say.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, _: _uncaught(kind, error)
    sys.unraisablehook = lambda one: _uncaught(one.exc_type, one.exc_value)
    threading.excepthook = lambda one: _uncaught(one.exc_type, one.exc_value)


def _uncaught(kind: type[BaseException], error: BaseException | None) -> None:
    known = error if error is not None else kind.__new__(kind)
    _log.critical("not caught", exc_info=known, extra={"reason": "internal"})
