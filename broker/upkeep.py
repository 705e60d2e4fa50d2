"""Commands that keep a broker's database: ``migrate``, ``backup``, ``restore``."""

from __future__ import annotations

import argparse
import json
import sys

from broker import home
from broker.store import opening
from zhifu.errors import Exit, Refused


def migrate(arguments: argparse.Namespace) -> None:
    """``migrate``: what was done, or with ``--check`` would be, as JSON."""
    opened = home.named(arguments)
    if not opened.store and not opened.database.exists():
        raise Refused("usage.file", "there is no database yet: the first zhifu broker serve makes it")
    done = opening.migrate(opened.database, opened.store, check=arguments.check)
    print(json.dumps({"from": done.before, "to": done.after, "steps": done.steps}, ensure_ascii=False))
    if arguments.check and done.steps:
        sys.exit(int(Exit.FAILURE))
