"""The registrar: signs which policy bundle is in force, and nothing else. Nodes pin its identity key (DESIGN 4.3)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from nacl.signing import SigningKey

from clients import command, durable
from clients.command import Folder, Json, Output, clear, print_json
from policies import load
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.keys import participant_id
from zhifu.statement import PolicyStatement

app = command.app("The registrar: sign the policy bundle that is in force.")
_KEY = "identity.key"


@app.command()
@clear
def init(folder: Folder, as_json: Json = False) -> None:
    """Draw the registrar's identity key."""
    public = draw(folder).hex()
    if as_json:
        print_json({"identity_key": public})
    else:
        typer.echo(public)


@app.command()
@clear
def sign(
    folder: Folder,
    output: Output,
    policies: Annotated[Path | None, typer.Option(help="The bundle's folder; default: the packaged one.")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="How long it is in force.")] = 90,
) -> None:
    """Sign a policy bundle: nodes act on no other."""
    signed, digest = statement(folder, policies, days)
    durable.write(output, signed.to_bytes())
    typer.echo(digest.hex())


def draw(folder: Path) -> bytes:
    """Draw the registrar's key into ``folder``; its public half, 32 bytes. Raises `Refused` (usage.file)."""
    durable.folder(folder)
    if not durable.create(folder / _KEY, SigningKey.generate().encode().hex().encode()):
        raise Refused("usage.file", f"{folder.name} has a key already")
    return bytes(_key(folder).verify_key)


def statement(folder: Path, policies: Path | None, days: int) -> tuple[Envelope, bytes]:
    """The registrar's word that a bundle is in force for ``days`` from now, and the bundle's hash."""
    key, now, found = _key(folder), int(time.time()), load.load(policies)
    registrar = participant_id(bytes(key.verify_key))
    return PolicyStatement(registrar, found.hash, now, now + days * 86_400).sign(key), found.hash


def _key(folder: Path) -> SigningKey:
    try:
        return SigningKey(bytes.fromhex(durable.read_private(folder / _KEY, 64).decode()))
    except ValueError:
        # The cause is left out on purpose: it could quote the key.
        raise Refused("usage.file", f"{_KEY} is not a key in hex") from None
