"""A payer's ledger of commitments: reserved at the decision, committed at the confirmation, undone if it comes to
that (SETTLEMENT 3).

Each person has one account, in one row; every step is idempotent, and what is used is always the sum of what is
reserved and committed, never a running total that a repeated message could count twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from clients import naming
from clients.decision import Decision, read_notice
from clients.role import Transaction
from clients.store import Job, Store
from zhifu import cbor
from zhifu.cbor import Value
from zhifu.errors import NotAuthentic, Refused
from zhifu.receive import Opened

State = Literal["reserved", "committed", "cancelled", "reversed", "expired"]
_ACCOUNT: Final = "account"
_RESERVATION: Final = "reservation"
_MAX_BYTES: Final = 1 << 20
LONGEST_S: Final = 14 * 86_400
"""Nothing is held for a hospital for longer than this: for a desk an hour, for a claim after payment ten days."""
LATE: Final = "late"
"""The token of a compensation for being late: owed like a payment, and nothing that a sum insured is used up by."""
# action -> (from, to); a step from where it leads to is a repetition and changes nothing.
_STEPS: Final[Mapping[str, tuple[State, State]]] = {
    "confirm": ("reserved", "committed"),
    "cancel": ("reserved", "cancelled"),
    "reverse": ("committed", "reversed"),
}
_FREED: Final = ("cancelled", "expired")
_OUTCOMES: Final = {"confirm": "committed", "cancel": "cancelled", "reverse": "reversed"}


@dataclass(frozen=True, slots=True)
class Holding:
    """One decision's amounts (token -> fen) against an account.

    ``expires`` is Unix s and binds while reserved; ``since`` is when it got its state, Unix s.
    """

    id: bytes
    state: State
    amounts: Mapping[str, int]
    expires: int
    since: int = 0

    def counts(self, now: int) -> bool:
        return self.state == "committed" or (self.state == "reserved" and now <= self.expires)

    def at(self, now: int) -> Holding:
        """As it stands at ``now``: what nobody confirmed in time has expired, whether or not anybody wrote it down."""
        if self.state == "reserved" and now > self.expires:
            return replace(self, state="expired", since=self.expires)
        return self


class Ledger:
    """Accounts in the node's store. Every method joins the transaction that is open, or makes one."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def account(self, *parts: str) -> bytes:
        """The 32-byte id of an account: keyed, so that the ids on disk name nobody."""
        return naming.name(self.store, "account", *parts)

    def used(self, account: bytes, now: int) -> dict[str, int]:
        """Sums by token of what is committed, or reserved and not expired at ``now`` (Unix s)."""
        sums: dict[str, int] = {}
        for holding in self._holdings(account):
            if holding.counts(now):
                for token, fen in holding.amounts.items():
                    sums[token] = sums.get(token, 0) + fen
        return sums

    def last(self, account: bytes) -> int:
        """When anything of an account changed last, Unix s; 0 where nothing was ever held."""
        return max((one.since for one in self._holdings(account)), default=0)

    def reserve(self, account: bytes, holding: Holding, now: int, *, anew: bool = False) -> None:
        """Hold amounts; the same id again changes nothing.

        ``anew``: a claim whose decision was disputed is decided again, so its freed holding gives way to this one.
        """
        holdings = self._holdings(account)
        if anew:
            holdings = [one for one in holdings if one.id != holding.id or one.at(now).state not in _FREED]
        if any(one.id == holding.id for one in holdings):
            return
        with self.store.transaction():
            self._put(account, [*holdings, holding], now)
            self.store.jobs.put(Job(_RESERVATION, holding.id, holding.state, account, now * 1000))

    def step(self, reservation: bytes, action: str, now: int) -> Holding:
        """Confirm, cancel or reverse; the holding afterwards, the same for a repetition.

        Raises `Refused` (exchange.unknown, exchange.state): no such reservation, expired, or past that state.
        """
        self.store.jobs.need(_RESERVATION, reservation)
        return self._change(reservation, lambda found: _stepped(found, action, now), now)

    def change(self, reservation: bytes, amounts: Mapping[str, int], now: int) -> Holding:
        """Hold other amounts than were reserved. Raises `Refused` (exchange.unknown)."""
        self.store.jobs.need(_RESERVATION, reservation)
        return self._change(reservation, lambda found: replace(found, amounts=dict(amounts)), now)

    def find(self, reservation: bytes) -> Holding | None:
        """A holding by its id."""
        job = self.store.jobs.get(_RESERVATION, reservation)
        if job is None:
            return None
        (found,) = [one for one in self._holdings(job.payload) if one.id == reservation]
        return found

    def state(self, reservation: bytes) -> str:
        """Where a reservation stands; empty if there is none."""
        found = self.store.jobs.get(_RESERVATION, reservation)
        return found.state if found is not None else ""

    def changed(self, since: int) -> Iterator[Holding]:
        """Every holding that got its state at ``since`` (Unix s) or later, by a notice or since nobody confirmed it."""
        for state in get_args(State):
            begin = since - LONGEST_S if state == "reserved" else since
            for job in self.store.jobs.since(_RESERVATION, state, begin * 1000):
                if (found := self.find(job.id)) is not None:
                    yield found

    def holdings(self) -> list[Holding]:
        """Every holding there is."""
        return [one for job in self.store.jobs.every(_ACCOUNT) for one in _rows(job)]

    def _change(self, reservation: bytes, step: Callable[[Holding], Holding], now: int) -> Holding:
        account = self.store.jobs.need(_RESERVATION, reservation).payload
        holdings = self._holdings(account)
        (found,) = [one for one in holdings if one.id == reservation]
        changed = step(found)
        if changed is not found:
            with self.store.transaction():
                self._put(account, [changed if one is found else one for one in holdings], now)
                self.store.jobs.put(Job(_RESERVATION, reservation, changed.state, account, now * 1000))
        return changed

    def _holdings(self, account: bytes) -> list[Holding]:
        job = self.store.jobs.get(_ACCOUNT, account)
        return [] if job is None else _rows(job)

    def _put(self, account: bytes, holdings: list[Holding], now: int) -> None:
        rows = [
            [one.id, one.state, [[token, fen] for token, fen in one.amounts.items()], one.expires, one.since]
            for one in holdings
        ]
        self.store.jobs.put(Job(_ACCOUNT, account, "open", cbor.encode(rows), now * 1000))


