"""The words of ``zhifu broker`` and ``zhifu pseudonym``. Each command names what it runs, imported when it is called:
one that needs no gRPC, no database driver and no web server does not wait for them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STORE: Final = (
    "postgresql://user@host:port/database, which several brokers may share (a password: PGPASSFILE or ~/.pgpass); or "
    "ZHIFU_STORE; default: what init wrote into broker.toml, or SQLite in the folder"
)
_Add = Callable[[str, str, str], argparse.ArgumentParser]


def parser(part: str = "broker") -> argparse.ArgumentParser:
    """Every command, or those of the pseudonym service alone under their short names.

    What is parsed names the function to call in ``run``, as `pkgutil.resolve_name` takes it; it may return an exit
    code.
    """
    what = "Run and administer a Zhifu broker." if part == "broker" else "Run and administer a pseudonym service."
    found = argparse.ArgumentParser(prog=f"zhifu {part}", description=what)
    commands, prefix = found.add_subparsers(required=True, metavar="COMMAND"), "" if part == "broker" else f"{part}-"

    def add(name: str, run: str, text: str) -> argparse.ArgumentParser:
        if not name.startswith(prefix):
            return argparse.ArgumentParser(add_help=False)
        one = commands.add_parser(name.removeprefix(prefix), help=text, description=text)
        if name == "restore":
            one.add_argument("file", type=Path, help="the backup")
        one.add_argument("dir", type=Path, help=f"the {'broker' if part == 'broker' else 'service'}'s folder")
        one.add_argument("--store", default="", help=_STORE)
        one.set_defaults(run=run)
        return one

    init = add("init", "broker.commands:init", "Draw the keys of a new broker.")
    init.add_argument("--origin", required=True, help="the log's name, for ever: log.example/zhifu")
    init.add_argument(
        "--operator", type=Path, action="append", default=[], help="who sets quotas: a key file, or one to draw"
    )
    init.add_argument("--hotline", type=Path, action="append", default=[], help="who answers patients: likewise")
    serving = add("serve", "broker.serving:run", "Serve nodes (mTLS) and wallets; prints its ports as JSON when ready.")
    serving.add_argument("--node-port", type=_port, default=0, metavar="PORT", help="default: a free one")
    serving.add_argument("--public-port", type=_port, default=0, metavar="PORT", help="default: a free one")
    serving.add_argument(
        "--log-port", type=_port, default=0, metavar="PORT", help="the log over HTTP (tlog-tiles); default: a free one"
    )
    serving.add_argument(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="/metrics, /livez, /readyz; 0: a free port; default: not served",
    )
    serving.add_argument(
        "--trace", action="store_true", help="spans of the stages, to OTEL_EXPORTER_OTLP_ENDPOINT; extra: zhifu[otel]"
    )
    serving.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="of all these ports but the metrics'")
    serving.add_argument("--metrics-listen", default="127.0.0.1", metavar="ADDRESS", help="anyone who reaches it reads")
    serving.add_argument("--host", default="", help="what invitations say to reach it by; default: what it listens on")
    serving.add_argument(
        "--max-unwitnessed", type=float, metavar="S", help="refuse exchanges once no majority cosigned for S seconds"
    )
    serving.add_argument("--policy", type=Path, help="a policy bundle; default: the packaged one")
    inviting = add("invite", "broker.commands:invite", "Write a one-time invitation for a participant.")
    inviting.add_argument("--role", required=True, help="hospital, public-payer, insurer or auditor")
    inviting.add_argument("--name", required=True, help="the legal name")
    inviting.add_argument(
        "--of", type=_id, default=b"", metavar="ID", help="an auditor of this participant's exchanges only"
    )
    inviting.add_argument("-o", "--output", type=Path, required=True, help="the invitation, for its owner only")
    examining = add("doctor", "broker.doctor:run", "Examine the folder: what is wrong, and what to do.")
    examining.add_argument("--json", action="store_true", help="one JSON document on stdout")
    contact = add("contact", "broker.commands:contact", "Write where the broker is and what to pin of it, for wallets.")
    contact.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    for one in (inviting, contact):
        for port in ("node", "public"):
            words = f"where the {port} ports of all brokers are: host:port, commas between them; default: this one's"
            one.add_argument(f"--{port}-address", type=_addresses, metavar="ADDRESSES", help=words)
    stopping = add("stop", "broker.hotline:stop", "The hotline: end grants for a patient who calls; logged.")
    stopping.add_argument("--operator", type=Path, required=True, help="the operator's key file")
    which = stopping.add_mutually_exclusive_group(required=True)
    which.add_argument("--grant", help="a grant's hash, hex")
    which.add_argument("--subject", help="a subject's id, hex: all of its grants")
    stopping.add_argument("--reason", required=True, help="why, in at most 64 characters")
    for word, text in (
        ("suspend", "Suspend a participant: its streams end, exchanges with it are refused, what waits stays; logged."),
        ("resume", "Let a suspended participant take part again; logged."),
    ):
        one = add(word, f"broker.suspension:{word}", text)
        one.add_argument("id", type=_id, help="the participant's id, 64 hex digits")
        one.add_argument("--reason", required=True, help="why, in at most 64 characters")
        one.add_argument("--operator", type=Path, required=True, help="an operator's key file")
    add("export", "broker.commands:print_log", "Print the whole log as lines of JSON.")
    migrating = add("migrate", "broker.upkeep:migrate", "Bring the database to the version that this program needs.")
    migrating.add_argument(
        "--check", action="store_true", help="only say what is missing; exit 1 if something is, 0 if nothing"
    )
    saving = add("backup", "broker.upkeep:backup", "Copy database and settings into one file, also while it serves.")
    saving.add_argument("-o", "--output", type=Path, required=True, help="the backup, for its owner only")
    saving.add_argument(
        "--with-keys", action="store_true",
        help="the folder's keys too, but never the gate's; default: keys are kept apart, as whoever has both is the"
        " broker",
    )  # fmt: skip
    add(
        "restore",
        "broker.upkeep:restore",
        "Make a backup a folder and a database, both new (or put the database to keys that were kept apart).",
    )
    verifying = add("verify", "broker.commands:verify", "Recompute the whole tree from the stored entries.")
    verifying.add_argument("--jobs", type=_count, help="processes side by side; default: one a core")
    rotating = add("rotate", "broker.renewing:rotate", "Draw a new key; the running broker takes it up by itself.")
    rotating.add_argument(
        "what",
        choices=("tls", "gate"),
        help="the TLS key and certificate, or the key that epochs are sealed to",
    )
    rotating.add_argument(
        "--after", type=int, default=0, metavar="S",
        help="gate: state it in S seconds only, so that the file can be copied to every broker of the log before",
    )  # fmt: skip
    alone = add(
        "pseudonym-serve",
        "broker.serving:run_pseudonyms",
        "Serve pseudonyms alone, from an own folder (pseudonym-init).",
    )
    alone.add_argument("--port", type=_port, default=0, help="default: a free one")
    own_migrating = add("pseudonym-migrate", "broker.upkeep:migrate", "Bring the service's database to this version.")
    own_migrating.add_argument("--check", action="store_true", help="only say what is missing; exit 1 if something is")
    own = add("pseudonym-init", "broker.commands:init", "Draw the keys of a pseudonym service of its own.")
    own.add_argument("--origin", required=True, help="its log's name, for ever")
    own.add_argument(
        "--operator", type=Path, action="append", default=[], help="who sets quotas: a key file, or one to draw"
    )
    own.set_defaults(hotline=[])
    _pseudonym(add)
    return found


def _pseudonym(add: _Add) -> None:
    def own(name: str, text: str) -> argparse.ArgumentParser:
        return add(f"pseudonym-{name}", f"broker.pseudonym_commands:{name}", text)

    listing = own("keys", "List the recipients' public keys by epoch, as JSON.")
    rotating = own("rotate", "Draw a recipient's next key; both sides link again while two stand.")
    retiring = own("retire", "Delete the key before the newest, once both sides have linked again.")
    quotas = own("quota", "Sign how many persons a recipient may have evaluated: two operators do.")
    signing = own("countersign", "Sign what another operator signed, byte for byte.")
    admitting = own("admit", "Admit participants to a service of its own, by their cards.")
    contact = own("contact", "Write where a service of its own is and what to pin of it.")
    for one in (rotating, retiring, quotas):
        one.add_argument("--recipient", type=_id, required=True, help="the insurer's participant id, hex")
    listing.add_argument("--json", action="store_true", help="as every command; there is no other form")
    retiring.add_argument("--epoch", type=_epoch, required=True, help="the epoch whose key is deleted")
    quotas.add_argument("--epoch", type=_epoch, default=1, help="the key's epoch; default: 1")
    quotas.add_argument("--allowed", type=_count, required=True, help="evaluations in all, under this epoch")
    for one in (quotas, signing):
        one.add_argument("--operator", type=Path, action="append", required=True, help="an operator's key file")
    for one in (quotas, contact):
        one.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    signing.add_argument("quota", type=Path, help="what the other operator wrote; it is written over")
    admitting.add_argument("cards", type=Path, nargs="+", help="their cards (zhifu node card)")
    admitting.add_argument("--authority", type=Path, help="the CA (PEM) of their TLS certificates: the broker's ca.crt")


def _addresses(text: str) -> str:
    found = [one.rpartition(":") for one in text.split(",")]
    if not all(host and port.isdecimal() and 0 < int(port) < 65536 for host, _, port in found):
        raise argparse.ArgumentTypeError("host:port, several with commas between them")
    return text


def _port(text: str) -> int:
    # gRPC takes a larger number modulo 65536, without a word.
    return _within(text, 0, 65_535)


def _count(text: str) -> int:
    return _within(text, 1, 2**63 - 1)


def _epoch(text: str) -> int:
    return _within(text, 1, 2**32 - 1)


def _within(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"a number from {low} to {high:,}")
    return int(text)


def _id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise argparse.ArgumentTypeError("an id has 64 hex digits")
    return found
