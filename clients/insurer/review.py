"""The reviewer's queue: what the rules could not decide, with the reasons, until a person or the core system does.

An item stands beside the answer "review" that the hospital got. A decision about it is written down first; the node
sends it as a further answer to the same claim, together with what it then holds of the policy year. What is proposed is
made anew whenever somebody looks (`clients.insurer.facts`), and stands as it was when he decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from clients.insurer import adjudicate, progress, promise
from clients.insurer.decision import held
from clients.insurer.facts import Facts
from clients.insurer.promise import Promise
from clients.ledger import Ledger
from clients.role import Transaction
from clients.store import Job, Store
from clients.store.jobs import ALL
from zhifu import cbor, ladder, money
from zhifu.errors import Malformed, Refused
from zhifu.explain import Explanation

KIND: Final = "review"
OPEN: Final = "open"
ASKED: Final = "asked"
WAITING: Final = "waiting"
DECIDED: Final = "decided"
ANSWERED: Final = "answered"
DISPUTED: Final = "review.disputed"
DAY_S: Final = 86_400
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided: ``pay`` fen, at most what was proposed, with the clause and reason that the patient reads.

    ``refused``: not covered, which uses nothing of a deductible; a covered claim may be paid nothing since all of it
    is below the deductible.
    """

    pay: int
    clause: str
    reason: str
    officer: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One claim that waits. ``claim`` is its exchange; ``account`` is empty where nobody in the book was found.

    ``inside`` and ``outside`` (fen) are what the arithmetic proposes in the catalogue and out of it, ``uses`` what that
    would use of the policy year, by the ledger's token, and ``limits`` what a whole year has of it.
    ``left`` is what the bill leaves before this insurer pays. ``facts`` is what all of these are made anew from: None
    where nothing could be calculated, or where the claim was queued before they were kept.
    ``deadline`` and ``since`` are Unix s.
    """

    claim: bytes
    state: str
    policy: str
    account: bytes = field(repr=False)
    inside: int
    outside: int
    uses: dict[str, int]
    left: int
    rows: tuple[Explanation, ...]
    since: int
    deadline: int
    verdict: Verdict | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    facts: Facts | None = None

    @property
    def proposed(self) -> int:
        return self.inside + self.outside

    def part(self, pay: int) -> dict[str, int]:
        """What paying ``pay`` (fen) of what is proposed uses of the policy year: nothing, where it is refused."""
        refused = self.verdict is None or self.verdict.refused or (self.proposed > 0 and not self.verdict.pay)
        used = {} if refused else {token: self._portion(fen, pay, token) for token, fen in self.uses.items()}
        return used | {"pay": pay}

    def _portion(self, fen: int, pay: int, token: str) -> int:
        """A deductible is used whole; what parts pay shrinks with the sum."""
        if not token.startswith(("pay", "part_pay")):
            return fen
        return money.half_up(fen * pay, self.proposed) if self.proposed else 0

    @property
    def disputed(self) -> bool:
        return any(row.reason == DISPUTED for row in self.rows)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(row.reason for row in self.rows if row.reason.startswith("review."))


def put(store: Store, item: Item, now: int) -> None:
    """Queue an item, or what became of it. Durable with the transaction; ``now`` is Unix s."""
    found = item.verdict
    verdict = [found.pay, found.clause, found.reason, found.officer, found.refused] if found else None
    rows = [[row.field, row.amount, row.clause, row.reason] for row in item.rows]
    uses = [[token, fen] for token, fen in item.uses.items()]
    payload = [
        item.policy, item.account, item.inside, item.outside, uses, item.left, rows, item.since, item.deadline, verdict,
        [[token, fen] for token, fen in item.limits.items()], item.facts.to_bytes() if item.facts else None,
    ]  # fmt: skip
    store.jobs.put(Job(KIND, item.claim, item.state, cbor.encode(payload), now * 1000))


def find(store: Store, *states: str) -> list[Item]:
    """Items in one of ``states``, the nearest deadline first."""
    found = [_read(job) for job in store.jobs.find(KIND, *states, limit=ALL)]
    return sorted(found, key=lambda item: (item.deadline, item.claim))


def waiting(store: Store) -> list[tuple[bytes, str]]:
    """Which claims nobody decided, with their states, the longest unchanged first: without reading any of them."""
    return store.jobs.states(KIND, OPEN, ASKED)


def get(store: Store, claim: bytes) -> Item:
    """Raises `Refused` (exchange.unknown)."""
    return _read(store.jobs.need(KIND, claim))


def maybe(store: Store, claim: bytes) -> Item | None:
    """A claim of the queue, in whatever state; None for one that never was there."""
    job = store.jobs.get(KIND, claim)
    return None if job is None else _read(job)


def reopen(tx: Transaction, item: Item, why: Explanation, clock: Promise) -> None:
    """A person looks again, by the promise's new end. In the open transaction."""
    again = replace(item, state=OPEN, verdict=None, rows=(*item.rows, why), since=tx.now, deadline=clock.due(tx.now))
    put(tx.store, again, tx.now)
    tell_open(tx, item.claim, clock)


