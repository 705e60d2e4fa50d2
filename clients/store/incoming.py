"""Exchanges this node received: what it said to each, and what it opened (DESIGN 4.3, section 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from clients.store.database import Database, Row
from clients.store.vault import Vault, row
from zhifu import cbor, consent, envelope, manifest, presentation
from zhifu.capsule import Capsule, Terms
from zhifu.receipt import Entry
from zhifu.receive import Opened

_MAX_OPENED: Final = 4 << 20
_COLUMNS: Final = "exchange, acknowledgement, reason, content, received"


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
        self._insert(exchange, acknowledgement, reason, None, None, received, 0)

    def put_opened(self, opened: Opened, grant: bytes, acknowledgement: bytes, received: int, erase_at: int) -> None:
        """A delivery that was opened. Durable, with its receipt and its answer, before the acknowledgement is sent.

        ``grant`` is the envelope of its grant, empty if none; ``received`` is Unix ms, ``erase_at`` Unix s.
        """
        content = self._vault.wrap(row("incoming", opened.hash), _encode(opened, grant))
        asked = opened.presentation.in_reply_to or None
        self._insert(opened.hash, acknowledgement, "", asked, content, received, erase_at)

    def _insert(self, *values: object) -> None:
        self._database.write(
            "INSERT INTO incoming (exchange, acknowledgement, reason, in_reply_to, content, received, erase_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)", *values,
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
        """Erase what was opened and is to be kept no longer (``now`` in Unix s); hash and acknowledgement stay."""
        statement = "UPDATE incoming SET content = NULL WHERE content IS NOT NULL AND erase_at < ?"
        return self._database.write(statement, now)

    def erase_one(self, exchange: bytes) -> None:
        """Erase what was opened of one delivery, before its time; hash and acknowledgement stay."""
        self._database.write("UPDATE incoming SET content = NULL WHERE exchange = ?", exchange)

    def _stored(self, found: Row) -> Stored:
        exchange, acknowledgement, reason, content, received = found
        opened = _decode(exchange, self._vault.unwrap(row("incoming", exchange), content)) if content else None
        return Stored(exchange, acknowledgement, reason, opened, received)


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
