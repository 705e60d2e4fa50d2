"""``zhifu record convert``: a bill from FHIR R4 or the national interface to either, exactly or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import track

from clients import durable
from clients.command import Json, chatter, clear
from clients.hospital import national
from clients.hospital.fhir import bundle, claim, document
from clients.hospital.fhir.reading import Note
from clients.hospital.fhir.resources import Resources
from clients.hospital.openbill import OpenBill, of_bill
from zhifu import bill as bills
from zhifu.errors import Error, Exit, Malformed

FORMATS: Final = ("fhir", "national")
_MAX_FOLDER: Final = 64 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Converted:
    """One bill in its new form; ``dropped`` counts by path what default deny left out."""

    document: Any
    notes: tuple[Note, ...]
    dropped: dict[str, int]


@clear
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bill, a FHIR file, or an export's folder.")],
    source: Annotated[str, typer.Option("--from", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    target: Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    as_json: Json = False,
) -> None:
    """Convert a bill; several claims become one JSON document a line. Notes say what had no place and was left out.

    Nothing is invented: a claim that does not say what the other format needs is refused with the path, exit 2.
    """
    if source not in FORMATS or target not in FORMATS:
        raise Malformed("usage.argument", f"a format is one of {', '.join(FORMATS)}")
    found = list(_all(file, source, target))
    refused = [one for one in found if isinstance(one, Error)]
    done = [one for one in found if isinstance(one, Converted)]
    if as_json:
        typer.echo(document.dumps(_report(done, refused), " "))
    else:
        _print(done)
    for error in refused:
        chatter.print(f"zhifu: {error}", highlight=False, markup=False, soft_wrap=True)
    if refused:
        raise typer.Exit(int(Exit.USAGE))


def _all(file: Path, source: str, target: str) -> Iterator[Converted | Error]:
    """Each bill of the file, or why not. Raises `Error` where the file itself cannot be read."""
    if source == "national":
        yield from _each([lambda: _national(file)], target)
    else:
        resources = _resources(file)
        claims = resources.claims()
        yield from _each([lambda held=held: claim.read(held, resources) for held in claims], target)


def _national(file: Path) -> tuple[OpenBill, None]:
    return of_bill(bills.parse(durable.read(file, bills.MAX_BYTES))), None


def _each(readers: Sequence[Any], target: str) -> Iterator[Converted | Error]:
    progress = Console(stderr=True)
    rows = track(readers, "converting", console=progress, transient=True) if len(readers) > 1 else readers
    for read in rows:
        try:
            bill, reading = read()
            notes = tuple(reading.notes) if reading else ()
            yield Converted(to(bill, target), notes, reading.dropped() if reading else {})
        except Malformed as error:
            yield error


def to(bill: OpenBill, target: str) -> Any:
    """The bill in a format of `FORMATS`. Raises `Malformed` (bill.*) with the path of what is missing or wrong."""
    if target == "fhir":
        return bundle.bundle(bill)
    national.encode(bill)
    return national.document(bill)


def _resources(file: Path) -> Resources:
    if not file.is_dir() and file.suffix != ".ndjson":
        return Resources.of_json(durable.read(file, document.MAX_BYTES))
    paths = sorted(file.glob("*.ndjson")) if file.is_dir() else [file]
    read = {path.name: durable.read(path, document.MAX_BYTES) for path in paths}
    if sum(map(len, read.values())) > _MAX_FOLDER:
        raise Malformed("usage.file", f"{file.name} holds more than {_MAX_FOLDER} bytes")
    return Resources.of_ndjson(read)


def _report(done: Sequence[Converted], refused: Sequence[Error]) -> dict[str, Any]:
    rows = [
        {
            "document": one.document,
            "notes": [{"path": note.path, "why": note.why} for note in one.notes],
            "dropped": one.dropped,
        }
        for one in done
    ]
    return {"converted": rows, "refused": [{"reason": one.reason, "detail": one.detail} for one in refused]}


def _print(done: Sequence[Converted]) -> None:
    for one in done:
        typer.echo(document.dumps(one.document, " " if len(done) == 1 else None))
        for note in one.notes:
            chatter.print(f"{note.path}: {note.why}", highlight=False, markup=False, soft_wrap=True)
    left_out = sum(sum(one.dropped.values()) for one in done)
    if left_out:
        chatter.print(f"{left_out} values have no unit and were left out (--json lists their paths)", highlight=False)