def tell_open(tx: Transaction, claim: bytes, clock: Promise) -> None:
    """The patient hears that a person looks at it, and by when."""
    item = get(tx.store, claim)
    progress.tell(tx, claim, progress.REVIEW, clock, {}, item.rows)


def tell_paid(tx: Transaction, claim: bytes, amounts: Mapping[str, int]) -> None:
    """The patient hears that it is paid."""
    progress.tell(tx, claim, progress.PAID, promise.need(tx.store, claim), amounts)


def is_open(store: Store, claim: bytes) -> bool:
    """Whether a claim waits for a decision, or for the node to send it."""
    found = maybe(store, claim)
    return found is not None and found.state != ANSWERED


def queue(
    store: Store, claim: bytes, account: bytes, facts: Facts, rows: Sequence[Explanation], deadline: int, now: int
) -> None:
    """Put a claim into the queue, unless it is there. ``deadline`` (Unix s): by when it is to be decided."""
    bare = Item(claim, OPEN, facts.policy.number, account, 0, 0, {}, 0, tuple(rows), now, deadline, facts=facts)
    _enter(store, _after(bare, Ledger(store).used(account, now)), now)


def queue_bare(
    store: Store, claim: bytes, policy: str, rows: Sequence[Explanation], deadline: int, now: int
) -> None:  # fmt: skip
    """The same for a claim of which nothing can be calculated."""
    _enter(store, Item(claim, OPEN, policy, b"", 0, 0, {}, 0, tuple(rows), now, deadline), now)


def _enter(store: Store, item: Item, now: int) -> None:
    if store.jobs.get(KIND, item.claim) is None:
        put(store, item, now)


def current(store: Store, item: Item, now: int) -> Item:
    """The item with what is proposed after all that is used by now, or was decided and only waits to be sent."""
    if item.facts is None or item.state not in (OPEN, ASKED, WAITING):
        return item
    used = Ledger(store).used(item.account, now)
    for other in find(store, DECIDED):
        if other.account == item.account and other.verdict is not None:
            for token, fen in other.part(other.verdict.pay).items():
                used[token] = used.get(token, 0) + fen
    return _after(item, used)


def _after(item: Item, used: Mapping[str, int]) -> Item:
    """What the rules give after ``used``; a product that is gone leaves what was proposed as it was."""
    if item.facts is None:
        return item
    try:
        terms, found = item.facts.terms(), item.facts.propose(used)
    except Malformed:
        return item
    return replace(
        item,
        inside=sum(one.in_catalog for one in found.paid),
        outside=sum(one.out_of_catalog for one in found.paid),
        uses=held(found),
        left=found.patient + found.pay,
        rows=(*found.explain, *(row for row in item.rows if row.reason.startswith("review."))),
        limits=adjudicate.limits(terms),
    )


