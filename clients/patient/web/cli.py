"""``zhifu wallet serve``: the wallet as web pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from clients import command
from clients.command import Folder, clear
from clients.patient import wallet as wallets
from clients.patient.web.site import Site, open_wallet
from clients.web.entrance import Entrance
from clients.web.serving import Place, serve

PORT: Final = 8730
"""The browser keeps keys by address and port, so the port is always the same."""


@clear
def serve_pages(
    folder: Folder,
    contact: Annotated[Path | None, typer.Option(help="The broker's contact file; needed the first time.")] = None,
    card: Annotated[list[Path], typer.Option(help="An organisation's card, as it handed it over.")] = [],  # noqa: B006
    host: Annotated[str, typer.Option(help="Another address than loopback needs a certificate.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Keep it: the browser's keys belong to it.")] = PORT,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
) -> None:
    """Serve the wallet as web pages, for a phone or a desktop; the signing keys stay in the browser.

    Prints {"url": ...} once it listens: open that address, it holds the key to the pages. Serve it yourself, or have
    somebody serve it who is neither the broker nor a hospital.
    """
    parties = [wallets.party(path) for path in card]
    place = Place(host, port, certificate, key)
    with open_wallet(folder, contact) as opened:
        opened.parties.update({party.id: party for party in parties})
        opened.save()
        entrance = Entrance(folder)
        command.chatter.print("serving the wallet; end it with Ctrl-C")
        serve(Site(opened).app(entrance, place.hosts), place, entrance)
