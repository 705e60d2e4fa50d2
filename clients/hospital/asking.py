"""The exchanges of a settlement: ask a payer, tell it what became of its answer, send the statement (DESIGN section 6).

Each step is presented once: its exchange is written down in the transaction that makes it, so that asking again after a
crash finds the exchange and waits for its answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from clients import decision, plain
from clients.decision import COORDINATION, NOTICE, STATEMENT, Decision
from clients.hospital import case as cases
from clients.hospital import check, record, stopped
from clients.hospital.case import Case, Policy, numbered
from clients.hospital.coordination import Compensation
from clients.hospital.mandates import Mandates
from clients.hospital.openbill import AnyBill, split_of
from clients.hospital.tokens import Called
from clients.outbox import Outbox
from clients.store import Mandate, Store
from zhifu import consent, schema
from zhifu.cbor import Value
from zhifu.errors import NotAuthentic, Refused
from zhifu.receive import Opened
from zhifu.schema import Schema

ANSWER_S: Final = 300.0
"""How long a payer's answer is awaited at a time; a settlement outlives it and waits again."""
Told = Mapping[str, tuple[Opened, Mapping[str, int]]]


class Exchange(Protocol):
    """What a settlement needs of its node."""

    store: Store
    outbox: Outbox

    async def answer_to(
        self, exchange: bytes, timeout_s: float, after: int = 0, *, beside: bytes | None = None
    ) -> Opened:
        """The opened answer, the ``after``-th if there are several, from 0; none will come once ``beside`` ended.

        Raises `Refused` where the exchange ended without one, or none came in time.
        """


