"""Claims that patients report themselves (安心赔): report, documents, one supplement, accept or dispute.

A person decides every one, with what the arithmetic of the policy proposes for the figures that the patient stated.
What is decided is held until she accepts it; a dispute opens it once more.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final

from clients.insurer import adjudicate, policy_year, progress, promise, review, visit
from clients.insurer.book import Book, Policy
from clients.insurer.cover import Span
from clients.insurer.facts import Facts
from clients.insurer.product import Product
from clients.ledger import LATE, Ledger
from clients.parcel_jobs import Kept
from clients.role import Transaction
from clients.store import Insured, Job, Store
from zhifu import cbor, pseudonym
from zhifu.errors import Malformed, Refused
from zhifu.explain import Explanation
from zhifu.parcel import Message
from zhifu.pricing import Split

_MAX_FEN: Final = 10**11
_HERS: Final = Explanation(
    "pay", 0, "患者自行报案，由人工核定 / reported by the patient: a person decides", "review.self_service"
)
_NOT_INSURED: Final = Explanation(
    "pay", 0, "在保名册：未找到被保险人 / nobody in the book has this number", "review.not_insured"
)


@dataclass(frozen=True, slots=True)
class SelfClaim:
    """Who reported it and how she is told: 32-byte keys, and the secret that her news are known by."""

    subject_key: bytes
    wallet_key: bytes
    encounter: bytes = field(repr=False)


def find(store: Store, claim: bytes) -> SelfClaim | None:
    """A claim that its patient reported; None for one that a hospital presented."""
    job = store.jobs.get(progress.REPORTED, claim)
    return None if job is None else SelfClaim(*cbor.array(job.payload, 4096, 3))


@dataclass(frozen=True, slots=True)
class Report:
    """What a patient states: amounts in fen, ``identifier`` the VOPRF's input of her number."""

    identifier: bytes = field(repr=False)
    outpatient: bool
    day: date
    total: int
    public: int
    other: int
    diagnosis: str


def read(message: Message) -> Report:
    """Raises `Malformed` (malformed.field) with the field's name, never its value."""
    fields = message.fields
    kind, number = _text(fields, "cert_type", 2), _text(fields, "cert_no", 64)
    total, public, other = (_fen(fields, name) for name in ("total", "public", "other"))
    if public + other > total:
        raise Malformed("malformed.field", "more was paid than it cost")
    try:
        day = date.fromisoformat(_text(fields, "day", 10))
    except ValueError as error:
        raise Malformed("malformed.field", "day") from error
    found = fields.get("diagnosis")
    diagnosis = found if isinstance(found, str) else ""
    return Report(
        pseudonym.identifier(kind, number), fields.get("outpatient") is True, day, total, public, other, diagnosis
    )


def take(one: Kept, message: Message, product: Product, tx: Transaction) -> bytes:
    """A parcel of a patient: the claim that it is about. Raises `Malformed`, `Refused` (exchange.*)."""
    kind = one.shown.kind
    if kind == "report":
        return _reported(one, message, product, tx)
    claim = one.shown.claim
    _check_hers(one, claim, tx)
    if kind == "accept":
        _accepted(claim, tx)
    elif kind == "dispute":
        _disputed(claim, message, tx)
    elif kind == "supplement" and review.get(tx.store, claim).state == review.WAITING:
        review.received(tx.store, claim, tx.now)
    return claim


def _reported(one: Kept, message: Message, product: Product, tx: Transaction) -> bytes:
    report = read(message)
    keys = _octets(message, "wallet_key"), _octets(message, "encounter")
    tx.store.jobs.put(Job(progress.REPORTED, one.hash, "open", cbor.encode([one.subject_key, *keys]), tx.now * 1000))
    insured = Book(tx.store).by_identifier(report.identifier)
    policy = Policy.from_bytes(insured.policy) if insured is not None else None
    terms = policy.terms(product) if policy is not None else product
    schema_name = promise.OUTPATIENT if report.outpatient else promise.INPATIENT
    clock = promise.start(tx.store, one.hash, schema_name, terms, tx.now)
    if policy is None:
        review.queue_bare(tx.store, one.hash, "", (_NOT_INSURED,), clock.due(tx.now), tx.now)
    else:
        facts = Facts.of(_claim(report), policy, terms)
        account = policy_year.account(Ledger(tx.store), policy, facts.claim.span, tx.now)
        rows = (*_rows(facts, account, tx), *_again(one, insured, report.day, tx), _HERS)
        review.queue(tx.store, one.hash, account, facts, rows, clock.due(tx.now), tx.now)
    review.tell_open(tx, one.hash, clock)
    return one.hash


