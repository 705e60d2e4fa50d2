"""The hospital drives the settlement (DESIGN section 6): seal once, public payer, insurer, remainder, confirm,
statement.

Each step is presented once: its exchange is written down in the transaction that makes it. A driver that starts
again after a
crash finds what it did and waits for the rest. If a payer cannot decide, what others hold is cancelled.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from clients import decision
from clients.decision import COORDINATION, NOTICE, STATEMENT, Decision
from clients.hospital import case as cases
from clients.hospital import check, encounter, record, request
from clients.hospital.case import DIRECT, PUBLIC, Case
from clients.hospital.icd_tables import NO_TABLES, Tables
from clients.hospital.pseudonym import Pseudonyms
from clients.outbox import Outbox
from clients.store import Mandate, Store
from policies.bundle import Bundle
from policies.decide import finest
from zhifu import bill as bills
from zhifu import cbor, consent, pseudonym, schema, sealed
from zhifu.bill import Bill
from zhifu.cbor import Value
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.receive import Opened
from zhifu.schema import Schema, coarser

RULE: Final = "basic-first-2026-01"
"""The coordination rule: basic insurance, then commercial policies (SETTLEMENT 3)."""
ANSWER_S: Final = 300.0
"""How long a payer's answer is awaited at a time; a settlement outlives it and waits again."""
_log = logging.getLogger("zhifu.hospital")


class Exchange(Protocol):
    """What a settlement needs of its node."""

    store: Store
    outbox: Outbox

    async def answer_to(self, exchange: bytes, timeout_s: float) -> Opened:
        """The opened answer. Raises `Refused` where the exchange ended without one, or none came in time."""


