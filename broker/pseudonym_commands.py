"""``zhifu pseudonym …``: keys, rotation, quotas and callers of the pseudonym service, for its operators.

Quotas take two operators: each signs with a key that only that operator has; neither key is in the service's folder.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from pathlib import Path
from typing import Final

from broker import home, operators, pseudonym_home
from broker.authority import SERVER_NAME
from broker.home import write_private
from broker.pseudonym_keys import PseudonymKeys
from broker.store import tables
from zhifu import envelope
from zhifu import quota as quotas
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, Refused
from zhifu.quota import Quota

_MAX_QUOTA: Final = 4096


def keys(arguments: argparse.Namespace) -> None:
    """``keys``: the recipients' public keys."""
    found = PseudonymKeys(home.open_home(arguments.dir).path).public
    rows = [{"recipient": k.recipient.hex(), "epoch": k.epoch, "public_key": k.public_key.hex()} for k in found]
    print(json.dumps(rows, indent=1))


def rotate(arguments: argparse.Namespace) -> None:
    """``rotate``: a recipient's next key."""
    opened = home.open_home(arguments.dir)
    last = max(_announced(opened, arguments.recipient), default=0)
    epoch = PseudonymKeys(opened.path).rotate(arguments.recipient, last)
    print(json.dumps({"recipient": arguments.recipient.hex(), "epoch": epoch}))


def _announced(opened: home.Home, recipient: bytes) -> list[int]:
    """Every epoch that was ever announced: a key that was lost keeps its number."""
    if not opened.store and not opened.database.exists():
        return []
    return [row.epoch for row in opened.open_read_only().find(tables.PseudonymKey, recipient=recipient)]


def retire(arguments: argparse.Namespace) -> None:
    """``retire``: delete the key before the newest."""
    PseudonymKeys(home.open_home(arguments.dir).path).retire(arguments.recipient, arguments.epoch)


def quota(arguments: argparse.Namespace) -> None:
    """``quota``: how many persons a recipient may have evaluated, signed by two operators."""
    origin = home.open_home(arguments.dir).origin
    given = Quota(origin, arguments.recipient, arguments.epoch, arguments.allowed, int(time.time()))
    quotas.parse(given.to_bytes())
    _write(arguments.output, _signed(given, arguments.operator, []))


def countersign(arguments: argparse.Namespace) -> None:
    """``countersign``: sign what another operator signed, byte for byte."""
    before = _read(arguments.quota)
    given = quotas.parse(before[0].payload)
    if given.aud != home.open_home(arguments.dir).origin:
        raise Refused("presentation.audience", "the quota is for another service")
    signed = _signed(given, arguments.operator, before)
    print(json.dumps({"recipient": given.recipient.hex(), "epoch": given.epoch, "allowed": given.allowed}))
    _write(arguments.quota, signed)


def _signed(given: Quota, operator: list[Path], before: list[Envelope]) -> list[Envelope]:
    """With more signatures: an operator counts once. Raises `Refused` (usage.argument)."""
    signed = [*before, *(given.sign(operators.key_of(path)) for path in operator)]
    if len({one.key_id for one in signed}) != len(signed):
        raise Refused("usage.argument", "one operator signs twice: a quota takes two different ones")
    return signed


def admit(arguments: argparse.Namespace) -> None:
    """``admit``: participants of a service of its own."""
    for card in arguments.cards:
        pseudonym_home.admit(home.open_home(arguments.dir).path, card, arguments.authority)


def contact(arguments: argparse.Namespace) -> None:
    """``contact``: where a service of its own is and what to pin of it."""
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed("usage.file", f"{path.name} is not a quota") from error
