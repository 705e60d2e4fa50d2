"""``zhifu node``: enrol, pin, attest, serve. What every participant's operator does, whatever its role."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from clients import (
    command,
    config,
    desk,
    durable,
    enrol,
    holding,
    log_to_stderr,
    node,
    reconcile,
    rotation,
    serve,
    trimming,
)
from clients.command import Folder, Json, Output, clear, print_json
from clients.config import Pin
from clients.hospital.cli import public_key
from clients.insurer import product as products
from clients.keystore import FileKeystore, participant_of
from clients.locking import alone, locked
from clients.pseudonym_service import contact
from clients.retention import Retention
from clients.store import Store
from clients.tiles import Mirror
from policies import load
from zhifu.envelope import POLICY
from zhifu.envelope import from_bytes as envelope_from_bytes
from zhifu.errors import Exit, Malformed, Refused
from zhifu.keys import check_signing_key
from zhifu.statement import Attestation

app = command.app("A participant's node: join, say whom to believe, serve.")
ATTESTED_S = 365 * 86_400
_SERVICE = "pseudonym-service.json"
_PATIENCE_S = 10.0


@app.command(name="enrol")
@clear
def enrol_(
    folder: Folder,
    invitation: Annotated[Path, typer.Option(help="The one-time invitation from the broker's operator.")],
    as_json: Json = False,
) -> None:
    """Draw keys, have the TLS key certified, write node.toml."""
    settings = asyncio.run(enrol.enrol(enrol.read_invitation(invitation), folder))
    _print_card(settings, as_json)


@app.command()
@clear
def card(folder: Folder, output: Annotated[Path | None, typer.Option("-o", "--output")] = None) -> None:
    """Show who this participant is: what others pin, to be compared by other means than the broker."""
    settings = config.load(folder)
    if output is None:
        _print_card(settings, True)
    else:
        durable.write(output, command.to_json(_card(settings)).encode())


def _card(settings: config.NodeConfig) -> dict[str, str]:
    participant = participant_of(FileKeystore.load(settings.keys))
    return {"id": participant.hex(), "role": settings.role, "name": settings.name}


def _print_card(settings: config.NodeConfig, as_json: bool) -> None:
    found = _card(settings)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['id']}  {found['role']}  {found['name']}")


@app.command()
@clear
def pin(
    folder: Folder,
    cards: Annotated[list[Path] | None, typer.Argument(help="Cards of the participants to believe.")] = None,
    registrar: Annotated[str | None, typer.Option(help="The registrar's identity key, hex.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The registrar's statement about the policy bundle.")] = None,
    pseudonym_service: Annotated[
        Path | None, typer.Option(help="The contact of a pseudonym service that another than the broker runs.")
    ] = None,
) -> None:
    """Pin other participants' identities, who says which policy is in force, and whose pseudonym service is used."""
    if not cards and registrar is None and policy is None and pseudonym_service is None:
        raise Malformed("usage.argument", "say what to pin: cards, --registrar, --policy or --pseudonym-service")
    config.load(folder)
    with locked(folder / "settings.lock", f"another command changes {folder.name}", patience_s=_PATIENCE_S):
        settings = config.load(folder)
        found = map(desk.read_card, cards or ())
        pins = {public_key(one["id"]): Pin(one["role"], one["name"]) for one in found}
        key = public_key(registrar) if registrar is not None else settings.registrar
        settings = replace(settings, pins={**settings.pins, **pins}, registrar=key)
        word = _policy_word(policy) if policy is not None else b""
        if pseudonym_service is not None:
            settings = replace(settings, pseudonym_service=settings.directory / _SERVICE)
            contact(replace(settings, pseudonym_service=pseudonym_service))
            durable.write(settings.directory / _SERVICE, durable.read(pseudonym_service, 65_536))
        config.write(settings)
        if word:
            durable.write(settings.policy_statement, word)


def _policy_word(path: Path) -> bytes:
    signed = durable.read(path, 4096)
    envelope_from_bytes(POLICY, signed)
    return signed


