"""Pseudonyms by epoch, given and seen, and the keys under which they were announced (DESIGN 4.5)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from clients.store.database import Database
from clients.store.vault import Vault, row
from zhifu.errors import NotAuthentic
from zhifu.statement import PseudonymKey

_GIVEN = "given"
_SEEN = "seen"


class Pseudonyms:
    """What was given or seen once stays; a key that was announced once is never another."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    # What persons are called

    def seen(self, sender: bytes, subject: bytes) -> dict[int, bytes]:
        """What ``sender`` called a subject before, by epoch (DESIGN 4.3, step 8)."""
        return self._find(_SEEN, sender, subject)

    def see(self, sender: bytes, subject: bytes, shown: Mapping[int, bytes]) -> None:
        """Durable with the first record that carried it; a later one does not replace it."""
        self._put(_SEEN, sender, subject, shown)

    def given(self, recipient: bytes, subject: bytes) -> dict[int, bytes]:
        """What we call ``subject`` (the 32-byte id of a subject key) towards ``recipient``, by epoch."""
        return self._find(_GIVEN, recipient, subject)

    def give(self, recipient: bytes, subject: bytes, evaluated: Mapping[int, bytes]) -> None:
        """Durable before a presentation carries it."""
        self._put(_GIVEN, recipient, subject, evaluated)

    def _find(self, side: str, peer: bytes, subject: bytes) -> dict[int, bytes]:
        query = "SELECT epoch, pseudonym FROM pseudonym WHERE side = ? AND peer = ? AND subject = ? ORDER BY epoch"
        found = self._database.rows(query, side, peer, subject)
        return {epoch: self._vault.unwrap(_row(side, peer, subject, epoch), wrapped) for epoch, wrapped in found}

    def _put(self, side: str, peer: bytes, subject: bytes, by_epoch: Mapping[int, bytes]) -> None:
        for epoch, pseudonym in by_epoch.items():
            wrapped = self._vault.wrap(_row(side, peer, subject, epoch), pseudonym)
            self._database.write(
                "INSERT OR IGNORE INTO pseudonym VALUES (?, ?, ?, ?, ?)", side, peer, subject, epoch, wrapped
            )

    # Under which keys

    def announce(self, keys: Iterable[PseudonymKey]) -> None:
        """Take the keys of a verified statement; what an earlier one listed and this one does not is over.

        Raises `NotAuthentic` (pseudonym.key) where one of them was another before: a service that could choose among
        keys could mark whom it evaluates for.
        """
        self._database.write("UPDATE pseudonym_key SET listed = 0")
        for key in keys:
            found = self._database.row(
                "SELECT public_key FROM pseudonym_key WHERE recipient = ? AND epoch = ?", key.recipient, key.epoch
            )
            if found is not None and not hmac.compare_digest(found[0], key.public_key):
                raise NotAuthentic("pseudonym.key")
            self._database.write(
                "INSERT INTO pseudonym_key VALUES (?, ?, ?, 1) ON CONFLICT (recipient, epoch) DO UPDATE SET listed = 1",
                key.recipient, key.epoch, key.public_key,
            )  # fmt: skip

    def listed(self, recipient: bytes) -> dict[int, bytes]:
        """The public keys that are announced for a recipient now, by epoch."""
        query = "SELECT epoch, public_key FROM pseudonym_key WHERE recipient = ? AND listed ORDER BY epoch"
        return dict(self._database.rows(query, recipient))

    def announced(self, recipient: bytes) -> frozenset[int]:
        """Every epoch that was ever announced for a recipient: what was sent before a rotation ended still comes."""
        rows = self._database.rows("SELECT epoch FROM pseudonym_key WHERE recipient = ?", recipient)
        return frozenset(epoch for (epoch,) in rows)


def _row(side: str, peer: bytes, subject: bytes, epoch: int) -> bytes:
    return row("pseudonym", side.encode(), peer, subject, epoch.to_bytes(4, "big"))
