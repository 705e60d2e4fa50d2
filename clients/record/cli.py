"""The commands of ``zhifu record``, each in a module of its own name."""

from __future__ import annotations

from clients import command
from clients.record.convert import convert
from clients.record.explain import explain
from clients.record.risk import risk
from clients.record.scrub import scrub
from clients.record.sealing import gate, open_, seal

app = command.app("Records as files: what would be shared, at which precision, and why.")


@app.callback()
def _record() -> None:
    """Records as files: what would be shared, at which precision, and why."""


app.command()(explain)
app.command()(seal)
app.command()(gate)
app.command("open")(open_)
app.command()(risk)
app.command()(convert)
app.command()(scrub)
