"""``zhifu demo``: the whole settlement on one computer."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clients import command
from clients.command import Json, clear, print_json
from clients.demo import process
from clients.insurer import product as products
from zhifu.errors import NotAuthentic

app = command.app("One discharge settled by real processes on this computer, told as a story in Chinese and English.")


@app.command()
@clear
def demo(
    as_json: Json = False,
    bill: Annotated[Path | None, typer.Option(help="Another bill, JSON in the national interface's names.")] = None,
    product: Annotated[
        str, typer.Option(help=f"The insurer's product: {', '.join(products.names())}.")
    ] = products.DEFAULT,
    code: Annotated[
        bool, typer.Option("--code", help="Settle with a direct-pay code that the patient shows at the desk.")
    ] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep every process's data and logs under this folder.")] = None,
) -> None:
    """Start broker, hospital, public payer, insurer and wallet, settle a bill, verify the log, stop.

    Exit 0 only if the settlement confirmed and the log verified.
    """
    process.warm()
    # Only now, so that two processes import at the same time.
    from clients.demo import play, story
    from clients.demo.stage import Stage

    options = play.Options(bill, product, keep, code)
    play.read(options)
    out = None if as_json else Console()
    # As an exception, so that whoever ends the demo ends its processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="zhifu-demo-") as temporary, play.folder(keep, Path(temporary)) as path:
        stage = Stage(path)
        try:
            played = play.play(options, stage, story.teller(out))
        finally:
            stage.stop()
    if out is None:
        print_json(played.document())
    else:
        story.tell(played, out)
    sys.stdout.flush()
    if not played.audit["verified"]:
        raise NotAuthentic("log.corrupt", "the audit log did not verify")
