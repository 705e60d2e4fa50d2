"""The commands of ``zhifu record``, each in a module of its own name."""

from __future__ import annotations

from clients import command
from clients.record.explain import explain

app = command.app("Records as files: what would be shared, at which precision, and why.")


@app.callback()
def _record() -> None:
    """Records as files: what would be shared, at which precision, and why."""


app.command()(explain)
