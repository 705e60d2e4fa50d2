"""``zhifu audit``: the auditor's commands. Findings go to stdout, progress and refusals to stderr."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clients.auditor import orders, pins, proofs, source, spot, trail_cli
from clients.auditor.report import Report
from clients.auditor.verify import Tell, Verification
from clients.command import clear
from policies import load
from zhifu.errors import Exit, Refused

BROKER: Final = "broker"
AUDITOR: Final = "auditor"
_DATABASE: Final = "broker.db"
_SETTINGS: Final = "broker.toml"

app = typer.Typer(no_args_is_help=True, help="Check what a broker recorded, trusting only pinned keys. 核验审计日志")

for _command in (
    proofs.verify_receipt,
    proofs.verify_checkpoint,
    proofs.verify_consistency,
    proofs.evidence,
    orders.erase,
    orders.hold,
):
    app.command()(_command)


@app.callback()
def _audit() -> None:
    """Check what a broker recorded, trusting only pinned keys. 核验审计日志"""


@app.command()
@clear
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with broker/ and auditor/ in it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Verify the whole log offline: every entry, every node of the tree, every signature. 离线核验全部日志

    Exit 0 if all of it holds; 5 if not, naming the first bad entry; 2 if a folder or the pins are missing.
    """
    report = audit(directory, show_progress=sys.stderr.isatty())
    if as_json:
        typer.echo(report.to_json())
    else:
        report.show(Console())
    if report.first_bad is not None:
        _fail(report.first_bad.line, Exit.INTEGRITY)


@app.command(name="spot")
@clear
def spot_(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with broker/ and auditor/ in it.")],
    opened: Annotated[
        Path, typer.Argument(metavar="FILE", help="What the hospital opened (zhifu hospital spot-audit).")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Recompute every coarser level of an opened record from its finest. 抽查：由最细一级重算各级

    The log is verified first. Exit 5 if the hospital told one recipient another story than the record's finest level.
    """
    report = audit(directory)
    if report.first_bad is not None:
        _fail(report.first_bad.line, Exit.INTEGRITY)
    with closing(source.lines(directory / BROKER)) as lines:
        found = spot.check(opened, lines)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        typer.echo(f"entry {found.entry}: {found.schema}, {found.levels} levels, {len(found.violations)} wrong")
    for one in found.violations:
        typer.echo(f"zhifu: {one.reason}: unit {one.unit}, level {one.level}", err=True)
    if found.violations:
        raise typer.Exit(int(Exit.INTEGRITY))


def _is_elsewhere(broker: Path) -> bool:
    """Whether the broker's database is at an address."""
    try:
        return bool(tomllib.loads((broker / _SETTINGS).read_text("utf-8")).get("store"))
    except (OSError, ValueError):
        return False


def audit(directory: Path, *, show_progress: bool = False) -> Report:
    """Verify the log of ``directory/broker`` with the pins of ``directory/auditor``; a good head is remembered there.

    Raises `Malformed`, `Refused` (usage.file) where either cannot be read.
    """
    broker, own = directory / BROKER, directory / AUDITOR
    if not ((broker / _DATABASE).is_file() or _is_elsewhere(broker)):
        raise Refused("usage.file", f"no broker's database in {broker}")
    verification = Verification(pins.load(own), pins.load_head(own), [load.load()])
    with closing(source.lines(broker)) as lines, _progress(show_progress) as tell:
        report = verification.run(lines, tell)
    if report.verified:
        pins.move_head(own, verification.head)
    return report


@contextmanager
def _progress(shown: bool) -> Iterator[Tell]:
    """A bar on stderr, for people only."""
    columns = (TextColumn("核验 / verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _fail(what: str, code: Exit) -> NoReturn:
    typer.echo(f"zhifu: {what}", err=True)
    raise typer.Exit(int(code))


trail_cli.add_to(app)

if __name__ == "__main__":
    app()
