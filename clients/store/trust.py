"""What a node believes and must not forget: the log's head, others' keys, epochs (DESIGN 4.4, 7)."""

from __future__ import annotations

from collections.abc import Sequence

from clients.store.database import Database
from clients.store.vault import Vault, row
from zhifu.epoch import Epoch
from zhifu.receipt import Head


class Trust:
    """Heads and serials only rise; what was seen of a peer is remembered across restarts."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    # The log

    def head(self) -> Head:
        """The largest tree head that was verified; an empty tree at first."""
        found = self._database.row("SELECT size, root FROM head")
        return Head(*found) if found else Head()

    def head_note(self) -> bytes:
        """The signed note of `head`: what a broker that forgot it has to answer for. Empty at first."""
        found = self._database.row("SELECT note FROM head")
        return found[0] if found else b""

    def move_head(self, head: Head, note: bytes) -> None:
        """Durable before anything that the head proves is believed. A smaller head changes nothing."""
        self._database.write(
            "INSERT INTO head VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET size = excluded.size, root = excluded.root, note = excluded.note WHERE excluded.size > size",
            head.size, head.root, note,
        )  # fmt: skip

    # Witnesses

    def cosigned(self, name: str) -> int:
        """The size of the largest tree that a witness of this name is known to have cosigned."""
        found = self._database.row("SELECT size FROM witness WHERE name = ?", name)
        return int(found[0]) if found else 0

    def witnesses(self) -> dict[str, int]:
        """What each witness is known to have cosigned, by name."""
        return dict(self._database.rows("SELECT name, size FROM witness"))

    def saw_cosigned(self, name: str, size: int) -> None:
        """A verified cosignature; our own is durable before it is sent. A smaller size changes nothing."""
        self._database.write(
            "INSERT INTO witness VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = max(size, excluded.size)",
            name, size,
        )  # fmt: skip

    def cursor(self, name: str) -> int:
        """How far a numbered sequence was read; 0 at first."""
        found = self._database.row("SELECT value FROM cursor WHERE name = ?", name)
        return int(found[0]) if found else 0

    def move_cursor(self, name: str, value: int) -> None:
        """Durable with what was read. It never goes back."""
        self._database.write(
            "INSERT INTO cursor VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            name, value,
        )  # fmt: skip

    # Key statements

    def put_statement(self, participant: bytes, serial: int, envelope: bytes) -> None:
        """Durable before the statement is used, so that a serial cannot go back over a restart."""
        self._database.write("INSERT OR IGNORE INTO statement VALUES (?, ?, ?)", participant, serial, envelope)

    def statements(self, participant: bytes) -> Sequence[tuple[int, bytes]]:
        """(serial, envelope) of every statement of a participant that was believed, oldest first."""
        query = "SELECT serial, envelope FROM statement WHERE participant = ? ORDER BY serial"
        return self._database.rows(query, participant)

    # Epochs

    def put_epoch(self, epoch: Epoch) -> None:
        """Durable before a presentation names it: E is never drawn twice for one id."""
        secret = self._vault.wrap(row("epoch", epoch.epoch_id), epoch.secret)
        self._database.write(
            "INSERT INTO epoch (id, secret, not_before, not_after) VALUES (?, ?, ?, ?)",
            epoch.epoch_id, secret, epoch.not_before, epoch.not_after,
        )  # fmt: skip

    def epochs(self, now: int) -> list[Epoch]:
        """Epochs whose time is not over at ``now`` (Unix s) and that were not retired, oldest first."""
        query = (
            "SELECT id, secret, not_before, not_after FROM epoch"
            " WHERE not_after > ? AND NOT retired ORDER BY not_before"
        )
        return [
            Epoch(id_, self._vault.unwrap(row("epoch", id_), secret), begin, end)
            for id_, secret, begin, end in self._database.rows(query, now)
        ]

    def retire_epoch(self, epoch_id: bytes) -> None:
        """The broker does not know it (any more): nothing new is presented under it."""
        self._database.write("UPDATE epoch SET retired = 1 WHERE id = ?", epoch_id)

    def put_offer(self, epoch_id: bytes, gate_key_id: bytes, offer: bytes) -> None:
        """Durable before it is sent, so that offering again repeats the same bytes."""
        self._database.write("UPDATE epoch SET gate_key_id = ?, offer = ? WHERE id = ?", gate_key_id, offer, epoch_id)

    def offer(self, epoch_id: bytes) -> tuple[bytes, bytes] | None:
        """(gate key id, envelope) of the offer made for an epoch."""
        query = "SELECT gate_key_id, offer FROM epoch WHERE id = ? AND offer IS NOT NULL"
        found = self._database.row(query, epoch_id)
        return (found[0], found[1]) if found else None

    def erase_epochs(self, now: int) -> int:
        """Erase secrets whose time is over."""
        return self._database.write("DELETE FROM epoch WHERE not_after < ?", now)
