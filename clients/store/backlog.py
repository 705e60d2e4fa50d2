"""How much of a node's memory waits for others: figures for its operator, nothing of what they are about."""

from __future__ import annotations

from dataclasses import dataclass

from clients.store.database import Database


@dataclass(frozen=True, slots=True)
class Backlog:
    """Presentations without a result and receipts that are not final; ``evidence`` is of what a broker lied about."""

    unanswered: int
    pending_receipts: int
    evidence: int


def backlog(database: Database) -> Backlog:
    """Counted on partial indices, but for the evidence, of which there should be none.

    Raises `Refused` (unavailable.store).
    """
    queries = (
        "SELECT count(*) FROM outgoing WHERE state IN ('waiting', 'sent')",
        "SELECT count(*) FROM receipt WHERE final = 0",
        "SELECT count(*) FROM evidence",
    )
    found = [database.row(query) for query in queries]
    return Backlog(*(int(row[0]) if row else 0 for row in found))
