"""``zhifu hospital``: what the desk does, and the way into the running node's local API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clients import command, config, desk, plain
from clients.command import Folder, Json, Output, clear, print_json
from clients.directory import Directory
from clients.hospital import bill_file, encounter, local_api, openbill, redeem, request, stopped, wallets
from clients.hospital.cashier import KEY_FILE
from clients.hospital.openbill import OpenBill
from clients.hospital.sample import sample_bill
from clients.hospital.wallets import Reach
from clients.keystore import FileKeystore, participant_of
from clients.record import files
from clients.store import Store
from clients.web.entrance import read_key
from policies import load
from zhifu import bill as bills
from zhifu import consent as consents
from zhifu.bill import Bill
from zhifu.errors import Malformed, Refused

app = command.app("The hospital's desk: know the patient, ask for consent, settle a bill.")

BillFile = Annotated[Path, typer.Option("--bill", help="The bill: JSON in the national names, or FHIR R4.")]
MaybeBill = Annotated[Path | None, typer.Option("--bill", help="The bill: JSON in the national names, or FHIR R4.")]
Admission = Annotated[
    Path | None,
    typer.Option(help="Before there is a bill: JSON with setlinfo alone (mdtrt_id, psn_name, certno, what is known)."),
]
Narrow = Annotated[list[str], typer.Option("--narrow", metavar="SCHEMA.UNIT=LEVEL", help="Show less in this claim.")]
SubjectKey = Annotated[str, typer.Argument(metavar="SUBJECT_KEY", help="The key that the patient's wallet shows, hex.")]


def read_visit(bill: Path | None, admission: Path | None) -> Bill | OpenBill:
    """A bill, or what is known of a visit before there is one; exactly one of them. Raises `Malformed`."""
    if (bill is None) == (admission is None):
        raise Malformed("usage.argument", "one of --bill and --admission")
    if bill is not None:
        return bill_file.read_bill(bill)[1]
    assert admission is not None
    return openbill.of_admission(bills.parse_admission(bill_file.read_given(admission)))


@app.command(name="sample-bill")
@clear
def sample(
    seed: Annotated[int, typer.Option(help="Another seed, another person who cannot exist.")] = 1,
    outpatient: Annotated[bool, typer.Option("--outpatient", help="A visit of 620.00.")] = False,
) -> None:
    """Print a bill to try the program with: a stay of 20,000.00, in the national interface's field names."""
    typer.echo(sample_bill(seed, outpatient=outpatient).decode(), nl=False)


@app.command()
@clear
def attest(
    folder: Folder,
    subject_key: Annotated[
        str, typer.Argument(metavar="SUBJECT_KEY[.WALLET_KEY]", help="What the patient's wallet shows, hex.")
    ],
    output: Output,
    bill: MaybeBill = None,
    admission: Admission = None,
    wallet_key: Annotated[str, typer.Option(help="The wallet's other key, hex: notices to her are sealed to it.")] = "",
    insurer: Annotated[str, typer.Option(help="The insurer that her key is for: its participant id, hex.")] = "",
) -> None:
    """Attest that a subject key belongs to the patient of a bill or an admission, whom the desk has seen.

    With --wallet-key and --insurer she is told at home what she may claim of a bill that she paid.
    """
    subject_key, _, shown = subject_key.partition(".")
    wallet_key = wallet_key or (shown if insurer else "")
    if bool(wallet_key) != bool(insurer):
        raise Malformed("usage.argument", "--wallet-key and --insurer go together")
    settings = config.load(folder, "hospital")
    keystore = FileKeystore.load(settings.keys)
    found = read_visit(bill, admission)
    person = found.setlinfo.certno if isinstance(found, Bill) else found.head.certno
    store = Store(settings.database, keystore)
    try:
        signed = encounter.attest(
            store,
            participant_of(keystore),
            settings.role,
            keystore.signing,
            public_key(subject_key),
            person,
            int(time.time()),
        )
        if wallet_key and person:
            reach = Reach(public_key(subject_key), public_key(wallet_key), public_key(insurer))
            wallets.remember(store, person, reach, int(time.time()))
    finally:
        store.close()
    desk.write_attestation(output, signed)


