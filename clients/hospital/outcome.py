"""What became of a settlement, for the hospital's own systems: each payer's answer, as national fields or FHIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients import decision
from clients.decision import Decision
from clients.hospital import check
from clients.hospital.case import Case
from clients.store import Store
from zhifu import money


@dataclass(frozen=True, slots=True)
class Answer:
    """A payer's answer to the claim; ``payer`` is its role, with a number from the second insurer on; ``pays`` fen."""

    payer: str
    name: str
    decision: Decision
    pays: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answers so far, and the amounts (fen) once every payer reserved; empty before."""

    state: str
    answers: tuple[Answer, ...]
    amounts: Mapping[str, int]


def read(case: Case, store: Store, names: Mapping[bytes, str]) -> Outcome:
    """The outcome of a case; ``names`` are participants' names by id. Raises `Malformed` (schema.value)."""
    found = []
    for payer in case.payers:
        step, role = case.claim(payer), _role(payer)
        # The last word counts: a reviewer may have decided after the rules could not.
        for opened in store.incoming.answers(case.exchanges[step])[-1:] if step in case.exchanges else ():
            decided = decision.read_decision(opened.values)
            found.append(Answer(role, names.get(opened.presentation.sender, ""), decided, _pays(role, decided)))
    return Outcome(case.state, tuple(found), case.amounts)


def _role(payer: str) -> str:
    """``insurer-2`` is the second policy, in the order in which they pay."""
    return "public-payer" if payer == "public" else payer.replace("commercial", "insurer")


def _pays(payer: str, decided: Decision) -> int:
    if payer != "public-payer":
        return decided.amounts.get("pay", 0)
    return sum(decided.amounts.get(name, 0) for name in ("hifp_pay", *check.FUNDS))


def national(outcome: Outcome) -> dict[str, Any]:
    """The settlement in the fields of the interface 2304, and what insurers and the patient pay beside it; yuan."""
    public = next((answer for answer in outcome.answers if answer.payer == "public-payer"), None)
    insurers = [answer for answer in outcome.answers if answer.payer != "public-payer"]
    return {
        "state": outcome.state,
        "setlinfo": _yuan(public.decision.amounts) if public else {},
        "setldetail": [
            {"field": one.field, "amount": money.yuan(one.amount), "clause": one.clause, "reason": one.reason}
            for one in (public.decision.clauses if public else ())
        ],
        "commercial": [
            {
                "insurer": answer.name,
                "outcome": answer.decision.outcome,
                "pay": money.yuan(answer.pays),
                "clauses": [[one.field, money.yuan(one.amount), one.clause] for one in answer.decision.clauses],
            }
            for answer in insurers
        ],
        "settled": _yuan(outcome.amounts),
    }


def _yuan(amounts: Mapping[str, int]) -> dict[str, str]:
    return {name: money.yuan(fen) for name, fen in amounts.items()}
