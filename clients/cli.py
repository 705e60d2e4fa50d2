"""``zhifu``: dispatches to the commands of each part; broker commands run ``python -m broker``.

A part is imported only when it is used, so a command that needs no gRPC does not wait for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.table import Table

from zhifu.errors import Exit

_PARTS: Final = {
    "demo": ("clients.demo.cli", "One discharge settled by real processes on this computer, told as a story."),
    "node": ("clients.admin", "A participant's node: join, say whom to believe, serve."),
    "hospital": ("clients.hospital.cli", "The hospital's desk: know the patient, ask for consent, settle a bill."),
    "payer": ("clients.public_payer.cli", "The public payer: personal accounts, and the signed statement of a day."),
    "insurer": ("clients.insurer.cli", "The insurer: its book of insured persons, its reviewer's queue."),
    "reconcile": ("clients.hospital.reconcile_cli", "Compare a hospital's day with its payers' signed statements."),
    "wallet": ("clients.patient.cli", "The patient's wallet: enrol, review, grant, see every access."),
    "console": ("clients.auditor.console.cli", "The auditor's console: pages to search, follow, check and review."),
    "audit": ("clients.auditor.cli", "The auditor: verify the log, offline, with pinned keys."),
    "record": ("clients.record.cli", "Records: what would be shared, at which precision."),
    "policy": ("clients.policy.cli", "Policies: check them, explain them, compare two versions, run cases."),
    "registrar": ("clients.registrar", "The registrar: sign the policy bundle that is in force."),
    "pseudonym": ("", "The pseudonym service by itself: keys, quotas, rotation, serve (runs python -m broker)."),
    "doctor": ("clients.doctor_cli", "Examine a node's or a broker's folder: what is wrong, and what to do."),
    "broker": ("", "The broker: init, serve, invite, contact, export (runs python -m broker)."),
}


def main(argv: Sequence[str] | None = None) -> None:
    """The console script. Ends with the exit code of what it ran (`zhifu.errors.Exit`)."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("--help", "-h", "help"):
        _overview()
    elif given[0] == "--version":
        print(f"zhifu {_version()}")
    elif given[0] == "pseudonym":
        # Its commands are the broker's, since it is the broker's code and log under another operator.
        _become_broker(given)
    elif given[0] == "broker":
        _become_broker(given[1:])
    elif given[0] == "doctor" and any((Path(word) / "broker.toml").exists() for word in given[1:]):
        _become_broker(given)
    elif given[0] in _PARTS:
        _part(_PARTS[given[0]][0])(args=given[1:], prog_name=f"zhifu {given[0]}")
    else:
        print(f"zhifu: no command {given[0]!r}; there is: {', '.join(_PARTS)}", file=sys.stderr)
        sys.exit(int(Exit.USAGE))


@cache
def _part(module: str) -> Callable[..., Any]:
    """The commands of a part, built once a process."""
    from typer.main import get_command

    return get_command(import_module(module).app)


def _become_broker(words: Sequence[str]) -> NoReturn:
    """In place of this process, so that a signal to the command reaches what serves."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "broker", *words])


def _overview() -> None:
    out = Console()
    out.print("[bold]zhifu[/] COMMAND …    直付: claims settled at discharge, under the patient's consent,")
    out.print("through a broker that cannot read them.\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, (_, text) in _PARTS.items():
        table.add_row(f"[bold]{name}[/]", text)
    out.print(table)
    out.print("\nzhifu COMMAND --help says more. Exit codes: 0 ok, 1 failure, 2 usage or bad input, 3 denied by")
    out.print("policy, 4 consent missing or invalid, 5 integrity, 6 unavailable.")


def _version() -> str:
    try:
        return version("zhifu")
    except PackageNotFoundError:
        return "(not installed)"
