"""``zhifu doctor DIR``: is this node well, and what is to be done? (A broker's folder: ``python -m broker doctor``.)"""

from __future__ import annotations

import typer

from clients import command, doctor
from clients.command import Folder, Json, clear, print_json
from zhifu import findings

app = command.app("Examine a node's or a broker's folder.")


@app.command()
@clear
def examine(folder: Folder, as_json: Json = False) -> None:
    """Examine a node's or a broker's folder: files, keys, certificates, store, disk, clock, broker, pins, policy,
    witness, queue. Each check is ok, warn or fail, with what to do.

    Exit 0 where nothing fails (warnings included), else the worst finding's code: 5 before all others.
    """
    found = doctor.examine(folder)
    if as_json:
        print_json(findings.document(found))
    else:
        for line in findings.lines(found):
            typer.echo(line)
    raise typer.Exit(int(findings.exit_of(found)))
