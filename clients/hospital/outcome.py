"""What became of a settlement, for the hospital's own systems: each payer's answer, as national fields or FHIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clients import decision
from clients.decision import Decision
from clients.hospital import check
from clients.hospital.case import Case
from clients.store import Store
from zhifu import money


@dataclass(frozen=True, slots=True)
class Answer:
    """A payer's answer to the claim, None before there is one; ``pays`` is fen.

    ``payer`` is its role, with a number from the second insurer on; ``participant`` its id.
    """

    payer: str
    name: str
    participant: bytes
    decision: Decision | None
    pays: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each payer said, and the amounts (fen) once every payer reserved; empty before. ``reason`` says why not."""

    settlement: bytes
    state: str
    answers: tuple[Answer, ...]
    amounts: Mapping[str, int]
    reason: str = ""

    @property
    def decided(self) -> tuple[tuple[Answer, Decision], ...]:
        """Those that answered."""
        return tuple((one, one.decision) for one in self.answers if one.decision is not None)


def read(case: Case, store: Store, names: Mapping[bytes, str]) -> Outcome:
    """The outcome of a case; ``names`` are participants' names by id. Raises `Malformed` (schema.value)."""
    participants = [one.read_grant.recipient for one in case.policies]
    if len(case.payers) > len(participants):
        participants.insert(0, case.public_payer)
    rows = zip(case.payers, participants, strict=True)
    answers = tuple(_answer(case, store, payer, one, names.get(one, "")) for payer, one in rows)
    return Outcome(case.id, case.state, answers, case.amounts, case.reason)


def _answer(case: Case, store: Store, payer: str, participant: bytes, name: str) -> Answer:
    step, role = case.claim(payer), _role(payer)
    answers = store.incoming.answers(case.exchanges[step]) if step in case.exchanges else ()
    if not answers:
        return Answer(role, name, participant, None)
    # The last word counts: a reviewer may have decided after the rules could not.
    decided = decision.read_decision(answers[-1].values)
    return Answer(role, name, participant, _restated(case, store, payer, decided), _pays(role, decided))


def _restated(case: Case, store: Store, payer: str, decided: Decision) -> Decision:
    """A public split as it was confirmed: with what the patient used of her personal account."""
    step = f"{payer}-confirm"
    answers = store.incoming.answers(case.exchanges[step]) if step in case.exchanges else ()
    said = decision.read_decision(answers[-1].values) if answers else None
    if said is None or said.outcome != "committed" or "fund_pay_sumamt" not in said.amounts:
        return decided
    used = said.amounts["acct_pay"]
    told = {"acct_pay": used, "fund_pay_sumamt": said.amounts["fund_pay_sumamt"]}
    return replace(decided, amounts={**decided.amounts, **told, "psn_cash_pay": decided.amounts["psn_part_amt"] - used})


def _role(payer: str) -> str:
    """``insurer-2`` is the second policy, in the order in which they pay."""
    return "public-payer" if payer == "public" else payer.replace("commercial", "insurer")


def _pays(payer: str, decided: Decision) -> int:
    if payer != "public-payer":
        return decided.amounts.get("pay", 0)
    return sum(decided.amounts.get(name, 0) for name in ("hifp_pay", *check.FUNDS))


def national(outcome: Outcome) -> dict[str, Any]:
    """The settlement in the fields of the interface 2304, and what insurers and the patient pay beside it; yuan."""
    public = next((decided for answer, decided in outcome.decided if answer.payer == "public-payer"), None)
    insurers = [(answer, decided) for answer, decided in outcome.decided if answer.payer != "public-payer"]
    return {
        "state": outcome.state,
        "setlinfo": _yuan(public.amounts) if public else {},
        "setldetail": [
            {"field": one.field, "amount": money.yuan(one.amount), "clause": one.clause, "reason": one.reason}
            for one in (public.clauses if public else ())
        ],
        "commercial": [
            {
                "insurer": answer.name,
                "outcome": decided.outcome,
                "pay": money.yuan(answer.pays),
                "clauses": [[one.field, money.yuan(one.amount), one.clause] for one in decided.clauses],
            }
            for answer, decided in insurers
        ],
        "settled": _yuan(outcome.amounts),
    }


def _yuan(amounts: Mapping[str, int]) -> dict[str, str]:
    return {name: money.yuan(fen) for name, fen in amounts.items()}
