"""``zhifu insurer``: the book of insured persons, by pseudonym, and the reviewer's queue."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from clients import command, config, daybook, durable, parcel_jobs, plain
from clients.command import Folder, Json, Output, chatter, clear, print_json
from clients.directory import Directory
from clients.insurer import book as books
from clients.insurer import progress, review
from clients.insurer.book import Book, Built
from clients.keystore import FileKeystore, participant_of
from clients.parcel_jobs import Kept
from clients.pseudonym_service import PseudonymService
from clients.store import Store
from zhifu import envelope, money, strict_json
from zhifu.envelope import QUOTA, Envelope
from zhifu.errors import Malformed, Refused
from zhifu.parcel import Document

app = command.app("The insurer: its book of insured persons, found by pseudonym.")
book = command.app("The book: who is insured under which policy.")
app.add_typer(book, name="book")
_MAX_QUOTA = 4096
_MAX_NAME = 64
_MOST_DOCUMENTS = 8
_STATES = {review.OPEN: "open", review.ASKED: "with the core system", review.WAITING: "waits for documents"}
_MONEY = ("total", "public", "other")


@book.command()
@clear
def build(
    folder: Folder,
    persons: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=f"CSV; its first line: {','.join(books.COLUMNS[:6])}, and if need be {', '.join(books.COLUMNS[6:])}.",
        ),
    ],
    quota: Annotated[Path | None, typer.Option(help="The quota that two operators of the service signed.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep the persons that are not in the file.")] = False,
    as_json: Json = False,
) -> None:
    """Link the insured persons to their pseudonyms, in batches; each is evaluated once.

    Interrupted, it goes on where it was when it is run again. After a rotation it links everybody under the new key.
    """
    content, signed = durable.read(persons, books.MAX_BYTES), read_quota(quota) if quota else ()
    with _progress(not as_json) as shown:
        built = asyncio.run(run_build(folder, content, signed, add=add, progress=shown))
    if as_json:
        print_json({"persons": built.persons, "evaluated": built.evaluated, "struck": built.struck,
                    "epochs": list(built.epochs)})  # fmt: skip
    else:
        typer.echo(f"{built.persons} persons, {built.evaluated} evaluated, {built.struck} struck")


@book.command()
@clear
def show(folder: Folder, as_json: Json = False) -> None:
    """Count the insured persons, and how many are linked under each epoch."""
    with _store(folder) as store:
        persons, linked = store.insured.count()
    if as_json:
        print_json({"persons": persons, "linked": {str(epoch): number for epoch, number in linked.items()}})
    else:
        typer.echo(f"{persons} persons; " + ", ".join(f"epoch {epoch}: {number}" for epoch, number in linked.items()))


@book.command()
@clear
def forget(folder: Folder, epoch: Annotated[int, typer.Argument(min=1, help="The epoch that is over.")]) -> None:
    """Drop the links under an epoch whose key the service has retired."""
    with _store(folder) as store, store.transaction():
        typer.echo(f"{store.insured.forget(epoch)} links dropped")


@app.command(name="queue")
@clear
def queue_(folder: Folder, as_json: Json = False) -> None:
    """List the claims that the rules could not decide, the nearest deadline first."""
    now = int(time.time())
    with _store(folder) as store:
        waiting = review.find(store, review.OPEN, review.ASKED, review.WAITING)
        items = [review.current(store, item, now) for item in waiting]
    if as_json:
        print_json([_item(item, now) for item in items])
        return
    table = Table("claim", "policy", "proposed (yuan)", "why", "decide by", "state")
    for item in items:
        by, why = plain.moment(item.deadline) + (" OVERDUE" * _overdue(item, now)), "\n".join(item.reasons)
        command.row(table, item.claim.hex()[:8], item.policy, plain.yuan(item.proposed), why, by, _STATES[item.state])
    command.show(table, "no claim waits for a person")


def _item(item: review.Item, now: int) -> dict[str, object]:
    return {
        "claim": item.claim.hex(),
        "policy": item.policy,
        "proposed_fen": item.proposed,
        "reasons": list(item.reasons),
        "since": item.since,
        "deadline": item.deadline,
        "state": item.state,
        "overdue": _overdue(item, now),
    }


def _overdue(item: review.Item, now: int) -> bool:
    """While documents are waited for the promised time stands still."""
    return item.state != review.WAITING and now > item.deadline


@app.command()
@clear
def decide(
    folder: Folder,
    claim: Annotated[str, typer.Argument(help="The claim, hex; enough of its first digits.")],
    clause: Annotated[str, typer.Option(help="The clause that the patient reads.")],
    officer: Annotated[str, typer.Option(help="Who decides.")],
    pay: Annotated[str | None, typer.Option(help="Yuan with two places, at most what was proposed.")] = None,
    propose: Annotated[bool, typer.Option("--proposed", help="Pay what the clauses give.")] = False,
    refuse: Annotated[bool, typer.Option("--refuse", help="Pay nothing.")] = False,
    reason: Annotated[str, typer.Option(help="The reason code.")] = "reviewer.decision",
) -> None:
    """Decide a claim of the queue; the running node answers the hospital, and holds what it uses."""
    if (pay is not None) + propose + refuse != 1:
        raise Malformed("usage.argument", "exactly one of --pay, --proposed and --refuse")
    now = int(time.time())
    # One transaction, so that what is paid is what is proposed at that very moment.
    with _store(folder) as store, store.transaction():
        item = review.current(store, _of_queue(store, claim), now)
        fen = item.proposed if propose else 0 if pay is None else money.fen(pay)
        if fen is None:
            raise Malformed("usage.argument", "--pay is yuan with two places")
        review.decide(store, item.claim, review.Verdict(fen, clause, reason, officer, refuse), now)
    typer.echo(f"{item.claim.hex()} {money.yuan(fen)}")


def _of_queue(store: Store, digits: str) -> review.Item:
    """The one claim of the queue whose id begins so. Raises `Refused` (exchange.unknown)."""
    items = review.find(store, review.OPEN, review.ASKED, review.WAITING)
    found = [one for one in items if one.claim.hex().startswith(digits.lower())]
    whole = _named(store, digits) if len(found) != 1 else None
    if len(found) != 1 and whole is None:
        one = "; one that was decided is named by all 64 digits"
        raise Refused("exchange.unknown", "no claim of the queue, or several, start with these digits" + one)
    return whole or found[0]


def _named(store: Store, digits: str) -> review.Item | None:
    """The claim of this whole id, whatever became of it; None where it never was in the queue."""
    try:
        claim = bytes.fromhex(digits)
    except ValueError:
        return None
    return review.maybe(store, claim)


@app.command()
@clear
def ask(
    folder: Folder,
    claim: Annotated[str, typer.Argument(help="The claim, hex; enough of its first digits.")],
    document: Annotated[list[str], typer.Option("--document", help="What the patient is to send.")],
) -> None:
    """Ask a patient for documents, once; the promised time stands still until they come."""
    if not all(1 <= len(one) <= _MAX_NAME for one in document) or len(document) > _MOST_DOCUMENTS:
        raise Malformed("usage.argument", f"at most {_MOST_DOCUMENTS} documents, each named in {_MAX_NAME} characters")
    with _store(folder) as store:
        item = review.ask(store, _of_queue(store, claim).claim, document, int(time.time()))
        reported = progress.is_reported(store, item.claim)
    typer.echo(item.claim.hex())
    if not reported:
        chatter.print("her hospital filed it: she brings them to you; then zhifu insurer received")


@app.command()
@clear
def received(
    folder: Folder,
    claim: Annotated[str, typer.Argument(help="The claim, hex; enough of its first digits.")],
) -> None:
    """Documents came another way, on paper: the promised time goes on."""
    with _store(folder) as store:
        item = review.received(store, _of_queue(store, claim).claim, int(time.time()))
    typer.echo(item.claim.hex())


@app.command()
@clear
def documents(
    folder: Folder,
    claim: Annotated[str, typer.Argument(help="The claim, hex; enough of its first digits.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the files into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a patient sent about a claim, and with -o write its documents; they stay sealed in the node."""
    with _store(folder) as store:
        parcels = parcel_jobs.of_claim(store, _of_queue(store, claim).claim)
    rows: list[dict[str, Any]] = []
    for one in parcels:
        message = parcel_jobs.content(folder, one)
        stated = {name: value for name, value in message.fields.items() if not isinstance(value, bytes)}
        names = [_written(output, one, place, found) for place, found in enumerate(message.documents)]
        rows.append({"parcel": one.hash.hex(), "kind": one.shown.kind, "stated": stated, "documents": names})
    if as_json:
        print_json(rows)
        return
    if not rows:
        chatter.print("the patient sent nothing about this claim herself")
    for row in rows:
        typer.echo(f"{row['parcel'][:16]}  {row['kind']}")
        for name, value in row["stated"].items():
            if value != "":
                typer.echo(f"  {plain.line(name)}: {plain.line(_stated(name, value))}")
        for one in row["documents"]:
            named = "  ".join(plain.line(one[word]) for word in ("name", "media_type"))
            typer.echo(f"  {named}  {one['bytes']} bytes  {one.get('file', '')}".rstrip())