@app.command()
@clear
def rotate(
    folder: Folder,
    what: Annotated[list[str], typer.Argument(help="signing, kem, tls, or all of these; or storage")],
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Destroy the keys before these at once: what is on its way to them is presented anew."
        ),
    ] = False,
) -> None:
    """Draw new keys; a running node states them within a second, and has its new TLS key certified.

    storage: what the node's memory is wrapped with; the node is stopped, and everything is wrapped anew.
    Interrupted, the same command takes it up again; till then the node runs with both keys. A backup made before opens
    with the keys that were backed up with it, and with no others.
    """
    if what == ["storage"]:
        print_json({"drawn": what, "rewrapped": _rotate_storage(config.load(folder))})
        return
    kinds = tuple(rotation.KINDS) if what == ["all"] else tuple(what)
    if not set(kinds) <= rotation.KINDS.keys():
        raise Refused("usage.argument", f"what is rotated is one of {', '.join(rotation.KINDS)}, or all")
    settings = config.load(folder)
    drawn = rotation.draw(settings.keys, kinds)
    print_json({"drawn": list(drawn), "forgotten": rotation.forget(settings.keys) if forget else 0})


def _rotate_storage(settings: config.NodeConfig) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with alone(settings.directory), Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("rows", total=None)
        return rotation.rotate_storage(
            settings.keys, settings.database, lambda done, whole: shown.update(task, completed=done, total=whole)
        )


@app.command()
@clear
def attest(
    folder: Folder,
    subject_key: Annotated[str, typer.Argument(metavar="SUBJECT_KEY", help="The key the wallet shows, hex.")],
    output: Output,
) -> None:
    """Attest that a subject key belongs to a person this organisation knows."""
    settings = config.load(folder)
    keystore = FileKeystore.load(settings.keys)
    key = public_key(subject_key)
    check_signing_key(key)
    me, until = participant_of(keystore), int(time.time()) + ATTESTED_S
    desk.write_attestation(output, Attestation(key, me, settings.role, until).sign(keystore.signing))


Log = Annotated[str, typer.Option("--log", help="The log over HTTP, as the broker serves it: http://host:port.")]


@app.command(name="reconcile-audit")
@clear
def reconcile_audit(folder: Folder, log: Log, as_json: Json = False) -> None:
    """Compare this node's own receipts with the log: exit 5 where one is not there."""
    settings = config.load(folder)
    with _opened(settings) as store, closing(Mirror(log, settings.log_key)) as mirror:
        found = reconcile.reconcile(store, settings.log_key, mirror)
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(
            f"{found.receipts} receipts against {found.size} entries: {found.final} final, {found.pending} pending,"
            f" {len(found.omissions)} missing"
        )
    for one in found.omissions:
        typer.echo(f"zhifu: {one.reason}: exchange {one.exchange}: {one.detail}", err=True)
    if found.omissions:
        raise typer.Exit(int(Exit.INTEGRITY))


@app.command()
@clear
def receipt(
    folder: Folder,
    exchange: Annotated[str, typer.Argument(help="The exchange's hash, hex.")],
    output: Output,
    log: Annotated[str, typer.Option("--log", help="The log over HTTP: a final receipt gets its cosignatures.")] = "",
) -> None:
    """Write the receipt of an exchange as a portable proof (C2SP tlog-proof); print whether it is final."""
    settings = config.load(folder)
    with _opened(settings) as store:
        found = store.receipts.get(public_key(exchange))
        if found is None:
            raise Refused("exchange.unknown", "no receipt of this exchange")
        cosigned = store.receipts.cosigned_note(found.final) if found.final else None
        with ExitStack() as stack:
            mirror = stack.enter_context(closing(Mirror(log, settings.log_key))) if log else None
            proof = reconcile.portable(found, settings.log_key, cosigned, mirror)
    durable.write(output, proof.encode())
    print_json({"exchange": exchange, "state": "final" if found.final else "pending", "index": proof.index})


