"""``zhifu wallet``: the wallet with the highest assurance, since nobody else serves its code (DESIGN section 5)."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import segno
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clients import command, desk, durable, plain
from clients.command import Folder, Json, Language, Output, clear, print_json
from clients.patient import (
    claim_cli,
    consent,
    grant_cli,
    history_cli,
    key_cli,
    keys,
    receipts,
    report_cli,
    requests,
    screen,
    wallet,
)
from clients.patient import code as codes
from clients.patient.consent import Choice, Review
from clients.patient.wallet import Wallet
from clients.patient.web import cli as web_cli
from zhifu import money, schema, subject_key
from zhifu.errors import Malformed

app = command.app("The patient's wallet: enrol, review what is asked, grant or refuse, show a code, see every access.")
app.add_typer(key_cli.app, name="key")
app.command(name="recover")(key_cli.recover)
app.command(name="serve")(web_cli.serve_pages)
app.command(name="history")(history_cli.history)
app.command(name="statement")(history_cli.statement)
app.command(name="grants")(grant_cli.grants)
app.command(name="revoke")(grant_cli.revoke)
app.command(name="claims")(claim_cli.claims)
app.command(name="claim")(claim_cli.claim)
for _command in (
    report_cli.report, report_cli.attach, report_cli.send, report_cli.track, report_cli.accept, report_cli.dispute,
    report_cli.withdraw,
):  # fmt: skip
    app.command()(_command)

Card = Annotated[Path, typer.Option(help="The organisation's card (zhifu node card).")]
RequestName = Annotated[
    str, typer.Argument(metavar="REQUEST", help="The file that the desk shows, or a kept request's hash or short code.")
]
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
    recovery: Annotated[
        Path | None, typer.Option(help="The recovery code's file; drawn where there is none. Keep it elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw a key for one hospital and one recipient; with two attestations, enrol it with the broker.

    The first time, a recovery code is drawn: it stops everything if this device is lost. Write it down and put its file
    away.
    """
    opened = key_cli.first_or_later(folder, contact)
    pair = opened.draw_pair(wallet.party(hospital), wallet.party(recipient))
    opened.save()
    kept = recovery or folder / "recovery.code"
    if attestation and not pair.enrolled:
        signed = [desk.read_attestation(path) for path in attestation]
        way_back = keys.recovery_pair(
            wallet.party(hospital), wallet.party(recipient), pair.subject, _recovery_code(kept)
        )
        asyncio.run(keys.enrol(opened, pair, signed, way_back, int(time.time())))
    found = {
        "subject_key": pair.public.hex(),
        "wallet_key": pair.kem_key.public.raw.hex(),
        "subject": pair.subject.hex(),
        "enrolled": pair.enrolled,
    }
    if as_json:
        print_json(found)
        return
    typer.echo(found["subject_key"])
    if pair.enrolled:
        command.chatter.print(f"enrolled; write down the recovery code in {kept} and put the file away")
    else:
        command.chatter.print("have this key attested by the hospital's desk and by the payer")
        command.chatter.print(f"to be told at home what you may claim, show the desk this too: {found['wallet_key']}")


def _recovery_code(path: Path) -> str:
    durable.once(path, lambda: f"{subject_key.draw_code()}\n".encode(), key_cli.MAX_CODE)
    return key_cli.read_code(path)


