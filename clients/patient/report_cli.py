"""``zhifu wallet report|attach|send|track|accept|dispute|withdraw``: a claim that you report yourself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clients import command, durable
from clients.command import Folder, Json, Language, chatter, clear, print_json
from clients.patient import claim_cli, parcels, reports, wallet
from clients.patient.claim_cli import Name
from clients.patient.claims import Claim
from clients.patient.wallet import Pair, Wallet
from zhifu import money
from zhifu.errors import Malformed, Refused

Note = Annotated[str, typer.Option(help="A word to whoever decides, at most 500 characters.")]
_MAX_NOTE = 500


@clear
def report(
    folder: Folder,
    day: Annotated[str, typer.Option(help="The day of the visit or admission, YYYY-MM-DD.")],
    total: Annotated[str, typer.Option(help="What it cost, in yuan.")],
    id_file: Annotated[Path, typer.Option(help="A file with your citizen ID: the insurer finds you by it.")],
    public: Annotated[str, typer.Option(help="What public insurance paid, in yuan.")] = "0.00",
    other: Annotated[str, typer.Option(help="What others paid, in yuan.")] = "0.00",
    hospital: Annotated[str, typer.Option(help="Where you were treated.")] = "",
    diagnosis: Annotated[str, typer.Option(help="The ICD-10 code, if you know it.")] = "",
    outpatient: Annotated[bool, typer.Option("--outpatient", help="A visit, not a stay.")] = False,
    insurer: Annotated[Path | None, typer.Option(help="The insurer's card, where you have several.")] = None,
    note: Note = "",
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Report a claim to your insurer; documents follow with zhifu wallet attach."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    stated = {
        "cert_type": "01",
        "cert_no": durable.read(id_file, 64).decode("ascii", "replace").strip(),
        "day": day,
        "outpatient": outpatient,
        "hospital": hospital,
        "diagnosis": diagnosis,
        "note": _note(note),
        **{name: _fen(text) for name, text in (("total", total), ("public", public), ("other", other))},
    }
    with _bar() as progress:
        claim = asyncio.run(reports.report(opened, _pair(opened, insurer), stated, now, progress))
    _print(opened, claim, lang, as_json)


@clear
def attach(
    folder: Folder,
    name: Name,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Documents, some 60 MiB at a time.")],
    note: Note = "",
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Attach documents, sealed for the insurer; where it asked for some, they are the supplement.

    If it stops on the way, zhifu wallet send goes on where it was.
    """
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    claim = reports.find(opened, name).request
    with _bar() as progress:
        kind = asyncio.run(
            reports.attach(opened, claim, list(parcels.documents(files)), now, progress, _note(note))
        )  # fmt: skip
    _print(opened, claim, lang, as_json, kind=kind)


@clear
def send(folder: Folder, as_json: Json = False) -> None:
    """Send what an earlier command left on its way; what arrived before is not sent again."""
    opened = command.to_the_end(wallet.held(folder))
    with _bar() as progress:
        done = asyncio.run(reports.resume(opened, progress))
    if as_json:
        print_json([one.hash.hex() for one in done])
    else:
        typer.echo(f"{len(done)} sent")


@clear
def track(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """Show where the claims stand that you reported."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    claim_cli.collect(opened, now)
    claim_cli.show([_row(opened, one, lang) for one in reports.listed(opened)], lang, as_json)


@clear
def accept(folder: Folder, name: Name, lang: Language = "zh", as_json: Json = False) -> None:
    """Accept the insurer's decision: it pays."""
    _answer(folder, name, "accept", "", lang, as_json)


@clear
def dispute(
    folder: Folder, name: Name, note: Note = "", lang: Language = "zh", as_json: Json = False
) -> None:  # fmt: skip
    """Dispute the insurer's decision: a person looks again, once."""
    _answer(folder, name, "dispute", _note(note), lang, as_json)


@clear
def withdraw(folder: Folder, name: Name, lang: Language = "zh", as_json: Json = False) -> None:
    """Take a report and its documents back; what the insurer took before, it is told to erase, and answers."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    claim = reports.find(opened, name).request
    taken = asyncio.run(reports.withdraw(opened, claim, now))
    _print(opened, claim, lang, as_json, told_to_erase=taken)


def _answer(folder: Path, name: str, kind: str, note: str, lang: str, as_json: bool) -> None:
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    claim_cli.collect(opened, now)
    claim = reports.find(opened, name).request
    asyncio.run(reports.answer(opened, claim, kind, note, now))
    _print(opened, claim, lang, as_json)


def _print(opened: Wallet, claim: bytes, lang: str, as_json: bool, **more: Any) -> None:
    shown = _row(opened, reports.find(opened, claim.hex()), lang)
    if as_json:
        print_json({**shown, **more})
    else:
        typer.echo(claim.hex())
        chatter.print(shown["state_words"])


def _row(opened: Wallet, one: Claim, lang: str) -> dict[str, Any]:
    kept = reports.one_of(opened, one.request)
    return {**claim_cli.row(one, lang), "parcels": kept["parcels"]}


def _pair(opened: Wallet, insurer: Path | None) -> Pair:
    """The one enrolled key, or the one for the insurer of this card. Raises `Refused` (consent.key_status)."""
    wanted = wallet.party(insurer).id if insurer is not None else ""
    found = [pair for pair in opened.pairs if pair.grants_here and wanted in ("", pair.recipient)]
    if not found:
        raise Refused("consent.key_status", "this wallet has no enrolled key for that insurer")
    if not wanted and len({pair.recipient for pair in found}) > 1:
        raise Malformed("usage.argument", "several insurers: say which, with --insurer CARD")
    return found[0]


def _note(text: str) -> str:
    if len(text) > _MAX_NOTE:
        raise Malformed("usage.argument", f"a note has at most {_MAX_NOTE} characters")
    return text


def _fen(text: str) -> int:
    found = money.fen(text)
    if found is None or found < 0:
        raise Malformed("usage.argument", f"{text} is not an amount like 620.00")
    return found


@contextmanager
def _bar() -> Iterator[parcels.Progress]:
    """A bar on a terminal's stderr; nothing elsewhere."""
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=chatter, disable=not chatter.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
