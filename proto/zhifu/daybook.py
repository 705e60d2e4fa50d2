"""A payer's signed statement of one day to one hospital: every reservation that changed, its state, its amount.

Strict CBOR, signed with the payer's signing key, so that a difference between two ledgers can be laid before a third.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from nacl.signing import SigningKey

from zhifu import cbor, envelope
from zhifu.envelope import Envelope, Kind
from zhifu.errors import Malformed

LEDGER: Final = Kind(b"zhifu/v1 ledger statement\0", "application/vnd.zhifu.ledger-statement.v1+cbor", 4 << 20)
STATES: Final = ("reserved", "committed", "cancelled", "reversed", "expired")
MAX_ROWS: Final = 50_000
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One reservation: its 32-byte id, its state at the day's end or now, what it pays in fen, since when (Unix s)."""

    reservation: bytes
    state: str
    pay: int
    since: int


@dataclass(frozen=True, slots=True)
class DayStatement:
    """What ``payer`` has in its ledger for ``hospital`` (participant ids) that changed on ``day``; rows by id."""

    payer: bytes
    hospital: bytes
    day: date
    rows: tuple[Row, ...]

    def sign(self, key: SigningKey) -> Envelope:
        """Raises `Malformed` (malformed.size) for more than `MAX_ROWS` rows."""
        if len(self.rows) > MAX_ROWS:
            raise Malformed("malformed.size", f"a day's statement has at most {MAX_ROWS} rows")
        rows = [[one.reservation, one.state, one.pay, one.since] for one in self.rows]
        payload = cbor.encode([_VERSION, self.payer, self.hospital, self.day.isoformat(), rows])
        return envelope.seal_one(LEDGER, payload, key)


def verify(signed: Envelope, public_key: bytes) -> DayStatement:
    """The statement that ``public_key`` signed. Raises `NotAuthentic` (key.unknown, signature.invalid), `Malformed`."""
    version, payer, hospital, day, rows = cbor.array(envelope.verify(signed, public_key), LEDGER.cap, 5)
    if type(version) is not int or version != _VERSION:
        raise Malformed("malformed.version")
    try:
        found = DayStatement(payer, hospital, date.fromisoformat(day), tuple(Row(*row) for row in rows))
    except (TypeError, ValueError) as error:
        raise Malformed("malformed.field", "not a day's statement") from error
    ids = [one.reservation for one in found.rows]
    if any(not _is_row(one) for one in found.rows) or ids != sorted(set(ids)):
        raise Malformed("malformed.field", "a row is none, or the rows are not in the order of their ids")
    return found


def _is_row(row: Row) -> bool:
    whole = type(row.pay) is int and type(row.since) is int and row.pay >= 0
    return whole and isinstance(row.reservation, bytes) and len(row.reservation) == 32 and row.state in STATES