class Settlements:
    """Opens settlements and drives them to their end."""

    def __init__(
        self,
        node: Exchange,
        bundle: Bundle,
        names: Mapping[bytes, str],
        pseudonyms: Pseudonyms,
        clock_ms: Callable[[], int],
        tables: Tables = NO_TABLES,
    ) -> None:
        self._node = node
        self._pseudonyms = pseudonyms
        self._bundle = bundle
        self._names = names
        self._clock_ms = clock_ms
        self._tables = tables

    # Opening

    def open(
        self, content: bytes, grant: Envelope | None, attestations: Sequence[Envelope], route: str, public_payer: bytes
    ) -> Case:
        """Take a bill and the patient's consent; the bill is sealed here, once for all recipients. Durable on return.

        Raises `Malformed` (bill.*), `Refused` (consent.*, usage.argument), `NotAuthentic`.
        """
        bill, store, now = bills.parse(content), self._node.store, self._clock_ms()
        if route not in (PUBLIC, DIRECT):
            raise Refused("usage.argument", "the route is public or direct")
        terms: tuple[bytes, ...] = ()
        if grant is not None:
            read = consent.verify_grant(grant)
            encounter.check_subject(store, read.subject, bill)
            found = request.terms(store, read.request_hash)
            terms = (found.salt, found.content)
            _check_encounter(read, encounter.secret(store, bill, now // 1000))
        elif route == DIRECT:
            raise Refused(
                "consent.missing", "without the public payer and without a grant there is nobody to settle with"
            )
        with store.transaction():
            secret = encounter.secret(store, bill, now // 1000)
            sealed_once = self._node.outbox.seal(record.schema_of(bill).name, record.claim(bill, secret, self._tables))
            opened = Case(
                os.urandom(16),
                "open",
                route,
                content,
                secret,
                sealed_once,
                grant.to_bytes() if grant else b"",
                tuple(one.to_bytes() for one in attestations),
                terms,
                public_payer,
                now,
            )
            cases.put(store, opened, now)
        return opened

    # Driving

    async def run(self, case_id: bytes) -> Case:
        """Drive a settlement to its end, from wherever it stands. A failure is an end too: see ``reason``.

        Raises `Refused` (unavailable.*) where waiting longer can help: nothing is given up for that.
        """
        case = cases.get(self._node.store, case_id)
        if case.state in cases.FINAL:
            return case
        bill = bills.parse(case.bill)
        try:
            return await self._settle(case, bill)
        except Error as error:
            if error.retryable:
                raise
            _log.error("settlement.failed", extra={"about": {"settlement": case_id, "reason": error.reason}})
            return await self._abandon(cases.get(self._node.store, case_id), error)

    async def _settle(self, case: Case, bill: Bill) -> Case:
        # What the insurer calls the patient is asked for while the public payer decides.
        called = asyncio.ensure_future(self._called(case, bill))
        try:
            return await self._settle_as(case, bill, called)
        finally:
            called.cancel()
            await asyncio.gather(called, return_exceptions=True)

    async def _called(self, case: Case, bill: Bill) -> Mapping[int, bytes]:
        """The patient's pseudonyms for the insurer, by epoch; none where none is needed any more."""
        if not case.grant or "claim" in case.exchanges:
            return {}
        grant = case.read_grant
        return await self._pseudonyms.of(grant.recipient, grant.subject, bill)

    async def _settle_as(self, case: Case, bill: Bill, called: Awaitable[Mapping[int, bytes]]) -> Case:
        decisions: dict[str, Opened] = {}
        public_fen = commercial_fen = 0
        if case.route == PUBLIC:
            case, decisions["public"] = await self._ask_public(case, bill)
            public_fen = check.public(bill, check.reserved(_decision(decisions["public"])))
        if case.grant:
            case, decisions["commercial"] = await self._ask_insurer(case, bill, public_fen, await called)
            found = check.reserved(_decision(decisions["commercial"]))
            commercial_fen = check.commercial(bill, found, public_fen, _cap(case))
        patient_fen = bill.split.total - public_fen - commercial_fen
        amounts = {
            "total": bill.split.total, "public": public_fen, "commercial": commercial_fen, "patient": patient_fen
        }  # fmt: skip
        case = self._save(replace(case, state="reserved", amounts=amounts))
        for payer, opened in decisions.items():
            case = await self._tell(case, payer, "confirm", opened)
        if case.grant:
            case = self._send_statement(case, bill, decisions)
        return self._save(replace(case, state="confirmed", finished=self._clock_ms()))

    async def _ask_public(self, case: Case, bill: Bill) -> tuple[Case, Opened]:
        payer = case.public_payer
        handle = sealed.encounter_handle(case.encounter, payer)

        def mandate() -> Mandate:
            ceilings = self._allowed("public-settlement", "public-payer", record.schema_of(bill))
            return Mandate.by_statute(
                self._bundle.hash,
                payer,
                ceilings,
                purpose="public-settlement",
                encounter=handle,
                workflow=os.urandom(16),
            )

        if "public-claim" not in case.exchanges:
            with self._node.store.transaction():
                case = self._save(case.with_exchange("public-claim", self._node.outbox.present(case.record, mandate())))
        return case, await self._node.answer_to(case.exchanges["public-claim"], ANSWER_S)

    async def _ask_insurer(
        self, case: Case, bill: Bill, public_fen: int, called: Mapping[int, bytes]
    ) -> tuple[Case, Opened]:
        """The bill, sealed before, and beside it what others pay, in one workflow: one use of the grant."""
        if "claim" not in case.exchanges:
            workflow, correlation = os.urandom(16), os.urandom(16)
            values: dict[str, Value] = {
                "encounter": case.encounter,
                "rule": RULE,
                "compensation": decision.money({"public": public_fen}),
                "route": case.route,
            }
            with self._node.store.transaction():
                beside = self._node.outbox.seal(COORDINATION, values)
                for step, kind, sealed_record in (
                    ("claim", record.schema_of(bill), case.record),
                    ("coordination", schema.load(COORDINATION), beside),
                ):
                    mandate = self._under_grant(case, kind, workflow, correlation, called)
                    case = case.with_exchange(step, self._node.outbox.present(sealed_record, mandate))
                case = self._save(case)
        return case, await self._insurers_answer(case)

    async def _insurers_answer(self, case: Case) -> Opened:
        """The claim is answered; what others pay never is, but where it is refused no answer will come."""
        asked = [
            asyncio.ensure_future(self._node.answer_to(case.exchanges[step], ANSWER_S))
            for step in ("claim", "coordination")
        ]
        try:
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            return await (asked[0] if asked[0] in done else asked[1])
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _under_grant(
        self, case: Case, kind: Schema, workflow: bytes, correlation: bytes, called: Mapping[int, bytes]
    ) -> Mandate:
        grant = case.read_grant
        granted = grant.levels(kind.hash)
        if granted is None:
            raise Refused("consent.exceeded", f"the grant does not cover {kind.name}")
        ceilings = coarser(granted, self._allowed(grant.purpose, "insurer", kind))
        return Mandate.under_grant(
            case.signed_grant,
            ceilings,
            workflow=workflow,
            correlation=correlation,
            terms=case.sealed_terms,
            attestations=case.attestations,
            pseudonym=called[max(called)],
            tokens=pseudonym.tokens(called),
        )

    def _allowed(self, purpose: str, role: str, kind: Schema) -> bytes:
        """The hospital computes its ceilings from the same policy as the broker.

        A curious broker gains nothing more.
        """
        return finest(self._bundle, purpose, role, kind)

    async def _tell(self, case: Case, payer: str, action: str, opened: Opened) -> Case:
        """Confirm or cancel what a payer holds, and wait until it says so."""
        found = _decision(opened)
        amount = found.amounts["pay"] if payer == "commercial" else case.amounts.get("public", _funds(found))
        step = f"{payer}-{action}"
        if step not in case.exchanges:
            values = decision.notice(case.encounter, action, found.reservation, {"pay": amount})
            mandate = Mandate.answering(opened.presentation, opened.hash, schema.load(NOTICE).finest)
            with self._node.store.transaction():
                exchange = self._node.outbox.present(self._node.outbox.seal(NOTICE, values), mandate)
                case = self._save(case.with_exchange(step, exchange))
        check.committed(_decision(await self._node.answer_to(case.exchanges[step], ANSWER_S)), action, amount)
        return case

    def _send_statement(self, case: Case, bill: Bill, decisions: Mapping[str, Opened]) -> Case:
        if "statement" in case.exchanges:
            return case
        grant = case.read_grant
        asked = self._node.store.outgoing.asked(case.exchanges["claim"])
        if asked is None:
            raise NotAuthentic("exchange.unknown", "the claim that the statement is about is not kept")
        values = self._statement(case, bill, decisions, grant.recipient)
        mandate = Mandate.to_patient(asked.presentation, case.exchanges["claim"], schema.load(STATEMENT).finest, grant)
        with self._node.store.transaction():
            exchange = self._node.outbox.present(self._node.outbox.seal(STATEMENT, values), mandate)
            return self._save(case.with_exchange("statement", exchange))

    def _statement(self, case: Case, bill: Bill, decisions: Mapping[str, Opened], insurer: bytes) -> dict[str, Value]:
        payments = [["patient", "本人 / you", case.amounts["patient"]]]
        if "commercial" in decisions:
            payments.insert(0, ["insurer", self._names.get(insurer, ""), case.amounts["commercial"]])
        if "public" in decisions:
            payments.insert(0, ["public-payer", self._names.get(case.public_payer, ""), case.amounts["public"]])
        rows = [row for opened in decisions.values() for row in opened.values.get("clauses") or ()]
        head = bill.setlinfo
        days = [day.isoformat() if day else None for day in (head.begndate, head.enddate)]
        return {
            "encounter": case.encounter,
            "hospital": record.hospital(bill),
            "stay": days,
            "totals": record.totals(bill.split),
            "payments": payments,
            "clauses": rows,
            "remainder": case.amounts["patient"],
        }

    # Ending without an agreement

    async def _abandon(self, case: Case, error: Error) -> Case:
        """Nothing is left hanging: what a payer holds is cancelled, or else expires by itself."""
        for payer, step in (("public", "public-claim"), ("commercial", "claim")):
            held = self._held(case, step)
            if held is not None and not _is_fork(error):
                try:
                    case = await self._tell(case, payer, "cancel", held)
                except Error as second:
                    about = {"settlement": case.id, "payer": payer, "reason": second.reason}
                    _log.error("cancel.failed", extra={"about": about})
        failed = replace(case, state="failed", reason=error.reason, detail=error.detail, finished=self._clock_ms())
        return self._save(failed)

    def _held(self, case: Case, step: str) -> Opened | None:
        answers = self._node.store.incoming.answers(case.exchanges[step]) if step in case.exchanges else []
        held = [one for one in answers if _decision(one).outcome == "reserved"]
        confirmed = {"public-claim": "public-confirm", "claim": "commercial-confirm"}[step] in case.exchanges
        return held[0] if held and not confirmed else None

    def _save(self, case: Case) -> Case:
        with self._node.store.transaction():
            cases.put(self._node.store, case, self._clock_ms())
        return case


def _decision(opened: Opened) -> Decision:
    return decision.read_decision(opened.values)


def _check_encounter(grant: Grant, secret: bytes) -> None:
    """The grant is about this very stay: nothing leaves under one for another. Raises `Refused`."""
    if not hmac.compare_digest(sealed.encounter_handle(secret, grant.recipient), grant.encounter):
        raise Refused("consent.wrong_encounter")


def _funds(found: Decision) -> int:
    return sum(found.amounts.get(name, 0) for name in ("hifp_pay", *check.FUNDS))


def _cap(case: Case) -> int | None:
    _, cap, _, _ = cbor.array(case.sealed_terms.content, 65_536, 4)
    return cap if isinstance(cap, int) else None


def _is_fork(error: Error) -> bool:
    """Two logs: nothing more goes through this broker before people have looked."""
    return error.reason.startswith("log.")
