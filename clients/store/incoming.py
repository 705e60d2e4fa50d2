"""Exchanges this node received: what it said to each, and what it opened (DESIGN 4.3, section 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from clients.store.database import Database, Row
from clients.store.jobs import HELD
from clients.store.vault import Vault, row
from zhifu import cbor, consent, envelope, manifest, presentation
from zhifu.capsule import Capsule, Terms
from zhifu.receipt import Entry
from zhifu.receive import Opened

_MAX_OPENED: Final = 4 << 20
UNBOUND: Final = 0xFFFF
"""Days of a unit that has no time of its own: it goes with the record."""
GONE: Final = 0
"""Days of a unit that did not come, or is not there any more."""
_COLUMNS: Final = "exchange, acknowledgement, reason, content, received"
_KEPT: Final = "content IS NOT NULL"
_ALIKE: Final = f"{_KEPT} AND purpose = ? AND schema = ? AND periods = ?"
_VALUES: Final = 3
"""Where the values stand in what `_encode` makes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A delivery that was acknowledged. ``reason`` is empty if it was opened; ``received`` is Unix ms.

    ``opened`` is None where it was refused, or its time to be erased has come.
    """

    exchange: bytes
    acknowledgement: bytes
    reason: str
    opened: Opened | None = field(repr=False)
    received: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that are kept alike: days by unit, in schema order; the first and the last came at, Unix ms."""

    purpose: str
    schema: bytes
    periods: tuple[int, ...]
    count: int
    oldest: int
    newest: int

    @property
    def key(self) -> tuple[str, bytes, bytes]:
        return self.purpose, self.schema, _packed(self.periods)