def _claim(report: Report) -> adjudicate.Claim:
    """The figures that she stated, as adjudication sees them, if documents bear them out."""
    return adjudicate.Claim(
        split=Split(report.total, 0, 0, 0, report.total),
        public_settled=bool(report.public),
        public=report.public,
        other_in_catalog=report.other,
        diagnoses=(report.diagnosis,) if report.diagnosis else (),
        span=Span.of(report.day.isoformat()),
    )


def _rows(facts: Facts, account: bytes, tx: Transaction) -> tuple[Explanation, ...]:
    """What the clauses give, and what of it is open."""
    proposed = facts.propose(Ledger(tx.store).used(account, tx.now))
    return *proposed.explain, *proposed.reasons


def _again(one: Kept, insured: Insured | None, day: date, tx: Transaction) -> tuple[Explanation, ...]:
    """That something is paid, held or being decided for her and that day already, if so; it is known by its day."""
    visits, part = visit.visits(tx), visit.reported(one.hash, one.subject_key, day)
    places = visit.days(insured, part, tx)
    before = visits.overlapping([*places, *visit.undated(insured, tx)], part)
    visits.put([*places, *visit.reports(insured, tx)], part, tx.now)
    return (visit.AGAIN,) if before else ()


def _check_hers(one: Kept, claim: bytes, tx: Transaction) -> None:
    """A parcel is about a claim of the same key. Raises `Refused` (exchange.unknown)."""
    mine = find(tx.store, claim)
    if mine is not None:
        hers = mine.subject_key == one.subject_key
    else:
        stored = tx.store.incoming.get(claim)
        grant = stored.opened.grant if stored is not None and stored.opened is not None else None
        hers = grant is not None and grant.subject_key == one.subject_key
    if not hers:
        raise Refused("exchange.unknown", "the parcel is about no claim of this patient")


def _accepted(claim: bytes, tx: Transaction) -> None:
    """She agrees: what is held is committed. Raises `Refused` (exchange.*)."""
    _check_self(claim, tx)
    holding = Ledger(tx.store).step(claim, "confirm", tx.now)
    due = {token: holding.amounts[token] for token in ("pay", LATE) if token in holding.amounts}
    review.forget(tx.store, claim, tx.now)
    review.tell_paid(tx, claim, due)


def _disputed(claim: bytes, message: Message, tx: Transaction) -> None:
    """She does not agree: what is held is freed, and a person looks again, once. Raises `Refused` (exchange.*)."""
    _check_self(claim, tx)
    item = review.get(tx.store, claim)
    if item.state != review.ANSWERED or item.disputed:
        raise Refused("exchange.state", "a decision is disputed once, after it was made")
    Ledger(tx.store).step(claim, "cancel", tx.now)
    clock = promise.need(tx.store, claim)
    clock = promise.put(tx.store, claim, promise.Promise(tx.now, clock.days, clock.rate), tx.now)
    said = message.fields.get("note")
    note = _line(said)[:120] if isinstance(said, str) else ""
    review.reopen(tx, item, Explanation("pay", 0, f"患者异议：{note or '—'}", review.DISPUTED), clock)


def _line(said: str) -> str:
    """Her words as one line of a clause, which holds nothing that cannot be seen: an emoji is joined by such."""
    seen = (one if unicodedata.category(one)[0] != "C" else " " for one in said)
    return " ".join("".join(seen).split())


def _check_self(claim: bytes, tx: Transaction) -> None:
    if find(tx.store, claim) is None:
        raise Refused("exchange.state", "a claim that the hospital presented is confirmed by the hospital")


def withdrawn(claim: bytes, tx: Transaction) -> None:
    """The report was taken back before it was paid: nothing is held for it, and nobody need look at it."""
    item = review.maybe(tx.store, claim)
    if item is not None:
        review.put(tx.store, replace(item, state="withdrawn", facts=None), tx.now)
    if Ledger(tx.store).state(claim) == "reserved":
        Ledger(tx.store).step(claim, "cancel", tx.now)


def _text(fields: dict[str, Any], name: str, most: int) -> str:
    found = fields.get(name)
    if not isinstance(found, str) or not 1 <= len(found) <= most:
        raise Malformed("malformed.field", name)
    return found


def _fen(fields: dict[str, Any], name: str) -> int:
    found = fields.get(name)
    if type(found) is not int or not 0 <= found <= _MAX_FEN:
        raise Malformed("malformed.field", name)
    return found


def _octets(message: Message, name: str) -> bytes:
    found = message.fields.get(name)
    if not isinstance(found, bytes) or len(found) != 32:
        raise Malformed("malformed.field", name)
    return found
