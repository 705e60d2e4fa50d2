"""``zhifu audit search|show|export|timeline|disclosures``: the log asked through the broker, every answer verified."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from clients import command, config
from clients.auditor import completeness, exports, filters, histories, moments, pins, remote
from clients.auditor.completeness import Complete
from clients.auditor.exports import Context, document
from clients.auditor.pins import Pins
from clients.auditor.remote import Auditor, Page
from clients.auditor.rows import Row
from clients.command import Json, clear, print_json
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.merkle import MAX_SIZE
from zhifu.trail import Query

Folder = Annotated[Path, typer.Argument(metavar="AUDITOR", help="The auditor's folder (made by zhifu node enrol).")]
Many = list[str] | None
Hash = Annotated[str, typer.Argument(metavar="HASH", help="64 hex digits; a workflow has 32.")]

Since = Annotated[str, typer.Option(help="From this time on (ISO 8601, local unless it names a zone).")]
Until = Annotated[str, typer.Option(help="Before this time.")]
Event = Annotated[Many, typer.Option(help="An event; repeat for several.")]
Party = Annotated[str, typer.Option(help="Either side: id, beginning of it, role or name.")]
Actor = Annotated[str, typer.Option(help="Who did it.")]
Counterparty = Annotated[str, typer.Option(help="With whom.")]
Purpose = Annotated[Many, typer.Option(help="A purpose; repeat for several.")]
Outcome = Annotated[Many, typer.Option(help="accepted, denied, delivered, refused, expired, withdrawn, recorded.")]
Reason = Annotated[Many, typer.Option(help="A reason of the catalogue.")]
Policy = Annotated[str, typer.Option(help="Hash of a policy bundle.")]
Unit = Annotated[str, typer.Option(help="A unit that was released.")]
About = Annotated[Many, typer.Option(help="Hash of an exchange, grant or subject; or a workflow.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands into ``zhifu audit``."""
    for one in (pin, search, show, export, timeline, disclosures):
        app.command()(one)


@clear
def pin(
    folder: Folder,
    operator: Annotated[Many, typer.Option(help="Public key (hex) of one who sets quotas and orders erasures.")] = None,
    hotline: Annotated[Many, typer.Option(help="Public key (hex) of one who stops grants for a caller.")] = None,
    policy: Annotated[Many, typer.Option(help="Hash (hex) of a policy that was in force; none: any.")] = None,
) -> None:
    """Say what a full check believes beside the participants that zhifu node pin pinned. 全面核验所信任的"""
    settings = config.load(folder)
    operators, stops, policies = (frozenset(map(filters.key_of, one or [])) for one in (operator, hotline, policy))
    found = Pins(settings.origin, settings.log_key, settings.pins, settings.registrar, policies, operators, stops)
    pins.write(folder, found)


