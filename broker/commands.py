"""Short commands of the broker's operator: draw its keys, invite a participant, say where it is, print its log."""

from __future__ import annotations

import argparse
import json
import sys
import time

from broker import home, operators
from broker.authority import SERVER_NAME
from broker.clock import clock_ms
from broker.home import Home


def init(arguments: argparse.Namespace) -> None:
    """``init``: draw the keys of a new broker, or of a pseudonym service of its own."""
    quota = [bytes(operators.draw(path).verify_key) for path in arguments.operator]
    answering = [bytes(operators.draw(path).verify_key) for path in arguments.hotline]
    opened = home.create(arguments.dir, arguments.origin, clock_ms() // 1000, quota, arguments.store, answering)
    print(json.dumps({"origin": opened.origin, "log_key": opened.vkey.encode()}))


def invite(arguments: argparse.Namespace) -> None:
    """``invite``: a one-time invitation as a file."""
    from broker import enrolment

    opened = home.named(arguments)
    reached = _reached(opened, arguments)
    store = opened.open_store()
    state = store.begin()
    code = enrolment.invite(arguments.role, arguments.name, state, clock_ms(), arguments.of)
    store.commit()
    store.close()
    invitation = {"code": code, "role": arguments.role, "name": arguments.name, **reached}
    home.write_private(arguments.output, json.dumps(invitation, ensure_ascii=False, indent=1).encode())


def contact(arguments: argparse.Namespace) -> None:
    """``contact``: what a wallet needs to know of the running broker."""
    reached = _reached(home.named(arguments), arguments)
    home.write_private(arguments.output, json.dumps(reached, indent=1).encode())


def _reached(opened: Home, arguments: argparse.Namespace) -> dict[str, str]:
    """Where the running broker is, or all that serve its log, and what to pin of it."""
    (node, public), host = opened.ports(), opened.host()
    return {
        "node_address": arguments.node_address or f"{host}:{node}",
        "public_address": arguments.public_address or f"{host}:{public}",
        "server_name": SERVER_NAME,
        "origin": opened.origin,
        "log_key": opened.vkey.encode(),
        "ca": opened.read("ca.crt").decode(),
    }


def print_log(arguments: argparse.Namespace) -> None:
    """``export``: every line of the log."""
    from broker import export

    for line in export.lines(home.named(arguments).open_read_only()):
        print(line)


def verify(arguments: argparse.Namespace) -> None:
    """``verify``: every leaf and node of the tree, from the entries; how many there are, and how long it took."""
    from broker import verification

    opened, begun = home.named(arguments), time.monotonic()
    size = verification.verify(opened.database, opened.store, arguments.jobs, _progress)
    print(json.dumps({"origin": opened.origin, "entries": size, "seconds": round(time.monotonic() - begun, 3)}))


def _progress(done: int, size: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {size:,} entries", end="\n" if done == size else "", file=sys.stderr, flush=True)