@app.command()
@clear
def retention(folder: Folder, as_json: Json = False) -> None:
    """Show what is kept of what came: by purpose, record and unit how many, and when they go; no values.

    The policy's times; a patient's grant can only be sooner. "overdue" is held, because it was paid or a reviewer has
    it, or the node stood still.
    """
    settings = config.load(folder)
    with _opened(settings) as store:
        found = trimming.report(store, Retention(load.load(settings.policies), settings.role), int(time.time()))
    if as_json:
        print_json({"kept": [asdict(one) for one in found]})
        return
    out = Console()
    for (purpose, record), rows in groupby(found, lambda one: (one.purpose, one.schema)):
        table = Table("unit", "kept", "first goes", "last goes", "overdue", title=f"{record}, {purpose}")
        for one in rows:
            table.add_row(one.unit, str(one.count), _day(one.first), _day(one.last), str(one.overdue or ""))
        out.print(table)
    if not found:
        out.print("nothing is kept")


Targets = Annotated[list[str] | None, typer.Argument(metavar="HASH", help="An exchange, or a parcel; 64 hex digits.")]
Basis = Annotated[str, typer.Option(help="A short code of what it rests on, such as a case's number.")]


@app.command()
@clear
def hold(folder: Folder, targets: Targets = None, basis: Basis = "", as_json: Json = False) -> None:
    """Place a legal hold: what is kept of an exchange is not erased until it is released. Without a hash: list them.

    It wins over the policy's time, the grant's and a revocation; the patient is told that it is kept.
    """
    _held(folder, targets or [], lambda store, one: holding.place(store, one, basis, _now_ms()), as_json)


@app.command()
@clear
def release(folder: Folder, targets: Targets, basis: Basis = "", as_json: Json = False) -> None:
    """Release a legal hold: what its time is over for, or was revoked, is erased within the hour."""
    _held(folder, targets or [], lambda store, one: holding.release(store, one, basis, _now_ms()), as_json)


def _held(folder: Path, targets: list[str], change: Callable[[Store, bytes], holding.Hold], as_json: bool) -> None:
    with _opened(config.load(folder)) as store:
        found = [change(store, public_key(one)) for one in targets] if targets else holding.every(store)
    if as_json:
        print_json({"holds": [asdict(one) | {"target": one.target.hex()} for one in found]})
        return
    for one in found:
        typer.echo(f"{one.target.hex()}  {one.state}  {_day(one.since_ms // 1000)}  {one.basis}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _day(at: int | None) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat() if at is not None else "with the record"


@contextmanager
def _opened(settings: config.NodeConfig) -> Iterator[Store]:
    store = Store(settings.database, FileKeystore.load(settings.keys))
    try:
        yield store
    finally:
        store.close()


@app.command(name="serve")
@clear
def serve_(
    folder: Folder,
    product: Annotated[str, typer.Option(help="Insurer: the product that decides.")] = products.DEFAULT,
    table: Annotated[str, typer.Option(help="Public payer: the city's table.")] = serve.DEFAULT_TABLE,
    core: Annotated[
        str, typer.Option(help="Insurer: the core system's address, asked what the rules leave open.")
    ] = "",
    core_timeout: Annotated[float, typer.Option(min=0.1, help="Insurer: how long an answer is awaited, s.")] = 10.0,
    core_decides: Annotated[bool, typer.Option("--core-decides", help="Insurer: it is asked every claim.")] = False,
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Hospital: the local API's port, 0 for a free one.")
    ] = 0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="/metrics, /livez, /readyz on loopback; 0 for a free port, said when ready; default: off.",
        ),
    ] = None,
) -> None:
    """Serve until SIGTERM: attach to the broker, open what comes, answer by the role's rules."""
    if not folder.is_dir():
        raise Malformed("usage.file", f"no folder {folder}")
    log_to_stderr()
    node.run_process(
        serve.run(folder, serve.Options(product, table, api_port, core, core_timeout, core_decides, metrics_port))
    )