def public_key(text: str) -> bytes:
    """A key, a participant or a hash in hex, 32 bytes. Raises `Malformed` (usage.argument)."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Malformed("usage.argument", "a key, a participant or a hash has 64 hex digits")
    return found


@app.command(name="request-consent")
@clear
def request_consent(
    folder: Folder,
    subject_key: SubjectKey,
    recipient: Annotated[str, typer.Option(help="The insurer's participant id, hex.")],
    output: Output,
    bill: MaybeBill = None,
    admission: Admission = None,
    cap: Annotated[int | None, typer.Option(help="The most that may be claimed, in fen.")] = None,
    direct_pay: Annotated[bool, typer.Option("--direct-pay", help="To be used with a code at the desk only.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask to confirm this hospital and the cap.")] = False,
    question: Annotated[bool, typer.Option("--eligibility", help="Ask only whether the visit is covered.")] = False,
    lang: command.Language = "zh",
    as_json: Json = False,
) -> None:
    """Write the request that the patient's wallet reviews, and print the short code that her screen shows too.

    With --admission before there is a bill: then --cap says the most that may be claimed, and the wallet shows what is
    known of the visit. The grant holds for the bill with the same mdtrt_id.
    """
    settings = config.load(folder, "hospital")
    keystore = FileKeystore.load(settings.keys)
    insurer, now = public_key(recipient), int(time.time())
    if insurer not in settings.pins:
        raise Refused("key.not_pinned", "the insurer is not pinned in node.toml")
    found = read_visit(bill, admission)
    store = Store(settings.database, keystore)
    try:
        asked = request.ask(
            store,
            load.load(settings.policies),
            keystore.signing,
            origin=settings.origin,
            sender=participant_of(keystore),
            recipient=insurer,
            subject_key=public_key(subject_key),
            bill=found,
            cap=cap,
            language=lang,
            now=now,
            direct_pay=direct_pay,
            confirm=settings.name if confirm else "",
            eligibility=question,
        )
        statement = Directory(settings.pins, keystore, store).own(now)
    finally:
        store.close()
    desk.write_request(output, desk.Request(asked.signed, statement, asked.preview))
    short = consents.short_code(asked.signed.payload)
    if as_json:
        print_json({"request": consents.hash_of(asked.signed.payload).hex(), "short_code": short})
    else:
        typer.echo(short)


@app.command(name="keep-consent")
@clear
def keep_consent(folder: Folder, consent: Annotated[Path, typer.Argument(help="What the wallet wrote.")]) -> None:
    """Keep a consent that the patient leaves for her stay, until she shows her code."""
    settings = config.load(folder, "hospital")
    store = Store(settings.database, FileKeystore.load(settings.keys))
    try:
        typer.echo(redeem.keep(store, desk.read_consent(consent), time.time_ns() // 1_000_000).hex())
    finally:
        store.close()


@app.command()
@clear
def stop(
    folder: Folder,
    revocation: Annotated[Path, typer.Argument(help="The revocation that the patient's wallet wrote.")],
    consent: Annotated[Path, typer.Option(help="The consent that it ends.")],
) -> None:
    """Stop using a grant at once, on the word of the patient who stands at the desk."""
    settings = config.load(folder, "hospital")
    store = Store(settings.database, FileKeystore.load(settings.keys))
    signed = desk.read_consent(consent).grant
    try:
        grant, digest = consents.verify_grant(signed), consents.hash_of(signed.payload)
        stopped.stop(store, desk.read_revocation(revocation), grant, digest, settings.origin, int(time.time()))
    finally:
        store.close()
    typer.echo(f"stopped {digest.hex()}")


@app.command(name="redeem")
@clear
def redeem_code(
    folder: Folder,
    code: Annotated[str, typer.Argument(help="What the phone shows: the QR code's text, or 18 digits.")],
    bill: BillFile,
    narrow: Narrow = [],  # noqa: B006
    direct: Annotated[bool, typer.Option("--direct", help="Without the public payer.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Settle a bill with the code that its patient shows; refused for anybody else's stay.

    Exit 4 with consent.confirm where the amount is above the code's cap, or the code is for another stay: ask her to
    confirm (zhifu hospital request-consent --confirm), then zhifu hospital settle.
    """
    content = bill_file.read_bill(bill)[0]
    _print(local_api.submit(folder, content, None, direct=direct, timeout=timeout, code=code, narrow=narrow), as_json)


