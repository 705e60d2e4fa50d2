"""An insurer at its node: a claim and what others pay are answered together with a reservation, a question
of cover by itself.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from clients import parcel_jobs
from clients.decision import CLAIMS, COORDINATION, DECISION, ELIGIBILITY, NOTICE, RESERVED_S, Decision
from clients.insurer import eligibility, policy_year, progress, promise, review, self_claim, visit
from clients.insurer.book import Book, Policy
from clients.insurer.decision import PATIENT, QUICK_HELD_S, Question, claim, decide, narrowed, undecided
from clients.insurer.facts import Facts
from clients.insurer.product import Product
from clients.insurer.promise import Promise
from clients.ledger import Ledger, follow
from clients.parcel_jobs import Kept
from clients.role import Draft, Noticed, Transaction
from clients.store import Insured, Job, Store
from zhifu import cbor, pseudonym
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.explain import Explanation
from zhifu.parcel import Message
from zhifu.receive import Opened

_KIND: Final = "claim"
_SUBJECT: Final = "insured-subject"
NOT_INSURED: Final = Explanation(
    "pay", 0, "在保名册：未找到被保险人 / nobody in the book is called by this pseudonym", "review.not_insured"
)
_PURPOSE: Final = "commercial-settlement"
_log = logging.getLogger("zhifu.insurer")


@dataclass(frozen=True, slots=True)
class _Parts:
    """The two exchanges of one workflow that a decision needs, empty until they came."""

    claim: bytes = b""
    coordination: bytes = b""


class Insurer:
    """Decides by the policy of the insured person, whom it finds by pseudonym; clauses make every amount.

    ``product`` is that of policies which name none (SETTLEMENT 3). ``core_decides``: every claim waits for the core
    system's word, and the rules only propose.
    """

    def __init__(self, product: Product, *, core_decides: bool = False, folder: Path = Path()) -> None:
        self._product = product
        self._folder = folder
        self._core_decides = core_decides

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        name = opened.manifest.schema.name
        if name == NOTICE:
            return Draft.answering(opened, DECISION, _followed(opened, tx).values(opened.values["encounter"]))
        if name not in (*CLAIMS, COORDINATION, ELIGIBILITY):
            raise Refused("policy.denied", f"an insurer has no use for a {name}")
        if opened.grant is None or opened.presentation.purpose != _PURPOSE:
            raise Refused("consent.missing", "a claim rests on the patient's grant for a commercial settlement")
        if name == ELIGIBILITY:
            return Draft.answering(opened, DECISION, self._covers(opened, tx).values(opened.values["encounter"]))
        parts = self._gather(opened, name, tx)
        if not (parts.claim and parts.coordination):
            return None
        return self._decide(_stored(parts.claim, tx), _stored(parts.coordination, tx), tx)

    def _covers(self, asked: Opened, tx: Transaction) -> Decision:
        insured = _insured(asked, tx)
        if insured is None:
            return eligibility.unknown(NOT_INSURED, asked.hash)
        policy = Policy.from_bytes(insured.policy)
        return eligibility.answer(asked.values, policy, self._product, Ledger(tx.store), asked.hash, tx.now)

    @staticmethod
    def _gather(opened: Opened, name: str, tx: Transaction) -> _Parts:
        """Keep which half came; the two may come in either order, or one of them again under a new presentation.

        Both are of one sender under one grant: whoever learned another's workflow adds nothing to its claim, and keeps
        it from nothing. Raises `Refused` (exchange.state).
        """
        workflow = opened.presentation.workflow
        job = tx.store.jobs.get(_KIND, workflow)
        before = _Parts(*cbor.decode(job.payload, 256)) if job else _Parts()
        is_claim = name in CLAIMS
        other = before.coordination if is_claim else before.claim
        if other and not _are_one(opened, _stored(other, tx)):
            if not is_claim:
                raise Refused("exchange.state", "the claim of this workflow is another's")
            before = _Parts()
        parts = _Parts(opened.hash, before.coordination) if is_claim else _Parts(before.claim, opened.hash)
        state = "complete" if parts.claim and parts.coordination else "waiting"
        payload = cbor.encode([parts.claim, parts.coordination])
        tx.store.jobs.put(Job(_KIND, workflow, state, payload, tx.now * 1000))
        return parts

    def _decide(self, bill: Opened, coordination: Opened, tx: Transaction) -> Draft:
        """The decision, or what was said of it when it was presented before; its visit again is a person's."""
        insured = _insured(bill, tx)
        visits, places, part = visit.visits(tx), visit.places(bill, insured, tx), visit.part(bill)
        before = visits.overlapping([*places, *visit.reports(insured, tx)], part)
        decided = next((one.decision for one in before if one.message == part.message), None)
        if decided is None:
            decided = self._first(bill, coordination, insured, (visit.AGAIN,) if before else (), tx)
            visits.put(places, part.answered(decided), tx.now)
            visits.put(visit.days(insured, part, tx), part, tx.now)
        return Draft.answering(bill, DECISION, decided.values(bill.values["encounter"]))

    def _first(
        self, bill: Opened, coordination: Opened, insured: Insured | None, doubts: tuple[Explanation, ...],
        tx: Transaction,
    ) -> Decision:  # fmt: skip
        policy = Policy.from_bytes(insured.policy) if insured is not None else None
        terms = policy.terms(self._product) if policy is not None else self._product
        clock = _promised(bill, coordination, terms, tx)
        if policy is None:
            decided = self._queue(bill, (NOT_INSURED,), "", terms, clock, tx)
        elif reasons := narrowed(bill.values, coordination.values):
            decided = self._queue(bill, (*reasons, *doubts), policy.number, terms, clock, tx)
        else:
            decided = self._by_rules(policy, bill, coordination, clock, doubts, tx)
        if decided.outcome == "review":
            # By when somebody decides: the hospital does not wait for longer.
            decided = replace(decided, expires=_deadline(terms, clock, tx.now))
        if clock is not None:
            _tell(bill.hash, decided, clock, tx)
        return decided

    @staticmethod
    def _queue(
        bill: Opened, reasons: tuple[Explanation, ...], policy: str, terms: Product, clock: Promise | None,
        tx: Transaction,
    ) -> Decision:  # fmt: skip
        """What cannot even be calculated."""
        review.queue_bare(tx.store, bill.hash, policy, reasons, _deadline(terms, clock, tx.now), tx.now)
        return undecided(bill.hash, reasons)

    def _by_rules(
        self, policy: Policy, bill: Opened, coordination: Opened, clock: Promise | None,
        doubts: tuple[Explanation, ...], tx: Transaction,
    ) -> Decision:  # fmt: skip
        """The rules' decision; what they leave open waits in the queue, with what they propose."""
        ledger, terms = Ledger(tx.store), policy.terms(self._product)
        shown = claim(bill.values, coordination.values)
        account = policy_year.account(ledger, policy, shown.span, tx.now)
        holds_s = RESERVED_S if clock is None else QUICK_HELD_S
        question = Question(terms, policy.cover, account, bill.hash, _cap(bill), self._core_decides, holds_s, doubts)
        decided = decide(shown, question, ledger, tx.now)
        if decided.outcome == "review":
            facts, deadline = Facts.of(shown, policy, terms), _deadline(terms, clock, tx.now)
            review.queue(tx.store, bill.hash, account, facts, decided.clauses, deadline, tx.now)
        return decided

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        _log.info("answer.delivered", extra={"about": {"exchange": noticed.exchange, "state": noticed.state}})

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        _log.error("answer.refused", extra={"about": {"exchange": noticed.exchange, "reason": noticed.reason}})

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        """An insurer presents nothing."""

    def on_parcel(self, one: Kept, message: Message, tx: Transaction) -> bytes:
        """What a patient left, opened; its claim. Raises `Refused` (exchange.*), `Malformed`."""
        return self_claim.take(one, message, self._product, tx)

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        """A parcel about a claim that was paid is kept with its payment; everything else goes."""
        one = parcel_jobs.get(tx.store, digest)
        if one is None:
            return ""
        claim = one.claim or digest
        if Ledger(tx.store).state(claim) == "committed":
            return "payment.committed"
        parcel_jobs.erase(self._folder, tx.store, one, tx.now * 1000)
        if claim == digest:
            self_claim.withdrawn(claim, tx)
        return ""

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        """A claim that was paid is kept with its payment, as long as the law asks; everything else goes."""
        claimed = _claimed(opened, tx.store)
        kept = _paid(claimed, tx.store)
        if not kept:
            review.forget(tx.store, claimed, tx.now)
        return kept

    def holds(self, opened: Opened, store: Store) -> str:
        """What was paid, as above; and what a reviewer has before him, or decided and the node has not sent yet."""
        claimed = _claimed(opened, store)
        return _paid(claimed, store) or ("review.open" if review.is_open(store, claimed) else "")


