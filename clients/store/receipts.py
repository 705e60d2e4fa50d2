"""Receipts, and evidence against a log that does not add up (DESIGN section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from clients.store.database import Database
from zhifu.receipt import Head


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepting entry as it was proven: serialised EntryOpening and LogRange, the checkpoint's note, its head."""

    exchange: bytes
    opening: bytes
    note: bytes
    log_range: bytes
    size: int
    root: bytes
    leaf_hash: bytes


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
            "INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?)",
            receipt.exchange, receipt.opening, receipt.note, receipt.log_range, receipt.size, receipt.root,
            receipt.leaf_hash,
        )  # fmt: skip

    def get(self, exchange: bytes) -> Receipt | None:
        found = self._database.row("SELECT * FROM receipt WHERE exchange = ?", exchange)
        return Receipt(*found) if found else None

    def keep_evidence(self, at: int, reason: str, head: Head, content: bytes) -> None:
        """Durable before the stream is left: who was lied to must be able to show it."""
        self._database.write(
            "INSERT INTO evidence (at, reason, size, root, content) VALUES (?, ?, ?, ?, ?)",
            at, reason, head.size, head.root, content,
        )  # fmt: skip

    def evidence(self) -> list[Evidence]:
        """All that is kept, oldest first."""
        found = self._database.rows("SELECT id, at, reason, size, root, content FROM evidence ORDER BY id")
        return [
            Evidence(number, at, reason, Head(size, root), content) for number, at, reason, size, root, content in found
        ]