def _stated(name: str, value: object) -> object:
    """What she stated, as a person reads it; amounts are fen."""
    if name in _MONEY and isinstance(value, int):
        return f"{plain.yuan(value)} yuan"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _written(output: Path | None, one: Kept, place: int, found: Document) -> dict[str, object]:
    """A document as it is listed; written under a name of ours, since the patient's is only shown."""
    listed: dict[str, object] = {"name": found.name, "media_type": found.media_type, "bytes": len(found.content)}
    if output is None:
        return listed
    file = output / f"{one.hash.hex()[:8]}-{place:02d}"
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(file, found.content)
    return listed | {"file": str(file)}


@app.command()
@clear
def statement(folder: Folder, day: daybook.Day, hospital: daybook.Hospital, output: Output) -> None:
    """Sign what changed on a day for one hospital, for it to reconcile."""
    written = daybook.write(folder, "insurer", daybook.parse_day(day), daybook.parse_id(hospital), output)
    typer.echo(f"{len(written.rows)} reservations")


@contextmanager
def _store(folder: Path) -> Iterator[Store]:
    """The node's memory, beside the node."""
    settings = config.load(folder, "insurer")
    opened = Store(settings.database, FileKeystore.load(settings.keys))
    try:
        yield opened
    finally:
        opened.close()


