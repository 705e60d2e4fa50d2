"""A settlement as others see it: amounts, and each exchange with what was sealed, presented and released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clients.hospital.case import Case, numbered
from clients.store import Store
from zhifu.errors import CATALOGUE, Exit
from zhifu.presentation import Presentation
from zhifu.receive import Opened
from zhifu.schema import Schema


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
