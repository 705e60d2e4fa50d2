"""Exchanges this node sends: from the presentation that waits to what became of it (DESIGN sections 4.2 and 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from clients.store.database import Database, Row
from clients.store.mandate import Mandate
from clients.store.vault import Vault, row
from zhifu import presentation
from zhifu.presentation import Presentation
from zhifu.receive import Asked

FINAL: Final = ("refused", "expired", "withdrawn")
_RANK: Final = {"waiting": 0, "sent": 1, "accepted": 2, "delivered": 3, "answered": 4, **dict.fromkeys(FINAL, 5)}
_BEFORE: Final = {
    state: ", ".join(f"'{other}'" for other, before in _RANK.items() if before < rank) for state, rank in _RANK.items()
}
"""The states that one may follow, as SQL."""
_COLUMNS: Final = "seq, exchange, first, attempt, record, presentation, state, not_after, until, released, reason"
MAX_WAITING: Final = 10_000
LAPSED: Final = "presentation.expired"
"""The reason of a presentation that ended undelivered, from the notice on that says so."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One presentation. ``first`` is the exchange whose message this is: presented anew, it keeps that name.

    ``state`` is waiting, sent, accepted, delivered, answered, refused, expired or withdrawn. ``released`` is what the
    broker released, None until it accepted; ``reason`` says why not. Times are Unix s.
    """

    seq: int
    exchange: bytes
    first: bytes
    attempt: int
    record: bytes
    payload: bytes = field(repr=False)
    state: str
    not_after: int
    until: int
    released: bytes | None
    reason: str

    @property
    def presentation(self) -> Presentation:
        return presentation.parse(self.payload)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class Outgoing:
    """What waits, what was sent, and how it ended. A presentation and its capsule never change once they are put."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self.queued = 0
        """How often this process queued something: who looked since need not look again."""

    def put(
        self, shown: Presentation, capsule: bytes, mandate: Mandate, until: int, before: Sent | None = None
    ) -> bytes:
        """Queue a presentation; its exchange hash. Durable with the transaction, and before anything is sent.

        ``before`` is the one that it replaces. The exchange is known from now on as one that may be answered.
        """
        payload = shown.to_bytes()
        exchange = presentation.hash_of(payload)
        first, attempt = (before.first, before.attempt + 1) if before else (exchange, 1)
        wrapped = self._vault.wrap(row("outgoing", exchange), mandate.to_bytes())
        self._database.write(
            "INSERT INTO outgoing"
            " (exchange, first, attempt, record, presentation, capsule, mandate, state, not_after, until)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)",
            exchange, first, attempt, shown.manifest_hash, payload, capsule, wrapped, shown.not_after, until,
        )  # fmt: skip
        self.remember_asked(exchange, payload, mandate.subject)
        self.queued += 1
        return exchange

    def get(self, exchange: bytes) -> Sent | None:
        return _sent(self._database.row(f"SELECT {_COLUMNS} FROM outgoing WHERE exchange = ?", exchange))

    def latest(self, exchange: bytes) -> Sent | None:
        """The newest presentation of the message that ``exchange`` is, or was, a presentation of."""
        query = (
            f"SELECT {_COLUMNS} FROM outgoing WHERE first = (SELECT first FROM outgoing WHERE exchange = ?)"
            " ORDER BY seq DESC LIMIT 1"
        )
        return _sent(self._database.row(query, exchange))

    def released(self, exchange: bytes) -> bytes | None:
        """What the broker released of the message, under whichever of its presentations it accepted; None if none."""
        query = (
            "SELECT released FROM outgoing WHERE first = (SELECT first FROM outgoing WHERE exchange = ?)"
            " AND released IS NOT NULL ORDER BY seq DESC LIMIT 1"
        )
        found = self._database.row(query, exchange)
        return found[0] if found else None

    def mandate(self, exchange: bytes) -> Mandate:
        """What the presentation was made from. Raises `NotAuthentic` (leaf.open)."""
        (wrapped,) = self._database.row("SELECT mandate FROM outgoing WHERE exchange = ?", exchange) or (b"",)
        return Mandate.from_bytes(self._vault.unwrap(row("outgoing", exchange), wrapped))

    def capsule(self, exchange: bytes) -> bytes:
        """The sealed capsule; empty once the exchange was accepted, since then nothing is sent again."""
        (found,) = self._database.row("SELECT capsule FROM outgoing WHERE exchange = ?", exchange) or (None,)
        return found or b""

    def unanswered(self, now: int, limit: int) -> list[Sent]:
        """Presentations without a result that live at ``now`` (Unix s), in the order they were made."""
        return self._open("", "not_after > ?", now, limit)

    def overdue(self, now: int, limit: int, exchange: bytes | None = None) -> list[Sent]:
        """Presentations without a result whose time is over at ``now`` (Unix s), oldest first; only ``exchange``."""
        # What was answered arrived, though its result is not here: it is sent no more.
        condition = "not_after <= ? AND NOT EXISTS (SELECT 1 FROM incoming WHERE in_reply_to = outgoing.exchange)"
        if exchange is not None:
            return self._open("", f"{condition} AND exchange = ?", now, exchange, limit)
        # Not in the order of their making through all that still live: few of many thousands may be over.
        return self._open("INDEXED BY outgoing_due", condition, now, limit)

    def _open(self, index: str, condition: str, *values: object) -> list[Sent]:
        """The last of ``values`` is how many at most."""
        query = (
            f"SELECT {_COLUMNS} FROM outgoing {index} WHERE state IN ('waiting', 'sent') AND {condition}"
            " ORDER BY seq LIMIT ?"
        )
        return [Sent(*found) for found in self._database.rows(query, *values)]

    def is_full(self) -> bool:
        """Whether `MAX_WAITING` presentations have no result yet."""
        query = "SELECT 1 FROM outgoing WHERE state IN ('waiting', 'sent') LIMIT 1 OFFSET ?"
        return self._database.row(query, MAX_WAITING - 1) is not None

    def mark_sent(self, exchange: bytes) -> None:
        """Need not be durable: what waits and what was sent are sent again after a crash, as the same bytes."""
        self._database.write("UPDATE outgoing SET state = 'sent' WHERE exchange = ? AND state = 'waiting'", exchange)

    def accepted(self, exchange: bytes, released: bytes) -> None:
        """Durable with its receipt. A state that is further along stays, and so does an end that was told before."""
        self._database.write(
            "UPDATE outgoing SET released = ?, capsule = NULL, state = CASE"
            " WHEN state NOT IN ('waiting', 'sent') THEN state"
            " WHEN EXISTS (SELECT 1 FROM incoming WHERE in_reply_to = outgoing.exchange) THEN 'answered'"
            " ELSE 'accepted' END WHERE exchange = ? AND NOT (state = 'sent' AND reason = ?)",
            released, exchange, LAPSED,
        )  # fmt: skip

    def advance(self, exchange: bytes, state: str, reason: str = "") -> bool:
        """Move on to ``state``; False where the exchange is as far already. Durable before anybody is told."""
        statement = f"UPDATE outgoing SET state = ?, reason = ? WHERE exchange = ? AND state IN ({_BEFORE[state]})"
        return self._database.write(statement, state, reason, exchange) > 0

    def lapse(self, exchange: bytes, now: int, *, is_certain: bool) -> None:
        """It expired and did not arrive: it has no result, and its time is over, whatever this clock says.

        Durable with what says so; what finds it `overdue` presents it anew. ``is_certain`` where the log says that it
        ended: then a result that comes later, of an acceptance before, changes nothing.
        """
        self._database.write(
            "UPDATE outgoing SET state = 'sent', released = NULL, not_after = min(not_after, ?),"
            " reason = iif(?, ?, reason) WHERE exchange = ? AND state IN ('waiting', 'sent', 'accepted')",
            now, is_certain, LAPSED, exchange,
        )  # fmt: skip

    # What an answer may refer to

    def remember_asked(self, exchange: bytes, payload: bytes, subject: bytes) -> None:
        """An exchange that was sent or received: durable before its answer can come. ``subject`` is empty if none."""
        self._database.write("INSERT OR IGNORE INTO asked VALUES (?, ?, ?)", exchange, payload, subject)

    def asked(self, exchange: bytes) -> Asked | None:
        found = self._database.row("SELECT presentation, subject FROM asked WHERE exchange = ?", exchange)
        return Asked(presentation.parse(found[0]), found[1] or None) if found else None

    # Notices that came before the result they belong to

    def keep_notice(self, number: int, exchange: bytes, content: bytes) -> None:
        """Keep a notice until there is a receipt to compare it with. Durable before it is reported as read."""
        self._database.write("INSERT OR IGNORE INTO notice VALUES (?, ?, ?)", number, exchange, content)

    def take_notices(self, exchange: bytes) -> list[bytes]:
        """The notices kept for an exchange, oldest first; they are not kept any longer."""
        found = self._database.rows("SELECT content FROM notice WHERE exchange = ? ORDER BY id", exchange)
        if found:
            self._database.write("DELETE FROM notice WHERE exchange = ?", exchange)
        return [content for (content,) in found]


def _sent(found: Row | None) -> Sent | None:
    return Sent(*found) if found else None
