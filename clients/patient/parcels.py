"""Parcels on their way to an insurer: sealed and signed once, kept until every chunk arrived, resumed where it stopped.

What was sealed is never sealed again: after a crash or a cut connection the broker says which chunks are missing, and
only those are sent.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients import durable
from clients.patient import calls, mailbox
from clients.patient.wallet import Pair, Wallet
from zhifu import consent, envelope, parcel
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.parcel import Message

ERASE_S: Final = 365 * 86_400
_SIGNED: Final = "signed"
_MAX_SIGNED: Final = parcel.PARCEL.cap + 1024
_MAX_CHUNK: Final = parcel.CHUNK + 1024
Progress = Callable[[int, int], None]


def silent(done: int, whole: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A parcel that is not complete at the broker, or was not told to be: its name and its folder."""

    hash: bytes
    folder: Path

    @property
    def signed(self) -> Envelope:
        return envelope.from_bytes(parcel.PARCEL, durable.read(self.folder / _SIGNED, _MAX_SIGNED))


def _folder(wallet: Wallet) -> Path:
    return wallet.path / "outgoing"


async def make(wallet: Wallet, pair: Pair, kind: str, claim: bytes, message: Message, now: int) -> Outgoing:
    """Seal and sign a parcel for the pair's insurer, and keep it to be sent. ``now`` is Unix s.

    Raises `Refused` (unavailable.*, participant.unknown), `NotAuthentic`, `Malformed` (malformed.size).
    """
    insurer = bytes.fromhex(pair.recipient)
    known = mailbox.statements(wallet, (await calls.mailbox(wallet, pair)).directory, now)
    if insurer not in known:
        raise Refused("unavailable.recipient", "the insurer's keys are not known yet")
    packed = parcel.pack(
        parcel.encode(message),
        aud=wallet.contact.origin,
        recipient=insurer,
        key=known[insurer].kem,
        subject=pair.subject,
        claim=claim,
        kind=kind,
        erase_at=now + ERASE_S,
        now=now,
    )
    signed = await wallet.sign(pair, parcel.PARCEL, packed.parcel.to_bytes())
    digest = parcel.hash_of(signed.payload)
    folder = _folder(wallet) / digest.hex()
    durable.folder(folder)
    for place, chunk in enumerate(packed.chunks):
        durable.write(folder / f"{place:04d}", chunk)
    # Last: a folder without it is a parcel that was never made.
    durable.write(folder / _SIGNED, signed.to_bytes())
    return Outgoing(digest, folder)


def drop_others(wallet: Wallet, names: Collection[str]) -> None:
    """Remove what was kept of parcels but these, by their hashes in hex."""
    for folder in _folder(wallet).glob("*"):
        if folder.name not in names:
            shutil.rmtree(folder)


def waiting(wallet: Wallet) -> list[Outgoing]:
    """Parcels that were made and not wholly sent."""
    found = [Outgoing(bytes.fromhex(path.parent.name), path.parent) for path in _folder(wallet).glob(f"*/{_SIGNED}")]
    return sorted(found, key=lambda one: one.folder.stat().st_mtime)


async def send(wallet: Wallet, one: Outgoing, progress: Progress = silent) -> int:
    """Send what is missing; how many chunks that were. ``progress`` is told (chunks that arrived, all of them).

    Raises `Refused` (unavailable.*, exchange.state: it was withdrawn, or waited too long).
    """
    whole = len(parcel.parse(one.signed.payload).digests)
    state, missing = await calls.leave_parcel(wallet, one.signed)
    if state not in ("open", "complete", "taken"):
        raise Refused("exchange.state", f"the parcel is {state}")
    progress(whole - len(missing), whole)
    chunks = ((place, durable.read(one.folder / f"{place:04d}", _MAX_CHUNK)) for place in missing)
    async for left in calls.put_chunks(wallet, one.hash, chunks):
        progress(whole - left, whole)
    shutil.rmtree(one.folder)
    return len(missing)


async def withdraw(wallet: Wallet, pair: Pair, digest: bytes, now: int) -> bool:
    """Take a parcel back; whether its recipient had it already, who is then told to erase it. Raises `Refused`.

    One that never got to the broker, or is no longer there, is taken back all the same: it is not sent any more.
    """
    said = consent.Revocation(wallet.contact.origin, digest, now)
    signed = await wallet.sign(pair, envelope.REVOCATION, said.to_bytes())
    try:
        _, taken = await calls.withdraw_parcel(wallet, signed)
    except Refused as error:
        if error.reason not in ("consent.unknown", "exchange.state"):
            raise
        taken = False
    shutil.rmtree(_folder(wallet) / digest.hex(), ignore_errors=True)
    return taken


def documents(paths: list[Path]) -> Iterator[parcel.Document]:
    """Files to attach, by name. Raises `Malformed` (usage.file), also for one that no parcel holds."""
    for path in paths:
        yield parcel.Document(path.name[-128:], _media_type(path), durable.read(path, parcel.MAX_CONTENT))


def _media_type(path: Path) -> str:
    known = {".pdf": "application/pdf", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
    return known.get(path.suffix.lower(), "application/octet-stream")