@app.command(name="requests")
@clear
def list_requests(
    folder: Folder,
    files: Annotated[list[Path], typer.Argument(help="Requests to take in.", show_default=False)] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Take in what hospitals ask, and list what this wallet was asked; one that does not verify is refused."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    for path in files:
        requests.take(opened, desk.read_request(path), now)
    rows: list[dict[str, Any]] = [
        {
            "request": one.request_hash.hex(), "short_code": one.short_code, "hospital": one.hospital,
            "recipient": one.recipient, "expiry": one.expiry, "state": one.state, "reason": one.reason,
        }
        for one in requests.listed(opened, now)
    ]  # fmt: skip
    if as_json:
        print_json(rows)
        return
    table = Table("request", "code", "hospital", "recipient", "until", "state")
    for row in rows:
        until = plain.moment(row["expiry"])
        command.row(
            table, row["request"][:16], row["short_code"], row["hospital"], row["recipient"], until, row["state"]
        )
    Console().print(table)


def _seen(opened: Wallet, request: str, now: int) -> Review:
    shown = desk.read_request(Path(request)) if Path(request).exists() else requests.find(opened, request)
    seen = consent.review(opened, shown, now)
    requests.take(opened, shown, now)
    return seen


@app.command()
@clear
def review(folder: Folder, request: RequestName, lang: Language = "zh", as_json: Json = False) -> None:
    """Show what a hospital asks for, with each value as the recipient will see it. Compare the short code."""
    opened = command.to_the_end(wallet.held(folder))
    seen = _seen(opened, request, int(time.time()))
    shown = screen.document(opened, seen, Choice.as_asked(seen), lang)
    if as_json:
        print_json({**shown, **_by_schema(shown)})
    else:
        _print_screen(shown, lang)


def _by_schema(shown: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in shown["units"]:
        row = {"unit": one["title"], "level": one["level_title"], "value": one["value"]}
        found.setdefault(one["schema"], []).append(row)
    return {"shared": found}


@app.command()
@clear
def grant(
    folder: Folder,
    request: RequestName,
    output: Output,
    narrow: Narrow = [],  # noqa: B006
    until: Annotated[str | None, typer.Option(help="End it earlier: 2026-12-31T18:00, local time.")] = None,
    erase_by: Annotated[str | None, typer.Option(help="Have it erased earlier: 2027-01-31.")] = None,
    cap: Annotated[str | None, typer.Option(help="The most that may be claimed, in yuan.")] = None,
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Agree, as asked or narrowed: sign the grant, register it, write the consent for the desk."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    seen = _seen(opened, request, now)
    asked = Choice.as_asked(seen)
    choice = Choice(
        consent.narrowed(asked.scopes, _wishes(narrow)),
        _time(until) if until else asked.expiry,
        _time(erase_by) if erase_by else asked.data_erase_at,
        _fen(cap) if cap else asked.cap,
    )
    durable.check_writable(output)
    given = asyncio.run(consent.give(opened, seen, choice, now))
    desk.write_consent(output, given.consent)
    found = {"grant": given.grant_hash.hex(), "entry": given.entry}
    if as_json:
        shown = screen.document(opened, seen, choice, lang)
        print_json({**shown, **_by_schema(shown), **found})
    else:
        typer.echo(found["grant"])
        command.chatter.print(f"entry {given.entry} of the audit log")


def _fen(text: str) -> int:
    found = money.fen(text)
    if found is None:
        raise Malformed("usage.argument", f"{text} is not an amount like 8000.00")
    return found


def _time(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise Malformed("usage.argument", f"{text} is not a day like 2026-12-31") from error


@app.command()
@clear
def refuse(folder: Folder, request: RequestName, as_json: Json = False) -> None:
    """Decline a request. Care is not affected: pay first and claim later."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    said = consent.refuse(opened, _seen(opened, request, now), now)
    if as_json:
        print_json({"request": said["request"], "refused": True, "at": said["at"]})
    else:
        typer.echo(said["request"])
        command.chatter.print("declined; nothing was sent to anybody")


@app.command(name="code")
@clear
def show_code(
    folder: Folder,
    hospital: Card,
    online: Annotated[bool, typer.Option("--online", help="18 digits to be read aloud, for 60 s.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the QR code as an SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Show the direct-pay code for a hospital's desk; without --online it needs no connection."""
    opened, now = command.to_the_end(wallet.held(folder)), int(time.time())
    found = asyncio.run(codes.draw(opened, bytes.fromhex(wallet.party(hospital).id), now))
    document: dict[str, Any] = {"code": found.text(), "issued_at": found.issued_at, "tickets": len(found.signed)}
    document["clock_ahead_s"] = opened.clock_ahead_s
    if online:
        handle = asyncio.run(codes.online(opened, found, now))
        document |= {"digits": handle.digits, "until_ms": handle.until_ms}
    drawn = segno.make(found.text(), error="l", boost_error=False)
    if svg is not None:
        drawn.save(str(svg), scale=4)
    _tell_clock(opened)
    if as_json:
        print_json(document)
    elif online:
        typer.echo(handle.spaced)
    else:
        drawn.terminal(compact=True)
        typer.echo(found.text())


def _tell_clock(opened: Wallet) -> None:
    """A code says when it was signed: by the broker's clock where this device's is known to be wrong."""
    if ahead := opened.clock_ahead_s:
        side = "ahead of" if ahead > 0 else "behind"
        command.chatter.print(
            f"this device's clock is {abs(ahead)} s {side} the broker's; the code goes by the broker's"
        )


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
def receipt(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="GRANT_OR_REQUEST", help="A grant's hash, or a refused request's.")],
    fhir: Annotated[bool, typer.Option("--fhir", help="As an HL7 FHIR R4 Consent.")] = False,
    lang: Language = "zh",
    as_json: Json = False,
) -> None:
    """Print the receipt of an answer: in the shape of ISO/IEC TS 27560, or as a FHIR R4 Consent."""
    opened, digest = command.to_the_end(wallet.held(folder)), grant_cli.hash_of(name)
    print_json((receipts.fhir if fhir else receipts.record)(opened, digest, lang))


_SOONER = ("收到 {} 天后删除", "erased {} days after it arrived")
_NOT_YET = ("结算时才知道", "known at the settlement")


def _print_screen(shown: dict[str, Any], lang: str) -> None:
    out = Console()
    hospital, recipient = (_theirs(shown[side]["name"]) for side in ("hospital", "recipient"))
    out.print(f"[bold]{hospital}[/] → [bold]{recipient}[/]   {shown['short_code']}")
    out.print(shown["purpose_words"])
    # The hospital's own words: nothing in them may hide or colour what stands below.
    out.print(plain.line(shown["notice"]), markup=False)
    table = Table(
        *screen.pick((("信息", "精度", "对方所见", "保存"), ("unit", "level", "what they see", "kept")), lang)
    )
    for one in shown["units"]:
        sooner = screen.pick(_SOONER, lang).format(one["days"]) if one["days"] else ""
        value = one["value"] or screen.pick(_NOT_YET, lang)
        command.row(table, one["title"], one["level_title"], value, sooner)
    out.print(table)
    hidden = screen.pick(("不提供：", "Not shared: "), lang)
    out.print(hidden + "、".join(one["title"] for one in shown["not_shared"]))
    cap = plain.yuan(shown["cap_fen"]) if shown["cap_fen"] is not None else "—"
    words = ("次数 {}，有效至 {}，删除于 {}，上限（元）{}", "uses {}, until {}, erased by {}, at most (yuan) {}")
    out.print(
        screen.pick(words, lang).format(
            shown["uses"], plain.moment(shown["until"]), plain.moment(shown["erase_at"]), cap
        )
    )
    for name in ("refusing", "withdrawing", "lasting"):
        out.print(shown[name])
    for one in shown["statutory"]:
        out.print(f"[dim]{one['recipient']}: {one['words']}[/]")


def _theirs(text: str) -> str:
    return escape(plain.line(text))