def follow(opened: Opened, tx: Transaction) -> Decision:
    """Confirm, cancel or reverse what was reserved; a repeated notice is answered the same.

    Raises `Refused` (exchange.*): another hospital's too; `NotAuthentic` (ledger.mismatch): the hospital confirms
    another amount than was reserved.
    """
    action, reservation, amounts = read_notice(opened.values)
    claimed = tx.store.outgoing.asked(reservation)
    if claimed is None or claimed.presentation.sender != opened.presentation.sender:
        raise Refused("exchange.unknown", "no claim of this hospital")
    holding = Ledger(tx.store).step(reservation, action, tx.now)
    due = {token: holding.amounts[token] for token in ("pay", LATE) if token in holding.amounts}
    if {token: amounts.get(token) for token in ("pay", LATE) if token in amounts} != due:
        raise NotAuthentic("ledger.mismatch", f"{action}: not the amount that was reserved")
    return Decision(_OUTCOMES[action], due, (), reservation, 0)


def _stepped(holding: Holding, action: str, now: int) -> Holding:
    if action not in _STEPS:
        raise Refused("exchange.state", "no such step")
    before, after = _STEPS[action]
    if holding.state == after:
        return holding
    if holding.state != before:
        raise Refused("exchange.state", f"{action}: the reservation is {holding.state}")
    if action == "confirm" and now > holding.expires:
        raise Refused("exchange.state", "the reservation has expired")
    return replace(holding, state=after, since=now)


def _rows(job: Job) -> list[Holding]:
    return [_read(row) for row in cbor.decode(job.payload, _MAX_BYTES)]


def _read(row: Value) -> Holding:
    try:
        holding, state, amounts, expires, *since = row
        return Holding(holding, state, {token: fen for token, fen in amounts}, expires, *since)  # noqa: C416
    except (TypeError, ValueError) as error:
        raise NotAuthentic("ledger.mismatch", "an account cannot be read") from error
