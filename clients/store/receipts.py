"""Receipts, and evidence against a log that does not add up (DESIGN section 7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clients.store.database import Database
from zhifu.receipt import Head

MAX_EVIDENCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepting entry as it was proven: serialised EntryOpening and LogRange, the checkpoint's note, its head.

    ``acknowledgement`` is the recipient's signed envelope for an exchange of ours, empty until it came. ``final`` is
    the size of the cosigned checkpoint that made it final, 0 while it is pending.
    """

    exchange: bytes
    opening: bytes
    note: bytes
    log_range: bytes
    size: int
    root: bytes
    leaf_hash: bytes
    acknowledgement: bytes = b""
    final: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A frame that did not verify, with the head this node had then. ``at`` is Unix ms."""

    number: int
    at: int
    reason: str
    head: Head
    content: bytes


class Receipts:
    """Never changed once put. Evidence is never erased by the node itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, receipt: Receipt) -> None:
        """Durable with the state that it proves: no receipt, no open. The first receipt of an exchange stands."""
        self._database.write(
            "INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
            receipt.exchange, receipt.opening, receipt.note, receipt.log_range, receipt.size, receipt.root,
            receipt.leaf_hash, receipt.acknowledgement,
        )  # fmt: skip

    def acknowledged(self, exchange: bytes, acknowledgement: bytes) -> None:
        """The recipient's signature, so that it cannot deny what it got. Durable with the state that it brings."""
        self._database.write("UPDATE receipt SET acknowledgement = ? WHERE exchange = ?", acknowledgement, exchange)

    def get(self, exchange: bytes) -> Receipt | None:
        found = self._database.row("SELECT * FROM receipt WHERE exchange = ?", exchange)
        return Receipt(*found) if found else None

    def all(self) -> list[Receipt]:
        """Every receipt, in the order of the log."""
        return [Receipt(*found) for found in self._database.rows("SELECT * FROM receipt ORDER BY size, exchange")]

    def pending(self, size: int, limit: int = 4096) -> list[Receipt]:
        """Receipts that are not final yet and whose accepting checkpoint has at most this size, oldest first."""
        query = "SELECT * FROM receipt WHERE final = 0 AND size <= ? ORDER BY size LIMIT ?"
        return [Receipt(*found) for found in self._database.rows(query, size, limit)]

    def finalise(self, exchanges: Iterable[bytes], size: int, note: bytes) -> None:
        """They are final by the cosigned checkpoint of ``size``, whose note is kept with them."""
        self._database.write("INSERT OR REPLACE INTO cosigned VALUES (?, ?)", size, note)
        for exchange in exchanges:
            self._database.write("UPDATE receipt SET final = ? WHERE exchange = ? AND final = 0", size, exchange)

    def cosigned_note(self, size: int) -> bytes | None:
        """The note, with cosignatures, of a checkpoint that made receipts final."""
        found = self._database.row("SELECT note FROM cosigned WHERE size = ?", size)
        return found[0] if found else None

    def keep_evidence(self, at: int, reason: str, head: Head, content: bytes) -> None:
        """Durable before the stream is left: who was lied to must be able to show it.

        The same thing is kept once, and `MAX_EVIDENCE` in all: repeating a lie does not fill the disk.
        """
        self._database.write(
            "INSERT INTO evidence (at, reason, size, root, content) SELECT ?, ?, ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM evidence WHERE content = ? AND reason = ?)"
            " AND (SELECT count(*) FROM evidence) < ?",
            at, reason, head.size, head.root, content, content, reason, MAX_EVIDENCE,
        )  # fmt: skip

    def evidence(self) -> list[Evidence]:
        """All that is kept, oldest first."""
        found = self._database.rows("SELECT id, at, reason, size, root, content FROM evidence ORDER BY id")
        return [
            Evidence(number, at, reason, Head(size, root), content) for number, at, reason, size, root, content in found
        ]
