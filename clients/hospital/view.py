"""A settlement as others see it: amounts, and each exchange with what was sealed, presented and released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from clients.hospital import coordination, intake, listing, plain_statement
from clients.hospital.case import Case, numbered
from clients.hospital.openbill import head_of, split_of
from clients.hospital.plain_statement import Payer, Sums
from clients.reasons import reason
from clients.store import Store
from zhifu.errors import CATALOGUE, Exit, Refused
from zhifu.explain import Explanation
from zhifu.presentation import Presentation
from zhifu.receive import Opened
from zhifu.schema import Schema

MOST: Final = 50


def document(case: Case, store: Store, roles: Mapping[bytes, str]) -> dict[str, Any]:
    """JSON for the local API. ``roles`` are participants' role words by id; who is not there is the patient."""
    reason = CATALOGUE.get(case.reason)
    return {
        "settlement": case.id.hex(),
        "state": case.state,
        "route": case.route,
        "reason": case.reason,
        "detail": case.detail,
        "exit": int(reason.exit) if reason else int(Exit.OK),
        "total_fen": case.amounts.get("total"),
        "public_fen": case.amounts.get("public"),
        "commercial_fen": case.amounts.get("commercial"),
        "patient_fen": case.amounts.get("patient"),
        "account_fen": case.amounts.get("account"),
        "cash_fen": case.amounts.get("cash"),
        **_at_the_desk(case),
        "order": case.desk.order,
        "expires": case.expires,
        "payers": list(_payers(case)),
        "settlement_ms": case.finished - case.started if case.finished else None,
        "exchanges": list(_exchanges(case, store, roles)),
    }


def brief(case: Case) -> dict[str, Any]:
    """State and amounts, for whoever follows along."""
    sums = {f"{name}_fen": fen for name, fen in case.amounts.items()}
    return {"settlement": case.id.hex(), "state": case.state, "reason": case.reason, **sums}


def row(case: Case) -> dict[str, Any]:
    """One settlement of a list, with the numbers by which the hospital's own systems know the bill."""
    head = head_of(intake.open_bill(case.bill))
    numbers = {"visit": head.mdtrt_id, "invoice": head.invono, "started": case.started}
    return {**brief(case), **numbers, **_at_the_desk(case), **_quick(case)}


def _quick(case: Case) -> dict[str, Any]:
    """What makes a claim after payment one: the insurer, until when she may file it, and what she paid (fen)."""
    if case.quick is None:
        return {}
    paid = split_of(intake.open_bill(case.bill)).total - case.quick.before.total
    after = {"insurer": case.quick.insurer.hex(), "until": case.quick.until, "paid_fen": paid}
    return {**after, "of": case.quick.settlement.hex(), "late_fen": case.amounts.get("late")}


def find(store: Store, visit: str | None, invoice: str | None) -> list[Case]:
    """The newest settlements first: of a visit or an invoice, or without either the last ones."""
    if visit is None and invoice is None:
        return listing.last(store, listing.SETTLEMENT, MOST)
    return listing.numbered(store, visit, invoice, MOST)


def statement(case: Case, store: Store, names: Mapping[bytes, str], language: str) -> dict[str, Any]:
    """Who pays what: each row with clause and reason, and in plain words. Raises `Refused` (exchange.state)."""
    if not case.amounts:
        raise Refused("exchange.state", f"there is no split: the settlement is {case.state}")
    payers = []
    for payer, opened in _deciding(case, store):
        rows = [Explanation(*one) for one in opened.values.get("clauses") or ()]
        payers.append(Payer(names.get(opened.presentation.sender, payer), case.pay(payer), rows))
    desk, sums = case.desk, case.amounts
    words = plain_statement.words(
        Sums(sums["total"], sums["patient"], sums["account"], sums["cash"], desk.deposit), payers, desk.order, language
    )
    order = coordination.load(desk.order)
    shown = {"name": order.name, "text": order.zh if language == "zh" else order.en}
    formal = [_formal(payer, language) for payer in payers]
    return {**brief(case), **_at_the_desk(case), "order": shown, "payers": formal, "words": words}


def _formal(payer: Payer, language: str) -> dict[str, Any]:
    """A payer's decision, row by row."""
    rows = [
        {
            "field": row.field,
            "fen": row.amount,
            "clause": row.clause,
            "reason": row.reason,
            "words": reason(row, language),
        }
        for row in payer.rows
    ]
    return {"payer": payer.name, "fen": payer.fen, "rows": rows}


def _deciding(case: Case, store: Store) -> Iterator[tuple[str, Opened]]:
    """Each payer's answer by which it holds something."""
    for payer in case.payers:
        answers = store.incoming.answers(case.exchanges[case.claim(payer)])
        yield payer, next(one for one in answers if one.values["outcome"] == "reserved")


def _at_the_desk(case: Case) -> dict[str, int | None]:
    """What still changes hands: identity 4, deposit + top-up - refund = cash (SETTLEMENT 2)."""
    cash, deposit = case.amounts.get("cash"), case.desk.deposit
    if cash is None:
        return {"deposit_fen": deposit, "topup_fen": None, "refund_fen": None}
    return {"deposit_fen": deposit, "topup_fen": max(0, cash - deposit), "refund_fen": max(0, deposit - cash)}


def _payers(case: Case) -> Iterator[dict[str, Any]]:
    """Each payer in the order in which it pays, with the kind of its policy."""
    kinds = {numbered("commercial", place): one.kind for place, one in enumerate(case.policies)}
    for payer in case.payers:
        yield {"payer": payer, "kind": kinds.get(payer, "basic"), "fen": case.pay(payer) if case.amounts else None}


def _exchanges(case: Case, store: Store, roles: Mapping[bytes, str]) -> Iterator[dict[str, Any]]:
    """Each exchange followed by its answer, in the order in which the hospital presented them."""
    told = {step.rpartition("-")[0] for step in case.exchanges if step.endswith(("-confirm", "-cancel", "-reverse"))}
    for step, exchange in case.exchanges.items():
        sent = store.outgoing.latest(exchange)
        if sent is None:
            continue
        record = store.records.manifest(sent.record)
        if record is not None:
            yield _row(sent.exchange, step, sent.presentation, record.schema, sent.state, sent.released, roles)
        for answer in store.incoming.answers(exchange):
            state = "answered" if _was_answered(step, told) else "delivered"
            yield _answer_row(step, answer, state, roles)


def _was_answered(step: str, told: set[str]) -> bool:
    """A decision is answered by the notice about it."""
    return step.replace("public-claim", "public").replace("claim", "commercial") in told


def _answer_row(step: str, answer: Opened, state: str, roles: Mapping[bytes, str]) -> dict[str, Any]:
    name = f"{step}-answer"
    return _row(answer.hash, name, answer.presentation, answer.manifest.schema, state, answer.released, roles)


def _row(
    exchange: bytes, step: str, shown: Presentation, kind: Schema, state: str, released: bytes | None,
    roles: Mapping[bytes, str],
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": exchange.hex(),
        "step": step,
        "schema": kind.name,
        "purpose": shown.purpose,
        "sender": roles.get(shown.sender, "patient"),
        "recipient": roles.get(shown.recipient, "patient"),
        "state": state,
        "sealed": kind.by_name(kind.finest),
        "ceiling": kind.by_name(shown.ceilings),
        "released": kind.by_name(released) if released is not None else None,
    }