def _claimed(opened: Opened, store: Store) -> bytes:
    """The claim of a record's workflow; empty where none came."""
    job = store.jobs.get(_KIND, opened.presentation.workflow)
    return _Parts(*cbor.decode(job.payload, 256)).claim if job else b""


def _paid(claimed: bytes, store: Store) -> str:
    return "payment.committed" if Ledger(store).state(claimed) == "committed" else ""


def _promised(bill: Opened, coordination: Opened, terms: Product, tx: Transaction) -> Promise | None:
    """The clock of a claim that the patient filed after she paid; None where the desk waits."""
    if coordination.values.get("payee") != PATIENT:
        return None
    return promise.start(tx.store, bill.hash, bill.manifest.schema.name, terms, tx.now)


def _deadline(terms: Product, clock: Promise | None, now: int) -> int:
    return now + terms.review_days * review.DAY_S if clock is None else clock.due(now)


def _tell(claimed: bytes, decided: Decision, clock: Promise, tx: Transaction) -> None:
    """The patient hears what the hospital hears, with the promise's end."""
    if decided.outcome == "review":
        progress.tell(tx, claimed, progress.REVIEW, clock, {}, decided.clauses)
        return
    clock = promise.put(tx.store, claimed, clock.stop(tx.now), tx.now)
    progress.tell(tx, claimed, progress.DECIDED, clock, decided.amounts, decided.clauses)