async def run_build(
    folder: Path,
    content: bytes,
    signed: Sequence[Envelope],
    *,
    add: bool = False,
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> Built:
    """Build the book of the node in ``folder`` from a list's bytes; a quota is handed in first where one is given.

    Raises `Malformed` (usage.file), `Refused`, `NotAuthentic`.
    """
    rows = books.read(content)
    settings = config.load(folder, "insurer")
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    own = Directory(settings.pins, keystore, store)
    try:
        async with PseudonymService(settings, keystore, store, lambda: own.own(int(time.time()))) as service:
            await service.refresh()
            if signed:
                await service.raise_quota(signed)
            return await Book(store).build(rows, participant_of(keystore), service, add=add, progress=progress)
    finally:
        store.close()


def read_quota(path: Path) -> list[Envelope]:
    """A quota file: what two operators signed. Raises `Malformed` (usage.file, malformed.*)."""
    document = strict_json.loads(durable.read(path, _MAX_QUOTA), _MAX_QUOTA, "usage.file")
    rows = document.get("quota") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise Malformed("usage.file", f"{path.name} is not a quota")
    try:
        return [envelope.from_bytes(QUOTA, base64.b64decode(row, validate=True)) for row in rows]
    except (ValueError, TypeError) as error:
        raise Malformed("usage.file", f"{path.name} is not a quota") from error


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr; nothing elsewhere."""
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=chatter, disable=not (shown and chatter.is_terminal), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
