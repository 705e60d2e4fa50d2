"""``zhifu pseudonym …``: keys, rotation, quotas and callers of the pseudonym service, for its operators.

Quotas take two operators: each signs with a key that only that operator has; neither key is in the service's folder.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from broker import home, pseudonym_home
from broker.authority import SERVER_NAME
from broker.home import write_private
from broker.pseudonym_keys import PseudonymKeys
from broker.store import tables
from zhifu import envelope, quota
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, Refused
from zhifu.quota import Quota

Add = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]
_MAX_QUOTA: Final = 4096


def add_to(add: Add) -> None:
    """Add the commands; the first argument of each is the service's folder."""
    listing = add("pseudonym-keys", _keys, "List the recipients' public keys by epoch, as JSON.")
    rotating = add("pseudonym-rotate", _rotate, "Draw a recipient's next key; both sides link again while two stand.")
    retiring = add("pseudonym-retire", _retire, "Delete the key before the newest, once both sides have linked again.")
    quotas = add("pseudonym-quota", _quota, "Sign how many persons a recipient may have evaluated: two operators do.")
    signing = add("pseudonym-countersign", _countersign, "Sign what another operator signed, byte for byte.")
    admitting = add("pseudonym-admit", _admit, "Admit participants to a service of its own, by their cards.")
    contact = add("pseudonym-contact", _contact, "Write where a service of its own is and what to pin of it.")
    for one in (rotating, retiring, quotas):
        one.add_argument("--recipient", type=_hex32, required=True, help="the insurer's participant id, hex")
    listing.add_argument("--json", action="store_true", help="as every command; there is no other form")
    retiring.add_argument("--epoch", type=int, required=True)
    quotas.add_argument("--epoch", type=int, default=1)
    quotas.add_argument("--allowed", type=int, required=True, help="evaluations in all, under this epoch")
    for one in (quotas, signing):
        one.add_argument("--operator", type=Path, action="append", required=True, help="an operator's key file")
    for one in (quotas, contact):
        one.add_argument("-o", "--output", type=Path, required=True)
    signing.add_argument("quota", type=Path, help="what the other operator wrote; it is written over")
    admitting.add_argument("cards", type=Path, nargs="+")
    admitting.add_argument("--authority", type=Path, help="the CA (PEM) of their TLS certificates: the broker's ca.crt")


def operator_key(path: Path) -> SigningKey:
    """An operator's key file, drawn where there is none. Raises `Refused`, `Malformed` (usage.file)."""
    if not path.exists():
        write_private(path, SigningKey.generate().encode().hex().encode())
    try:
        if path.stat().st_mode & 0o077:
            raise Refused("usage.file", f"{path.name} can be read by others: chmod 600")
        return SigningKey(bytes.fromhex(path.read_text("ascii").strip()))
    except OSError as error:
        raise Refused("usage.file", f"{path.name}: {error.strerror}") from error
    except (ValueError, TypeError):
        # The cause is left out on purpose: it could quote the key.
        raise Malformed("usage.file", f"{path.name} is not an operator's key") from None


def _keys(arguments: argparse.Namespace) -> None:
    found = PseudonymKeys(home.open_home(arguments.dir).path).public
    rows = [{"recipient": k.recipient.hex(), "epoch": k.epoch, "public_key": k.public_key.hex()} for k in found]
    print(json.dumps(rows, indent=1))


def _rotate(arguments: argparse.Namespace) -> None:
    opened = home.open_home(arguments.dir)
    last = max(_announced(opened, arguments.recipient), default=0)
    epoch = PseudonymKeys(opened.path).rotate(arguments.recipient, last)
    print(json.dumps({"recipient": arguments.recipient.hex(), "epoch": epoch}))


def _announced(opened: home.Home, recipient: bytes) -> list[int]:
    """Every epoch that was ever announced: a key that was lost keeps its number."""
    if not opened.store and not opened.database.exists():
        return []
    return [row.epoch for row in opened.open_read_only().find(tables.PseudonymKey, recipient=recipient)]


def _retire(arguments: argparse.Namespace) -> None:
    PseudonymKeys(home.open_home(arguments.dir).path).retire(arguments.recipient, arguments.epoch)


def _quota(arguments: argparse.Namespace) -> None:
    origin = home.open_home(arguments.dir).origin
    given = Quota(origin, arguments.recipient, arguments.epoch, arguments.allowed, int(time.time()))
    quota.parse(given.to_bytes())
    _write(arguments.output, [given.sign(operator_key(path)) for path in arguments.operator])


def _countersign(arguments: argparse.Namespace) -> None:
    before = _read(arguments.quota)
    given = quota.parse(before[0].payload)
    if given.aud != home.open_home(arguments.dir).origin:
        raise Refused("presentation.audience", "the quota is for another service")
    print(json.dumps({"recipient": given.recipient.hex(), "epoch": given.epoch, "allowed": given.allowed}))
    _write(arguments.quota, [*before, *(given.sign(operator_key(path)) for path in arguments.operator)])


def _admit(arguments: argparse.Namespace) -> None:
    for card in arguments.cards:
        pseudonym_home.admit(home.open_home(arguments.dir).path, card, arguments.authority)


def _contact(arguments: argparse.Namespace) -> None:
    opened = home.open_home(arguments.dir)
    port, _ = opened.ports()
    found = {
        "address": f"127.0.0.1:{port}",
        "server_name": SERVER_NAME,
        "origin": opened.origin,
        "log_key": opened.vkey.encode(),
        "ca": opened.read("ca.crt").decode(),
    }
    write_private(arguments.output, json.dumps(found, indent=1).encode())


def _write(path: Path, signed: list[Envelope]) -> None:
    rows = [base64.b64encode(one.to_bytes()).decode() for one in signed]
    write_private(path, json.dumps({"quota": rows}, indent=1).encode())


def _read(path: Path) -> list[Envelope]:
    try:
        if path.stat().st_size > _MAX_QUOTA:
            raise ValueError
        rows = json.loads(path.read_text("ascii"))["quota"]
        return [envelope.from_bytes(envelope.QUOTA, base64.b64decode(row, validate=True)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Malformed("usage.file", f"{path.name} is not a quota") from error


def _hex32(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError("an id has 64 hex digits")
    return found