def decide(store: Store, claim: bytes, verdict: Verdict, now: int) -> Item:
    """Write a decision down; the node sends it. The same again changes nothing.

    Raises `Refused` (exchange.unknown, exchange.state), `Malformed` (usage.argument): more than the arithmetic gives,
    or words that no answer holds.
    """
    if not ladder.conforms("clauses", [["pay", verdict.pay, verdict.clause, verdict.reason]]):
        raise Malformed("usage.argument", "a clause is one line of at most 160 characters, a reason a code of letters")
    with store.transaction():
        item = get(store, claim)
        if item.verdict == verdict:
            return item
        item = current(store, item, now)
        if item.state not in (OPEN, ASKED, WAITING):
            raise Refused("exchange.state", f"the claim is {item.state}")
        if not 0 <= verdict.pay <= item.proposed or (verdict.pay and not item.account):
            most = money.yuan(item.proposed if item.account else 0)
            raise Malformed("usage.argument", f"a reviewer pays at most what the clauses give: {most}")
        item = replace(item, state=DECIDED, verdict=verdict)
        put(store, item, now)
        return item


def ask(store: Store, claim: bytes, documents: Sequence[str], now: int) -> Item:
    """Ask the patient for documents, once; the promise's clock stands still until they come.

    Raises `Refused` (exchange.unknown, exchange.state): no claim of a patient, not open, or asked before; `Malformed`
    (usage.argument): names that no notice holds.
    """
    if not ladder.conforms("names", list(documents)):
        raise Malformed("usage.argument", "a document is named in one line")
    with store.transaction():
        item, clock = _read(store.jobs.need(KIND, claim)), promise.need(store, claim)
        if item.state not in (OPEN, ASKED) or clock.paused:
            once = clock.paused or item.state == WAITING
            raise Refused("exchange.state", "documents are asked for once" if once else f"the claim is {item.state}")
        clock = promise.put(store, claim, clock.pause(now), now)
        item = replace(item, state=WAITING)
        put(store, item, now)
        progress.write_down(store, claim, progress.WAITING, documents, now)
        return item


def received(store: Store, claim: bytes, now: int) -> Item:
    """The documents came: the clock goes on, and the deadline moves by as long as it stood still.

    Raises `Refused` (exchange.unknown, exchange.state).
    """
    with store.transaction():
        item = _read(store.jobs.need(KIND, claim))
        if item.state != WAITING:
            raise Refused("exchange.state", f"nothing was asked for: the claim is {item.state}")
        clock = promise.put(store, claim, promise.need(store, claim).resume(now), now)
        item = replace(item, state=OPEN, deadline=clock.due(now))
        put(store, item, now)
        progress.write_down(store, claim, progress.REVIEW, (), now)
        return item


def mark_asked(store: Store, item: Item, now: int) -> None:
    """The core system has it: a person there decides."""
    with store.transaction():
        if _read(store.jobs.need(KIND, item.claim)).state == OPEN:
            put(store, replace(item, state=ASKED), now)


def forget(store: Store, claim: bytes, now: int) -> None:
    """The record that a claim's facts are of is erased, and so are they. In the open transaction, or in one."""
    item = maybe(store, claim)
    if item is not None and item.facts is not None:
        put(store, replace(item, facts=None), now)


def forget_erased(store: Store, now: int) -> int:
    """The same for every claim of a hospital whose record's time is over while it waits; how many."""
    gone = []
    for claim, _ in waiting(store):
        stored = store.incoming.get(claim)
        if not progress.is_reported(store, claim) and (stored is None or stored.opened is None):
            gone.append(claim)
    if gone:
        with store.transaction():
            for claim in gone:
                forget(store, claim, now)
    return len(gone)


def _read(job: Job) -> Item:
    policy, account, inside, outside, uses, left, rows, since, deadline, verdict, *later = cbor.decode(
        job.payload, _MAX_BYTES
    )
    explained = tuple(Explanation(*row) for row in rows)
    found = Verdict(*verdict) if verdict else None
    limits, facts = (*later, None, None)[:2]
    return Item(
        job.id, job.state, policy, account, inside, outside, dict(uses), left, explained, since, deadline, found,
        dict(limits or ()), Facts.from_bytes(facts) if facts else None,
    )  # fmt: skip
