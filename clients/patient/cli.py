"""``zhifu wallet``: the wallet with the highest assurance, since nobody else serves its code (DESIGN section 5)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clients import command, desk, plain
from clients.command import Folder, Json, Language, Output, clear, print_json
from clients.patient import calls, consent, mailbox, wallet
from clients.patient.wallet import Pair, Wallet
from zhifu import consent as consents
from zhifu import envelope, presentation, schema
from zhifu.errors import Malformed, Refused
from zhifu.schema import ABSENT

app = command.app("The patient's wallet: enrol, review what is asked, grant, see every access, read statements.")

Card = Annotated[Path, typer.Option(help="The organisation's card (zhifu node card).")]
RequestFile = Annotated[Path, typer.Argument(help="The request that the hospital's desk shows.")]
Narrow = Annotated[
    list[str], typer.Option("--narrow", metavar="SCHEMA.UNIT=LEVEL", help="Make a unit coarser: a level, or absent.")
]


@app.command()
@clear
def enrol(
    folder: Folder,
    hospital: Card,
    recipient: Card,
    contact: Annotated[Path | None, typer.Option(help="The broker's contact file; needed the first time.")] = None,
    attestation: Annotated[list[Path], typer.Option(help="Signed word of an organisation; two are needed.")] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Draw a key for one hospital and one recipient; with two attestations, enrol it with the broker."""
    opened = wallet.load(folder) if (folder / wallet.FILE).exists() else wallet.create(folder, _contact(contact))
    pair = opened.draw_pair(wallet.party(hospital), wallet.party(recipient))
    opened.save()
    if attestation and not pair.enrolled:
        signed = [desk.read_attestation(path) for path in attestation]
        asyncio.run(calls.enrol(opened, pair, signed))
        pair.enrolled = True
        pair.attestations = [one.to_bytes().hex() for one in signed]
        opened.save()
    found = {"subject_key": pair.public.hex(), "subject": pair.subject.hex(), "enrolled": pair.enrolled}
    if as_json:
        print_json(found)
    else:
        typer.echo(found["subject_key"])
        command.chatter.print("enrolled" if pair.enrolled else "have this key attested by two organisations")


def _contact(path: Path | None) -> wallet.Contact:
    if path is None:
        raise Refused("usage.argument", "the first time, --contact FILE says where the broker is")
    return wallet.contact(path)


@app.command()
@clear
def review(folder: Folder, request: RequestFile, lang: Language = "zh", as_json: Json = False) -> None:
    """Show what a hospital asks for, with each value as the recipient will see it."""
    opened = wallet.load(folder)
    seen = consent.review(opened, desk.read_request(request), int(time.time()))
    if as_json:
        print_json(_review_document(opened, seen, seen.request.scopes, lang))
    else:
        _print_review(opened, seen, lang)