class Asking:
    """One hospital's exchanges with payers and patients."""

    def __init__(self, node: Exchange, mandates: Mandates, clock_ms: Callable[[], int]) -> None:
        self._node = node
        self._mandates = mandates
        self._clock_ms = clock_ms

    def save(self, case: Case) -> Case:
        """Durable on return, or with the transaction that is open; as it stands then, with what the desk said since."""
        with self._node.store.transaction():
            case = cases.heard(self._node.store, case)
            cases.put(self._node.store, case, self._clock_ms())
        return case

    async def public(self, case: Case, claim: Schema) -> tuple[Case, Opened]:
        """Present the bill to the public payer, by statute; its answer."""
        if "public-claim" not in case.exchanges:
            mandate = self._mandates.statute(case.public_payer, case.encounter, claim)
            with self._node.store.transaction():
                case = self.save(case.with_exchange("public-claim", self._node.outbox.present(case.record, mandate)))
        return case, await self._node.answer_to(case.exchanges["public-claim"], ANSWER_S)

    async def insurer(
        self, case: Case, place: int, bill: AnyBill, paid: Compensation, called: Called
    ) -> tuple[Case, Opened]:
        """The bill, sealed before, and beside it what others pay, in one workflow: one use of the grant."""
        claim, beside = numbered("claim", place), numbered("coordination", place)
        if claim not in case.exchanges:
            policy, correlation = case.policies[place], os.urandom(16)
            _check_cap(policy, bill, paid)
            stopped.check(self._node.store, consent.hash_of(policy.signed_grant.payload))
            workflow = policy.workflow or os.urandom(16)
            values: dict[str, Value] = {
                "encounter": case.encounter,
                "rule": case.desk.order,
                "compensation": decision.money(paid.amounts()),
                "route": case.route,
                "payee": "patient" if case.quick else "hospital",
            }
            with self._node.store.transaction():
                others = self._node.outbox.seal(COORDINATION, values)
                for step, kind, sealed_record in (
                    (claim, record.schema_of(bill), case.record),
                    (beside, schema.load(COORDINATION), others),
                ):
                    mandate = self._mandates.granted(policy, kind, workflow, correlation, called)
                    case = case.with_exchange(step, self._node.outbox.present(sealed_record, mandate))
                case = self.save(case)
        return case, await self._decided(case, claim, beside)

    def anew(self, case: Case, payers: Sequence[str]) -> Case:
        """Present the claim again to payers whose reservation is over, in its workflow: no further use of a grant.

        What they answer then is what counts. Raises as `clients.outbox.Outbox.present`.
        """
        with self._node.store.transaction():
            for payer in payers:
                before = case.exchanges[case.claim(payer)]
                mandate = self._node.store.outgoing.mandate(before)
                case = case.anew(payer, self._node.outbox.present(case.record, mandate))
            return self.save(case)

    async def _decided(self, case: Case, claim: str, beside: str) -> Opened:
        """The first answer, or where the desk is patient the first that a reviewer's queue does not hold."""
        exchange, after = case.exchanges[claim], 0
        # What others pay is never answered, but where it is refused no answer to the claim will come.
        opened = await self._node.answer_to(exchange, ANSWER_S, beside=case.exchanges[beside])
        while case.desk.patient and read(opened).outcome == "review":
            after += 1
            patience = ANSWER_S if case.quick else self._patience(read(opened))
            opened = await self._node.answer_to(exchange, patience, after)
        return opened

    def _patience(self, found: Decision) -> float:
        """How long the desk waits at a time for a reviewer. Raises `Refused` (settlement.undecided): it is over.

        A claim after payment is waited for however long it takes: its insurer pays for being late.
        """
        left = found.expires - self._clock_ms() / 1000 if found.expires else ANSWER_S
        if left <= 0:
            raise Refused("settlement.undecided", "nobody decided by the reviewer's deadline")
        return min(ANSWER_S, left + 1)

    async def tell(self, case: Case, action: str, told: Told) -> Case:
        """Confirm, cancel or reverse what payers hold, all at once, and wait until each says so.

        ``told`` is each payer's answer, and the amounts of the notice, "pay" among them. Raises what
        `clients.hospital.check.committed` raises.
        """
        with self._node.store.transaction():
            case = self.save(self.notices(case, action, told))
        await self.agreed(case, action, told)
        return case

    def notices(self, case: Case, action: str, told: Told) -> Case:
        """Present what `tell` tells. In the open transaction, in which the caller saves the case."""
        for payer, (opened, amounts) in told.items():
            case = self._notice(case, f"{payer}-{action}", action, opened, amounts)
        return case

    async def agreed(self, case: Case, action: str, told: Told) -> None:
        """Wait until each payer says that it did what it was told. Raises as `clients.hospital.check.committed`."""
        waiting = (self._node.answer_to(case.exchanges[f"{payer}-{action}"], ANSWER_S) for payer in told)
        for answer, (_, amounts) in zip(await asyncio.gather(*waiting), told.values(), strict=True):
            check.committed(read(answer), action, amounts)

    def _notice(self, case: Case, step: str, action: str, opened: Opened, amounts: Mapping[str, int]) -> Case:
        if step in case.exchanges:
            return case
        values = decision.notice(case.encounter, action, read(opened).reservation, amounts)
        mandate = Mandate.answering(opened.presentation, opened.hash, schema.load(NOTICE).finest)
        exchange = self._node.outbox.present(self._node.outbox.seal(NOTICE, values), mandate)
        return case.with_exchange(step, exchange)

    def send_statement(self, case: Case, values: Mapping[str, Value]) -> Case:
        """To the patient, on the strength of her first claim; once. In the open transaction, as `notices`."""
        if "statement" in case.exchanges or not case.policies:
            return case
        asked = self._node.store.outgoing.asked(case.exchanges["claim"])
        if asked is None:
            raise NotAuthentic("exchange.unknown", "the claim that the statement is about is not kept")
        grant, kind = case.policies[0].read_grant, schema.load(STATEMENT)
        mandate = Mandate.to_patient(asked.presentation, case.exchanges["claim"], kind.finest, grant)
        exchange = self._node.outbox.present(self._node.outbox.seal(STATEMENT, values), mandate)
        return case.with_exchange("statement", exchange)

    def answers(self, case: Case, payer: str) -> Sequence[Opened]:
        """What a payer said so far."""
        step = case.claim(payer)
        return self._node.store.incoming.answers(case.exchanges[step]) if step in case.exchanges else ()

    def reserved(self, case: Case, payer: str) -> Opened | None:
        """The answer by which a payer holds something."""
        return next((one for one in self.answers(case, payer) if read(one).outcome == "reserved"), None)


def _check_cap(policy: Policy, bill: AnyBill, paid: Compensation) -> None:
    """What a code may pay is not decided by what it happens to cover: above its cap the patient is asked again.

    Raises `Refused` (consent.confirm).
    """
    left = split_of(bill).total - paid.total
    if policy.ticket and policy.cap is not None and left > policy.cap:
        cap = plain.yuan(policy.cap)
        raise Refused("consent.confirm", f"{plain.yuan(left)} is above the code's cap of {cap}")


def read(opened: Opened) -> Decision:
    """A payer's answer as a decision."""
    return decision.read_decision(opened.values)
