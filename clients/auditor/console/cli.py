"""``zhifu console``: the auditor's pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clients import command, config, log_to_stderr
from clients.auditor.console.app import Console
from clients.command import Folder, clear
from clients.locking import locked
from clients.web import serving
from clients.web.entrance import Entrance

app = command.app("The auditor's console: search, timelines, integrity, alerts, policies. 审计控制台")


@app.callback()
def _console() -> None:
    """The auditor's console: search, timelines, integrity, alerts, policies. 审计控制台"""


@app.command()
@clear
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Another address than loopback needs a certificate.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free port.")] = 0,
    certificate: Annotated[Path | None, typer.Option(help="PEM, for another address than loopback.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM, the certificate's key.")] = None,
) -> None:
    """Serve the pages of one auditor's folder until SIGTERM; prints the address that opens them, with its key, as JSON.
    打开审计控制台
    """
    config.load(folder)
    log_to_stderr()
    place = serving.Place(host, port, certificate, key)
    with locked(folder / "console.lock", f"another console serves {folder.name}: what one keeps the other would lose"):
        entrance = Entrance(folder)
        serving.serve(Console(folder).app(entrance, place.hosts), place, entrance)
