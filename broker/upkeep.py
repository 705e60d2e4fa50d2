"""Commands that keep a broker's database: ``migrate``, ``backup``, ``restore``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Final

from broker import home
from broker.clock import clock_ms
from broker.store import opening
from zhifu.errors import Exit, Refused

_EVERY_S: Final = 2.0


def migrate(arguments: argparse.Namespace) -> None:
    """``migrate``: what was done, or with ``--check`` would be, as JSON; with the keys that the folder did not have."""
    opened = home.named(arguments)
    if not opened.store and not opened.database.exists():
        raise Refused("usage.file", "there is no database yet: the first zhifu broker serve makes it")
    done = opening.migrate(opened.database, opened.store, check=arguments.check)
    drawn = () if arguments.check else home.add_missing(opened.path)
    said = {"from": done.before, "to": done.after, "steps": done.steps, "drawn": drawn}
    print(json.dumps(said, ensure_ascii=False))
    if arguments.check and done.steps:
        sys.exit(int(Exit.FAILURE))


def backup(arguments: argparse.Namespace) -> None:
    """``backup``: what is in it, as JSON; progress goes to stderr."""
    from broker import backup as backups

    opened = home.named(arguments)
    made = backups.write(opened, arguments.output, clock_ms(), _telling(), with_keys=arguments.with_keys)
    said = {"origin": made.origin, "version": made.version, "size": made.size, "root": made.root}
    print(json.dumps(said | {"with_keys": made.has_keys, "files": sorted(made.files)}))


def restore(arguments: argparse.Namespace) -> None:
    """``restore``: what was restored, as JSON."""
    from broker import backup as backups

    made = backups.restore(arguments.file, arguments.dir, home.store_named(arguments), clock_ms(), _telling())
    print(json.dumps({"origin": made.origin, "size": made.size, "root": made.root, "of_ms": made.time_ms}))
    print("a majority of the witnesses must be heard before this broker signs", file=sys.stderr)


def _telling() -> Callable[[str], None]:
    """A line on stderr now and then, for who waits."""
    last = time.monotonic()

    def tell(step: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            print(step, file=sys.stderr, flush=True)

    return tell
