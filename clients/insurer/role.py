"""An insurer at its node: a claim and what others pay are answered together with a reservation."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import Final

from clients.decision import CLAIMS, COORDINATION, DECISION, NOTICE, Decision
from clients.insurer import review
from clients.insurer.book import Book, Policy
from clients.insurer.decision import Question, claim, decide, held, narrowed, undecided
from clients.insurer.product import Product
from clients.ledger import Ledger, follow
from clients.role import Draft, Noticed, Transaction
from clients.store import Insured, Job
from zhifu import cbor, pseudonym
from zhifu.errors import NotAuthentic, Refused
from zhifu.explain import Explanation
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

    def __init__(self, product: Product, *, core_decides: bool = False) -> None:
        self._product = product
        self._core_decides = core_decides

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        name = opened.manifest.schema.name
        if name == NOTICE:
            return Draft.answering(opened, DECISION, follow(opened, tx).values(opened.values["encounter"]))
        if name not in (*CLAIMS, COORDINATION):
            raise Refused("policy.denied", f"an insurer has no use for a {name}")
        if opened.grant is None or opened.presentation.purpose != _PURPOSE:
            raise Refused("consent.missing", "a claim rests on the patient's grant for a commercial settlement")
        parts = self._gather(opened, name, tx)
        if not (parts.claim and parts.coordination):
            return None
        return self._decide(_stored(parts.claim, tx), _stored(parts.coordination, tx), tx)

    @staticmethod
    def _gather(opened: Opened, name: str, tx: Transaction) -> _Parts:
        """Keep which half came; the two may come in either order, or one of them again under a new presentation."""
        workflow = opened.presentation.workflow
        job = tx.store.jobs.get(_KIND, workflow)
        before = _Parts(*cbor.decode(job.payload, 256)) if job else _Parts()
        is_claim = name in CLAIMS
        parts = _Parts(opened.hash, before.coordination) if is_claim else _Parts(before.claim, opened.hash)
        state = "complete" if parts.claim and parts.coordination else "waiting"
        payload = cbor.encode([parts.claim, parts.coordination])
        tx.store.jobs.put(Job(_KIND, workflow, state, payload, tx.now * 1000))
        return parts

    def _decide(self, bill: Opened, coordination: Opened, tx: Transaction) -> Draft:
        insured = _insured(bill, tx)
        if insured is None:
            decided = self._queue(bill, (NOT_INSURED,), "", tx)
        elif reasons := narrowed(bill.values, coordination.values):
            decided = self._queue(bill, reasons, Policy.from_bytes(insured.policy).number, tx)
        else:
            decided = self._by_rules(Policy.from_bytes(insured.policy), bill, coordination, tx)
        return Draft.answering(bill, DECISION, decided.values(bill.values["encounter"]))

    def _queue(self, bill: Opened, reasons: tuple[Explanation, ...], policy: str, tx: Transaction) -> Decision:
        """What cannot even be calculated."""
        days = self._product.review_days
        review.queue(tx.store, bill.hash, policy, b"", reasons, None, {}, days, tx.now)
        return undecided(bill.hash, reasons)

    def _by_rules(self, policy: Policy, bill: Opened, coordination: Opened, tx: Transaction) -> Decision:
        """The rules' decision; what they leave open waits in the queue, with what they propose."""
        ledger, terms = Ledger(tx.store), policy.terms(self._product)
        account = ledger.account("policy-year", policy.number)
        question = Question(terms, policy.cover, account, bill.hash, _cap(bill), self._core_decides)
        decided, proposed = decide(claim(bill.values, coordination.values), question, ledger, tx.now)
        if decided.outcome == "review":
            uses = held(proposed)
            rows = decided.clauses
            review.queue(
                tx.store, bill.hash, policy.number, account, rows, proposed, uses, terms.review_days, tx.now
            )  # fmt: skip
        return decided

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        _log.info("answer.delivered", extra={"about": {"exchange": noticed.exchange, "state": noticed.state}})

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        _log.error("answer.refused", extra={"about": {"exchange": noticed.exchange, "reason": noticed.reason}})

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        """A claim that was paid is kept with its payment, as long as the law asks; everything else goes."""
        job = tx.store.jobs.get(_KIND, opened.presentation.workflow)
        claimed = _Parts(*cbor.decode(job.payload, 256)).claim if job else b""
        return "payment.committed" if Ledger(tx.store).state(claimed) == "committed" else ""


def _stored(exchange: bytes, tx: Transaction) -> Opened:
    found = tx.store.incoming.get(exchange)
    if found is None or found.opened is None:
        raise Refused("exchange.unknown", "a part of the claim is not kept any more")
    return found.opened


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