@clear
def search(
    folder: Folder,
    since: Since = "", until: Until = "", event: Event = None, party: Party = "", actor: Actor = "",
    counterparty: Counterparty = "", purpose: Purpose = None, outcome: Outcome = None, reason: Reason = None,
    policy: Policy = "", unit: Unit = "", about: About = None,
    before: Annotated[int, typer.Option(min=0, max=MAX_SIZE, help="Go on below this index.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Entries of one page.")] = 50,
    complete: Annotated[bool, typer.Option("--complete", help="Read the whole log: was anything left out?")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search the whole log on the broker, newest first; every entry's proof is verified here. 检索审计日志

    Filters are met together. Exit 5 if an answer does not verify. The search itself becomes an entry of the log.
    That an answer is complete is the broker's word, but with --complete, which takes as long as reading the log does.
    """
    given = _given(
        since=since, until=until, event=event, party=party, actor=actor, counterparty=counterparty, purpose=purpose,
        outcome=outcome, reason=reason, policy=policy, unit=unit, about=about,
    )  # fmt: skip

    async def run(auditor: Auditor) -> None:
        query = filters.parse(given, auditor.settings.pins)
        await auditor.standing()
        read, page = await _complete(auditor, query, before, limit) if complete else (None, None)
        page = page or await auditor.search(query, before, limit)
        if as_json:
            proven = {"size": read.size, "root": read.root, "found": read.found} if read else {}
            more: dict[str, Any] = {"proven_complete": proven} if proven else {}
            more |= {"total": page.total, "complete": page.complete, "next_before": page.next_before, "size": page.size}
            print_json({"entries": [document(row, auditor.name) for row in page.rows], **more})
        else:
            _print(page.rows, auditor)
            _say(_summary(page))
            if read is not None:
                _say(f"nothing was left out: {read.found} of the {read.searched} entries searched meet the search")
        _check(page.rows)

    _ask(folder, run)


@clear
def show(
    folder: Folder,
    index: Annotated[int, typer.Argument(min=0, max=MAX_SIZE - 1, help="The entry's index.")],
    as_json: Json = False,
) -> None:
    """Show one entry with all that was opened of it, and its receipt. 查看一条记录"""

    async def run(auditor: Auditor) -> None:
        await auditor.standing()
        rows = (await auditor.search(Query(entries=(index,)), limit=1)).rows
        if not rows:
            raise Refused("exchange.unknown", "there is no such entry, or it is not for this auditor")
        found = {**document(rows[0], auditor.name), "receipt": rows[0].receipt()}
        if as_json:
            print_json(found)
        else:
            _print_one(found)
        _check(rows)

    _ask(folder, run)


@clear
def export(
    folder: Folder,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; - for stdout.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(exports.FORMATS)}.")] = "ndjson",
    since: Since = "", until: Until = "", event: Event = None, party: Party = "", actor: Actor = "",
    counterparty: Counterparty = "", purpose: Purpose = None, outcome: Outcome = None, reason: Reason = None,
    policy: Policy = "", unit: Unit = "", about: About = None,
) -> None:  # fmt: skip
    """Write every entry that meets the filters, each with its proof: CSV, NDJSON, OCSF, FHIR AuditEvent. 导出（附证明）

    FHIR and OCSF come one resource a line. Exit 5 if an entry does not verify; what was written says which.
    """
    if form not in exports.FORMATS:
        raise Malformed("usage.argument", f"no format {form!r}; there is: {', '.join(exports.FORMATS)}")
    given = _given(
        since=since, until=until, event=event, party=party, actor=actor, counterparty=counterparty, purpose=purpose,
        outcome=outcome, reason=reason, policy=policy, unit=unit, about=about,
    )  # fmt: skip

    async def run(auditor: Auditor) -> None:
        query = filters.parse(given, auditor.settings.pins)
        await auditor.standing()
        rows = [row async for page in auditor.export(query) for row in page.rows]
        lines = exports.write(form, rows, Context(auditor.settings.origin, auditor.id, auditor.name))
        _write(output, lines)
        _say(f"{len(rows)} entries")
        _check(rows)

    _ask(folder, run)


@clear
def timeline(folder: Folder, about: Hash, as_json: Json = False) -> None:
    """Everything about one exchange, grant or workflow, oldest first, answers included. 一次交换或一份授权的全过程"""
    _history(folder, about, histories.timeline, as_json)


@clear
def disclosures(folder: Folder, subject: Hash, as_json: Json = False) -> None:
    """What one patient's data was used for: to whom, what for, which units how fine. 某患者的数据用在了哪里"""
    _history(folder, subject, histories.disclosures, as_json)


def _history(
    folder: Path, about: str, find: Callable[[Auditor, bytes], Awaitable[Sequence[Row]]], as_json: bool
) -> None:
    name = filters.hash_of(about)

    async def run(auditor: Auditor) -> None:
        await auditor.standing()
        rows = await find(auditor, name)
        if not rows:
            raise Refused("exchange.unknown", "the log names nothing of that hash, or it is not for this auditor")
        if as_json:
            print_json([document(row, auditor.name) for row in rows])
        else:
            _print(rows, auditor)
        _check(rows)

    _ask(folder, run)


def _given(**values: str | Many) -> dict[str, list[str]]:
    return {name: [value] if isinstance(value, str) else value or [] for name, value in values.items()}


def _ask(folder: Path, run: Callable[[Auditor], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with remote.connect(folder) as auditor:
            await run(auditor)

    asyncio.run(connected())


def _write(output: Path, lines: Any) -> None:
    content = "".join(f"{line}\n" for line in lines)
    if str(output) == "-":
        sys.stdout.write(content)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise Refused("usage.file", f"{output.name} cannot be written: {error.strerror}") from error


async def _complete(auditor: Auditor, query: Query, before: int, limit: int) -> tuple[Complete, Page]:
    """A page of just the answer that nothing was left out of: asked once more, the broker could answer otherwise.

    Raises as `completeness.check`, and `NotAuthentic` (log.omitted).
    """
    below: list[Row] = []
    count = 0

    def keep(row: Row) -> None:
        nonlocal count
        count += 1
        if len(below) <= limit and (not before or row.index < before):
            below.append(row)

    read = await completeness.check(auditor, query, seen=keep)
    read.demand()
    further = below[limit - 1].index if len(below) > limit else 0
    return read, Page(below[:limit], further, count, read.searched, read.searched, bytes.fromhex(read.root))


def _summary(page: Page) -> str:
    searched = "complete" if page.complete else f"PARTIAL: {page.indexed_size} of {page.size} entries searched"
    of = f" of {page.total}" if page.total is not None else ""
    more = f"; more: --before {page.next_before}" if page.next_before else ""
    return f"{len(page.rows)}{of} entries, {searched}{more}"


def _say(line: str) -> None:
    typer.echo(line, err=True)


_COLUMNS: Final = ("index", "time", "event", "outcome", "who", "with", "purpose", "state")
_WIDE: Final = 150


def _print(rows: Sequence[Row], auditor: Auditor) -> None:
    table = Table(*_COLUMNS, box=None)
    for row in rows:
        found = document(row, auditor.name)
        outcome = f"{found['outcome']} {found['reason']}".strip()
        sides = (found["actor_name"], found["counterparty_name"])
        what = (found["event"], outcome, *sides, found["purpose"], row.state)
        command.row(table, row.index, moments.local(row.time_ms), *what, style="red" if row.fault else None)
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _print_one(found: dict[str, Any]) -> None:
    table = Table("", "", box=None, show_header=False)
    for name, value in found.items():
        if name == "units":
            value = ", ".join(f"{unit}: {level}" for unit, level in value.items())
        command.row(table, name, value["proof"] if name == "receipt" else str(value))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _check(rows: Sequence[Row]) -> None:
    """Raises `NotAuthentic` (receipt.invalid) at the first entry that does not verify."""
    for row in rows:
        if row.fault:
            raise NotAuthentic("receipt.invalid", f"entry {row.index}: {row.fault}")
