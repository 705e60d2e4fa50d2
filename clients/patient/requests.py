"""Requests that a wallet was shown: kept until they are answered, for the same review on any screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients import desk, durable
from clients.patient import consent
from clients.patient.wallet import Wallet
from zhifu import consent as consents
from zhifu.errors import Error, Refused


@dataclass(frozen=True, slots=True)
class Row:
    """A kept request: open, granted, refused or expired; ``reason`` where it cannot be reviewed any more."""

    request_hash: bytes
    short_code: str
    hospital: str
    recipient: str
    expiry: int
    state: str
    reason: str = ""


def _folder(wallet: Wallet) -> Path:
    return wallet.path / "requests"


def take(wallet: Wallet, shown: desk.Request, now: int) -> bytes:
    """Verify and keep a request; its hash. Raises as `consent.review`: what does not verify is not kept."""
    consent.review(wallet, shown, now)
    digest = consents.hash_of(shown.request.payload)
    durable.folder(_folder(wallet))
    desk.write_request(_folder(wallet) / f"{digest.hex()}.json", shown)
    return digest


def find(wallet: Wallet, name: str) -> desk.Request:
    """A kept request by the first digits of its hash, or by its short code. Raises `Refused` (consent.unknown)."""
    wanted = name.replace(" ", "").lower()
    for path in _paths(wallet):
        shown = desk.read_request(path)
        short = consents.short_code(shown.request.payload).replace(" ", "")
        if wanted and (short == wanted or (len(wanted) > len(short) and path.stem.startswith(wanted))):
            return shown
    raise Refused("consent.unknown", "no such request in this wallet")


def _paths(wallet: Wallet) -> list[Path]:
    return sorted(_folder(wallet).glob("*.json"), key=lambda path: path.stat().st_mtime)


def listed(wallet: Wallet, now: int) -> list[Row]:
    """Every kept request, oldest first."""
    return [_row(wallet, path, now) for path in _paths(wallet)]


def _row(wallet: Wallet, path: Path, now: int) -> Row:
    digest = bytes.fromhex(path.stem)
    try:
        shown = desk.read_request(path)
        seen = consent.review(wallet, shown, now)
    except Error as error:
        state = "expired" if error.reason in ("consent.expired", "key.expired") else "not valid"
        return Row(digest, "", "", "", 0, answered(wallet, digest) or state, error.reason)
    asked = seen.request
    names = wallet.name(asked.sender), wallet.name(asked.recipient)
    state = answered(wallet, digest) or "open"
    return Row(digest, consents.short_code(shown.request.payload), *names, asked.expiry, state)


def answered(wallet: Wallet, digest: bytes) -> str:
    """How a request was answered: granted, refused, or empty."""
    if any(one["request"] == digest.hex() for one in wallet.refused):
        return "refused"
    for pair in wallet.pairs:
        for given in pair.grants:
            if consents.verify_grant(consent.grant_of(given), pair.public).request_hash == digest:
                return "granted"
    return ""
