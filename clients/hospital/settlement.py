"""The hospital drives the settlement (DESIGN section 6): seal once, public payer, insurers in the order of the rule,
remainder, confirm, statement; or cancel; or, later, reverse.

A driver that starts again after a crash finds what it did and waits for the rest. If a payer cannot decide, what others
hold is cancelled, and what they committed is reversed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from clients.hospital import (
    afterwards,
    check,
    consented,
    coordination,
    encounter,
    intake,
    late,
    listing,
    once,
    record,
    statement,
)
from clients.hospital import case as cases
from clients.hospital.asking import Asking, Exchange, read
from clients.hospital.case import DIRECT, PUBLIC, Case, Desk
from clients.hospital.consented import Consented
from clients.hospital.coordination import Compensation
from clients.hospital.icd_tables import NO_TABLES, Tables
from clients.hospital.mandates import Mandates
from clients.hospital.offers import Offers
from clients.hospital.openbill import AnyBill, head_of, split_of
from clients.hospital.pseudonym import Pseudonyms
from clients.hospital.tokens import Called
from zhifu import bill as bills
from zhifu.bill import Bill
from zhifu.errors import Error, Refused
from zhifu.receive import Opened

MAX_POLICIES: Final = 8
CONFIRM_S: Final = 60
"""How long a reservation must still stand where it is confirmed at once."""
AT_ONCE: Final = Desk()
"""Nobody at the desk is asked: the split is confirmed as it comes."""
_log = logging.getLogger("zhifu.hospital")


class Settlements:
    """Opens settlements and drives them to their end."""

    def __init__(
        self,
        node: Exchange,
        mandates: Mandates,
        names: Mapping[bytes, str],
        pseudonyms: Pseudonyms,
        clock_ms: Callable[[], int],
        tables: Tables = NO_TABLES,
        offers: Offers | None = None,
    ) -> None:
        self._offers = offers
        self._node = node
        self._tables = tables
        self._asking = Asking(node, mandates, clock_ms)
        self._pseudonyms = pseudonyms
        self._names = names
        self._clock_ms = clock_ms
        self._parsed: dict[bytes, Bill] = {}
        """Bills of settlements that were opened and not driven yet: they are not parsed a second time."""

    # Opening

    def open(
        self, content: bytes, given: Sequence[Consented], route: str, public_payer: bytes, desk: Desk = AT_ONCE
    ) -> Case:
        """Take a bill and the patient's consents; the bill is sealed here, once for all recipients. Durable on return.

        The same bill again, with the same consents, is the settlement that it has. Raises `Malformed` (bill.*,
        usage.argument), `Refused` (consent.*, usage.argument, exchange.state), `NotAuthentic`.
        """
        bill = bills.parse(content)
        if route not in (PUBLIC, DIRECT) or len(given) > MAX_POLICIES:
            raise Refused(
                "usage.argument", f"the route is public or direct, and there are at most {MAX_POLICIES} policies"
            )
        with self._node.store.transaction():
            asked = Case(b"", "open", route, content, b"", b"", (), public_payer, self._clock_ms(), desk)
            return self._open(asked, bill, given)

    def _open(self, asked: Case, bill: Bill, given: Sequence[Consented]) -> Case:
        store, now = self._node.store, asked.started
        policies = [consented.policy(store, one, bill, now // 1000) for one in given]
        if len({one.read_grant.recipient for one in policies}) != len(policies):
            raise Refused("usage.argument", "two of the grants name the same insurer")
        if asked.route == DIRECT and not policies:
            raise Refused(
                "consent.missing", "without the public payer and without a grant there is nobody to settle with"
            )
        order = coordination.load(asked.desk.order)
        ordered = tuple(policies[place] for place in coordination.sequence(order, [one.kind for one in policies]))
        if (running := once.find(store, replace(asked, policies=ordered))) is not None:
            return running
        afterwards.give_way(store, asked.bill, now)
        secret = encounter.secret(store, bill, now // 1000)
        sealed_once = self._node.outbox.seal(record.schema_of(bill).name, record.claim(bill, secret, self._tables))
        begun = replace(asked, id=os.urandom(16), policies=ordered, encounter=secret, record=sealed_once)
        cases.put(store, begun, now)
        once.remember(store, begun, now)
        listing.put(store, begun, head_of(bill))
        self._parsed[begun.id] = bill
        return begun

    def paid(self, content: bytes, case_id: bytes | None = None) -> list[Case]:
        """The patient paid a bill herself, or what a settlement left of it: what she may claim, told to her wallet.

        The bill of a settlement that failed or was cancelled is hers in full. Durable on return; again, it changes
        nothing. Raises `Malformed` (bill.*), `Refused` (exchange.unknown, exchange.state): the settlement goes on, or a
        bill was settled through us: what is left of it is that settlement's.
        """
        if self._offers is None:
            return []
        with self._node.store.transaction():
            if case_id is None:
                if (settled := once.standing(self._node.store, content)) is not None:
                    raise Refused("exchange.state", f"settlement {settled.id.hex()} of this bill is {settled.state}")
                bill, now = intake.open_bill(content), self._clock_ms() // 1000
                secret = encounter.secret(self._node.store, bill, now, content)
                sealed_once = self._node.outbox.seal(
                    record.schema_of(bill).name, record.claim(bill, secret, self._tables)
                )
                whole = Case(b"", "failed", DIRECT, content, secret, sealed_once, (), b"", now * 1000)
                return self._offers.after(whole, bill, ())
            case = cases.get(self._node.store, case_id)
            if case.state not in ("confirmed", "failed", "cancelled", "reversed"):
                raise Refused("exchange.state", f"the settlement is {case.state}")
            rows = self._paid_rows(case) if case.state == "confirmed" else ()
            return self._offers.after(case, intake.open_bill(case.bill), rows)

    def file(self, case_id: bytes, one: Consented) -> Case:
        """The patient granted what was offered: her claim is filed. Durable on return; again, it changes nothing.

        Raises `Refused` (consent.*, exchange.unknown, exchange.state), `NotAuthentic`.
        """
        case, now = cases.get(self._node.store, case_id), self._clock_ms()
        if case.quick is None or case.state == "lapsed":
            raise Refused("exchange.state", "there is nothing to be claimed any more")
        if case.state != "offered":
            return case
        bill = intake.open_bill(case.bill)
        policy = consented.policy(self._node.store, one, bill, now // 1000, case.bill)
        if policy.read_grant.recipient != case.quick.insurer:
            raise Refused("consent.wrong_recipient")
        return self._asking.save(replace(case, state="open", policies=(policy,), started=now))

    def give_up(self, case_id: bytes, error: Error) -> None:
        """What was offered cannot be filed under the grant that came: it is over, and may be offered anew."""
        case = cases.get(self._node.store, case_id)
        if case.state == "offered":
            ended = replace(case, state="failed", reason=error.reason, detail=error.detail, finished=self._clock_ms())
            self._asking.save(ended)

    # Driving

    async def run(self, case_id: bytes) -> Case:
        """Drive a settlement as far as it goes without the desk, from wherever it stands. A failure is an end too.

        Raises `Refused` (unavailable.*) where waiting longer can help: nothing is given up for that.
        """
        case, parsed = cases.get(self._node.store, case_id), self._parsed.pop(case_id, None)
        if case.state in cases.FINAL:
            return case
        bill = parsed or self._read(case)
        try:
            if case.state == "reversing":
                return await self._reverse(case)
            if case.desk.wish == "cancel":
                return await self._end(case, "cancelled")
            return await self._settle(case, bill)
        except Error as error:
            if error.retryable:
                raise
            _log.error("settlement.failed", extra={"about": {"settlement": case_id, "reason": error.reason}})
            latest = cases.get(self._node.store, case_id)
            return await self._end(replace(latest, reason=error.reason, detail=error.detail), "failed", error)

    @staticmethod
    def _read(case: Case) -> AnyBill:
        return intake.open_bill(case.bill) if case.quick else bills.parse(case.bill)

    async def _settle(self, case: Case, bill: AnyBill) -> Case:
        # What the insurers call the patient is asked for while the public payer decides.
        called = asyncio.ensure_future(self._called(case, bill))
        try:
            return await self._settle_as(case, bill, called)
        finally:
            called.cancel()
            await asyncio.gather(called, return_exceptions=True)

    async def _called(self, case: Case, bill: AnyBill) -> Sequence[Called]:
        """What each insurer may know the patient by; nothing where it is not needed any more."""
        if cases.numbered("claim", len(case.policies) - 1) in case.exchanges:
            return [Called({}) for _ in case.policies]
        grants = [one.read_grant for one in case.policies]
        return await asyncio.gather(*(self._pseudonyms.called(one.recipient, one.subject, bill) for one in grants))

    async def _settle_as(self, case: Case, bill: AnyBill, called: asyncio.Future[Sequence[Called]]) -> Case:
        case, answers = await self._ask(case, bill, called)
        if over := self._lapsed(case, answers):
            case, answers = await self._ask(self._asking.anew(case, over), bill, called)
        if case.desk.hold and not case.desk.wish:
            case = self._asking.save(case)
            if not case.desk.wish:
                return case
        told = {payer: (one, self._notice(case, payer)) for payer, one in answers.items()}
        case = await self._asking.tell(case, "confirm", told)
        with self._node.store.transaction():
            if case.policies:
                case = self._asking.send_statement(case, statement.values(case, bill, answers, self._payer_names(case)))
            case = self._asking.save(replace(case, state="confirmed", finished=self._clock_ms()))
            if self._offers is not None and case.quick is None and case.amounts["patient"]:
                self._offers.after(case, bill, self._paid_rows(case))
        return case

    def _paid_rows(self, case: Case) -> tuple[tuple[str, str, int], ...]:
        """Who paid what of a settlement, by name."""
        names = self._payer_names(case)
        roles = {payer: "public-payer" if payer == "public" else "insurer" for payer in case.payers}
        return tuple((role, names[payer], case.pay(payer)) for payer, role in roles.items() if case.pay(payer))

    async def _ask(
        self, case: Case, bill: AnyBill, called: asyncio.Future[Sequence[Called]]
    ) -> tuple[Case, dict[str, Opened]]:
        """Every payer's reservation, each asked with what those before it pay; the split is not saved yet."""
        answers: dict[str, Opened] = {}
        paid, sums = Compensation(), {"public": 0}
        split = split_of(bill)
        cash, left = split.total, 0
        if case.quick is not None:
            paid = case.quick.before
            sums["public"] = paid.public
        elif case.route == PUBLIC and isinstance(bill, Bill):
            case, answers["public"] = await self._asking.public(case, record.schema_of(bill))
            found = check.reserved(read(answers["public"]))
            paid = replace(paid, public=check.public(bill, found))
            sums["public"], left = paid.public, found.amounts.get("acct_left", 0)
        for place, policy in enumerate(case.policies):
            payer, token = cases.numbered("commercial", place), cases.numbered("insurer", place)
            case, answers[payer] = await self._asking.insurer(case, place, bill, paid, (await called)[place])
            found = check.reserved(read(answers[payer]))
            sums[token] = check.commercial(bill, found, paid, policy.cap)
            paid = paid.with_payer(found)
            sums["late"] = found.amounts.get("late", 0) if case.quick else 0
        paid.check(split)
        cash -= paid.total
        account = min(case.desk.account, left, cash)
        # What insurers pay by category: a claim after payment comes after it.
        sums |= {"in_catalog": paid.in_catalog, "out_of_catalog": paid.out_of_catalog}
        sums |= {"total": split.total, "commercial": paid.in_catalog + paid.out_of_catalog, "patient": cash}
        sums |= {"account": account, "cash": cash - account}
        expires = min((read(one).expires for one in answers.values()), default=0)
        return replace(case, state="reserved", amounts=sums, expires=expires), answers

    def _lapsed(self, case: Case, answers: Mapping[str, Opened]) -> list[str]:
        """Who holds nothing any more, or not long enough for a confirmation: a reviewer of another took his time.

        What the desk was shown and confirmed is never asked for again: it might cost the patient something else.
        """
        if case.desk.wish:
            return []
        soon = self._clock_ms() // 1000 + CONFIRM_S
        return [payer for payer, opened in answers.items() if read(opened).expires <= soon]

    @staticmethod
    def _notice(case: Case, payer: str) -> dict[str, int]:
        account = {"acct_pay": case.amounts["account"]} if payer == "public" and case.amounts["account"] else {}
        delay = {"late": case.amounts["late"]} if case.quick and case.amounts.get("late") else {}
        return {"pay": case.pay(payer)} | account | delay

    def _payer_names(self, case: Case) -> dict[str, str]:
        grants = [one.read_grant.recipient for one in case.policies]
        who = {cases.numbered("commercial", place): one for place, one in enumerate(grants)}
        return {payer: self._names.get(one, "") for payer, one in {"public": case.public_payer, **who}.items()}

    # Ending otherwise

    async def _reverse(self, case: Case) -> Case:
        """Take back what every payer committed: the patient is refunded at the desk."""
        held = {payer: self._asking.reserved(case, payer) for payer in case.payers}
        told = {payer: (one, self._notice(case, payer)) for payer, one in held.items() if one is not None}
        case = await self._asking.tell(case, "reverse", told)
        return self._asking.save(replace(case, state="reversed", finished=self._clock_ms()))

    async def _end(self, case: Case, state: str, error: Error | None = None) -> Case:
        """Nothing is left hanging: what a payer holds is cancelled, what it committed reversed, or else it expires."""
        held: dict[str, Opened] = {}
        while new := self._held(case, held):
            for payer, opened in new.items():
                held[payer] = opened
                if not (error and _is_fork(error)):
                    case = await self._free(case, payer, opened)
        with self._node.store.transaction():
            for payer in set(case.payers) - held.keys():
                late.expect(self._node.store, case, payer, self._clock_ms())
            return self._asking.save(replace(case, state=state, finished=self._clock_ms()))

    def _held(self, case: Case, before: Mapping[str, Opened]) -> dict[str, Opened]:
        """What payers hold besides: an answer may come while another's is freed."""
        found = {payer: self._asking.reserved(case, payer) for payer in case.payers if payer not in before}
        return {payer: opened for payer, opened in found.items() if opened is not None}

    async def _free(self, case: Case, payer: str, held: Opened) -> Case:
        amounts = check.holds(read(held))
        action = "reverse" if f"{payer}-confirm" in case.exchanges else "cancel"
        if action == "reverse":
            amounts = self._notice(case, payer)
        try:
            return await self._asking.tell(case, action, {payer: (held, amounts)})
        except Error as second:
            if second.retryable:
                raise
            about = {"settlement": case.id, "payer": payer, "reason": second.reason}
            _log.error(f"{action}.failed", extra={"about": about})
            return cases.get(self._node.store, case.id)


def _is_fork(error: Error) -> bool:
    """Two logs: nothing more goes through this broker before people have looked."""
    return error.reason.startswith("log.")