@app.command()
@clear
def settle(
    folder: Folder,
    bill: BillFile,
    consent: Annotated[Path | None, typer.Option(help="The consent that the wallet wrote.")] = None,
    narrow: Narrow = [],  # noqa: B006
    direct: Annotated[bool, typer.Option("--direct", help="Without the public payer.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Settle a bill through the running node, and wait for the outcome."""
    content = bill_file.read_bill(bill)[0]
    _print(local_api.submit(folder, content, consent, direct=direct, timeout=timeout, narrow=narrow), as_json)


@app.command()
@clear
def paid(
    folder: Folder,
    bill: Annotated[Path | None, typer.Option("--bill", help="A bill that she paid in full, without us.")] = None,
    settlement: Annotated[str, typer.Option(help="Or a settlement whose rest she paid, hex.")] = "",
    as_json: Json = False,
) -> None:
    """Say that the patient paid: her wallet is told what she may claim. A settlement that left a rest says so itself.

    Of a settlement that failed or was cancelled she paid the whole bill.
    """
    if (bill is None) == (not settlement):
        raise Malformed("usage.argument", "one of --bill and --settlement")
    with local_api.connect(folder) as client:
        if bill is not None:
            found = local_api.answered(
                client, "POST", "/paid", json={"bill": bill_file.read_given(bill).decode("utf-8", "replace")}
            ).json()
        else:
            found = local_api.answered(client, "POST", f"/settlements/{settlement}/paid").json()
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{len(found)} offered")
        if not found:
            command.chatter.print("offered before, or no wallet of hers is known: zhifu hospital attest --insurer")


@app.command()
@clear
def claims(folder: Folder, as_json: Json = False) -> None:
    """List the claims after payment: offered to patients, and filed by them."""
    with local_api.connect(folder) as client:
        found = local_api.answered(client, "GET", "/claims").json()
    if as_json:
        print_json(found)
        return
    table = Table("claim", "visit", "state", "patient paid (yuan)", "insurer pays (yuan)", "why")
    for one in found:
        pays = one.get("insurer_fen")
        paid_ = plain.yuan(one["paid_fen"])
        shown = "" if pays is None else plain.yuan(pays)
        command.row(table, one["settlement"][:16], one["visit"] or "", one["state"], paid_, shown, one["reason"])
    command.show(table, "no claims")


@app.command()
@clear
def eligibility(
    folder: Folder,
    bill: MaybeBill = None,
    admission: Admission = None,
    consent: Annotated[list[Path], typer.Option(help="A consent for this question: its insurer is asked too.")] = [],  # noqa: B006
    lang: command.Language = "zh",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answers.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Ask whether payers cover a visit and what is left of the year; nothing is held, nothing is claimed.

    The public payer is asked by law. An insurer needs the patient's consent: request-consent --eligibility.
    """
    read_visit(bill, admission)
    name, path = ("bill", bill) if bill is not None else ("admission", admission)
    assert path is not None
    given = [desk.consent_document(desk.read_consent(one)) for one in consent]
    body = {name: bill_file.read_given(path).decode("utf-8", "replace"), "consents": given}
    with local_api.connect(folder) as client:
        asked = {"params": {"wait": min(timeout, 60.0), "lang": lang}, "json": body}
        found = local_api.ask(client, "POST", "/eligibility", **asked)
    if as_json:
        print_json(found)
        return
    table = Table("payer", "", "what")
    for one in found["payers"]:
        words = "\n".join(row["words"] for row in one.get("rows", ()))
        command.row(table, one["name"] or one["role"], one.get("outcome", one["state"]), words or one.get("reason", ""))
    Console().print(table)


@app.command()
@clear
def cashier(folder: Folder) -> None:
    """Print the address that opens the cashier's page in a browser of this computer; keep it as a password.

    Whoever signs out there ends it: this command prints the next.
    """
    port, _ = local_api.place(folder)
    typer.echo(f"http://127.0.0.1:{port}/desk?key={read_key(folder / KEY_FILE)}")


@app.command()
@clear
def show(
    folder: Folder,
    settlement: Annotated[str, typer.Argument(help="Its id, hex.")],
    form: Annotated[
        str, typer.Option("--as", metavar="FORM", help="fhir (ClaimResponses and an EOB) or national (2304 fields).")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show a settlement."""
    if not form:
        _print(local_api.look(folder, settlement), as_json)
        return
    if form not in ("fhir", "national"):
        raise Malformed("usage.argument", "a settlement is shown as fhir or national")
    with local_api.connect(folder) as client:
        typer.echo(local_api.answered(client, "GET", f"/settlements/{settlement}/{form}").text)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        table = Table("", "", title=f"{found['settlement'][:16]}  {found['state']}, yuan", show_header=False)
        for name in ("total", "public", "commercial", "patient"):
            amount = found[f"{name}_fen"]
            command.row(table, name, plain.yuan(amount) if amount is not None else "-")
        Console().print(table)
    if found["state"] == "failed":
        raise Refused(found["reason"], found["detail"])


@app.command(name="spot-audit")
@clear
def spot_audit(
    folder: Folder, exchange: Annotated[str, typer.Argument(help="An exchange of this hospital, hex.")], output: Output
) -> None:
    """Open every level of one exchange's record to the auditor. The file holds the record's key: hand it over in
    person.
    """
    settings = config.load(folder, "hospital")
    keystore = FileKeystore.load(settings.keys)
    store = Store(settings.database, keystore)
    try:
        sent = store.outgoing.latest(public_key(exchange))
        record = store.records.get(sent.record) if sent else None
    finally:
        store.close()
    if sent is None or record is None:
        raise Refused("exchange.unknown", "not an exchange of this hospital, or its record is not kept any more")
    files.SpotFile(sent.exchange, record.encoded_manifest, record.leaves, record.key).write(output)