class Incoming:
    """Hashes that were seen, the one acknowledgement of each, and the opened record, wrapped."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def acknowledgement(self, exchange: bytes) -> bytes | None:
        """The payload this node acknowledged a delivery with; None where it is new."""
        found = self._database.row("SELECT acknowledgement FROM incoming WHERE exchange = ?", exchange)
        return found[0] if found else None

    def put(self, exchange: bytes, acknowledgement: bytes, reason: str, received: int) -> None:
        """A delivery that was refused. Durable before the acknowledgement is sent: the answer is given once for all."""
        self._insert(exchange, acknowledgement, reason, None, None, received, 0, "", b"", b"")

    def put_opened(
        self, opened: Opened, grant: bytes, acknowledgement: bytes, received: int, erase_at: int, periods: Sequence[int]
    ) -> None:
        """A delivery that was opened. Durable, with its receipt and its answer, before the acknowledgement is sent.

        ``grant`` is the envelope of its grant, empty if none; ``received`` is Unix ms, ``erase_at`` Unix s,
        ``periods`` are days by unit, in schema order.
        """
        content = self._vault.wrap(row("incoming", opened.hash), _encode(opened, grant))
        asked = opened.presentation.in_reply_to or None
        kept = (opened.presentation.purpose, opened.manifest.schema_hash, _packed(periods))
        self._insert(opened.hash, acknowledgement, "", asked, content, received, erase_at, *kept)

    def _insert(self, *values: object) -> None:
        self._database.write(
            "INSERT INTO incoming (exchange, acknowledgement, reason, in_reply_to, content, received, erase_at,"
            " purpose, schema, periods) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *values,
        )  # fmt: skip

    def get(self, exchange: bytes) -> Stored | None:
        found = self._database.row(f"SELECT {_COLUMNS} FROM incoming WHERE exchange = ?", exchange)
        return self._stored(found) if found else None

    def answers(self, exchange: bytes) -> list[Opened]:
        """What was opened in answer to an exchange of ours, under any of its presentations; oldest first."""
        query = (
            f"SELECT {_COLUMNS} FROM incoming WHERE in_reply_to IN (SELECT exchange FROM outgoing WHERE first ="
            " (SELECT first FROM outgoing WHERE exchange = ?)) ORDER BY seq"
        )
        found = [self._stored(one) for one in self._database.rows(query, exchange)]
        return [one.opened for one in found if one.opened is not None]

    def erase(self, now: int) -> int:
        """Erase what was opened and is to be kept no longer (``now`` in Unix s); hash and acknowledgement stay.

        What a legal hold stands on stays.
        """
        due = f"content IS NOT NULL AND erase_at < ? AND exchange NOT IN {HELD}"
        return self._database.write(f"UPDATE incoming SET content = NULL WHERE {due}", now)

    def erase_one(self, exchange: bytes) -> None:
        """Erase what was opened of one delivery, before its time; hash and acknowledgement stay."""
        self._database.write("UPDATE incoming SET content = NULL WHERE exchange = ?", exchange)

    # Retention: what of it is kept how long

    def batches(self) -> list[Batch]:
        """What is kept, counted."""
        found = self._database.rows(
            "SELECT purpose, schema, periods, count(*), min(received), max(received) FROM incoming"
            f" WHERE {_KEPT} AND purpose != '' GROUP BY purpose, schema, periods"
        )
        return [Batch(purpose, kind, _unpacked(periods), *more) for purpose, kind, periods, *more in found]

    def older(self, batch: Batch, received: int) -> int:
        """How many of a batch came at ``received`` (Unix ms) or before."""
        query = f"SELECT count(*) FROM incoming WHERE {_ALIKE} AND received <= ?"
        return int(self._database.rows(query, *batch.key, received)[0][0])

    def due(self, batch: Batch, received: int, now: int, limit: int) -> list[Stored]:
        """Of a batch those that came at ``received`` (Unix ms) or before and are to be looked at ``now`` (Unix s)."""
        query = (
            f"SELECT {_COLUMNS} FROM incoming WHERE {_ALIKE} AND received <= ? AND look_at <= ?"
            " ORDER BY received LIMIT ?"
        )
        return [self._stored(one) for one in self._database.rows(query, *batch.key, received, now, limit)]

    def unscheduled(self, limit: int) -> list[Stored]:
        """What was kept before there were periods."""
        query = f"SELECT {_COLUMNS} FROM incoming WHERE {_KEPT} AND purpose = '' LIMIT ?"
        return [self._stored(one) for one in self._database.rows(query, limit)]

    def schedule(self, opened: Opened, periods: Sequence[int]) -> None:
        """Give a record that has none its days by unit."""
        kept = (opened.presentation.purpose, opened.manifest.schema_hash, _packed(periods))
        statement = "UPDATE incoming SET purpose = ?, schema = ?, periods = ? WHERE exchange = ?"
        self._database.write(statement, *kept, opened.hash)

    def look_again(self, exchange: bytes, at: int) -> None:
        """It is held: nothing of it is `due` before ``at`` (Unix s)."""
        self._database.write("UPDATE incoming SET look_at = ? WHERE exchange = ?", at, exchange)

    def trim(self, exchange: bytes, units: frozenset[str], periods: Sequence[int]) -> None:
        """Remove the values of ``units``; the rest is wrapped anew, with ``periods`` for what is left.

        SQLite overwrites what was there (``secure_delete``); the write-ahead log holds it until it is truncated.
        """
        (before,) = self._database.row("SELECT content FROM incoming WHERE exchange = ?", exchange) or (None,)
        if before is None:
            return
        place = row("incoming", exchange)
        fields = list(cbor.array(self._vault.unwrap(place, before), _MAX_OPENED, 7))
        fields[_VALUES] = [one for one in fields[_VALUES] if one[0] not in units]
        content = self._vault.wrap(place, cbor.encode(fields))
        statement = "UPDATE incoming SET content = ?, periods = ? WHERE exchange = ?"
        self._database.write(statement, content, _packed(periods), exchange)

    def _stored(self, found: Row) -> Stored:
        exchange, acknowledgement, reason, content, received = found
        opened = _decode(exchange, self._vault.unwrap(row("incoming", exchange), content)) if content else None
        return Stored(exchange, acknowledgement, reason, opened, received)


def _packed(periods: Sequence[int]) -> bytes:
    return struct.pack(f">{len(periods)}H", *periods)


def _unpacked(periods: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(periods) // 2}H", periods)


def _encode(opened: Opened, grant: bytes) -> bytes:
    """Strict CBOR of what is needed later; the shares are not, since the values are there."""
    inner, entry = opened.capsule, opened.entry
    terms = [inner.terms.salt, inner.terms.content] if inner.terms else None
    return cbor.encode(
        [
            opened.presentation.to_bytes(),
            opened.manifest.to_bytes(),
            opened.released,
            [[name, value] for name, value in opened.values.items()],
            grant,
            [inner.pseudonym, [list(one) for one in inner.tokens], terms, list(inner.attestations)],
            [entry.index, entry.time_ms, entry.meta_key, entry.meta, entry.detail_key, entry.detail],
        ]
    )


def _decode(exchange: bytes, content: bytes) -> Opened:
    """Inverse of `_encode`: it was checked before it was kept, and the wrapping shows that it is what was kept."""
    payload, record, released, values, grant, inner, entry = cbor.array(content, _MAX_OPENED, 7)
    shown = presentation.parse(payload)
    pseudonym, tokens, terms, attestations = inner
    return Opened(
        exchange,
        shown,
        manifest.parse(record),
        released,
        dict(values),
        consent.verify_grant(envelope.from_bytes(envelope.GRANT, grant)) if grant else None,
        Capsule(shown.ceilings, {}, pseudonym, tokens, Terms(*terms) if terms else None, attestations),
        Entry(*entry),
    )