@app.command()
@clear
def grant(
    folder: Folder,
    request: RequestFile,
    output: Output,
    narrow: Narrow = [],  # noqa: B006
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Agree, as asked or narrowed: sign the grant, register it, write the consent for the desk."""
    opened, now = wallet.load(folder), int(time.time())
    seen = consent.review(opened, desk.read_request(request), now)
    scopes = consent.narrowed(seen.request.scopes, _wishes(narrow))
    signed, index = asyncio.run(consent.give(opened, seen, scopes, now))
    attested = (envelope.from_bytes(envelope.ATTESTATION, bytes.fromhex(one)) for one in seen.pair.attestations)
    desk.write_consent(output, desk.Consent(signed, tuple(attested)))
    found = {"grant": consents.hash_of(signed.payload).hex(), "entry": index}
    if as_json:
        print_json({**_review_document(opened, seen, scopes, lang), **found})
    else:
        typer.echo(found["grant"])
        command.chatter.print(f"entry {index} of the audit log")


def _wishes(narrow: list[str]) -> dict[tuple[str, str], int]:
    found = {}
    for wish in narrow:
        place, _, level = wish.partition("=")
        name, _, unit = place.partition(".")
        if not level or not unit:
            raise Malformed("usage.argument", f"--narrow {wish}: expected SCHEMA.UNIT=LEVEL")
        found[name, unit] = schema.load(name).unit(unit).level_named(level)
    return found


@app.command()
@clear
def grants(folder: Folder, as_json: Json = False) -> None:
    """List the grants this wallet gave."""
    opened = wallet.load(folder)
    rows = [_grant_row(opened, pair, given) for pair in opened.pairs for given in pair.grants]
    if as_json:
        print_json(rows)
        return
    table = Table("grant", "hospital", "recipient", "purpose", "until", "state")
    for row in rows:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["expiry"]))
        table.add_row(row["grant"][:16], row["hospital"], row["recipient"], row["purpose"], until, row["state"])
    Console().print(table)


def _grant_row(opened: Wallet, pair: Pair, given: wallet.Given) -> dict[str, Any]:
    signed = consent.grant_of(given)
    found = consents.verify_grant(signed, pair.public)
    over = time.time() > found.expiry
    return {
        "grant": consents.hash_of(signed.payload).hex(),
        "hospital": opened.name(found.sender),
        "recipient": opened.name(found.recipient),
        "purpose": found.purpose,
        "expiry": found.expiry,
        "state": "revoked" if given.revoked else "expired" if over else "active",
    }


@app.command()
@clear
def revoke(folder: Folder, grant_hash: Annotated[str, typer.Argument(metavar="GRANT")], as_json: Json = False) -> None:
    """End a grant for good. What was delivered before cannot be taken back, and is counted here."""
    opened = wallet.load(folder)
    index, delivered, withheld = asyncio.run(consent.revoke(opened, _hash(grant_hash), int(time.time())))
    found = {"entry": index, "delivered_before": delivered, "withheld": withheld}
    if as_json:
        print_json(found)
    else:
        typer.echo(f"revoked (entry {index}); delivered before: {delivered}; withheld: {withheld}")


def _hash(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Malformed("usage.argument", "a grant is named by 64 hex digits")
    return found


@app.command()
@clear
def history(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """List every access under this wallet's keys: who was given what, when, at which precision."""
    opened, now = wallet.load(folder), int(time.time())
    rows = [
        _access_row(opened, one, lang)
        for pair in opened.pairs
        if pair.enrolled
        for one in asyncio.run(mailbox.accesses(opened, pair, now))
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("time", "from", "to", "purpose", "state", "shared")
    for row in rows:
        shared = ", ".join(f"{unit}: {level}" for unit, level in row["shared"].items())
        table.add_row(row["time"], row["sender"], row["recipient"], row["purpose"], row["state"], shared)
    Console().print(table)


def _access_row(opened: Wallet, one: mailbox.Access, lang: str) -> dict[str, Any]:
    kind = schema.by_hash(one.schema_hash)
    ours = any(pair.subject == one.presentation.recipient for pair in opened.pairs)
    shared = {
        unit.name: plain.level_name(unit, rank, lang)
        for unit, rank in zip(kind.units, one.released, strict=True)
        if rank != ABSENT
    }
    return {
        "exchange": one.hash.hex(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.time_ms / 1000)),
        "sender": opened.name(one.presentation.sender),
        "recipient": ("本人" if lang == "zh" else "you") if ours else opened.name(one.presentation.recipient),
        "purpose": one.presentation.purpose,
        "basis": presentation.BASIS_NAMES[one.presentation.basis_kind],
        "schema": kind.name,
        "state": one.state,
        "shared": shared,
    }


@app.command()
@clear
def statement(folder: Folder, lang: Language = "zh", as_json: Json = False) -> None:
    """Fetch the statements that wait for the patient, check and open them."""
    opened, now = wallet.load(folder), int(time.time())
    found = [
        _statement_row(opened, one, lang)
        for pair in opened.pairs
        if pair.enrolled
        for one in asyncio.run(mailbox.statements(opened, pair, now))
    ]
    if as_json:
        print_json(found)
        return
    for row in found:
        table = Table(title=row["hospital"], show_header=False)
        for title, text in row["shown"]:
            table.add_row(title, text)
        Console().print(table)
    command.chatter.print(f"{len(found)} new")


def _statement_row(opened: Wallet, one: Any, lang: str) -> dict[str, Any]:
    kind = one.manifest.schema
    shown = [
        (unit.title(lang), plain.shown(unit.levels[0].form, one.values.get(unit.name), lang))
        for unit in kind.units
        if unit.name != "encounter"
    ]
    return {
        "exchange": one.hash.hex(),
        "hospital": opened.name(one.presentation.sender),
        "payments": [list(row) for row in one.values.get("payments") or ()],
        "clauses": [list(row) for row in one.values.get("clauses") or ()],
        "patient_fen": one.values.get("remainder"),
        "entry": one.entry.index,
        "shown": [list(row) for row in shown],
    }


def _review_document(opened: Wallet, seen: consent.Review, scopes: consents.Scopes, lang: str) -> dict[str, Any]:
    return {
        "hospital": opened.name(seen.request.sender),
        "recipient": opened.name(seen.request.recipient),
        "purpose": seen.request.purpose,
        "uses": seen.request.max_uses,
        "expiry": seen.request.expiry,
        "cap_fen": seen.cap,
        "notice": seen.notice,
        "shared": {
            name: [{"unit": title, "level": level, "value": text} for title, level, text in rows]
            for name, rows in consent.rows(seen, scopes, lang).items()
        },
    }


def _print_review(opened: Wallet, seen: consent.Review, lang: str) -> None:
    out = Console()
    out.print(f"[bold]{opened.name(seen.request.sender)}[/] → [bold]{opened.name(seen.request.recipient)}[/]")
    out.print(seen.notice)
    for name, rows in consent.rows(seen, seen.request.scopes, lang).items():
        table = Table("", "", "", title=name)
        for title, level, text in rows:
            table.add_row(title, level, text)
        out.print(table)