def _followed(opened: Opened, tx: Transaction) -> Decision:
    """A notice about a reservation; of a claim that she filed, the patient hears that it is paid, or taken back."""
    done = follow(opened, tx)
    clock = promise.find(tx.store, done.reservation)
    state = {"committed": progress.PAID, "reversed": progress.REVERSED}.get(done.outcome)
    if clock is not None and state is not None:
        progress.tell(tx, done.reservation, state, clock, done.amounts)
    return done


def _stored(exchange: bytes, tx: Transaction) -> Opened:
    found = tx.store.incoming.get(exchange)
    if found is None or found.opened is None:
        raise Refused("exchange.unknown", "a part of the claim is not kept any more")
    return found.opened


def _are_one(one: Opened, other: Opened) -> bool:
    first, second = one.presentation, other.presentation
    return (first.sender, first.basis, first.encounter) == (second.sender, second.basis, second.encounter)


def _insured(bill: Opened, tx: Transaction) -> Insured | None:
    """The person of the book whom the claim's pseudonym names; None for somebody who is not in it.

    Raises `NotAuthentic` (pseudonym.changed) where the same patient was another person before.
    """
    shown = pseudonym.by_epoch(bill.capsule.pseudonym, bill.capsule.tokens)
    found = Book(tx.store).find(shown)
    if found is None or bill.grant is None:
        return None
    before = tx.store.jobs.get(_SUBJECT, bill.grant.subject)
    if before is None:
        tx.store.jobs.put(Job(_SUBJECT, bill.grant.subject, "linked", found.person, tx.now * 1000))
    elif not hmac.compare_digest(before.payload, found.person):
        raise NotAuthentic("pseudonym.changed", "the patient of this key was another insured person before")
    return found


def _cap(bill: Opened) -> int | None:
    """The most the patient agreed to have claimed, in fen, from the sealed terms; None for no cap."""
    if bill.capsule.terms is None:
        return None
    _, cap, _, _ = cbor.array(bill.capsule.terms.content, 65_536, 4)
    return cap if isinstance(cap, int) else None
